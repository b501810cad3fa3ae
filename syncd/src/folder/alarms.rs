//! What a person should know of other devices, until it is over: the two agree again, or the person has answered.
//! Holds are not here: the engine says what it holds.

use protocol::model::DeviceId;
use protocol::sync::engine::Alarm;

/// The alarms of one folder, each with its time (Unix seconds).
#[derive(Default)]
pub(super) struct Alarms(Vec<(Alarm, i64)>);

impl Alarms {
    /// Takes in an alarm. Those that `Holds` or the node keeps, and one that is here already, change nothing.
    pub(super) fn add(&mut self, alarm: Alarm, since: i64) {
        let is_kept = matches!(alarm, Alarm::Fork { .. } | Alarm::Diverged { .. });
        if is_kept && !self.0.iter().any(|(known, _)| *known == alarm) {
            self.0.push((alarm, since));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Alarm, i64)> {
        self.0.iter()
    }

    /// What is over because a device agrees again. Two devices with one identity agree and are still two: a fork needs
    /// an answer.
    pub(super) fn over(&mut self, agrees: impl Fn(&DeviceId) -> bool) -> Vec<Alarm> {
        self.take(|alarm| matches!(alarm, Alarm::Diverged { peer } if agrees(peer)))
    }

    /// What is over because a person has read it.
    pub(super) fn answered(&mut self) -> Vec<Alarm> {
        self.take(|_| true)
    }

    fn take(&mut self, is_over: impl Fn(&Alarm) -> bool) -> Vec<Alarm> {
        self.0.extract_if(.., |(alarm, _)| is_over(alarm)).map(|(alarm, _)| alarm).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::model::RelPath;

    #[test]
    fn an_alarm_lasts_until_it_is_over() {
        let (one, other) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let fork = Alarm::Fork { path: RelPath::parse(b"f").unwrap(), peer: one };
        let (here, there) = (Alarm::Diverged { peer: one }, Alarm::Diverged { peer: other });
        let mut alarms = Alarms::default();
        for (alarm, since) in [(&fork, 1), (&here, 2), (&there, 3), (&here, 4), (&fork, 5)] {
            alarms.add(alarm.clone(), since);
        }
        let listed = |alarms: &Alarms| alarms.iter().map(|(_, since)| *since).collect::<Vec<_>>();
        assert_eq!(listed(&alarms), [1, 2, 3], "once each");
        assert_eq!(alarms.over(|_| false), []);
        assert_eq!(alarms.over(|peer| *peer == one), std::slice::from_ref(&here));
        assert_eq!(alarms.over(|peer| *peer == one), [], "a fork is answered by a person");
        alarms.add(here.clone(), 6);
        assert_eq!(alarms.answered(), [fork, there, here]);
        assert!(alarms.is_empty() && alarms.answered().is_empty());
    }
}
