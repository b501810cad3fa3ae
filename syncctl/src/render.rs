//! Words for people: escaped names, sizes, times, tables, JSON lines. Everything that others chose (names, paths,
//! messages) passes `escape`, so that nobody can steer this terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use protocol::wire::control::{Counts, PathText, Progress};
use serde::Serialize;
use std::fmt::{Display, Write as _};
use std::io::{ErrorKind, Write as _};

/// Prints a line. A reader that has gone (`| head`) ends the program quietly.
pub fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        let gone = error.kind() == ErrorKind::BrokenPipe;
        std::process::exit(if gone { 0 } else { 1 });
    }
}

/// Prints a reply as one line of JSON.
pub fn json(value: &impl Serialize) {
    say(json_text(value));
}

/// JSON in which no character can steer a terminal: those that JSON lets through are escaped, too.
pub fn json_text(value: &impl Serialize) -> String {
    let plain = serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    let mut text = String::with_capacity(plain.len());
    for c in plain.chars() {
        if is_harmless(c) {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// Neither a control character nor one that turns or hides text.
fn is_harmless(c: char) -> bool {
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let hides = matches!(c, '\u{61c}' | '\u{ad}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !turns && !hides
}

/// Text that cannot steer a terminal.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_default());
        }
    }
    safe
}

/// A path for people: what is no UTF-8 shows as `\xff`.
pub fn path(path: &PathText) -> String {
    let Some(bytes) = path.bytes() else {
        return escape(path.text());
    };
    let mut safe = String::new();
    for chunk in bytes.utf8_chunks() {
        safe.push_str(&escape(chunk.valid()));
        safe.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    safe
}

/// A name as one word for a shell.
pub fn shell(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", escape(name).replace('\'', "'\\''"))
}

/// `1.5 GB`; units by 1000, as disks are sold.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    // Two digits behind the point are shown at most, so f64's 53 bits are plenty.
    let mut value = bytes as f64;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `1,234,567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file` or `5 files`.
pub fn count(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(value), if value == 1 { "" } else { "s" })
}

/// `5 files, 1.2 MB`.
pub fn counts(counts: &Counts) -> String {
    format!("{}, {}", count(counts.files, "file"), size(counts.bytes))
}

/// `5 s`, `3 min`, `2 h 5 min`, `4 d`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=89 => format!("{seconds} s"),
        90..=5399 => format!("{} min", (seconds + 30) / 60),
        5400..=172_799 if seconds % 3600 < 60 => format!("{} h", seconds / 3600),
        5400..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago, seen from `now_ms`.
pub fn ago(then_ms: u64, now_ms: u64) -> String {
    match now_ms.saturating_sub(then_ms) / 1000 {
        0..=4 => "now".to_owned(),
        seconds => format!("{} ago", duration(seconds)),
    }
}

/// Local time, `2026-08-05 14:03:07`.
pub fn time(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// The same for times that are never negative.
pub fn time_of(ms: u64) -> String {
    time(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// A point in time as people write it, before `now`: a date, a date and time (local), RFC 3339, or `2h ago`.
pub fn parse_time(text: &str, now: &Zoned) -> Result<u64, String> {
    let text = text.trim();
    let zone = now.time_zone();
    let stamp = if let Ok(stamp) = text.parse::<Timestamp>() {
        stamp
    } else if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        local.to_zoned(zone.clone()).map_err(|error| error.to_string())?.timestamp()
    } else if let Ok(span) = text.trim_end_matches("ago").trim().parse::<jiff::Span>() {
        now.checked_sub(span.abs()).map_err(|error| error.to_string())?.timestamp()
    } else {
        return Err(format!("{text:?} is no time: write 2026-08-05, \"2026-08-05 14:30\" or \"2h ago\""));
    };
    u64::try_from(stamp.as_millisecond()).map_err(|_| "times before 1970 mean nothing here".to_owned())
}

/// `40 % of 1.1 GB, 12.3 MB/s, 2 min left`.
pub fn progress(progress: &Progress) -> String {
    let mut text = format!("{} % of {}", percent(progress), size(progress.total_bytes));
    if progress.total_bytes == 0 {
        text = format!("{} of {}", number(progress.done_files), count(progress.total_files, "file"));
    }
    if progress.rate_bps > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, ", {}/s", size(progress.rate_bps));
    }
    if let Some(eta_s) = progress.eta_s {
        let _ = write!(text, ", {} left", duration(eta_s));
    }
    text
}

/// 0 to 100; 100 only when all is done.
pub fn percent(progress: &Progress) -> u64 {
    let (done, total) = match progress.total_bytes {
        0 => (progress.done_files, progress.total_files),
        total => (progress.done_bytes, total),
    };
    if done >= total { 100 } else { u64::try_from(u128::from(done) * 100 / u128::from(total)).unwrap_or(100) }
}

/// `[=======>            ]`.
pub fn bar(progress: &Progress, width: usize) -> String {
    let filled = usize::try_from(percent(progress)).unwrap_or(100) * width / 100;
    let head = if filled < width { ">" } else { "" };
    format!("[{}{head}{}]", "=".repeat(filled), " ".repeat(width - filled - head.len()))
}

/// A plain table; cells must be escaped already. Columns in `right` are aligned to the right.
pub fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.clone());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        let rows = [
            ("plain ü☃", "plain ü☃"),
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
            ("a\nb\tc\u{7f}", "a\\nb\\tc\\u{7f}"),
            ("csi\u{9b}2J", "csi\\u{9b}2J"),
            ("gpj\u{202e}.exe", "gpj\\u{202e}.exe"),
        ];
        for (text, safe) in rows {
            assert_eq!(escape(text), safe);
            let quoted = json_text(&text);
            assert!(quoted.chars().all(is_harmless), "{quoted}");
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }

    #[test]
    fn names_that_are_no_text_or_no_word() {
        assert_eq!(path(&PathText::new(b"a/\xff\x1b\xc3\xbc")), "a/\\xff\\u{1b}\u{fc}");
        for (name, word) in
            [("docs", "docs"), ("my docs", "'my docs'"), ("a'b", "'a'\\''b'"), ("-x", "'-x'"), ("", "''")]
        {
            assert_eq!(shell(name), word);
        }
    }

    #[test]
    fn sizes_and_numbers() {
        let rows = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_234_567_890, "1.2 GB"),
            (u64::MAX, "18446.7 PB"),
        ];
        for (bytes, text) in rows {
            assert_eq!(size(bytes), text);
        }
        assert_eq!((number(0).as_str(), number(1_234_567).as_str(), number(123).as_str()), ("0", "1,234,567", "123"));
        assert_eq!((count(1, "file").as_str(), count(2, "file").as_str()), ("1 file", "2 files"));
    }

    #[test]
    fn durations() {
        let rows = [(0, "0 s"), (89, "89 s"), (120, "2 min"), (7200, "2 h"), (7500, "2 h 5 min"), (400_000, "4 d")];
        for (seconds, text) in rows {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(ago(1000, 2000), "now");
        assert_eq!(ago(9000, 1000), "now", "a clock that went back");
        assert_eq!(ago(0, 60_000), "60 s ago");
    }

    #[test]
    fn times_as_people_write_them() {
        let now: Zoned = "2026-08-05T12:00:00+02:00[+02:00]".parse().unwrap();
        let rows = [
            ("2026-08-05T10:00:00Z", Some("2026-08-05T10:00:00Z")),
            ("2026-08-05 11:30", Some("2026-08-05T09:30:00Z")),
            ("2026-08-04", Some("2026-08-03T22:00:00Z")),
            ("2h ago", Some("2026-08-05T08:00:00Z")),
            ("3 days ago", Some("2026-08-02T10:00:00Z")),
            ("90m", Some("2026-08-05T08:30:00Z")),
            ("yesterday-ish", None),
            ("", None),
            ("1960-01-01", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(|at| at.parse::<Timestamp>().unwrap().as_millisecond());
            assert_eq!(parse_time(text, &now).ok().map(u64::cast_signed), expected, "{text}");
        }
    }

    #[test]
    fn progress_is_done_only_when_done() {
        let at = |done_bytes, total_bytes| Progress { done_bytes, total_bytes, ..Progress::default() };
        assert_eq!((percent(&at(999, 1000)), percent(&at(0, 0)), percent(&at(5, 4))), (99, 100, 100));
        assert_eq!(bar(&at(50, 100), 10), "[=====>    ]");
        assert_eq!(bar(&at(1, 1), 4), "[====]");
        let full = Progress { rate_bps: 2_000_000, eta_s: Some(5), ..at(1_000_000, 4_000_000) };
        assert_eq!(progress(&full), "25 % of 4.0 MB, 2.0 MB/s, 5 s left");
        let files = Progress { done_files: 3, total_files: 4, ..Progress::default() };
        assert_eq!(progress(&files), "3 of 4 files");
    }

    #[test]
    fn tables_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["NAME", "N"], &rows, &[1]), "NAME   N\na      1\nlong  22");
    }
}
