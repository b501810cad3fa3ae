//! `versions`, `restore`, `log`, `ignore test`: single files.

use super::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::home::absolute;
use crate::render::{self, escape, parse_time, size, table, time, time_of};
use jiff::Zoned;
use protocol::wire::control::{FileRef, IgnoreVerdict, Log, LogEntry, LogQuery, Named, Restore, Restored, Versions};
use std::path::Path;

fn time_arg(text: &str) -> Result<u64> {
    parse_time(text, &Zoned::now()).map_err(Failure::usage)
}

fn by(device: Option<&Named>) -> String {
    device.map_or("this device".to_owned(), |device| escape(&device.name))
}

pub async fn versions(context: &Context, path: &Path) -> Result {
    let versions: Versions = context.client.post("versions", &FileRef { at: absolute(path)? }).await?;
    context.show(&versions, |versions| {
        if versions.versions.is_empty() {
            return format!("no kept versions of {}", render::path(&versions.at));
        }
        let rows: Vec<Vec<String>> = versions
            .versions
            .iter()
            .map(|version| {
                let what = if version.deleted { "deleted by" } else { "replaced by" };
                let end = format!("{what} {}", by(version.by.as_ref()));
                let modified = time(version.modified_ms);
                vec![escape(&version.id), modified, size(version.bytes), time_of(version.replaced_ms), end]
            })
            .collect();
        table(&["ID", "MODIFIED", "SIZE", "UNTIL", ""], &rows, &[2])
    });
    Ok(Outcome::Yes)
}

pub async fn restore(context: &Context, path: &Path, at: Option<&str>, version: Option<String>) -> Result {
    let at_ms = at.map(time_arg).transpose()?;
    let restore = Restore { at: absolute(path)?, at_ms, version };
    let restored: Restored = context.client.post("restore", &restore).await?;
    context.show(&restored, |restored| {
        let kept = if restored.replaced { "; what was there is now the newest version" } else { "" };
        let (path, modified) = (render::path(&restored.at), time(restored.version.modified_ms));
        format!("{path} is back as of {modified} ({}){kept}", size(restored.version.bytes))
    });
    Ok(Outcome::Yes)
}

pub async fn log(
    context: &Context,
    path: Option<&Path>,
    folder: Option<String>,
    since: Option<&str>,
    limit: usize,
) -> Result {
    let query = LogQuery {
        folder,
        at: path.map(absolute).transpose()?,
        since_ms: since.map(time_arg).transpose()?,
        limit: Some(limit),
    };
    let log: Log = context.client.post("log", &query).await?;
    context.show(&log, |log| {
        if log.entries.is_empty() {
            return "no changes".to_owned();
        }
        table(&["TIME", "FOLDER", "CHANGE", "BY", "PATH"], &log.entries.iter().map(log_row).collect::<Vec<_>>(), &[])
    });
    Ok(Outcome::Yes)
}

fn log_row(entry: &LogEntry) -> Vec<String> {
    vec![
        time_of(entry.time_ms),
        escape(&entry.folder),
        entry.change.word().to_owned(),
        by(entry.by.as_ref()),
        render::path(&entry.at),
    ]
}

pub async fn ignore_test(context: &Context, path: &Path) -> Result {
    let verdict: IgnoreVerdict = context.client.post("ignore/test", &FileRef { at: absolute(path)? }).await?;
    context.show(&verdict, |verdict| {
        let line = verdict.line.map_or(String::new(), |line| format!(":{line}"));
        let rule = match (&verdict.file, &verdict.pattern) {
            (Some(file), Some(pattern)) => format!(" ({}{line}: {})", escape(file), escape(pattern)),
            _ => String::new(),
        };
        let answer = if verdict.ignored { "ignored" } else { "not ignored" };
        format!("{} is {answer}: {}{rule}", render::path(&verdict.at), escape(&verdict.words))
    });
    Ok(Outcome::from(verdict.ignored))
}
