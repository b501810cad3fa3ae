//! D-12 in full: four devices change one file apart and meet in each of 24 orders; then two append to one file while they
//! part and meet again and again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tests::harness::{Device, Verdict, World, conflict_copies, differences, mesh, settle, share, within};

/// How long two devices append to one file.
const APPENDING: Duration = Duration::from_secs(120);
/// How long they are together, and apart.
const TURN: Duration = Duration::from_secs(7);
const MEET_MAX: Duration = Duration::from_secs(60);

pub fn storm(world: &World, verdict: &mut Verdict) {
    let devices = ["a", "b", "c", "d"].map(|name| world.device(name));
    let all: Vec<&Device> = devices.iter().collect();
    mesh(&all);
    share(&all);
    settle(&all);
    let mut copies = 0;
    for (at, order) in orders().into_iter().enumerate() {
        link(&all, &order, "pause");
        for device in &all {
            device.save(format!("f{at}.txt"), format!("{at} of {}", device.name()));
        }
        for device in &all {
            // Otherwise the devices may meet before one has seen its own change, which is another story.
            let seen = || device.events("local_change").iter().any(|event| event["path"] == format!("f{at}.txt"));
            assert!(within(MEET_MAX, || seen().then_some(())).is_some(), "{} sees its change", device.name());
        }
        link(&all, &order, "resume");
        copies += 3;
        settle(&all);
        settle(&all);
        let trees: Vec<_> = all.iter().map(|device| device.tree()).collect();
        let differ: usize = trees[1..].iter().map(|tree| differences(&trees[0], tree).len()).sum();
        let found = conflict_copies(&trees[0]).len();
        if differ > 0 || found != copies {
            verdict.say(false, &format!("storm: order {order:?}: {differ} differences, {found} of {copies} copies"));
        }
    }
    verdict.say(true, &format!("storm: 24 orders, {copies} conflict copies, all under the same names"));
    append(&devices[0], &devices[1], verdict);
}

/// Every pair, in the order that a permutation of the devices gives.
fn orders() -> Vec<Vec<(usize, usize)>> {
    let mut orders = Vec::new();
    for code in 0..256 {
        let order: Vec<usize> = (0..4).map(|digit| (code >> (2 * digit)) % 4).collect();
        if order.iter().collect::<BTreeSet<_>>().len() == 4 {
            let pairs = (0..4).flat_map(|one| (one + 1..4).map(move |other| (one, other)));
            let pair = |(one, other): (usize, usize)| (order[one].min(order[other]), order[one].max(order[other]));
            orders.push(pairs.map(pair).collect());
        }
    }
    orders
}

fn link(all: &[&Device], order: &[(usize, usize)], action: &str) {
    for (one, other) in order {
        let (one, other) = (all[*one], all[*other]);
        one.ok(&["device", action, other.name()]);
        let apart = action == "pause";
        let met = within(MEET_MAX, || (is_connected(one, other) != apart).then_some(()));
        assert!(met.is_some(), "{} and {} {action}", one.name(), other.name());
    }
}

fn is_connected(device: &Device, peer: &Device) -> bool {
    let list = device.json(&["device", "list"])["devices"].clone();
    let devices = list.as_array().expect("a list of devices");
    devices.iter().any(|entry| entry["name"] == peer.name() && entry["connected"] == true)
}

/// Two people append a line a second to one file. Every line is somewhere in the end.
fn append(a: &Device, b: &Device, verdict: &mut Verdict) {
    let before = conflict_copies(&a.tree()).len();
    let (started, mut lines, mut turned) = (Instant::now(), Vec::new(), Instant::now());
    let mut apart = false;
    while started.elapsed() < APPENDING {
        for device in [a, b] {
            let line = format!("line {} of {}\n", lines.len(), device.name());
            let mut options = std::fs::OpenOptions::new();
            let file = options.append(true).create(true).open(device.at("appended.txt"));
            file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes())).expect("it can be written");
            lines.push(line);
        }
        std::thread::sleep(Duration::from_secs(1));
        if turned.elapsed() > TURN {
            apart = !apart;
            a.ok(&["device", if apart { "pause" } else { "resume" }, b.name()]);
            turned = Instant::now();
        }
    }
    if apart {
        a.ok(&["device", "resume", b.name()]);
        assert!(within(MEET_MAX, || is_connected(a, b).then_some(())).is_some(), "they meet");
    }
    settle(&[a, b, a]);
    let copies = conflict_copies(&a.tree());
    let new = copies.iter().filter(|copy| copy.starts_with("appended"));
    let mut bytes = a.get("appended.txt").expect("it is there");
    new.clone().for_each(|copy| bytes.extend(a.get(copy).expect("it is there")));
    bytes.extend(kept(a).into_iter().chain(kept(b)).flatten());
    let text = String::from_utf8_lossy(&bytes);
    let lost: Vec<_> = lines.iter().filter(|line| !text.contains(line.as_str())).collect();
    let (count, total) = (new.count(), copies.len() - before);
    verdict.say(
        lost.is_empty() && count == total,
        &format!("storm: {} lines appended by two, {count} conflict copies, lost: {lost:?}", lines.len()),
    );
    verdict.say(differences(&a.tree(), &b.tree()).is_empty(), "storm: both are equal afterwards");
}

/// A line that went through a handle whose file was just replaced waits there to become a copy.
fn kept(device: &Device) -> Vec<Vec<u8>> {
    let held = std::fs::read_dir(device.at(".syncd/hold")).into_iter().flatten().flatten();
    held.filter_map(|entry| std::fs::read(entry.path()).ok()).collect()
}
