//! D-12: everybody changes the same file while all are apart.

use super::{NOON, aftermath, write_at};
use crate::apart::{cut, heal, noticed};
use std::collections::BTreeSet;
use tests::harness::{Device, Kind, World, conflict_copies, mesh, settle, share};

/// Names that a pattern would match are taken literally.
const NAMES: [&str; 4] = ["[ab].txt", "x*.txt", "a?b", "plain"];

fn hashes(device: &Device) -> BTreeSet<[u8; 32]> {
    let files = device.tree().into_values().filter_map(|node| match node.kind {
        Kind::File(_, hash) => Some(*hash.as_bytes()),
        _ => None,
    });
    files.collect()
}

/// Pairs of four devices, whoever parts them first, in the order in which they meet again: a chain, a star, two pairs.
const ORDERS: [[(usize, usize); 6]; 3] = [
    [(0, 1), (1, 2), (2, 3), (0, 3), (0, 2), (1, 3)],
    [(0, 3), (1, 3), (2, 3), (0, 1), (1, 2), (0, 2)],
    [(1, 3), (0, 2), (2, 3), (0, 1), (1, 2), (0, 3)],
];

/// With four devices one winner and three copies of each, under the same names everywhere, in whichever order they meet;
/// conflicts on a copy make another copy. (`soak storm` runs through all orders.)
#[test]
fn d12_a_storm_of_conflicts_loses_nothing() {
    let world = World::new();
    let (a, b, c, d) = (world.device("a"), world.device("b"), world.device("c"), world.device("d"));
    let all = [&a, &b, &c, &d];
    mesh(&all);
    share(&all);
    settle(&all);
    let part = || ORDERS[0].iter().for_each(|(one, other)| cut(all[*one], all[*other]));
    let join = |order: &[(usize, usize)]| order.iter().for_each(|(one, other)| heal(all[*one], all[*other]));
    let mut copies = 0;
    let mut contents = 0;
    for (round, order) in ORDERS.iter().enumerate() {
        part();
        let file = |name: &str| format!("{round}{name}");
        for (at, device) in (0..).zip(&all) {
            for name in NAMES {
                write_at(device, &file(name), &format!("{} of {}", file(name), device.name()), NOON + at);
            }
            for name in NAMES {
                noticed(device, &file(name), 1);
            }
        }
        join(order);
        settle(&all);
        settle(&all);
        for name in NAMES {
            assert_eq!(b.get(file(name)), Some(format!("{} of d", file(name)).into_bytes()), "the latest has the name");
        }
        (copies, contents) = (copies + NAMES.len() * 3, contents + NAMES.len() * 4);
        assert_eq!((conflict_copies(&a.tree()).len(), hashes(&a).len()), (copies, contents), "{order:?}");
    }
    let copy = conflict_copies(&a.tree()).into_iter().find(|copy| copy.starts_with("0plain")).expect("a copy");
    part();
    write_at(&a, &copy, "edit of a copy on a", NOON);
    write_at(&b, &copy, "edit of a copy on b", NOON + 1);
    for device in [&a, &b] {
        noticed(device, &copy, 1);
    }
    join(&ORDERS[1]);
    aftermath(&all, copies + 1);
    let kept = hashes(&c);
    for text in ["edit of a copy on a", "edit of a copy on b"] {
        assert!(kept.contains(blake3::hash(text.as_bytes()).as_bytes()), "{text}");
    }
}
