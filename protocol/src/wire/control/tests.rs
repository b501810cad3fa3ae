//! Keys are a contract: golden JSON for the shapes that scripts read, and paths without loss.

use super::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T, json: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), json, "{name}: encoded");
    assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value, "{name}: decoded");
}

#[test]
fn keys_are_stable() {
    let nas = Named { id: "sd1abc".into(), name: "nas".into() };
    check("ping", &Ping { version: "0.1.0".into(), pid: 7, api: 1 }, r#"{"version":"0.1.0","pid":7,"api":1}"#);
    check(
        "error",
        &ControlError::not_found("there is no folder \"x\"").hint("see `syncctl folder list`"),
        r#"{"error":"there is no folder \"x\"","hint":"see `syncctl folder list`","code":"not_found"}"#,
    );
    check("error without hint", &ControlError::refused("no"), r#"{"error":"no","code":"refused"}"#);
    check(
        "code",
        &PairingEvent::Code {
            pairing: 1,
            code: "k7qm".into(),
            link: "syncd:p1:k7qm".into(),
            expires_s: 600,
            recovery_code: None,
        },
        r#"{"event":"code","pairing":1,"code":"k7qm","link":"syncd:p1:k7qm","expires_s":600}"#,
    );
    check(
        "paired",
        &PairingEvent::Paired { device: nas.clone() },
        r#"{"event":"paired","device":{"id":"sd1abc","name":"nas"}}"#,
    );
    check(
        "failed",
        &PairingEvent::Failed { why: ControlError::new(ErrorCode::Timeout, "nobody came") },
        r#"{"event":"failed","error":"nobody came","code":"timeout"}"#,
    );
    check(
        "add",
        &FolderAdd { root: PathText::new(b"/a"), name: None, mode: FolderMode::SendOnly, with: vec!["nas".into()] },
        r#"{"path":"/a","mode":"send-only","with":["nas"]}"#,
    );
    check("log query", &LogQuery { limit: Some(5), ..LogQuery::default() }, r#"{"limit":5}"#);
    check(
        "event",
        &Event {
            id: 3,
            time_ms: 1000,
            kind: EventKind::RemoteChange,
            folder: None,
            device: Some(nas),
            at: Some(PathText::new(b"a/b")),
            words: "a/b changed".into(),
        },
        r#"{"id":3,"time_ms":1000,"kind":"remote_change","device":{"id":"sd1abc","name":"nas"},"path":"a/b","words":"a/b changed"}"#,
    );
}

#[test]
fn paths_survive_whatever_their_bytes() {
    let rows: [(&str, &[u8], &str); 4] = [
        ("plain", b"a/b", r#"{"path":"a/b"}"#),
        ("unicode", "ü/☃".as_bytes(), r#"{"path":"ü/☃"}"#),
        ("control", b"a\nb", r#"{"path":"a\nb"}"#),
        ("not UTF-8", b"a\xffb", "{\"path\":\"a\u{fffd}b\",\"path_bytes\":\"61ff62\"}"),
    ];
    for (name, bytes, json) in rows {
        let text = PathText::new(bytes);
        check(name, &text, json);
        assert_eq!(text.bytes().as_deref(), Some(bytes), "{name}");
    }
    for hex in ["6", "6g", "+1", "é1"] {
        let text: PathText = serde_json::from_str(&format!(r#"{{"path":"a","path_bytes":"{hex}"}}"#)).unwrap();
        assert_eq!(text.bytes(), None, "{hex} is no hexadecimal");
    }
}

#[test]
fn a_problem_may_have_no_path() {
    let json = r#"{"code":"clock","words":"the clock is off","since_ms":5,"needs_person":true}"#;
    let problem: Problem = serde_json::from_str(json).unwrap();
    assert_eq!(problem.at, None);
    assert_eq!(serde_json::to_string(&problem).unwrap(), json);
}

#[test]
fn unknown_words_and_keys_are_no_errors() {
    let event: Event = serde_json::from_str(r#"{"id":1,"time_ms":2,"kind":"later","words":"","new":1}"#).unwrap();
    assert_eq!(event.kind, EventKind::Unknown);
    let error: ControlError = serde_json::from_str(r#"{"error":"x","code":"later"}"#).unwrap();
    assert_eq!(error.code, ErrorCode::Unknown);
}

#[test]
fn secrets_stay_out_of_debug() {
    let join = PairJoin { code: "s3cret".into(), address: None, timeout_s: None, role: None };
    let event = PairingEvent::Code {
        pairing: 1,
        code: "s3cret".into(),
        link: "l:s3cret".into(),
        expires_s: 1,
        recovery_code: None,
    };
    assert!(!format!("{join:?} {event:?}").contains("s3cret"));
    assert!(!format!("{:?}", PathText::new(b"private.txt")).contains("private"));
}

#[test]
fn words_are_the_json_words() {
    for action in FolderAction::ALL {
        assert!(action.word().bytes().all(|byte| byte.is_ascii_lowercase()));
    }
    for mode in [FolderMode::SendReceive, FolderMode::SendOnly, FolderMode::ReceiveOnly] {
        assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{}\"", mode.word()));
        assert_eq!(FolderMode::from_word(mode.word()), Some(mode));
    }
    for kind in [EventKind::DeviceConnected, EventKind::InSync, EventKind::Missed, EventKind::ProblemSolved] {
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.word()));
    }
    assert_eq!(serde_json::to_string(&Change::Touched).unwrap(), format!("\"{}\"", Change::Touched.word()));
}
