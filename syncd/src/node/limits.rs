//! From settings, pairings and the time of day to the limits that hold for content, and their words. They are looked at
//! again every minute and after each change.

#[cfg(test)]
mod tests;

use super::Node;
use crate::config::{self, ConfigFile, Effect, Moment, Settings, until_next_minute};
use crate::folder::Input;
use crate::keys::{DeviceLimits, Pairing};
use crate::transfer::{Cap, Caps, Limits, Metered};
use jiff::Zoned;
use protocol::sync::engine::Event;
use protocol::wire::control as api;
use protocol::wire::control::ControlError;
use std::time::{Duration, Instant};

/// Without a schedule the time of day changes nothing.
const NO_SCHEDULE: Duration = Duration::from_secs(24 * 3600);

impl Node {
    /// Lets the transfer know what holds from now on.
    pub(super) fn keep_limits(&mut self) {
        let settings = self.config.settings();
        let now = Zoned::now();
        let moment = Moment::of(&now);
        let wait = if settings.schedule.is_empty() { NO_SCHEDULE } else { until_next_minute(&now) };
        self.limits_look = Instant::now() + wait;
        let limits = limits_at(settings, self.pairings.all(), moment);
        if limits == self.limits {
            return;
        }
        if limits.all != self.limits.all {
            let rule = settings.schedule.at(moment).map(ToString::to_string);
            tracing::info!(up = ?limits.all.up, down = ?limits.all.down, rule, "other limits hold");
        }
        self.transfer.set_limits(limits.clone());
        if limits.metered != self.limits.metered {
            // Behind the word to the transfer: what they ask of it from now on is judged by the new limits.
            for running in self.folders.values().filter_map(|slot| slot.running()) {
                running.folder.tell(Input::Engine(Event::SourcesChanged));
            }
        }
        self.limits = limits;
    }

    /// What status says of them.
    pub(super) fn limits_status(&self) -> api::Limits {
        let Caps { up, down } = self.limits.all;
        api::Limits {
            up: rate_of(up),
            down: rate_of(down),
            paused: up == Cap::Hold,
            lan: self.limits.lan,
            metered_max: Some(self.limits.metered.max).filter(|_| self.limits.metered.here),
            rule: self.config.settings().schedule.at(Moment::of(&Zoned::now())).map(ToString::to_string),
        }
    }
}

const fn rate_of(cap: Cap) -> Option<u64> {
    match cap {
        Cap::Rate(rate) => Some(rate.get()),
        Cap::Free | Cap::Hold => None,
    }
}

/// What holds at a minute of the week.
fn limits_at(settings: &Settings, pairings: &[Pairing], moment: Moment) -> Limits {
    let (up, down) = (settings.rate_limit_up.unwrap_or(0), settings.rate_limit_down.unwrap_or(0));
    let all = match settings.schedule.at(moment).map(|rule| rule.effect) {
        None => Caps { up: Cap::of(up), down: Cap::of(down) },
        Some(Effect::Free) => Caps::default(),
        Some(Effect::Pause) => Caps { up: Cap::Hold, down: Cap::Hold },
        Some(Effect::Rates { up: other_up, down: other_down }) => {
            Caps { up: Cap::of(other_up.unwrap_or(up)), down: Cap::of(other_down.unwrap_or(down)) }
        }
    };
    let devices = pairings.iter().map(|pairing| (pairing.id(), pairing.limits));
    let caps = devices.clone().filter(|(_, limits)| limits.up > 0 || limits.down > 0);
    let caps = caps.map(|(id, limits)| (id, Caps { up: Cap::of(limits.up), down: Cap::of(limits.down) }));
    let metered = devices.filter_map(|(id, limits)| Some((id, limits.metered?)));
    Limits {
        all,
        lan: settings.rate_limit_lan,
        devices: caps.collect(),
        metered: Metered { here: settings.metered, devices: metered.collect(), max: settings.metered_max },
    }
}

/// A device's limits after a change that a person asked for.
pub(super) fn changed(known: DeviceLimits, change: &api::DeviceLimit) -> Result<DeviceLimits, ControlError> {
    let rate = |text: &Option<String>, known: u64| match text {
        Some(text) => {
            config::size(text).map_err(|why| ControlError::bad_request(format!("the rate {text:?} {why} (a second)")))
        }
        None => Ok(known),
    };
    if change.up.is_none() && change.down.is_none() && change.metered.is_none() {
        return Err(ControlError::bad_request("no limit was named"));
    }
    let metered = match change.metered.as_deref() {
        None => known.metered,
        Some("yes") => Some(true),
        Some("no") => Some(false),
        Some("default") => None,
        Some(_) => return Err(ControlError::bad_request("metered must be yes, no or default")),
    };
    Ok(DeviceLimits { up: rate(&change.up, known.up)?, down: rate(&change.down, known.down)?, metered })
}

/// What a device's limits mean, in words.
pub(super) fn words(limits: DeviceLimits) -> String {
    let way = |rate: u64, to: &str| match rate {
        0 => format!("no limit of its own {to} it"),
        rate => format!("at most {rate} bytes a second {to} it"),
    };
    let metered = match limits.metered {
        None => "",
        Some(true) => ", metered wherever it is",
        Some(false) => ", never metered",
    };
    format!("{}, {}{metered}", way(limits.up, "to"), way(limits.down, "from"))
}

/// All settings, with what the schedule says now.
pub(super) fn config_reply(file: &ConfigFile) -> api::Config {
    let mut reply = file.reply();
    reply.settings.iter_mut().for_each(|setting| say_now(setting, file.settings()));
    reply
}

/// Says which rule of the schedule holds now, if the setting is that one.
pub(super) fn say_now(setting: &mut api::Setting, settings: &Settings) {
    if setting.key == "schedule" && !settings.schedule.is_empty() {
        let rule = settings.schedule.at(Moment::of(&Zoned::now()));
        setting.now = Some(rule.map_or_else(|| "no rule holds now".to_owned(), ToString::to_string));
    }
}
