//! What happens to the daemons meanwhile, and how it ends: processes die and stop, devices part, an index is lost.

use std::collections::BTreeSet;
use std::time::Duration;
use tests::harness::{Device, FOLDER, Verdict, within};
use tests::sim::rng::Rng;

/// How long it may take until all is in sync again.
const SETTLE_MAX: Duration = Duration::from_secs(300);
/// Scans in a row after which all agree.
const SCANS: u32 = 3;
/// One try of that: a hold has to be answered in between.
const TRY_SECS: &str = "20";

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Stopped,
    Down,
}

pub struct Faults {
    states: Vec<State>,
    /// Devices that the first of the two has paused.
    parted: BTreeSet<(usize, usize)>,
    pub kills: u32,
    pub index_losses: u32,
    pub pauses: u32,
    pub stops: u32,
    pub approvals: u32,
}

impl Faults {
    pub fn new(devices: usize) -> Self {
        let (kills, index_losses, pauses, stops, approvals) = (0, 0, 0, 0, 0);
        Self {
            states: vec![State::Up; devices],
            parted: BTreeSet::new(),
            kills,
            index_losses,
            pauses,
            stops,
            approvals,
        }
    }

    /// One more thing goes wrong, or right again. The first device is never ended, so that its memory can be watched.
    pub fn strike(&mut self, devices: &mut [Device], rng: &mut Rng) {
        let at = rng.below(devices.len());
        let other = (at + 1 + rng.below(devices.len() - 1)) % devices.len();
        match (self.states[at], rng.below(10)) {
            (State::Down, _) => self.start(devices, at),
            (State::Stopped, _) => self.go_on(devices, at),
            (State::Up, 0..3) if at > 0 => {
                devices[at].kill();
                self.states[at] = State::Down;
                self.kills += 1;
            }
            (State::Up, 3) if at > 0 => {
                devices[at].stop();
                self.states[at] = State::Down;
            }
            (State::Up, 4) if at > 0 && rng.chance(40) => {
                devices[at].kill();
                std::fs::remove_dir_all(devices[at].home().join("index")).expect("an index to lose");
                self.states[at] = State::Down;
                self.index_losses += 1;
            }
            (State::Up, 5) => {
                signal(&devices[at], rustix::process::Signal::STOP);
                self.states[at] = State::Stopped;
                self.stops += 1;
            }
            (State::Up, _) => self.part_or_join(devices, at, other),
        }
    }

    fn part_or_join(&mut self, devices: &[Device], at: usize, other: usize) {
        let action = if self.parted.remove(&(at, other)) { "resume" } else { "pause" };
        if action == "pause" {
            self.parted.insert((at, other));
            self.pauses += 1;
        }
        devices[at].ok(&["device", action, devices[other].name()]);
    }

    fn start(&mut self, devices: &mut [Device], at: usize) {
        devices[at].start();
        self.states[at] = State::Up;
    }

    fn go_on(&mut self, devices: &[Device], at: usize) {
        signal(&devices[at], rustix::process::Signal::CONT);
        self.states[at] = State::Up;
    }

    /// A daemon that nobody ended has to run.
    pub fn all_run(&self, devices: &mut [Device]) -> bool {
        let mut states = self.states.iter().zip(devices);
        states.all(|(state, device)| *state == State::Down || device.is_running())
    }

    /// Everything works again, and all devices come to agree. Mass deletions are approved: people did mean them.
    pub fn heal(&mut self, devices: &mut [Device], verdict: &mut Verdict) -> bool {
        for at in 0..devices.len() {
            match self.states[at] {
                State::Up => {}
                State::Stopped => self.go_on(devices, at),
                State::Down => self.start(devices, at),
            }
        }
        for (at, other) in std::mem::take(&mut self.parted) {
            devices[at].ok(&["device", "resume", devices[other].name()]);
        }
        let (mut said, mut good) = (String::new(), 0);
        let settled = within(SETTLE_MAX, || {
            for device in &*devices {
                // What is changed through another hard link of a file causes no event at its path: a scan finds it. That
                // goes for a mode that comes from elsewhere, too, so once is not enough.
                device.ok(&["folder", "rescan", FOLDER]);
                let holds = device.folder()["holds"].as_array().map_or(0, Vec::len);
                if holds > 0 {
                    device.ok(&["folder", "approve", FOLDER]);
                    self.approvals += 1;
                }
            }
            // Twice: what the last one resolved has to reach the first one.
            let mut waits = devices.iter().chain(&*devices).map(|device| device.ctl(&["wait", "--timeout", TRY_SECS]));
            let failed = waits.find(|run| run.code != 0);
            said = failed.as_ref().map(|run| format!("{}{}", run.out, run.err)).unwrap_or_default();
            let connected = devices.iter().all(|device| peers(device) + 1 == devices.len());
            good = if failed.is_none() && connected { good + 1 } else { 0 };
            (good == SCANS).then_some(())
        });
        if settled.is_none() {
            verdict.say(false, &format!("fleet: not in sync after {} s: {said}", SETTLE_MAX.as_secs()));
        }
        settled.is_some()
    }
}

fn peers(device: &Device) -> usize {
    let list = device.json(&["device", "list"])["devices"].clone();
    list.as_array().map_or(0, |list| list.iter().filter(|entry| entry["connected"] == true).count())
}

fn signal(device: &Device, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(device.pid().cast_signed()).expect("a process has a number");
    rustix::process::kill_process(pid, signal).expect("a signal");
}
