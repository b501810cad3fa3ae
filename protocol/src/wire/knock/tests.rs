//! Who is recognised, when the clocks differ, and that a knock opens a door once.

use super::*;
use proptest::prelude::*;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

fn key(seed: u8) -> Secret32 {
    Secret32::new([seed; 32])
}

fn at(windows: i64) -> UnixSeconds {
    let secs = windows * i64::try_from(KNOCK_WINDOW_SECS).expect("small");
    UnixSeconds(NOW.0.checked_add_signed(secs).expect("a time after 1970"))
}

#[test]
fn clocks_may_differ() {
    for (ahead, slack, expected) in [
        (0, 1, Some(0)),
        (1, 1, Some(1)),
        (-1, 1, Some(-1)),
        (2, 1, None),
        (-2, 1, None),
        (72, 72, Some(72)),
        (-72, 72, Some(-72)),
        (73, 72, None),
        (0, 0, Some(0)),
        (1, 0, None),
    ] {
        let knock = Knock::make(&key(1), Context::Session, [9; 8], at(ahead));
        let found = knock.find(&[Candidate { key: &key(1), context: Context::Session }], NOW, slack);
        assert_eq!(found.map(|found| found.skew_windows), expected, "{ahead} windows ahead, slack {slack}");
    }
}

#[test]
fn clocks_at_the_beginning_of_time() {
    let knock = Knock::make(&key(1), Context::Session, [9; 8], UnixSeconds(0));
    let candidates = [Candidate { key: &key(1), context: Context::Session }];
    assert_eq!(knock.find(&candidates, UnixSeconds(0), 72).map(|found| found.skew_windows), Some(0));
    assert_eq!(knock.find(&candidates, UnixSeconds(u64::MAX), 72), None);
}

#[test]
fn the_right_candidate_is_found() {
    let keys: Vec<Secret32> = (0..64).map(key).collect();
    let candidates: Vec<_> = keys.iter().map(|key| Candidate { key, context: Context::Session }).collect();
    let knock = Knock::make(&keys[41], Context::Session, [9; 8], NOW);
    assert_eq!(knock.find(&candidates, NOW, 1), Some(Match { index: 41, skew_windows: 0 }));
    let stranger = Knock::make(&key(99), Context::Session, [9; 8], NOW);
    assert_eq!(stranger.find(&candidates, NOW, KNOCK_WIDE_SLACK), None);
    let invite = Knock::make(&keys[41], Context::Pairing, [9; 8], NOW);
    assert_eq!(invite.find(&candidates, NOW, 1), None, "another context");
}

const KNOCK_WIDE_SLACK: u64 = crate::limits::KNOCK_WIDE_SLACK_WINDOWS;

#[test]
fn a_knock_opens_once() {
    let mut cache = ReplayCache::default();
    let knock = Knock([1; KNOCK_LEN]);
    let hour = |n: u64| Timestamp(n * 3_600_000);
    assert!(cache.admit(knock, hour(0)));
    assert!(!cache.admit(knock, hour(0)));
    assert!(!cache.admit(knock, hour(24)));
    assert!(cache.admit(Knock([2; KNOCK_LEN]), hour(24)));
    assert!(cache.admit(knock, hour(25)), "no search matches it any more");
    assert_eq!(cache.len(), 2);
}

#[test]
fn the_cache_is_bounded() {
    let mut cache = ReplayCache::default();
    let numbered = |n: usize| {
        let mut bytes = [0; KNOCK_LEN];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Knock(bytes)
    };
    for n in 0..REPLAY_ENTRIES_MAX + 10 {
        assert!(cache.admit(numbered(n), Timestamp(0)));
    }
    assert_eq!(cache.len(), REPLAY_ENTRIES_MAX);
    assert!(!cache.admit(numbered(10), Timestamp(0)), "the newest are all there");
    assert!(cache.admit(numbered(9), Timestamp(0)), "the oldest went");
}

proptest! {
    #[test]
    fn garbage_knocks_open_nothing(bytes in any::<[u8; KNOCK_LEN]>(), now in any::<u64>(), slack in 0u64..80) {
        let found = Knock(bytes).find(&[Candidate { key: &key(1), context: Context::Session }], UnixSeconds(now), slack);
        prop_assert_eq!(found, None);
    }
}
