//! The secrets of a home, in `HOME/keys`: this device's seed and what it shares with each paired device.
//! Files are 0600 and replaced whole (write, fsync, rename, fsync of the directory): a crash leaves old or new.
//! Nothing here is ever logged, and losing an index never touches it.

mod relay;

pub use relay::{OWN_KEY, RelayKeys};

use anyhow::{Context, Result, bail};
use protocol::model::{DeviceId, LinkHash};
use protocol::realm::Role;
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::kdf::Secret32;
use protocol::wire::pair::PairSecret;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the file with the seed.
const IDENTITY: &str = "identity";
/// Name of the file with the pairings.
const PAIRINGS: &str = "pairings";
/// First line of all of them: a later format gets another.
const FORMAT: &str = "syncd keys 1";

/// This device: its keys, and a random mark of this home that shows a copied one.
pub struct Keys {
    /// Private and public keys.
    pub identity: Identity,
    /// Drawn with the home; another home with the same identity has another.
    pub instance: [u8; 16],
}

/// How content may move to and from one device; rates in bytes a second, 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceLimits {
    /// To it.
    pub up: u64,
    /// From it.
    pub down: u64,
    /// Whether the way to it costs by the byte; `None`: as the settings say.
    pub metered: Option<bool>,
}

/// What is kept of a paired device.
#[derive(Clone)]
pub struct Pairing {
    /// Its public keys.
    pub public: PublicIdentity,
    /// What it is called here.
    pub name: String,
    /// The secret both derive everything from; this device dials with it.
    pub secret: PairSecret,
    /// The epoch of the realm that it is of; `None` when it was made by pairing.
    pub epoch: Option<LinkHash>,
    /// The one before, which the other device may still dial with.
    pub previous: Option<PairSecret>,
    /// What it is to be in the realm, as the person who paired it said.
    pub admit: Option<Role>,
    /// Addresses that the user gave, as typed.
    pub addresses: Vec<String>,
    /// Where it was reached, the latest first.
    pub learned: Vec<String>,
    /// Its port is a relay for the devices of the realm, as it said.
    pub relays: bool,
    /// Not to be connected for now.
    pub paused: bool,
    /// Its own limits.
    pub limits: DeviceLimits,
    /// Unix milliseconds of the last session.
    pub last_seen_ms: Option<u64>,
}

impl Pairing {
    /// The device.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.public.id()
    }
}

impl std::fmt::Debug for Pairing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pairing").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Reads this device's keys, or makes them on the first start.
///
/// # Errors
/// When the file is open to others, damaged, or cannot be written.
pub fn open(keys: &Path) -> Result<Keys> {
    let path = keys.join(IDENTITY);
    if let Some(text) = read_private(&path)? {
        return parse_identity(&text).with_context(|| {
            format!("{} is damaged: restore it from a backup; without it this device is a new one", path.display())
        });
    }
    parse_identity(&make_identity(&path)?)
}

/// Makes this device another one: a new seed takes the place of the old one, which is gone for good.
///
/// # Errors
/// When it cannot be written; then nothing has changed.
pub fn renew(keys: &Path) -> Result<()> {
    make_identity(&keys.join(IDENTITY)).map(drop)
}

fn make_identity(path: &Path) -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0u8; 48]);
    getrandom::fill(bytes.as_mut_slice()).context("no randomness for a new identity")?;
    let text = Zeroizing::new(format!("{FORMAT}\n{}\n{}\n", hex(&bytes[..32]), hex(&bytes[32..])));
    write_private(path, text.as_bytes())?;
    Ok(text)
}

fn parse_identity(text: &str) -> Result<Keys> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        bail!("unknown format");
    }
    let seed: [u8; 32] = unhex(lines.next().unwrap_or_default()).context("no seed")?;
    let instance: [u8; 16] = unhex(lines.next().unwrap_or_default()).context("no instance")?;
    Ok(Keys { identity: Identity::from_seed(&Secret32::new(seed)), instance })
}

/// One pairing as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    ed: String,
    x: String,
    secret: Zeroizing<String>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    previous: Option<Zeroizing<String>>,
    #[serde(default)]
    admit: Option<StoredRole>,
    name: String,
    addresses: Vec<String>,
    learned: Vec<String>,
    #[serde(default)]
    relays: bool,
    paused: bool,
    #[serde(default)]
    limits: DeviceLimits,
    last_seen_ms: Option<u64>,
}

/// A role as it is stored.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredRole {
    Admin,
    Full,
    Reader,
}

impl From<Role> for StoredRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Full => Self::Full,
            Role::Reader => Self::Reader,
        }
    }
}

impl From<StoredRole> for Role {
    fn from(role: StoredRole) -> Self {
        match role {
            StoredRole::Admin => Self::Admin,
            StoredRole::Full => Self::Full,
            StoredRole::Reader => Self::Reader,
        }
    }
}

/// The paired devices, saved as a whole on every change.
#[derive(Debug)]
pub struct Pairings {
    path: PathBuf,
    list: Vec<Pairing>,
}

impl Pairings {
    /// Reads them; none on the first start.
    ///
    /// # Errors
    /// When the file is open to others or damaged.
    pub fn open(keys: &Path) -> Result<Self> {
        let path = keys.join(PAIRINGS);
        let list = match read_private(&path)? {
            None => Vec::new(),
            Some(text) => parse_pairings(&text).with_context(|| format!("{} is damaged", path.display()))?,
        };
        Ok(Self { path, list })
    }

    /// All of them, in the order they were made.
    #[must_use]
    pub fn all(&self) -> &[Pairing] {
        &self.list
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &DeviceId) -> Option<&Pairing> {
        self.list.iter().find(|pairing| pairing.id() == *id)
    }

    /// Adds or replaces one, and saves.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn insert(&mut self, pairing: Pairing) -> Result<()> {
        let mut list = self.list.clone();
        list.retain(|other| other.id() != pairing.id());
        list.push(pairing);
        self.save(list)
    }

    /// Removes all, and saves.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn clear(&mut self) -> Result<()> {
        self.save(Vec::new())
    }

    /// Removes one, and saves.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn remove(&mut self, id: &DeviceId) -> Result<()> {
        let list = self.list.iter().filter(|pairing| pairing.id() != *id).cloned().collect();
        self.save(list)
    }

    /// Changes one in place, and saves.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn update(&mut self, id: &DeviceId, change: impl FnOnce(&mut Pairing)) -> Result<()> {
        let mut list = self.list.clone();
        if let Some(pairing) = list.iter_mut().find(|pairing| pairing.id() == *id) {
            change(pairing);
        }
        self.save(list)
    }

    fn save(&mut self, list: Vec<Pairing>) -> Result<()> {
        let stored: Vec<Stored> = list.iter().map(Stored::of).collect();
        let json = Zeroizing::new(serde_json::to_string_pretty(&stored).context("pairings cannot be written down")?);
        write_private(&self.path, Zeroizing::new(format!("{FORMAT}\n{}\n", *json)).as_bytes())?;
        self.list = list;
        Ok(())
    }
}

impl Stored {
    fn of(pairing: &Pairing) -> Self {
        Self {
            ed: hex(&pairing.public.ed),
            x: hex(&pairing.public.x),
            secret: Zeroizing::new(hex(pairing.secret.secret().expose())),
            epoch: pairing.epoch.map(|epoch| hex(epoch.as_bytes())),
            previous: pairing.previous.as_ref().map(|secret| Zeroizing::new(hex(secret.secret().expose()))),
            admit: pairing.admit.map(StoredRole::from),
            name: pairing.name.clone(),
            addresses: pairing.addresses.clone(),
            learned: pairing.learned.clone(),
            relays: pairing.relays,
            paused: pairing.paused,
            limits: pairing.limits,
            last_seen_ms: pairing.last_seen_ms,
        }
    }

    fn pairing(self) -> Result<Pairing> {
        Ok(Pairing {
            public: PublicIdentity { ed: unhex(&self.ed)?, x: unhex(&self.x)? },
            secret: secret_of(&self.secret)?,
            epoch: self.epoch.as_deref().map(unhex).transpose()?.map(LinkHash),
            previous: self.previous.as_deref().map(|text| secret_of(text)).transpose()?,
            admit: self.admit.map(Role::from),
            name: self.name,
            addresses: self.addresses,
            learned: self.learned,
            relays: self.relays,
            paused: self.paused,
            limits: self.limits,
            last_seen_ms: self.last_seen_ms,
        })
    }
}

fn secret_of(text: &str) -> Result<PairSecret> {
    Ok(PairSecret::from_secret(Secret32::new(unhex(text)?)))
}

fn parse_pairings(text: &str) -> Result<Vec<Pairing>> {
    let Some((FORMAT, json)) = text.split_once('\n') else {
        bail!("unknown format");
    };
    let stored: Vec<Stored> = serde_json::from_str(json).context("not a list of pairings")?;
    stored.into_iter().map(Stored::pairing).collect()
}

/// The text of a private file; `None` when there is none yet.
///
/// # Errors
/// When it is open to others, belongs to another user or cannot be read.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    let meta = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        bail!("{} belongs to another user: start syncd as its owner, or give the file to this user", path.display());
    }
    if meta.mode() & 0o077 != 0 {
        bail!("{} is open to other users (mode {:o}): run chmod 600 on it", path.display(), meta.mode() & 0o777);
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(text))
}

/// Replaces a private file so that a crash leaves the old or the new one.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `hex` wrote, of exactly `N` bytes.
///
/// # Errors
/// When it is not.
pub fn unhex<const N: usize>(text: &str) -> Result<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        bail!("expected {N} bytes in hexadecimal");
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).context("not hexadecimal")?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let first = open(dir.path()).expect("a new identity");
        let again = open(dir.path()).expect("the same identity");
        assert_eq!(first.identity.id(), again.identity.id());
        assert_eq!(first.instance, again.instance);
    }

    #[test]
    fn an_identity_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a scratch directory");
        open(dir.path()).expect("a new identity");
        let path = dir.path().join(IDENTITY);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        let Err(refused) = open(dir.path()) else { panic!("an identity that others can read was used") };
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    #[test]
    fn an_identity_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED an_identity_of_another_user_is_refused: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().expect("a scratch directory");
        open(dir.path()).expect("a new identity");
        std::os::unix::fs::chown(dir.path().join(IDENTITY), Some(65534), None).expect("root gives files away");
        let Err(refused) = open(dir.path()) else { panic!("another user's identity was used") };
        assert!(refused.to_string().contains("belongs to another user"), "{refused}");
    }

    /// `syncctl` makes and checks backups of what is written here.
    #[test]
    fn an_identity_is_what_backups_take_it_for() {
        use protocol::wire::backup::{IDENTITY_FILE, KeyFile, device_of};
        let dir = tempfile::tempdir().expect("a scratch directory");
        let own = open(dir.path()).expect("a new identity");
        let bytes = std::fs::read(dir.path().join(IDENTITY_FILE)).expect("it is there");
        let file = KeyFile::new(IDENTITY_FILE, Zeroizing::new(bytes)).expect("its name");
        assert_eq!(device_of(&[file]), Some(own.identity.id()));
        for name in [PAIRINGS, relay::RELAY, "realm"] {
            assert!(KeyFile::new(name, Zeroizing::default()).is_some(), "{name} can be in a backup");
        }
    }

    #[test]
    fn pairings_survive_a_restart_and_a_removal() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let other = Identity::from_seed(&Secret32::new([7; 32]));
        let pairing = Pairing {
            public: other.public(),
            name: "nas".into(),
            secret: PairSecret::from_secret(Secret32::new([9; 32])),
            epoch: Some(LinkHash([3; 32])),
            previous: Some(PairSecret::from_secret(Secret32::new([8; 32]))),
            admit: Some(Role::Reader),
            addresses: vec!["nas.local:28730".into()],
            learned: Vec::new(),
            relays: false,
            paused: false,
            limits: DeviceLimits { up: 5, down: 6, metered: Some(true) },
            last_seen_ms: None,
        };
        let mut pairings = Pairings::open(dir.path()).expect("no pairings yet");
        pairings.insert(pairing).expect("saved");
        pairings.update(&other.id(), |pairing| pairing.paused = true).expect("saved");
        let read = Pairings::open(dir.path()).expect("read again");
        let found = read.get(&other.id()).expect("the pairing is there");
        assert_eq!(found.limits, DeviceLimits { up: 5, down: 6, metered: Some(true) });
        assert!(found.paused && found.name == "nas" && *found.secret.secret().expose() == [9; 32]);
        let text = std::fs::read_to_string(dir.path().join(PAIRINGS)).expect("it is there");
        let (before, after) = text.split_once("\"limits\": {").expect("they are stored");
        let (_, after) = after.split_once("},").expect("they end");
        let older = parse_pairings(&format!("{before}{after}")).expect("a file from before there were limits");
        assert_eq!(older[0].limits, DeviceLimits::default());
        pairings.remove(&other.id()).expect("saved");
        assert!(Pairings::open(dir.path()).expect("read again").all().is_empty());
    }
}
