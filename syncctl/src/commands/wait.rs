//! `wait`: until in sync. The daemon does the waiting; here is only a progress bar beside it.

use super::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::render::{self, escape, progress};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::wire::control::{Progress, Status, Wait, Waited};
use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

/// How often the bar moves.
const INTERVAL: Duration = Duration::from_millis(500);
/// What the daemon may need beyond the timeout to answer.
const GRACE_S: u64 = 5;

pub async fn run(context: &Context, folder: Option<String>, timeout_s: Option<u64>) -> Result {
    let wait = Wait { folder, timeout_s };
    let bar = (std::io::stderr().is_terminal() && !context.json).then(new_bar);
    let waited = tokio::select! {
        waited = context.client.post::<Waited>("wait", &wait) => waited,
        never = draw(context, bar.as_ref(), wait.folder.as_deref()) => match never {},
        () = give_up(timeout_s) => Err(Failure::new("syncd does not answer although the time is over")),
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let waited = waited?;
    context.show(&waited, words);
    if !waited.in_sync && !context.json {
        for reason in &waited.reasons {
            let folder = reason.folder.as_ref().map_or(String::new(), |name| format!("{}: ", escape(name)));
            let device = reason.device.as_ref().map_or(String::new(), |name| format!("{}: ", escape(name)));
            eprintln!("  {folder}{device}{}", escape(&reason.words));
        }
    }
    Ok(Outcome::from(waited.in_sync))
}

async fn give_up(timeout_s: Option<u64>) {
    match timeout_s {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds.saturating_add(GRACE_S))).await,
        None => std::future::pending().await,
    }
}

fn words(waited: &Waited) -> String {
    let took = render::duration(waited.waited_ms / 1000);
    if waited.in_sync { format!("in sync ({took})") } else { format!("not in sync after {took}") }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{spinner} [{bar:24}] {msg}")
        .expect("the template is a constant")
        .progress_chars("=> ");
    bar.set_style(style);
    bar.set_message("waiting");
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Moves the bar for ever. Rate and time left are the daemon's: they outlive this command.
async fn draw(context: &Context, bar: Option<&ProgressBar>, folder: Option<&str>) -> Infallible {
    let Some(bar) = bar else {
        return std::future::pending().await;
    };
    loop {
        // A failed look is no news: the wait itself tells what is wrong.
        if let Ok(status) = context.client.get::<Status>("status").await {
            let sum = sum(&status, folder);
            bar.set_length(sum.total_bytes.max(1));
            bar.set_position(sum.done_bytes);
            let message = if sum.total_bytes + sum.total_files == 0 { "waiting".to_owned() } else { progress(&sum) };
            bar.set_message(message);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn sum(status: &Status, folder: Option<&str>) -> Progress {
    let meant = |name: &str, id: &str| folder.is_none_or(|wanted| name == wanted || id.starts_with(wanted));
    let parts = status.folders.iter().filter(|folder| meant(&folder.name, &folder.id)).filter_map(|f| f.progress);
    parts.fold(Progress::default(), |sum, part| Progress {
        done_bytes: sum.done_bytes.saturating_add(part.done_bytes),
        total_bytes: sum.total_bytes.saturating_add(part.total_bytes),
        done_files: sum.done_files.saturating_add(part.done_files),
        total_files: sum.total_files.saturating_add(part.total_files),
        rate_bps: sum.rate_bps.saturating_add(part.rate_bps),
        eta_s: sum.eta_s.max(part.eta_s),
    })
}
