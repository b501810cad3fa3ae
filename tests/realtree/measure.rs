//! Figures on a synced pair: silence, latency, a git repository, an insertion.

use super::{Pair, SYNC_MAX};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::harness::{Device, Verdict, noise, within};

/// Edits whose latency is measured.
const EDITS: usize = 50;
const P50_MAX: Duration = Duration::from_millis(100);
const P95_MAX: Duration = Duration::from_millis(250);
/// How long nothing may happen.
const IDLE: Duration = Duration::from_secs(60);
/// Share of one processor while nothing happens, in percent.
const IDLE_CPU_MAX: f64 = 0.2;
/// What /proc counts in: 100 on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
const INSERT_LEN: usize = 512 << 20;
const INSERT_WIRE_MAX: u64 = 2 << 20;
/// Revisions that are checked out.
const CHECKOUTS: usize = 10;

/// A minute in which nothing changes.
pub fn idle(pair: &Pair, verdict: &mut Verdict) {
    let devices = [&pair.a, &pair.b];
    // What a sync leaves to do (displaced files, a last commit) ends within seconds.
    let quiet = within(SYNC_MAX, || {
        let before = devices.map(|device| used(device.pid()));
        std::thread::sleep(Duration::from_secs(5));
        (devices.map(|device| used(device.pid()).written) == before.map(|used| used.written)).then_some(())
    });
    verdict.say(quiet.is_some(), "idle: the daemons come to rest");
    let before = devices.map(|device| used(device.pid()));
    std::thread::sleep(IDLE);
    for (device, before) in devices.into_iter().zip(before) {
        let now = used(device.pid());
        let cpu = (now.ticks - before.ticks) as f64 / TICKS_PER_SECOND / IDLE.as_secs_f64() * 100.0;
        let written = now.written - before.written;
        verdict.say(
            cpu < IDLE_CPU_MAX && written == 0,
            &format!("idle: {} used {cpu:.3} % of a processor and wrote {written} bytes in a minute", device.name()),
        );
    }
}

#[derive(Clone, Copy)]
struct Used {
    ticks: u64,
    written: u64,
}

fn used(pid: u32) -> Used {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the daemon runs");
    let behind = stat.rsplit(')').next().expect("a name in parentheses");
    // utime and stime are the 14th and 15th field; the third is the first behind the name.
    let ticks = behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("the daemon runs");
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).expect("a count");
    Used { ticks, written }
}

/// From the end of a write on one side to the new bytes on the other.
pub fn latency(pair: &Pair, verdict: &mut Verdict) {
    let mut times = Vec::new();
    for at in 0..EDITS {
        let (from, to) = if at % 2 == 0 { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        let (name, bytes) = (format!("latency/{}", at % 5), noise(at as u64, 2000));
        from.put(&name, &bytes);
        let written = Instant::now();
        let path = to.at(&name);
        while std::fs::read(&path).ok().as_ref() != Some(&bytes) {
            if written.elapsed() > Duration::from_secs(30) {
                verdict.say(false, &format!("latency: edit {at} did not arrive"));
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(written.elapsed());
        // As a person works: not in the middle of what the last edit set off.
        std::thread::sleep(Duration::from_millis(150 + 10 * (at as u64 % 7)));
    }
    times.sort_unstable();
    let (p50, p95) = (times[EDITS / 2], times[EDITS * 95 / 100]);
    let most = times[EDITS - 1];
    verdict.say(
        p50 <= P50_MAX && p95 <= P95_MAX,
        &format!("latency of {EDITS} edits: p50 {p50:.1?}, p95 {p95:.1?}, most {most:.1?}"),
    );
    settle(pair);
}

fn settle(pair: &Pair) {
    pair.a.wait_within(SYNC_MAX);
    pair.b.wait_within(SYNC_MAX);
}

/// A repository is cloned and walked through on one side; the other side has it whole.
pub fn git(pair: &Pair, verdict: &mut Verdict) {
    let Some(origin) =
        git_output(Path::new(env!("CARGO_MANIFEST_DIR")), &["rev-parse", "--path-format=absolute", "--git-common-dir"])
    else {
        verdict.say(false, "git: this is no repository");
        return;
    };
    let here = pair.a.at("repository");
    let cloned = git_output(pair.a.files(), &["clone", "--quiet", "--no-hardlinks", origin.trim(), "repository"]);
    verdict.say(cloned.is_some(), "git: clone");
    let revisions = git_output(&here, &["rev-list", "HEAD"]).unwrap_or_default();
    let revisions: Vec<&str> = revisions.lines().collect();
    let step = (revisions.len() / CHECKOUTS).max(1);
    let mut checked_out = 0;
    for revision in revisions.iter().step_by(step).chain(revisions.last()).chain(revisions.first()) {
        checked_out += usize::from(git_output(&here, &["checkout", "--quiet", revision]).is_some());
    }
    settle(pair);
    let there = pair.b.at("repository");
    let sound = git_output(&there, &["fsck", "--full", "--strict", "--no-progress"]).is_some();
    verdict.say(
        sound,
        &format!("git: fsck on the other side after {checked_out} checkouts of {} revisions", revisions.len()),
    );
    // Without optional locks nothing is written, so that looking at it does not change it.
    let changed = git_output(&there, &["--no-optional-locks", "status", "--porcelain"]);
    verdict.say(changed.as_deref() == Some(""), "git: the other side's files are those of the revision");
    let heads = [&here, &there].map(|repository| git_output(repository, &["rev-parse", "HEAD"]));
    verdict.say(heads[0].is_some() && heads[0] == heads[1], "git: both sides are at the same revision");
}

fn git_output(directory: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(directory).args(args).output().expect("git runs");
    if !output.status.success() {
        eprintln!("git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// 1 KiB before the first byte of a large file.
pub fn insert(pair: &Pair, verdict: &mut Verdict) {
    let content = noise(1, INSERT_LEN);
    pair.a.put("large", &content);
    let started = Instant::now();
    settle(pair);
    let rate = (INSERT_LEN >> 20) as f64 / started.elapsed().as_secs_f64();
    println!("     512 MiB took {:.1} s, {rate:.0} MiB/s", started.elapsed().as_secs_f64());
    let before = received(&pair.b);
    let started = Instant::now();
    pair.a.put("large", [noise(2, 1024), content].concat());
    settle(pair);
    let wire = received(&pair.b) - before;
    let took = started.elapsed().as_secs_f64();
    verdict.say(
        wire <= INSERT_WIRE_MAX && pair.a.get("large") == pair.b.get("large"),
        &format!("insert: 1 KiB in front of 512 MiB moved {:.3} MiB in {took:.1} s", wire as f64 / f64::from(1 << 20)),
    );
}

fn received(device: &Device) -> u64 {
    device.traffic().0
}
