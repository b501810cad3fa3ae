//! Traces for people: every entry on one short line. Devices' replicas are letters, contents four hex digits.

use super::device::Device;
use super::world::Message;
use protocol::model::{Content, Entry, Version};
use protocol::sync::engine::Event;
use protocol::sync::{LocalRow, Observed, Rows};

fn version(version: &Version) -> String {
    let events: Vec<String> =
        version.iter().map(|e| format!("{}{}", &e.replica.to_hex()[..3], format_args!(":{}", e.counter))).collect();
    events.join(",")
}

fn content(content: &Content) -> String {
    let (kind, hash) = content.identity();
    match kind {
        0 => "gone".to_string(),
        3 => "dir".to_string(),
        1 => format!("link {}", &hash.to_hex()[..4]),
        _ => hash.to_hex()[..4].to_string(),
    }
}

/// One entry.
#[must_use]
pub fn entry(entry: &Entry) -> String {
    let found = if entry.found { " found" } else { "" };
    let at = version(&entry.content_at);
    let mode_at = version(&entry.mode_at);
    let (mode, time) = (entry.mode.bits(), entry.mtime.secs % 10_000);
    format!(
        "{} {{{}}} c{{{at}}} m{{{mode_at}}} {mode:o} t{time}.{}{found}",
        content(&entry.content),
        version(&entry.version),
        entry.mtime.nanos
    )
}

/// One row with its wants.
#[must_use]
pub fn row(row: &LocalRow) -> String {
    let mut words = row.entry().map_or_else(|| "-".to_string(), entry);
    for want in &row.wants {
        let from: Vec<u8> = want.sources.iter().map(|source| source.0[0] - 1).collect();
        words += &format!(" WANTS {} from {from:?} {:?}", entry(&want.entry), want.declined);
    }
    words
}

/// All rows of a device, and what its engine says.
#[must_use]
pub fn device(device: &Device) -> String {
    let state = device.store.state();
    let mut words = format!(
        "\n device {} {:?} head {} {:?}",
        device.number,
        state.replica,
        state.head.0,
        device.engine.as_ref().map(|engine| engine.status(&device.store))
    );
    for (path, known) in device.store.rows() {
        words += &format!("\n   {:<14} {}", path.display(), row(&known));
    }
    for (path, node) in device.drive.objects() {
        words += &format!("\n   disk {:<14} {} {:o}", path.display(), content(&node.content), node.mode.bits());
    }
    words
}

/// One message.
#[must_use]
pub fn message(message: &Message) -> String {
    match message {
        Message::Index(batch) => {
            let rows: Vec<String> =
                batch.rows.iter().map(|row| format!("{} = {}", row.path.display(), entry(&row.entry))).collect();
            format!("index {}..{} of {}: {}", batch.from.0, batch.to.0, batch.head.0, rows.join("; "))
        }
        Message::Digest(words) => {
            let (head, applied, digest) = (words.head.0, words.your_applied.0, format!("{:?}", words.digest));
            format!("digest at {head}, yours {applied}, idle {}: {digest:.24}", words.idle)
        }
        Message::Run(words) => format!("{words:?}"),
        Message::IndexGet { from, replica } => format!("get {replica:?} from {}", from.0),
        Message::IndexAck { sequence, declined, .. } => format!("ack {} {declined:?}", sequence.0),
    }
}

/// One event of the shell.
#[must_use]
pub fn event(event: &Event) -> String {
    match event {
        Event::Observed(found) => {
            let one = |observed: &Observed| content(&observed.content());
            let all: Vec<String> =
                found.iter().map(|it| format!("{} = {}", it.path.display(), one(&it.observed))).collect();
            format!("observed {}", all.join("; "))
        }
        other => format!("{other:?}"),
    }
}
