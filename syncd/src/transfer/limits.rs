//! Which limit holds for whom: those of all devices together spare devices in the local network unless they are to hold
//! there too; a limit of one device holds wherever it is, since a person asked for that device. Where both hold, both do.

#[cfg(test)]
mod tests;

use super::pace::{Cap, Gate, Pace};
use crate::net::{Session, Via};
use protocol::limits::REQUEST_BYTES_MAX;
use protocol::model::DeviceId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::watch;

/// Caps of both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// To others.
    pub up: Cap,
    /// From others.
    pub down: Cap,
}

/// Connections that cost by the byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// Those of this device, but in the local network.
    pub here: bool,
    /// Those to single devices, as a person said it: that stands over `here`.
    pub devices: BTreeMap<DeviceId, bool>,
    /// Contents of more bytes are not fetched over them.
    pub max: u64,
}

impl Metered {
    pub(super) fn costs(&self, whose: Whose) -> bool {
        self.devices.get(&whose.device).copied().unwrap_or(self.here && !whose.near)
    }

    /// Whether a content of `size` bytes may be fetched there.
    pub(super) fn may_fetch(&self, whose: Whose, size: u64) -> bool {
        size <= self.max || !self.costs(whose)
    }
}

/// All limits on content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// For all devices together.
    pub all: Caps,
    /// Whether those hold for devices in the local network too.
    pub lan: bool,
    /// For each device that has limits of its own.
    pub devices: BTreeMap<DeviceId, Caps>,
    /// Where only what is small is fetched.
    pub metered: Metered,
}

/// Whose content moves, and whether that is in the local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    pub device: DeviceId,
    pub near: bool,
}

impl Whose {
    pub fn of(session: &Session) -> Self {
        Self { device: session.peer(), near: session.via() == Via::Lan }
    }
}

/// The paces of what comes, for the one task that asks for it.
pub(super) struct Paces {
    all: Pace,
    lan: bool,
    devices: BTreeMap<DeviceId, Pace>,
}

impl Paces {
    pub const fn free(now: Instant) -> Self {
        Self { all: Pace::free(now), lan: false, devices: BTreeMap::new() }
    }

    pub fn set(&mut self, now: Instant, limits: &Limits) {
        self.all.set(now, limits.all.down);
        self.lan = limits.lan;
        self.devices.retain(|device, _| limits.devices.contains_key(device));
        for (device, caps) in &limits.devices {
            self.devices.entry(*device).or_insert_with(|| Pace::free(now)).set(now, caps.down);
        }
    }

    fn holding(&self, whose: Whose) -> impl Iterator<Item = &Pace> {
        let all = Some(&self.all).filter(|_| self.lan || !whose.near);
        all.into_iter().chain(self.devices.get(&whose.device))
    }

    /// When the next piece of it may be asked for; `None`: now.
    pub fn due(&self, now: Instant, whose: Whose) -> Option<Instant> {
        self.holding(whose).filter_map(|pace| pace.due(now)).max()
    }

    /// Nothing of it may be asked for until the limits change.
    pub fn is_held(&self, whose: Whose) -> bool {
        self.holding(whose).any(|pace| pace.cap() == Cap::Hold)
    }

    pub fn spend(&mut self, now: Instant, whose: Whose, bytes: u64) {
        if self.lan || !whose.near {
            self.all.spend(now, bytes);
        }
        if let Some(pace) = self.devices.get_mut(&whose.device) {
            pace.spend(now, bytes);
        }
    }

    /// Bytes of a piece that keep the flow steady.
    pub fn portion(&self, whose: Whose) -> u64 {
        self.holding(whose).map(Pace::portion).min().unwrap_or(REQUEST_BYTES_MAX)
    }
}

/// The paces of what is sent, which many tasks keep together: first come, first served.
pub(super) struct Gates {
    all: Gate,
    lan: watch::Sender<bool>,
    /// Of devices that have, or had, a limit of their own.
    devices: Mutex<BTreeMap<DeviceId, Arc<Gate>>>,
}

impl Gates {
    pub fn open() -> Self {
        Self { all: Gate::open(), lan: watch::Sender::new(false), devices: Mutex::default() }
    }

    /// From now on, also for who waits already.
    pub fn set(&self, limits: &Limits) {
        self.all.set(limits.all.up);
        self.lan.send_replace(limits.lan);
        let mut devices = self.devices.lock().expect("no thread panics while it holds this lock");
        for (_, gate) in devices.iter().filter(|(device, _)| !limits.devices.contains_key(device)) {
            gate.set(Cap::Free);
        }
        for (device, caps) in &limits.devices {
            devices.entry(*device).or_insert_with(|| Arc::new(Gate::open())).set(caps.up);
        }
    }

    /// Waits until `bytes` may go: first by the device's own limit, so that who waits for that holds up no other.
    pub async fn pass(&self, whose: Whose, bytes: usize) {
        if let Some(gate) = self.of_device(&whose.device) {
            gate.pass(bytes).await;
        }
        if !whose.near {
            return self.all.pass(bytes).await;
        }
        let mut lan = self.lan.subscribe();
        tokio::select! {
            biased;
            // The sender is `self`: it cannot be gone.
            _ = lan.wait_for(|holds| !*holds) => {}
            () = self.all.pass(bytes) => {}
        }
    }

    fn of_device(&self, device: &DeviceId) -> Option<Arc<Gate>> {
        self.devices.lock().expect("no thread panics while it holds this lock").get(device).cloned()
    }
}
