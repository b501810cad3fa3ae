//! Who may import whom. The core stays pure, the shells stay apart, and only the node sees everything.

use crate::repository::Repository;
use crate::source::{Named, Source};

/// A module and the modules of its own package that it may name, itself included.
type Edges = &'static [(&'static str, &'static [&'static str])];

/// The core: decisions and words know the nouns, and never each other; nothing of it knows the realm.
const PROTOCOL: Edges = &[
    ("limits", &["limits"]),
    ("model", &["model", "limits"]),
    ("sync", &["sync", "model", "limits"]),
    ("wire", &["wire", "model", "limits"]),
    ("realm", &["realm", "wire", "model", "limits"]),
];

/// The daemon: database, disk and network never meet but in `transfer`, `folder` and `node`.
const SYNCD: Edges = &[
    ("home", &["home"]),
    ("config", &["config"]),
    ("keys", &["keys", "home"]),
    ("membership", &["membership", "keys"]),
    ("store", &["store"]),
    ("disk", &["disk"]),
    ("net", &["net"]),
    // A relay listens, knocks and drains strangers as a device does.
    ("relay", &["relay", "net"]),
    ("transfer", &["transfer", "store", "disk", "net"]),
    ("folder", &["folder", "transfer", "store", "disk"]),
    ("control", &["control", "home"]),
    ("demo", &["demo", "node", "control", "config", "home", "keys", "relay", "disk"]),
    (
        "node",
        &[
            "node",
            "folder",
            "transfer",
            "store",
            "disk",
            "net",
            "control",
            "relay",
            "config",
            "home",
            "keys",
            "membership",
        ],
    ),
];

/// Every import of one module by another that is not in the tables.
pub fn imports(repository: &Repository) -> Vec<String> {
    let mut violations = Vec::new();
    for source in &repository.sources {
        for (package, edges) in [("protocol", PROTOCOL), ("syncd", SYNCD)] {
            let Some(below) = source.name.strip_prefix(&format!("{package}/src/")) else {
                continue;
            };
            let module = module_of(below);
            // The daemon's tests may put shells together; the core's may not either.
            if package == "syncd" && module.iter().any(|segment| segment == "tests" || segment.ends_with("_tests")) {
                continue;
            }
            let Some(own) = module.first().filter(|own| !matches!(own.as_str(), "lib" | "main")) else {
                continue;
            };
            match edges.iter().find(|(name, _)| name == own) {
                Some((_, may)) => violations.extend(strangers(source, &module, edges, may)),
                None => violations.push(format!("{}:1: module {own} is not in the table of edges", source.name)),
            }
        }
    }
    violations
}

/// `disk/fs/mod.rs` is `disk::fs`.
fn module_of(below: &str) -> Vec<String> {
    let mut segments: Vec<String> = below.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    segments.pop_if(|last| last == "mod");
    segments
}

fn strangers(source: &Source, module: &[String], edges: Edges, may: &[&str]) -> Vec<String> {
    let named = source.paths();
    let mut violations = Vec::new();
    for path in &named {
        let Some(other) = top(path, module) else {
            continue;
        };
        let known = edges.iter().any(|(name, _)| *name == other);
        if known && !may.contains(&other.as_str()) {
            let shown = path.segments.join("::");
            violations.push(format!("{}:{}: {} names {shown}", source.name, path.line, module[0]));
        }
    }
    violations
}

/// The top-level module of this package that a path leads to.
fn top(path: &Named, module: &[String]) -> Option<String> {
    let (first, rest) = path.segments.split_first()?;
    match first.as_str() {
        "crate" => rest.first().cloned(),
        "super" => {
            let ups = 1 + rest.iter().take_while(|segment| *segment == "super").count();
            let base = module.len().checked_sub(ups)?;
            if base == 0 { rest.get(ups - 1).cloned() } else { None }
        }
        _ => None,
    }
}

/// What a package must not depend on, since it would break its promise.
const PACKAGES: [(&str, &[&str], &str); 2] = [
    (
        "protocol",
        &["tokio", "redb", "notify", "rustix", "libc", "axum", "hyper", "socket2", "tracing", "getrandom", "syncd"],
        "the core is pure",
    ),
    ("syncctl", &["syncd", "redb", "notify", "snow"], "the command line talks to the daemon only over its socket"),
];

/// Dependencies that a package must not have.
pub fn packages(repository: &Repository) -> Vec<String> {
    let mut violations = Vec::new();
    for (package, never, why) in PACKAGES {
        let manifest = format!("{package}/Cargo.toml");
        let mut section = String::new();
        for (number, line) in repository.text(&manifest).lines().enumerate() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_string();
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if section == "dependencies" && never.contains(&name) {
                violations.push(format!("{manifest}:{}: depends on {name}, but {why}", number + 1));
            }
        }
        let sources = repository.sources.iter().filter(|source| source.name.starts_with(&format!("{package}/src/")));
        for source in sources {
            for path in source.paths().iter().filter(|path| path.segments[0] == "syncd" && path.segments.len() > 1) {
                violations.push(format!("{}:{}: names {}", source.name, path.line, path.segments.join("::")));
            }
        }
    }
    violations
}

/// Makers of an engine outside of the folder task; the core's own tests and the simulator drive engines too.
pub fn engines(repository: &Repository) -> Vec<String> {
    let outside = |name: &str| {
        (name.starts_with("syncd/") && !name.starts_with("syncd/src/folder/")) || name.starts_with("syncctl/")
    };
    let mut violations = Vec::new();
    for source in repository.sources.iter().filter(|source| outside(&source.name)) {
        for path in source.paths() {
            if path.segments.ends_with(&["Engine".to_string(), "new".to_string()]) {
                violations.push(format!("{}:{}: makes an engine", source.name, path.line));
            }
        }
    }
    violations
}

/// Where connections are made and names looked up, so that the proxy's rule is in one place.
const CONNECTS: &str = "syncd/src/net/connect.rs";
/// What makes a connection or looks a name up.
const WAYS_OUT: [&str; 5] = ["TcpStream::connect", "TcpSocket", "lookup_host", "ToSocketAddrs", "to_socket_addrs"];

/// Ways out of the daemon beside the one that asks whether there is a proxy. Its tests may call as strangers do.
pub fn ways_out(repository: &Repository) -> Vec<String> {
    let is_test = |name: &str| name.contains("/tests") || name.contains("_tests");
    let of_daemon =
        |source: &&Source| source.name.starts_with("syncd/src/") && source.name != CONNECTS && !is_test(&source.name);
    let mut violations = Vec::new();
    for source in repository.sources.iter().filter(of_daemon) {
        for (number, line) in source.code.lines().enumerate() {
            let ways = WAYS_OUT.iter().filter(|way| line.contains(**way));
            violations.extend(ways.map(|way| format!("{}:{}: {way} goes around {CONNECTS}", source.name, number + 1)));
        }
    }
    violations
}

#[test]
fn edges_are_seen_however_they_are_written() {
    let rows = [
        ("use crate::store::Store;", Some("store")),
        ("use crate::{home, store::Store};", Some("store")),
        ("fn f() { super::super::store::g() }", Some("store")),
        ("use super::real::RealFs;", None),
        ("// crate::store is said to be none of ours", None),
    ];
    for (text, expected) in rows {
        let source = Source::new("syncd/src/disk/fs/mod.rs".into(), text.into());
        let module = module_of("disk/fs/mod.rs");
        let found = strangers(&source, &module, SYNCD, &["disk", "home"]);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{text}: {found:?}");
    }
}
