//! `schedule`: which limits hold at which time of the week. A pure value: the caller says which day and minute it is, in
//! local time, so that a clock that jumps (daylight saving, a journey) only means another answer. The last rule that holds
//! wins.

#[cfg(test)]
mod tests;

use super::keys;
use jiff::Zoned;
use jiff::civil::Weekday;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// More rules than anybody can keep in mind.
const RULES_MAX: usize = 32;
const DAY_MINUTES: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Rules, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Vec<Rule>);

/// What a rule does while it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No limit.
    Free,
    /// No content moves.
    Pause,
    /// Bytes a second, 0: no limit; `None`: as `rate_limit_up` and `rate_limit_down` say.
    Rates {
        /// To others.
        up: Option<u64>,
        /// From others.
        down: Option<u64>,
    },
}

/// One line of the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As it was given, blanks evened out.
    words: String,
    /// The days on which it begins, Monday first.
    days: [bool; 7],
    /// Minutes of the day. An end that is not after the beginning is on the next day.
    from: u16,
    until: u16,
    /// What it does.
    pub effect: Effect,
}

/// A minute of the week in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    weekday: Weekday,
    minute: u16,
}

impl Moment {
    /// The minute in which `now` is.
    #[must_use]
    pub fn of(now: &Zoned) -> Self {
        let minute = u16::try_from(now.hour()).unwrap_or(0) * 60 + u16::try_from(now.minute()).unwrap_or(0);
        Self { weekday: now.weekday(), minute }
    }
}

/// How long `now`'s minute still lasts: then another rule may hold.
#[must_use]
pub fn until_next_minute(now: &Zoned) -> Duration {
    let past_ms = i32::from(now.second()) * 1000 + i32::from(now.millisecond());
    // A little later: waking before the minute is over would be for nothing.
    Duration::from_millis(u64::try_from(60_000 - past_ms).unwrap_or(0) + 5)
}

impl Schedule {
    /// The rule that holds.
    #[must_use]
    pub fn at(&self, moment: Moment) -> Option<&Rule> {
        self.0.iter().rev().find(|rule| rule.holds(moment))
    }

    /// Whether there is no rule.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    fn holds(&self, Moment { weekday, minute }: Moment) -> bool {
        let today = usize::try_from(weekday.to_monday_zero_offset()).unwrap_or(0) % 7;
        if self.from < self.until {
            return self.days[today] && (self.from..self.until).contains(&minute);
        }
        (self.days[today] && minute >= self.from) || (self.days[(today + 6) % 7] && minute < self.until)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<&str> = self.0.iter().map(|rule| rule.words.as_str()).collect();
        f.write_str(&rules.join("; "))
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        let rules = rules.map(Rule::from_str).collect::<Result<Vec<_>, _>>()?;
        if rules.len() > RULES_MAX {
            return Err(format!("must be at most {RULES_MAX} rules"));
        }
        Ok(Self(rules))
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("has a rule that makes no sense: {text:?}: {why}");
        let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
        let mut rest = words.as_slice();
        let mut next_if = |fits: fn(&str) -> bool| {
            let (first, others) = rest.split_first().filter(|(first, _)| fits(first))?;
            rest = others;
            Some(first.as_str())
        };
        let days = next_if(names_days).map_or(Ok([true; 7]), days).map_err(wrong)?;
        let span = next_if(|word| word.contains(':')).map_or(Ok((0, DAY_MINUTES)), span).map_err(wrong)?;
        let effect = effect(rest).map_err(wrong)?;
        Ok(Self { words: words.join(" "), days, from: span.0, until: span.1, effect })
    }
}

fn names_days(word: &str) -> bool {
    word.split([',', '-']).all(|part| part.len() >= 2 && part.bytes().all(|byte| byte.is_ascii_alphabetic()))
        && !matches!(word, "none" | "pause")
}

fn days(text: &str) -> Result<[bool; 7], String> {
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| *day == name);
        found.ok_or_else(|| format!("{name:?} is no day: write mon, tue, wed, thu, fri, sat or sun"))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // `sat-mon` goes over the end of the week.
        for offset in 0..=(last + 7 - first) % 7 {
            days[(first + offset) % 7] = true;
        }
    }
    Ok(days)
}

/// `HH:MM-HH:MM`; the end may be 24:00, or on the next day.
fn span(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{text:?} is no time: write HH:MM-HH:MM, such as 09:00-17:30 or 23:00-07:00");
    let (from, until) = text.split_once('-').ok_or_else(wrong)?;
    let (from, until) = (minute(from).ok_or_else(wrong)?, minute(until).ok_or_else(wrong)?);
    if from == until || from == DAY_MINUTES {
        return Err(format!("{text:?} lasts for no time; a whole day is written without a time"));
    }
    // 0:00 as an end is the end of the day that began, as 24:00.
    Ok((from, if until == 0 { DAY_MINUTES } else { until }))
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let is_number = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let minute = number(hours, 1..=2)? * 60 + number(minutes, 2..=2).filter(|minutes| *minutes < 60)?;
    Some(minute).filter(|minute| *minute <= DAY_MINUTES)
}

fn effect(words: &[String]) -> Result<Effect, String> {
    let what = "write none (no limit), pause (nothing moves), up=RATE, down=RATE or both";
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => return Err(format!("what shall hold? {what}")),
        ["none"] => return Ok(Effect::Free),
        ["pause"] => return Ok(Effect::Pause),
        _ => {}
    }
    let (mut up, mut down) = (None, None);
    for word in words {
        let (way, rate) = word.split_once('=').ok_or_else(|| format!("{word:?} is unknown: {what}"))?;
        let slot = match way {
            "up" => &mut up,
            "down" => &mut down,
            _ => return Err(format!("{word:?} is unknown: {what}")),
        };
        let rate = keys::size(rate).map_err(|why| format!("{way} {why}"))?;
        if slot.replace(rate).is_some() {
            return Err(format!("{way} is there twice"));
        }
    }
    Ok(Effect::Rates { up, down })
}
