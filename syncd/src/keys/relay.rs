//! The secrets of a relay: its seed, and the keys that let clients in. The first of them is the owner's and always there;
//! others have names, so that they can be given away and taken back. A running relay reads the file and never writes it.

use super::{FORMAT, hex, read_private, unhex, write_private};
use anyhow::{Context, Result, bail, ensure};
use protocol::limits::RELAY_KEYS_MAX;
use protocol::wire::kdf::Secret32;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the file.
pub(super) const RELAY: &str = "relay";
/// What the owner's key is called.
pub const OWN_KEY: &str = "own";
/// Longest name of a key, in bytes.
const KEY_NAME_LEN_MAX: usize = 64;

/// The keys of a relay, as its file has them.
pub struct RelayKeys {
    path: PathBuf,
    /// What it derives its own key from.
    pub seed: Secret32,
    access: Vec<(String, Secret32)>,
}

impl RelayKeys {
    /// Reads them, or makes them on the first start.
    ///
    /// # Errors
    /// When the file is open to others, damaged, or cannot be written.
    pub fn open(keys: &Path) -> Result<Self> {
        let path = keys.join(RELAY);
        if let Some(text) = read_private(&path)? {
            let damaged = || format!("{} is damaged: remove it and give the new link to your devices", path.display());
            return Self::parse(&path, &text).with_context(damaged);
        }
        let fresh = Self { path, seed: draw()?, access: vec![(OWN_KEY.to_owned(), draw()?)] };
        fresh.save()?;
        Ok(fresh)
    }

    /// Two lines of secrets, then a line with key and name for each of the others.
    fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(FORMAT) {
            bail!("unknown format");
        }
        let mut secret = || unhex(lines.next().unwrap_or_default()).map(Secret32::new);
        let (seed, own) = (secret()?, secret()?);
        let mut access = vec![(OWN_KEY.to_owned(), own)];
        for line in lines {
            let (key, name) = line.split_once(' ').context("a key without a name")?;
            access.push((name.to_owned(), Secret32::new(unhex(key)?)));
        }
        ensure!(access.len() <= RELAY_KEYS_MAX, "too many keys");
        Ok(Self { path: path.to_owned(), seed, access })
    }

    fn save(&self) -> Result<()> {
        let mut text = Zeroizing::new(format!("{FORMAT}\n{}\n", *Zeroizing::new(hex(self.seed.expose()))));
        for (name, key) in &self.access {
            let key = Zeroizing::new(hex(key.expose()));
            text.push_str(&key);
            if name != OWN_KEY {
                text.push(' ');
                text.push_str(name);
            }
            text.push('\n');
        }
        write_private(&self.path, text.as_bytes())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What they are called, the owner's first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.access.iter().map(|(name, _)| name.as_str())
    }

    /// All that let clients in, the owner's first.
    #[must_use]
    pub fn access(&self) -> Vec<Secret32> {
        self.access.iter().map(|(_, key)| key.clone()).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn key(&self, name: &str) -> Result<&Secret32> {
        let found = self.access.iter().find(|(known, _)| known == name);
        found.map(|(_, key)| key).with_context(|| format!("there is no key {name:?}"))
    }

    /// Draws another one, and saves.
    ///
    /// # Errors
    /// When the name is taken or no name, when there are as many as can be, or when it cannot be written.
    pub fn add(&mut self, name: &str) -> Result<()> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_name = (1..=KEY_NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(fits);
        ensure!(is_name, "{name:?} is no name for a key: write letters, digits, dots, dashes and underscores");
        ensure!(self.key(name).is_err(), "there is a key {name} already");
        ensure!(self.access.len() < RELAY_KEYS_MAX, "a relay has at most {RELAY_KEYS_MAX} keys: remove one first");
        self.access.push((name.to_owned(), draw()?));
        self.save()
    }

    /// Takes one back, and saves. There is always one of the owner: another is drawn in its place.
    ///
    /// # Errors
    /// When there is none of that name, or when it cannot be written.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.key(name)?;
        if name == OWN_KEY {
            self.access[0].1 = draw()?;
        } else {
            self.access.retain(|(known, _)| known != name);
        }
        self.save()
    }
}

fn draw() -> Result<Secret32> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).context("no randomness for a relay's key")?;
    Ok(Secret32::new(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &RelayKeys) -> Vec<&str> {
        keys.names().collect()
    }

    #[test]
    fn keys_are_given_and_taken_back() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mut keys = RelayKeys::open(dir.path()).expect("made");
        let own = keys.key(OWN_KEY).expect("it is there").clone();
        keys.add("alice").expect("added");
        keys.add("bob-2").expect("added");
        let read = RelayKeys::open(dir.path()).expect("read again");
        assert_eq!(names(&read), [OWN_KEY, "alice", "bob-2"]);
        assert!(read.seed == keys.seed && read.access() == keys.access() && *read.key(OWN_KEY).expect("own") == own);
        keys.remove("alice").expect("removed");
        keys.remove(OWN_KEY).expect("replaced");
        let read = RelayKeys::open(dir.path()).expect("read again");
        assert_eq!(names(&read), [OWN_KEY, "bob-2"]);
        assert!(*read.key(OWN_KEY).expect("there is always one") != own, "it is another one");
        assert!(read.seed == keys.seed, "the relay is still the same");
    }

    #[test]
    fn wrong_names_change_nothing() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mut keys = RelayKeys::open(dir.path()).expect("made");
        keys.add("alice").expect("added");
        for (name, words) in [
            ("alice", "there is a key alice already"),
            (OWN_KEY, "there is a key own already"),
            ("", "is no name"),
            ("a b", "is no name"),
            ("a\nb", "is no name"),
            (&"x".repeat(65), "is no name"),
        ] {
            let refused = keys.add(name).expect_err(name).to_string();
            assert!(refused.contains(words), "{name}: {refused}");
        }
        assert!(keys.remove("carol").expect_err("none").to_string().contains("there is no key \"carol\""));
        for n in 2..RELAY_KEYS_MAX {
            keys.add(&format!("k{n}")).expect("there is room");
        }
        assert!(keys.add("more").expect_err("full").to_string().contains("at most 16 keys"));
        assert_eq!(RelayKeys::open(dir.path()).expect("read again").access().len(), RELAY_KEYS_MAX);
    }

    /// A file from before there were names is read as it is; a broken one is not replaced.
    #[test]
    fn files_of_before_and_broken_ones() {
        let secrets = format!("{}\n{}\n", "ab".repeat(32), "cd".repeat(32));
        let rows = [
            (format!("{FORMAT}\n{secrets}"), true),
            (format!("{FORMAT}\n{secrets}{} alice\n", "ef".repeat(32)), true),
            (format!("{FORMAT}\n{secrets}{}\n", "ef".repeat(32)), false),
            (format!("{FORMAT}\n{secrets}ef alice\n"), false),
            (format!("{FORMAT}\n{}\n", "ab".repeat(32)), false),
            (secrets, false),
        ];
        for (text, sound) in rows {
            let dir = tempfile::tempdir().expect("a scratch directory");
            let path = dir.path().join(RELAY);
            write_private(&path, text.as_bytes()).expect("written");
            match RelayKeys::open(dir.path()) {
                Ok(keys) => assert!(sound && keys.access()[0] == Secret32::new([0xcd; 32]), "{text}"),
                Err(error) => assert!(!sound && format!("{error:#}").contains("is damaged"), "{text}: {error:#}"),
            }
            assert_eq!(std::fs::read_to_string(&path).expect("it is there"), text);
        }
    }
}
