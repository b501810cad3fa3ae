//! Settings as text: one table per kind of file says each key's name, meaning, reading and writing. What a file holds,
//! what `config set` is given and what `config get` prints all go through the same reader.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// How a value stands in the TOML file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// An integer.
    Number,
    /// A boolean.
    Switch,
    /// An array of strings, or the string `all` or `default`.
    List,
    /// An array of strings that hold commas; as text they are separated by semicolons.
    Rules,
}

/// One key of a `T`.
pub(super) struct Key<T> {
    pub name: &'static str,
    pub kind: Kind,
    /// Takes effect only at the next start.
    pub restart: bool,
    /// Set by the daemon only, never by `set`.
    pub fixed: bool,
    /// One line for people.
    pub words: &'static str,
    /// Its value as text; `None`: left out of the file.
    pub get: fn(&T) -> Option<String>,
    /// Reads a value; the error says what is allowed.
    pub parse: fn(&mut T, &str) -> Result<(), String>,
}

impl<T> Key<T> {
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        words: &'static str,
        get: fn(&T) -> Option<String>,
        parse: fn(&mut T, &str) -> Result<(), String>,
    ) -> Self {
        Self { name, kind, restart: false, fixed: false, words, get, parse }
    }

    pub(super) const fn needs_restart(mut self) -> Self {
        self.restart = true;
        self
    }

    pub(super) const fn fixed(mut self) -> Self {
        self.fixed = true;
        self
    }
}

/// How much space kept versions may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionsMax {
    /// Percent of the file system, 1 to 90.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

impl VersionsMax {
    /// Bytes on a file system of `total` bytes.
    #[must_use]
    pub const fn bytes_of(self, total: u64) -> u64 {
        match self {
            Self::Percent(percent) => total / 100 * percent as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl fmt::Display for VersionsMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for VersionsMax {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be a share of the disk such as 10% (1% to 90%), or a size such as 20GB".to_owned();
        match text.trim().strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=90) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => size(text).map(Self::Bytes).map_err(|_| wrong()),
        }
    }
}

/// Bytes: a number with a unit (`B`, `KB`, `MB`, `GB`, `TB` by 1000; `KiB`.. by 1024; a bare letter counts as by 1000).
///
/// # Errors
/// When it is no size; the words go behind the name of what it was for.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "must be a size such as 0, 500KB, 10MB or 2GiB".to_owned();
    let text = text.trim();
    let text = text.strip_suffix("/s").unwrap_or(text);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    // The file keeps numbers as i64.
    number.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(wrong)
}

pub(super) fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    match text.trim().parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from {} to {}", range.start(), range.end())),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(super) fn on_off(text: &str) -> Result<bool, String> {
    match text.trim() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

pub(super) fn on_off_word(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// A name of a device or folder: 1 to `NAME_LEN_MAX` bytes, nothing invisible at its ends or inside.
pub(super) fn name(text: &str) -> Result<String, String> {
    let max = protocol::limits::NAME_LEN_MAX;
    let text = text.trim();
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        return Err(format!("must be a name of 1 to {max} bytes without control characters"));
    }
    Ok(text.to_owned())
}

impl Kind {
    /// What stands between the parts of a list that is given as text.
    pub(super) const fn separator(self) -> char {
        match self {
            Self::Rules => ';',
            _ => ',',
        }
    }
}

/// The parts of a list; empty text is an empty list.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text} is no address and port: write 0.0.0.0:28730, [::]:28730 or 127.0.0.1:0 (a port is needed)")
    })
}

/// `None` for the word that takes a folder's setting back to that of `config.toml`.
pub(super) fn or_default<V>(text: &str, parse: impl FnOnce(&str) -> Result<V, String>) -> Result<Option<V>, String> {
    if text.trim() == "default" { Ok(None) } else { parse(text).map(Some) }
}
