//! Four devices, a person at each, and faults: for a while everything happens at random, then all is well again, the devices
//! must agree, and nothing that anybody wrote and nobody took back may be missing. Again and again.

mod faults;
mod oracle;
mod user;

use faults::Faults;
use oracle::{Oracle, tags_below};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tests::harness::{Device, FOLDER, Verdict, World, conflict_copies, differences, mesh, settle, share, tree};
use tests::sim::rng::Rng;
use user::User;

const DEVICES: [&str; 4] = ["a", "b", "c", "d"];
/// Between two heals.
const EPOCH: Duration = Duration::from_secs(30);
/// A fault instead of an action, out of a thousand.
const FAULTS_PER_THOUSAND: usize = 12;
/// People pause between two actions, in milliseconds.
const PAUSE_MS: usize = 60;
/// Memory that a daemon may have more than after its first minute, in KiB: what a larger folder and caches need.
const GROWTH_MAX_KIB: u64 = 64 * 1024;
const SHOWN: usize = 10;

pub fn fleet(world: &World, minutes: u64, seed: u64, verdict: &mut Verdict) {
    println!("     seed {seed}, {minutes} minutes");
    let mut devices: Vec<Device> = DEVICES.iter().map(|name| world.device(name)).collect();
    {
        let all: Vec<&Device> = devices.iter().collect();
        mesh(&all);
        share(&all);
        settle(&all);
    }
    let make = |device: &Device| User::new(device.name(), device.files(), device.home().with_file_name("outside"));
    let mut users: Vec<User> = devices.iter().map(make).collect();
    let (mut rng, mut oracle, mut faults) = (Rng::new(seed, 1), Oracle::default(), Faults::new(DEVICES.len()));
    let mut done: BTreeMap<&str, u32> = BTreeMap::new();
    let (started, mut samples, mut epochs) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < Duration::from_secs(minutes * 60) && verdict.holds() {
        let epoch = Instant::now();
        while epoch.elapsed() < EPOCH {
            if rng.below(1000) < FAULTS_PER_THOUSAND {
                faults.strike(&mut devices, &mut rng);
            }
            let at = rng.below(users.len());
            let (what, came_about) = users[at].act(&mut rng, &mut oracle);
            *done.entry(what).or_default() += u32::from(came_about);
            std::thread::sleep(Duration::from_millis(rng.below(PAUSE_MS) as u64));
        }
        if !faults.all_run(&mut devices) {
            verdict.say(false, "fleet: a daemon ended by itself");
        }
        let healing = Instant::now();
        if faults.heal(&mut devices, verdict) {
            check(&devices, &oracle, verdict);
        }
        epochs += 1;
        samples.push(Sample::take(&devices[0]));
        let entries = devices[0].tree().len();
        println!(
            "     epoch {epochs}: {} tags, {} live, {entries} entries, healed in {:.1} s",
            oracle.written(),
            oracle.live().len(),
            healing.elapsed().as_secs_f64()
        );
        if !verdict.holds() {
            show(&devices);
        }
    }
    report(&done, &faults, &samples, verdict, started.elapsed());
}

/// One device's needs at one moment.
struct Sample {
    rss_kib: u64,
    threads: u64,
    files: usize,
}

impl Sample {
    fn take(device: &Device) -> Self {
        let figure = |name| crate::process_figure(device, name);
        Self { rss_kib: figure("VmRSS"), threads: figure("Threads"), files: crate::open_files(device) }
    }
}

fn report(done: &BTreeMap<&str, u32>, faults: &Faults, samples: &[Sample], verdict: &mut Verdict, took: Duration) {
    let actions: u32 = done.values().sum();
    println!("     {actions} actions: {done:?}");
    println!(
        "     faults: {} kills, {} indexes lost, {} pauses, {} SIGSTOPs; {} holds approved",
        faults.kills, faults.index_losses, faults.pauses, faults.stops, faults.approvals
    );
    let (Some(first), Some(last)) = (samples.get(1).or(samples.first()), samples.last()) else { return };
    for (at, name) in [(first, "first"), (last, "last")] {
        println!("     {name}: {} KiB, {} threads, {} open files", at.rss_kib, at.threads, at.files);
    }
    verdict.say(
        last.rss_kib < first.rss_kib + GROWTH_MAX_KIB && last.files <= first.files + 8 && last.threads <= first.threads,
        "fleet: memory, threads and open files of the first device stay as they are",
    );
    verdict.say(verdict.holds(), &format!("fleet: {} checks in {:.0} s", samples.len(), took.as_secs_f64()));
}

fn check(devices: &[Device], oracle: &Oracle, verdict: &mut Verdict) {
    let first = devices[0].tree();
    for other in &devices[1..] {
        let found = differences(&first, &other.tree());
        if !found.is_empty() {
            verdict.say(false, &format!("fleet: {} differs: {}", other.name(), found.join("\n     ")));
            histories(devices, &found);
        }
    }
    let seen = tags_below(devices[0].files(), ".syncd");
    let missing: BTreeSet<u64> = oracle.live().keys().copied().filter(|tag| !seen.contains(tag)).collect();
    let private = |area: &str| -> BTreeSet<u64> {
        devices.iter().flat_map(|device| tags_below(&device.at(".syncd").join(area), "")).collect()
    };
    if !missing.is_empty() {
        // Written through a handle of a file that was just replaced: it waits there to become a conflict copy.
        let held = private("hold");
        let versions = private("versions");
        for tag in missing.iter().filter(|tag| !held.contains(tag)).take(SHOWN) {
            let place = if versions.contains(tag) { "only a version" } else { "nowhere" };
            verdict.say(false, &format!("fleet: tag {tag} is {place}: {}", oracle.live()[tag]));
        }
    }
    for device in devices {
        let status = device.folder();
        if status["problems_total"] != 0 {
            verdict.say(false, &format!("fleet: {} lists problems: {}", device.name(), status["problems"]));
        }
    }
    quiet(devices, verdict);
}

/// What each device told of the paths that differ, and what stands there now.
fn histories(devices: &[Device], found: &[String]) {
    for path in found.iter().filter_map(|line| line.split_once(": ")).map(|(path, _)| path).take(SHOWN) {
        for device in devices {
            let now = std::fs::symlink_metadata(device.at(path)).ok();
            let now = now.map(|meta| (meta.mode(), meta.nlink(), meta.ctime(), meta.mtime()));
            println!("--- {path} on {}, mode, links, ctime and mtime: {now:?}", device.name());
            let events = device.json(&["events"])["events"].clone();
            let own = events.as_array().into_iter().flatten().filter(|event| event["path"] == path);
            own.for_each(|event| println!("{} {} {}", event["time_ms"], event["kind"], event["words"]));
        }
    }
}

/// Another look at everything finds nothing to tell, but for copies that were due just now.
fn quiet(devices: &[Device], verdict: &mut Verdict) {
    let events = |device: &Device| device.json(&["events"])["events"].as_array().cloned().unwrap_or_default();
    let number = |event: &Value| event["id"].as_u64().unwrap_or(0);
    let before: Vec<u64> = devices.iter().map(|device| events(device).last().map_or(0, number)).collect();
    for device in devices {
        device.ok(&["folder", "rescan", FOLDER]);
    }
    settle(&devices.iter().collect::<Vec<_>>());
    for (device, before) in devices.iter().zip(before) {
        let is_news = |event: &&Value| {
            let path = event["path"].as_str().unwrap_or_default();
            number(event) > before && event["kind"] == "local_change" && !path.contains(".sync-conflict-")
        };
        let news: Vec<_> = events(device).iter().filter(is_news).cloned().collect();
        if !news.is_empty() {
            verdict.say(false, &format!("fleet: {} tells something new after a rescan: {news:?}", device.name()));
        }
    }
}

/// What a person needs who looks for the cause.
fn show(devices: &[Device]) {
    for device in devices {
        let status = device.ctl(&["status"]);
        println!("--- {}\n{}{}", device.name(), status.out, status.err);
        let copies = conflict_copies(&tree(device.files()));
        println!("{} conflict copies", copies.len());
        let log = device.log();
        let warnings = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
        warnings.rev().take(SHOWN).for_each(|line| println!("{line}"));
    }
}
