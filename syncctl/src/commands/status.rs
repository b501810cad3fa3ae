//! `status`: one screen, once or again and again.

use super::{Context, device, folder};
use crate::failure::{Failure, Outcome, Result};
use crate::render::{self, ago, bar, count, duration, escape, number, progress, size};
use protocol::wire::control::{FolderStatus, Limits, Problem, Status};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// How often `--watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Problems of one folder on the screen; `--json` has all.
const PROBLEMS_SHOWN_MAX: usize = 10;
const BAR_WIDTH: usize = 24;

pub async fn show(context: &Context, check: bool) -> Result {
    let status: Status = context.client.get("status").await?;
    context.show(&status, screen);
    Ok(Outcome::from(!check || status.needs_person().is_empty()))
}

/// On a terminal the screen is drawn again; elsewhere a line comes when something changed.
pub async fn watch(context: &Context) -> Result {
    let redraw = std::io::stdout().is_terminal() && !context.json;
    let mut seen = BTreeMap::new();
    let mut answered = false;
    loop {
        match context.client.get::<Status>("status").await {
            Ok(status) => {
                answered = true;
                if context.json {
                    render::json(&status);
                } else if redraw {
                    render::say(format!("\u{1b}[H\u{1b}[2J\u{1b}[3J{}", screen(&status)));
                } else {
                    changes(&status, &mut seen);
                }
            }
            Err(failure) if !answered => return Err(failure),
            Err(failure) => {
                return Err(Failure { error: format!("syncd has gone: {}", failure.error), ..failure });
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn changes(status: &Status, seen: &mut BTreeMap<String, String>) {
    let folders = status.folders.iter().map(|folder| (format!("folder {}", escape(&folder.name)), line(folder)));
    let devices = status.devices.iter().map(|device| {
        let words = if device.connected { "connected" } else { "not connected" };
        (format!("device {}", escape(&device.name)), words.to_owned())
    });
    for (name, words) in folders.chain(devices) {
        if seen.get(&name) != Some(&words) {
            render::say(format!("{name}: {words}"));
            seen.insert(name, words);
        }
    }
}

fn line(folder: &FolderStatus) -> String {
    let mut parts = vec![folder.state.word().to_owned()];
    parts.extend(folder.progress.as_ref().map(progress));
    if folder.need_files > 0 {
        parts.push(format!("{} missing here", count(folder.need_files, "file")));
    }
    if folder.problems_total > 0 {
        parts.push(count(folder.problems_total, "problem"));
    }
    parts.extend(folder.holds.iter().map(|hold| format!("held: {}", escape(&hold.words))));
    parts.join(", ")
}

fn screen(status: &Status) -> String {
    let mut parts = vec![format!(
        "{}  syncd {}, up {}, listening on {}",
        escape(&status.device.name),
        escape(&status.version),
        duration(status.uptime_s),
        if status.listen.is_empty() { "nothing".to_owned() } else { escape(&status.listen.join(", ")) },
    )];
    parts.extend(limits_line(&status.limits));
    parts.extend(status.limits.metered_max.map(metered_line));
    parts.extend(status.proxy.as_deref().map(escape));
    if status.folders.is_empty() {
        parts.push("no folders; `syncctl folder add PATH` adds one".to_owned());
    } else {
        parts.push(folder::folder_table(&status.folders));
    }
    let bars: Vec<String> = status.folders.iter().filter_map(progress_line).collect();
    if !bars.is_empty() {
        parts.push(bars.join("\n"));
    }
    if status.devices.is_empty() {
        parts.push("no paired devices; `syncctl pair` pairs one".to_owned());
    } else {
        parts.push(device::device_table(&status.devices));
    }
    if status.offers > 0 {
        parts.push(format!("{} to join: `syncctl folder offers`", count(status.offers, "offered folder")));
    }
    let now = render::now_ms();
    let mut troubles: Vec<String> = status.problems.iter().map(|problem| problem_line(problem, now)).collect();
    troubles.extend(status.devices.iter().filter_map(|device| {
        device.problem.as_ref().map(|words| format!("device {}: {}", escape(&device.name), escape(words)))
    }));
    for folder in &status.folders {
        troubles.extend(folder_troubles(folder, now));
    }
    if !troubles.is_empty() {
        parts.push(troubles.join("\n"));
    }
    parts.join("\n\n")
}

/// What holds file contents up, where anything does.
fn limits_line(limits: &Limits) -> Option<String> {
    let way = |rate: Option<u64>, words: &str| rate.map(|rate| format!("{words} {}/s", size(rate)));
    let rates: Vec<String> = [way(limits.up, "up"), way(limits.down, "down")].into_iter().flatten().collect();
    let what = match (limits.paused, rates.is_empty()) {
        (true, _) => "file contents wait".to_owned(),
        (false, false) => format!("limited to {}", rates.join(", ")),
        (false, true) if limits.rule.is_some() => "no limit".to_owned(),
        (false, true) => return None,
    };
    let place = if limits.lan { "" } else { " outside of the local network" };
    let rule = limits.rule.as_ref().map_or(String::new(), |rule| format!(" (schedule: {})", escape(rule)));
    Some(format!("{what}{place}{rule}"))
}

fn metered_line(max: u64) -> String {
    let which = if max == 0 { "file contents wait".to_owned() } else { format!("files over {} wait", size(max)) };
    format!("metered: {which} outside of the local network")
}

fn progress_line(folder: &FolderStatus) -> Option<String> {
    let state = folder.progress.as_ref()?;
    Some(format!("{}  {} {}", escape(&folder.name), bar(state, BAR_WIDTH), progress(state)))
}

fn folder_troubles(folder: &FolderStatus, now: u64) -> Vec<String> {
    let name = escape(&folder.name);
    let mut lines = Vec::new();
    if let Some(words) = &folder.state_words {
        lines.push(format!("folder {name} is {}: {}", folder.state.word(), escape(words)));
    }
    for hold in &folder.holds {
        lines.push(format!("folder {name} holds back: {} ({})", escape(&hold.words), ago(hold.since_ms, now)));
        let word = render::shell(&folder.name);
        lines.push(format!(
            "  let it happen: syncctl folder approve {word}   take it back: syncctl folder reject {word}"
        ));
    }
    if folder.differences > 0 {
        lines.push(format!(
            "folder {name} ({}): {} kept apart",
            folder.mode.word(),
            count(folder.differences, "change")
        ));
    }
    let problems = folder.problems.iter().take(PROBLEMS_SHOWN_MAX);
    lines.extend(problems.map(|problem| format!("folder {name}: {}", problem_line(problem, now))));
    let shown = folder.problems.len().min(PROBLEMS_SHOWN_MAX) as u64;
    if folder.problems_total > shown {
        lines.push(format!(
            "folder {name}: {} more problems: `syncctl status --json`",
            number(folder.problems_total - shown)
        ));
    }
    lines
}

fn problem_line(problem: &Problem, now: u64) -> String {
    let at = problem.at.as_ref().map_or(String::new(), |path| format!("{}: ", render::path(path)));
    format!("{at}{} ({})", escape(&problem.words), ago(problem.since_ms, now))
}
