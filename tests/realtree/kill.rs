//! `kill -9` of either daemon, again and again, while the tree is being synced.

use super::{SYNC_MAX, Source};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::harness::{Device, FOLDER, Programs, Verdict, World, join, pair, within};

/// A daemon is ended after this long even when the sync did not get on.
const ROUND_MAX: Duration = Duration::from_secs(20);

pub fn kill(scratch: &Path, source: &Source, kills: u32, verdict: &mut Verdict) {
    let root = tempfile::Builder::new().prefix("realtree-").tempdir_in(scratch).expect("a scratch directory");
    let world = World::with(Programs::built(), root);
    let (mut a, mut b) = (world.device("a"), world.device("b"));
    source.copy_to(a.files());
    pair(&a, &b);
    let started = Instant::now();
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    join(&b);
    let mut slowest = Duration::ZERO;
    for round in 0..kills {
        let enough = source.files as u64 * u64::from(round) / u64::from(kills + 2);
        // The bound is part of the plan: some kills come while a start-up settles what the last one left.
        let _ = within(ROUND_MAX, || (files(&b) > enough).then_some(()));
        let at = files(&b);
        let victim = if round % 2 == 0 { &mut b } else { &mut a };
        victim.kill();
        let down = Instant::now();
        victim.start();
        slowest = slowest.max(down.elapsed());
        println!("     kill {:2} of {} at {at} files, up again after {:?}", round + 1, victim.name(), down.elapsed());
    }
    a.wait_within(SYNC_MAX);
    b.wait_within(SYNC_MAX);
    let took = started.elapsed().as_secs_f64();
    verdict.say(
        slowest < Duration::from_secs(30),
        &format!("kill: in sync after {kills} kills and {took:.1} s; the slowest start took {slowest:.1?}"),
    );
    verdict.compare(&a, &b);
}

fn files(device: &Device) -> u64 {
    device.folder()["local"]["files"].as_u64().unwrap_or(0)
}
