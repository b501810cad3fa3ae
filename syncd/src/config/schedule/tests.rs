//! Rules as people write them, at moments of a week.

use super::*;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The rule that holds at a day and time such as `wed 08:59`; empty: none.
fn check(schedule: &str, moment: &str, expected: &str) {
    let schedule: Schedule = schedule.parse().unwrap_or_else(|why| panic!("{schedule}: {why}"));
    let (day, time) = moment.split_once(' ').expect("a day and a time");
    let day = DAYS.iter().position(|name| *name == day).expect("a day");
    let weekday = Weekday::from_monday_zero_offset(i8::try_from(day).expect("a day")).expect("a day");
    let moment_then = Moment { weekday, minute: minute(time).expect("a time") };
    let found = schedule.at(moment_then).map(ToString::to_string).unwrap_or_default();
    assert_eq!(found, expected, "{schedule} at {moment}");
}

#[test]
fn a_rule_holds_at_its_time() {
    let work = "mon-fri 09:00-17:00 up=200kb down=1mb";
    check(work, "mon 09:00", work);
    check(work, "fri 16:59", work);
    check(work, "wed 08:59", "");
    check(work, "wed 17:00", "");
    check(work, "sat 12:00", "");
    check("", "mon 00:00", "");
    check("pause", "thu 03:00", "pause");
    check("sat,sun pause", "sun 23:59", "sat,sun pause");
    check("sat,sun pause", "mon 00:00", "");
    check("sat-mon pause", "sun 12:00", "sat-mon pause");
    check("sat-mon pause", "tue 12:00", "");
    check("mon,wed-thu pause", "thu 12:00", "mon,wed-thu pause");
    check("mon,wed-thu pause", "tue 12:00", "");
    check("08:00-24:00 none", "tue 23:59", "08:00-24:00 none");
    check("08:00-0:00 none", "tue 23:59", "08:00-0:00 none");
    check("08:00-00:00 none", "tue 00:00", "");
}

#[test]
fn a_night_belongs_to_the_day_on_which_it_begins() {
    let night = "fri 23:00-07:00 none";
    check(night, "fri 23:00", night);
    check(night, "sat 06:59", night);
    check(night, "sat 07:00", "");
    check(night, "fri 06:00", "");
    check(night, "sat 23:30", "");
    let sunday = "sun 22:00-01:00 none";
    check(sunday, "mon 00:59", sunday);
    check(sunday, "sun 00:30", "");
    check("23:00-07:00 none", "tue 03:00", "23:00-07:00 none");
}

#[test]
fn the_last_rule_that_holds_wins() {
    let all = "up=1mb; 23:00-07:00 none; sat,sun pause";
    check(all, "tue 12:00", "up=1mb");
    check(all, "tue 23:30", "23:00-07:00 none");
    check(all, "sat 23:30", "sat,sun pause");
    check(all, "mon 03:00", "23:00-07:00 none");
    check("sat,sun pause; sat 10:00-12:00 none", "sat 11:00", "sat 10:00-12:00 none");
}

#[test]
fn effects_and_words() {
    let rows = [
        ("none", Effect::Free, "none"),
        ("  Mon-FRI   pause ", Effect::Pause, "mon-fri pause"),
        ("up=200KB down=1MB", Effect::Rates { up: Some(200_000), down: Some(1_000_000) }, "up=200kb down=1mb"),
        ("down=0", Effect::Rates { up: None, down: Some(0) }, "down=0"),
        ("up=1MiB/s", Effect::Rates { up: Some(1 << 20), down: None }, "up=1mib/s"),
    ];
    for (text, effect, words) in rows {
        let rule: Rule = text.parse().expect(text);
        assert_eq!((rule.effect, rule.to_string().as_str()), (effect, words), "{text}");
        assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule), "{text}: its own words");
    }
    let text = " mon pause ;; 01:00-02:00 none; ";
    let schedule: Schedule = text.parse().expect(text);
    assert_eq!(schedule.to_string(), "mon pause; 01:00-02:00 none");
}

#[test]
fn wrong_rules_are_refused_in_words() {
    let rows = [
        ("mon-fry pause", "\"fry\" is no day"),
        ("weekdays pause", "\"weekdays\" is no day"),
        ("mon", "what shall hold?"),
        ("09:00-17:00", "what shall hold?"),
        ("9-17 pause", "\"9-17\" is unknown"),
        ("09:00 pause", "is no time"),
        ("09:00-17:60 pause", "is no time"),
        ("09:00-24:01 pause", "is no time"),
        ("+9:00-17:00 pause", "is no time"),
        ("09:00-9:00 pause", "lasts for no time"),
        ("24:00-07:00 pause", "lasts for no time"),
        ("mon up=fast", "up must be a size"),
        ("up=1 up=2", "up is there twice"),
        ("pause up=1", "\"pause\" is unknown"),
        ("left=5", "\"left=5\" is unknown"),
        ("mon 09:00-17:00 pause later", "\"pause\" is unknown"),
        ("none; mon-fri 09:00-17:00 slow", "\"slow\" is unknown"),
    ];
    for (text, words) in rows {
        let refused = text.parse::<Schedule>().expect_err(text);
        assert!(refused.contains(words) && refused.contains("makes no sense"), "{text}: {refused}");
    }
    let many = vec!["pause"; RULES_MAX + 1].join(";");
    assert!(many.parse::<Schedule>().expect_err("too many").contains("at most 32"));
}

/// Every minute of the two nights on which clocks in Berlin are set: a rule holds exactly while the clock on the wall shows
/// its time, which is an hour less in March and an hour more in October.
#[test]
fn clocks_that_are_set_do_no_harm() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
    let schedule: Schedule = "02:30-04:00 pause".parse().expect("a schedule");
    for (midnight, minutes) in
        [("2026-03-28T23:00:00Z", 60), ("2026-10-24T22:00:00Z", 120), ("2026-06-01T22:00:00Z", 90)]
    {
        let begins: Timestamp = midnight.parse().expect("a time");
        let paused = (0..8 * 60).filter(|minute| {
            let now = (begins + Duration::from_secs(minute * 60)).to_zoned(zone.clone());
            let wall = i32::from(now.hour()) * 60 + i32::from(now.minute());
            let holds = schedule.at(Moment::of(&now)).is_some();
            assert_eq!(holds, (150..240).contains(&wall), "{now}");
            holds
        });
        assert_eq!(paused.count(), minutes, "{midnight}");
    }
}

#[test]
fn the_next_minute_is_never_far_nor_now() {
    let now: Timestamp = "2026-11-30T08:15:00Z".parse().expect("a time");
    for (later_ms, at_least_s, at_most_s) in [(0, 60, 61), (59_999, 0, 1), (30_500, 29, 30)] {
        let then = (now + Duration::from_millis(later_ms)).to_zoned(TimeZone::UTC);
        let wait = until_next_minute(&then);
        assert!((Duration::from_secs(at_least_s)..Duration::from_secs(at_most_s)).contains(&wait), "{then}: {wait:?}");
        let after = (then.timestamp() + wait).to_zoned(TimeZone::UTC);
        assert_ne!(Moment::of(&then), Moment::of(&after));
    }
}
