//! A TOML file that a person may have written: read through `Key` tables, changed key by key so that comments, order and
//! unknown keys stay, replaced atomically with mode 0600.

use super::keys::{Key, Kind};
use anyhow::{Context, Result, anyhow, bail};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use toml_edit::{Array, DocumentMut, Item, RawString, Value};

/// Largest settings file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// Reads the file; a missing one is an empty document.
pub(super) fn read(path: &Path) -> Result<DocumentMut> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DocumentMut::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
        Ok(meta) if meta.len() > FILE_LEN_MAX => bail!("{shown} is too large for a settings file"),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    text.parse().map_err(|error| anyhow!("{shown} is not valid TOML: {error}"))
}

/// Reads all known keys into `target` and returns warnings about the others. A known key with a value that makes no
/// sense is an error, not a default: the default could be the opposite of what was meant.
pub(super) fn load<T>(document: &DocumentMut, keys: &[Key<T>], path: &Path, target: &mut T) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (name, item) in document.iter() {
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            // Warnings are logged, and a log holds no path.
            let file = path.file_name().unwrap_or_default().display();
            warnings.push(format!("{file}: unknown setting {name:?} is not used"));
            continue;
        };
        item_text(item, key.kind.separator())
            .and_then(|text| (key.parse)(target, &text))
            .map_err(|why| anyhow!("{}: {name} {why}", path.display()))?;
    }
    Ok(warnings)
}

/// An item as `config set` would be given it.
fn item_text(item: &Item, separator: char) -> Result<String, String> {
    match item.as_value() {
        Some(Value::Array(array)) => {
            let parts: Result<Vec<&str>, String> = array
                .iter()
                .map(|part| match part.as_str() {
                    Some(text) if !text.contains(separator) => Ok(text),
                    _ => Err(format!("must be a list of texts without {separator:?}")),
                })
                .collect();
            parts.map(|parts| parts.join(&separator.to_string()))
        }
        Some(Value::String(text)) => Ok(text.value().clone()),
        Some(Value::Integer(number)) => Ok(number.value().to_string()),
        Some(Value::Boolean(switch)) => Ok(switch.value().to_string()),
        _ => Err("must be a text, a whole number, true, false or a list of texts".to_owned()),
    }
}

fn value_of(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Text => text.into(),
        Kind::Number => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        Kind::Switch => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        Kind::List if matches!(text, "all" | "default") => text.into(),
        Kind::List => Value::Array(super::keys::list(text).collect::<Array>()),
        Kind::Rules => {
            let parts = text.split(kind.separator()).map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.collect::<Array>())
        }
    }
}

/// Sets a key to a value in its text form, or takes it out. Comments above and behind it stay.
pub(super) fn put(document: &mut DocumentMut, name: &str, kind: Kind, text: Option<&str>) {
    let Some(text) = text else {
        return remove(document, name);
    };
    let mut value = value_of(kind, text);
    match document.get_mut(name) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(value);
        }
        None => {
            document.insert(name, Item::Value(value));
        }
    }
}

/// Removes a key; comments above it move to what follows, those behind it on its line stay above that.
fn remove(document: &mut DocumentMut, name: &str) {
    let Some((key, item)) = document.remove_entry(name) else {
        return;
    };
    let raw = |raw: Option<&RawString>| raw.and_then(RawString::as_str).unwrap_or_default().to_owned();
    let mut comments = raw(key.leaf_decor().prefix());
    let behind = raw(item.as_value().and_then(|value| value.decor().suffix()));
    if !behind.trim().is_empty() {
        comments.push_str(behind.trim());
        comments.push('\n');
    }
    if !comments.contains('#') {
        return;
    }
    let trailing = raw(Some(document.trailing()));
    document.set_trailing(format!("{comments}{trailing}"));
}

/// Replaces the file: all of the new one, or all of the old one, whatever happens. Follows a symlink to the file itself.
pub(super) fn write(path: &Path, document: &DocumentMut) -> Result<()> {
    let shown = path.display();
    let target = match std::fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    let directory = target.parent().context("a settings file needs a directory")?;
    let temp = temp_name(&target)?;
    let written = write_new(&temp, document.to_string().as_bytes())
        .and_then(|()| std::fs::rename(&temp, &target))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // The first error is the one to tell; a temp left behind is harmless.
        let _ = std::fs::remove_file(&temp);
    }
    written.with_context(|| format!("cannot write {shown}"))
}

fn write_new(temp: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temp)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn temp_name(target: &Path) -> Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).context("no random numbers")?;
    let mut name = target.file_name().context("a settings file needs a name")?.to_owned();
    name.push(format!(".{:016x}.tmp", u64::from_le_bytes(random)));
    Ok(target.with_file_name(name))
}
