//! D-2b in full: bytes that a program writes through an old handle, a second and eight minutes after its file was replaced
//! or deleted, are a conflict copy on both devices once the ten minutes are over for which such files are kept.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Duration;
use tests::harness::{Verdict, World, conflict_copies, pair_of, settle, tree, within};

const EIGHT_MINUTES: Duration = Duration::from_secs(8 * 60);
/// Ten minutes, the pause between two looks at what is kept, and some more.
const KEPT_MAX: Duration = Duration::from_secs(15 * 60);

pub fn late(world: &World, verdict: &mut Verdict) {
    let (a, b) = pair_of(world);
    let names = ["replaced, at once", "replaced, late", "deleted, at once", "deleted, late", "other"];
    for name in names {
        a.put(name, "base");
    }
    settle(&[&a, &b]);
    let mut open: Vec<(&str, File)> = names[..4]
        .iter()
        .map(|name| (*name, OpenOptions::new().append(true).open(b.at(name)).expect("it opens")))
        .collect();
    for name in &names[..4] {
        if name.starts_with("replaced") {
            a.put(name, "of a");
        } else {
            std::fs::remove_file(a.at(name)).expect("gone");
        }
    }
    settle(&[&a, &b]);
    let mut write = |when: &str| {
        for (name, file) in &mut open {
            if name.ends_with(when) {
                file.write_all(format!(", {name}").as_bytes()).expect("the handle is good");
            }
        }
    };
    std::thread::sleep(Duration::from_secs(1));
    write("at once");
    std::thread::sleep(EIGHT_MINUTES);
    write("late");
    drop(open);
    let copies = within(KEPT_MAX, || {
        let copies = conflict_copies(&tree(a.files()));
        (copies.len() >= 4).then_some(copies)
    });
    settle(&[&a, &b]);
    let copies = copies.unwrap_or_else(|| conflict_copies(&tree(b.files())));
    for name in &names[..4] {
        let bytes = format!("base, {name}").into_bytes();
        let kept = |device: &tests::harness::Device| copies.iter().any(|copy| device.get(copy) == Some(bytes.clone()));
        verdict.say(kept(&a) && kept(&b), &format!("late: what was written through the handle of `{name}` is a copy"));
    }
    verdict.say(copies.len() == 4, &format!("late: {} conflict copies", copies.len()));
}
