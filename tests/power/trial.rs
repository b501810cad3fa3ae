//! Two devices, one of them on a disk that loses its power. Round after round people act at both, the power goes in the
//! middle of it, comes back, perhaps goes again while the daemon starts, and at the end everything is compared.

use super::disk::{Disk, Forgets};
use super::oracle::{Oracle, hashes, is_copy};
use super::syncfs::{GUARD, Watch};
use super::user::User;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use tests::harness::{Device, FOLDER, PATIENCE, World, differences, noise, pair, settle, share, tree, within};
use tests::sim::rng::Rng;

/// The name of the device whose disk loses its power; the other one's.
const NAMES: [&str; 2] = ["power", "plain"];
/// Files that nobody touches, so that no round deletes all of a folder.
const BASE_FILES: u64 = 12;
/// Acts of one round.
const ACTS_MAX: usize = 14;
/// Pause between two of them, in milliseconds.
const PAUSE_MS: usize = 120;
/// Changes on the disk until the power goes: about as many as an act and its way to the other device take.
const CHANGES_MAX: usize = 200;
/// How long a cut waits for its change before it comes anyway, in milliseconds.
const WAIT_MS: usize = 1_200;
/// Cuts in one round, those while the daemon starts included.
const CUTS_PER_ROUND_MAX: u64 = 4;
/// Until the daemon takes the stamps of a file on a disk that it does not know for good.
const STAMPS_SETTLE: Duration = Duration::from_millis(2_100);
/// What a late round overwrites.
const PATCHED: &str = "base/b0";
const SIGKILL: i32 = 9;

/// What a world is made of.
#[derive(Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub forgets: Forgets,
    /// Whether the power goes long after one unsynced act, when the daemon trusts the time stamps that it saw.
    pub late: bool,
}

pub struct Trial {
    power: Device,
    plain: Device,
    users: [User; 2],
    rng: Rng,
    oracle: Oracle,
    /// What happened in this round.
    story: Vec<String>,
    pub cuts: u64,
    pub acts: u64,
    late: bool,
    disk: Disk,
    /// Dropped after the devices and their disks.
    _watch: Watch,
    _world: World,
}

impl Trial {
    /// Two devices in sync; which one is paired and shares first depends on the seed.
    pub fn new(world: World, settings: Settings) -> Result<Self, String> {
        let words = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let disk = Disk::mount(&world.path().join(NAMES[0]), settings.seed, settings.forgets)
            .map_err(|error| words("no disk", error))?;
        let socket = world.path().join("guard");
        let watch = Watch::new(&socket, disk.shared()).map_err(|error| words("no guard", error))?;
        let own = std::env::current_exe().map_err(|error| words("no program", error))?;
        let mut power = world.prepare(NAMES[0], "lan = \"never\"\n");
        power.move_log(&world.path().join("log of the disk"));
        power.run_under(&[&own.to_string_lossy(), GUARD, &socket.to_string_lossy()]);
        power.start();
        let plain = world.device(NAMES[1]);
        let first = settings.seed.is_multiple_of(2);
        let (one, other) = if first { (&power, &plain) } else { (&plain, &power) };
        pair(one, other);
        for at in 0..BASE_FILES {
            plain.put(format!("base/b{at}"), noise(at, 900));
        }
        for directory in ["a", "b", "both"] {
            plain.put(format!("{directory}/f0"), noise(100, 2_000));
        }
        share(&[one, other]);
        settle(&[one, other]);
        disk.settle();
        let user = |side: usize, device: &Device| {
            let outside = device.home().with_file_name("outside");
            User::new(side, NAMES[side], device.files(), outside, side == 0)
        };
        let users = [user(0, &power), user(1, &plain)];
        disk.settle();
        let mut oracle = Oracle::default();
        oracle.settled(&plain.tree());
        let (rng, story) = (Rng::new(settings.seed, 3), Vec::new());
        let late = settings.late;
        Ok(Self { power, plain, users, rng, oracle, story, cuts: 0, acts: 0, late, disk, _watch: watch, _world: world })
    }

    /// Changes that the disk has seen.
    pub fn changes(&self) -> u64 {
        self.disk.changes()
    }

    /// What happened since the last check.
    pub fn story(&self) -> String {
        self.story.join("\n")
    }

    /// What both daemons said.
    pub fn logs(&self) -> String {
        let log = |device: &Device| format!("--- log of {}\n{}", device.name(), device.log());
        log(&self.power) + &log(&self.plain)
    }

    /// One round; what does not hold at its end.
    pub fn round(&mut self) -> Result<(), String> {
        self.story.clear();
        if self.late {
            self.patch_and_wait()?;
            self.disk.cut(self.power.pid());
        } else {
            self.act_until_the_power_goes()?;
        }
        self.has_ended()?;
        if self.rng.chance(30) {
            self.act(1, "both");
        }
        self.come_back()?;
        self.check()
    }

    fn act(&mut self, side: usize, scope: &str) {
        let (what, done) = self.users[side].act(scope, &mut self.rng, &mut self.oracle);
        self.acts += u64::from(done.is_ok());
        self.story.push(format!("{} in {scope}: {what}: {done:?}", NAMES[side]));
    }

    /// Bytes overwritten in place and never synced, and time for the daemon to look twice at what that left.
    fn patch_and_wait(&mut self) -> Result<(), String> {
        let path = self.power.at(PATCHED);
        let patched = self.users[0].patch(&path, &mut self.oracle);
        self.story.push(format!("{} patches {PATCHED}: {patched:?}", NAMES[0]));
        std::thread::sleep(STAMPS_SETTLE);
        self.power.ok(&["folder", "rescan", FOLDER]);
        let wait = self.power.ctl(&["wait", "--timeout", "45"]);
        if wait.code == 0 { Ok(()) } else { Err(format!("not in sync before the cut: {}{}", wait.out, wait.err)) }
    }

    /// A moment soon, or later, or only once everything that was done has arrived.
    fn arm(&mut self) {
        let most = *self.rng.pick(&[CHANGES_MAX / 8, CHANGES_MAX, usize::MAX]);
        if most < usize::MAX {
            let left = self.rng.below(most) as u64;
            self.story.push(format!("the power goes after {left} changes"));
            self.disk.arm(left, self.power.pid());
        }
    }

    fn act_until_the_power_goes(&mut self) -> Result<(), String> {
        let acts = 1 + self.rng.below(ACTS_MAX);
        let armed_at = self.rng.below(acts);
        let apart = self.rng.chance(60);
        let who = *self.rng.pick(&[0..1, 1..2, 0..2, 0..2].map(|who: std::ops::Range<usize>| (who.start, who.len())));
        for at in 0..acts {
            if at == armed_at {
                self.arm();
            }
            let side = who.0 + self.rng.below(who.1);
            let scope = if apart { ["a", "b"][side] } else { "both" };
            self.act(side, scope);
            if self.rng.chance(60) {
                std::thread::sleep(Duration::from_millis(self.rng.below(PAUSE_MS) as u64));
            }
            if !self.disk.is_on() {
                break;
            }
        }
        let wait = Duration::from_millis(self.rng.below(WAIT_MS) as u64);
        if within(wait, || (!self.disk.is_on()).then_some(())).is_none() {
            if !self.power.is_running() {
                return Err("the daemon ended by itself".to_owned());
            }
            self.story.push("the power goes at no change".to_owned());
            self.disk.cut(self.power.pid());
        }
        Ok(())
    }

    /// The daemon died of the cut and of nothing else.
    fn has_ended(&mut self) -> Result<(), String> {
        self.cuts += 1;
        let status = self.power.ended();
        if status.signal() == Some(SIGKILL) { Ok(()) } else { Err(format!("the daemon ended with {status}")) }
    }

    /// The power comes back, now and then only for a moment.
    fn come_back(&mut self) -> Result<(), String> {
        for _ in 1..CUTS_PER_ROUND_MAX {
            self.restore_and_launch()?;
            if !self.rng.chance(30) {
                return self.is_up();
            }
            let left = self.rng.below(2 * CHANGES_MAX) as u64;
            self.story.push(format!("the power goes after {left} changes of a start"));
            self.disk.arm(left, self.power.pid());
            let wait = Duration::from_millis(self.rng.below(2 * WAIT_MS) as u64);
            if within(wait, || (!self.disk.is_on()).then_some(())).is_none() && self.disk.disarm() {
                return self.is_up();
            }
            self.has_ended()?;
        }
        self.restore_and_launch()?;
        self.is_up()
    }

    fn restore_and_launch(&mut self) -> Result<(), String> {
        self.disk.restore().map_err(|error| format!("the disk does not come back: {error}"))?;
        self.power.launch();
        Ok(())
    }

    fn is_up(&mut self) -> Result<(), String> {
        let ping = self.power.ctl(&["ping", "--wait", "30"]);
        if ping.code != 0 {
            let ended = !self.power.is_running();
            return Err(format!(
                "the daemon does not come up ({}): {}",
                if ended { "ended" } else { "runs" },
                ping.err
            ));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        for (device, peer) in [(&self.power, &self.plain), (&self.plain, &self.power)] {
            if within(PATIENCE, || device.is_connected_to(peer).then_some(())).is_none() {
                return Err(format!("{} does not meet {}", device.name(), peer.name()));
            }
        }
        for _ in 0..2 {
            for device in [&self.power, &self.plain] {
                let wait = device.ctl(&["wait", "--timeout", "45"]);
                if wait.code != 0 {
                    return Err(format!("{} is not in sync: {}{}", device.name(), wait.out, wait.err));
                }
            }
        }
        let wrong = self.wrong();
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        self.tidy_up()?;
        // Nobody's bytes are at stake any more: what the last round left is durable.
        self.disk.settle();
        self.oracle.settled(&self.plain.tree());
        Ok(())
    }

    fn wrong(&mut self) -> Vec<String> {
        let trees = [self.power.tree(), self.plain.tree()];
        let mut wrong = differences(&trees[0], &trees[1]);
        let devices = [&self.power, &self.plain];
        let private = devices.map(|device| {
            let areas = ["hold", "versions"].map(|area| hashes(&device.at(".syncd").join(area)));
            areas.into_iter().flatten().collect::<HashSet<_>>()
        });
        wrong.extend(self.oracle.check(&trees[1], &private, NAMES));
        for device in devices {
            let temps = || std::fs::read_dir(device.at(".syncd/tmp")).map_or(0, Iterator::count);
            if within(Duration::from_secs(5), || (temps() == 0).then_some(())).is_none() {
                wrong.push(format!("{} temporary files on {}", temps(), device.name()));
            }
            let status = device.folder();
            if status["problems_total"] != 0 {
                wrong.push(format!("{} lists problems: {}", device.name(), status["problems"]));
            }
            let log = device.log();
            let alarming = |line: &&str| line.contains("panicked at") || line.contains("ERROR");
            wrong.extend(log.lines().filter(alarming).map(|line| format!("{} said {line}", device.name())));
        }
        if !self.plain.is_running() || !self.power.is_running() {
            wrong.push("a daemon ended by itself".to_owned());
        }
        wrong
    }

    /// Conflict copies go, so that the next round begins without.
    fn tidy_up(&mut self) -> Result<(), String> {
        let tree = tree(self.plain.files());
        let copies: Vec<_> = tree.keys().filter(|path| is_copy(path)).collect();
        if copies.is_empty() {
            return Ok(());
        }
        for copy in copies {
            let path = self.plain.at(std::ffi::OsStr::from_bytes(copy));
            // A copy below a copy is gone with it.
            let _ = self.users[1].take_away(&path, &mut self.oracle);
        }
        settle(&[&self.plain, &self.power]);
        Ok(())
    }
}
