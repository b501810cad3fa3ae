//! The backup of a device's keys: the private files of a home, sealed with a passphrase into one file that may lie
//! anywhere. Pure: the salt comes in as an argument and nothing is read or written.
//! Invariant: not a byte of the file is believed before the seal holds, but for the cost of trying, which is bounded.
//!
//! Layout, integers little-endian: the head `"syncd keys backup\0"` ‖ version u8 = 1 ‖ memory u32 (KiB) ‖ passes u32 ‖
//! salt\[16\] ‖ length u32; then so many sealed bytes; then the first 16 bytes of KDF("backup check"; all before), which
//! tells damage from a wrong passphrase and protects nothing. Sealed with ChaCha20-Poly1305 under nonce 0, the head as
//! associated data and a key that is Argon2id's (RFC 9106, version 0x13, one lane, 32 bytes) of passphrase and salt: a
//! fresh salt makes each key seal one text only. Inside: count u8, then of each file its name's length u8, the name,
//! its length u32 and its bytes; zeros up to a multiple of 4096, so that the size does not tell how many devices there
//! are.

use super::identity::Identity;
use super::kdf::{Secret32, kdf};
use super::noise::{self, TAG_LEN};
use crate::limits::{BACKUP_BYTES_MAX, BACKUP_FILES_MAX, BACKUP_MEMORY_KIB_MAX, BACKUP_PASSES_MAX};
use crate::model::DeviceId;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[cfg(test)]
mod tests;

/// First bytes of every version.
const MAGIC: &[u8; 18] = b"syncd keys backup\0";
/// The format of this version.
const VERSION: u8 = 1;
/// Bytes before the sealed ones.
const HEAD_LEN: usize = MAGIC.len() + 1 + 4 + 4 + SALT_LEN + 4;
/// Random bytes of one backup.
pub const SALT_LEN: usize = 16;
/// Bytes that tell damage from a wrong passphrase.
const CHECK_LEN: usize = 16;
/// What is inside is filled up to a multiple of this.
const PADDING: usize = 4096;
/// Longest name of a file inside.
const NAME_LEN_MAX: usize = 32;
/// Fewest characters of a new passphrase. Who finds the file may guess without a limit: shorter ones are a matter of
/// hours even at the usual cost.
pub const PASSPHRASE_CHARS_MIN: usize = 8;
/// The file of a home with the device's seed.
pub const IDENTITY_FILE: &str = "identity";

/// Why a backup cannot be opened; the words are for whoever tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// It begins with something else.
    #[error("this is no backup of an identity")]
    NotABackup,
    /// Written by a later version.
    #[error("this backup has the format {0}, and this version of syncd knows {VERSION}: use the version that wrote it")]
    Version(u8),
    /// Shorter than it says.
    #[error("the backup is cut short: copy it again")]
    Truncated,
    /// Its bytes have changed, or there are more of them.
    #[error("the backup is damaged: copy it again, or use another one")]
    Damaged,
    /// More work than any version asks for.
    #[error("the backup asks for more memory or time than any that syncd writes")]
    Cost,
    /// The seal does not hold.
    #[error("wrong passphrase")]
    Passphrase,
    /// The seal holds, and what is inside makes no sense.
    #[error("the backup holds something else than the keys of a device")]
    Content,
}

/// Why a passphrase is not taken for a new backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassphrase {
    /// Nothing, or spaces only.
    #[error("the passphrase is empty: without one whoever finds the file has this device's keys")]
    Empty,
    /// Too short to withstand guessing.
    #[error("a passphrase needs at least {PASSPHRASE_CHARS_MIN} characters, this one has {0}")]
    Short(usize),
}

/// What a person types to seal or open a backup: wiped on drop, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(String);

impl Passphrase {
    /// As it was typed.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Whether it may seal a new backup.
    ///
    /// # Errors
    /// When it is empty or short.
    pub fn check(&self) -> Result<(), WeakPassphrase> {
        match self.0.trim().chars().count() {
            0 => Err(WeakPassphrase::Empty),
            count if count < PASSPHRASE_CHARS_MIN => Err(WeakPassphrase::Short(count)),
            _ => Ok(()),
        }
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// What one try of a passphrase costs: Argon2id with one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// Of new backups: 256 MiB, four times the memory-constrained choice of RFC 9106, and its three passes. About a
    /// second, once a backup; a small machine still has that memory.
    pub const USUAL: Self = Self { memory_kib: 256 * 1024, passes: 3 };
}

/// One private file of a home.
#[derive(PartialEq, Eq)]
pub struct KeyFile {
    /// Lower-case letters, digits, `-` and `_`.
    name: String,
    bytes: Zeroizing<Vec<u8>>,
}

impl KeyFile {
    /// `None` when no key file is called so.
    #[must_use]
    pub fn new(name: &str, bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let is_name = (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_fine);
        is_name.then(|| Self { name: name.to_owned(), bytes })
    }

    /// Its name, which cannot lead out of a directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The device whose keys these are: the second line of its identity file is the seed in hexadecimal. `None` when there is
/// no such file, or a damaged one.
#[must_use]
pub fn device_of(files: &[KeyFile]) -> Option<DeviceId> {
    let file = files.iter().find(|file| file.name == IDENTITY_FILE)?;
    let line = std::str::from_utf8(&file.bytes).ok()?.lines().nth(1)?;
    let mut seed = Zeroizing::new([0; 32]);
    if line.len() != 2 * seed.len() || !line.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in seed.iter_mut().zip(line.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Identity::from_seed(&Secret32::new(*seed)).id())
}

/// A backup's bytes. `salt` is fresh and random: two backups with one salt and passphrase would share their key.
///
/// # Errors
/// [`BackupError::Content`] when there are more or larger files than a home has, or the identity is missing or damaged:
/// such a backup would help nobody. [`BackupError::Cost`] when that is out of bounds.
pub fn seal(
    files: &[KeyFile],
    passphrase: &Passphrase,
    cost: Cost,
    salt: [u8; SALT_LEN],
) -> Result<Vec<u8>, BackupError> {
    device_of(files).ok_or(BackupError::Content)?;
    let inside = write_inside(files)?;
    let len = u32::try_from(inside.len() + TAG_LEN).map_err(|_| BackupError::Content)?;
    let mut bytes = [
        MAGIC.as_slice(),
        &[VERSION],
        &cost.memory_kib.to_le_bytes(),
        &cost.passes.to_le_bytes(),
        &salt,
        &len.to_le_bytes(),
    ]
    .concat();
    let sealed = noise::seal(&stretch(passphrase, cost, &salt)?, &bytes, &inside);
    bytes.extend_from_slice(&sealed);
    bytes.extend_from_slice(&check(&bytes));
    Ok(bytes)
}

/// What is in a backup.
///
/// # Errors
/// Why it is not to be had.
pub fn open(bytes: &[u8], passphrase: &Passphrase) -> Result<Vec<KeyFile>, BackupError> {
    let (head, cost, salt, sealed) = parse(bytes)?;
    let inside = noise::open(&stretch(passphrase, cost, &salt)?, head, sealed).ok_or(BackupError::Passphrase)?;
    let files = read_inside(&inside).ok_or(BackupError::Content)?;
    device_of(&files).ok_or(BackupError::Content)?;
    Ok(files)
}

/// Whether these bytes are a whole backup of this version, as far as that shows without the passphrase.
///
/// # Errors
/// Why they are not.
pub fn look(bytes: &[u8]) -> Result<(), BackupError> {
    parse(bytes).map(drop)
}

type Parts<'a> = (&'a [u8], Cost, [u8; SALT_LEN], &'a [u8]);

fn parse(bytes: &[u8]) -> Result<Parts<'_>, BackupError> {
    let mut rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(if MAGIC.starts_with(bytes) {
        BackupError::Truncated
    } else {
        BackupError::NotABackup
    })?;
    let [version] = take(&mut rest).ok_or(BackupError::Truncated)?;
    if version != VERSION {
        return Err(BackupError::Version(version));
    }
    let mut number = || take(&mut rest).map(u32::from_le_bytes);
    let (memory_kib, passes) = (number(), number());
    let salt = take(&mut rest);
    let len = take(&mut rest).map(u32::from_le_bytes);
    let (Some(memory_kib), Some(passes), Some(salt), Some(len)) = (memory_kib, passes, salt, len) else {
        return Err(BackupError::Truncated);
    };
    let len = usize::try_from(len).map_err(|_| BackupError::Damaged)?;
    // A length that no backup has is damage and not a missing part.
    if len > BACKUP_BYTES_MAX + PADDING + TAG_LEN || rest.len() > len + CHECK_LEN {
        return Err(BackupError::Damaged);
    }
    let Some((sealed, told)) = rest.split_at_checked(len).filter(|(_, told)| told.len() == CHECK_LEN) else {
        return Err(BackupError::Truncated);
    };
    let (before, _) = bytes.split_at(HEAD_LEN + len);
    if check(before) != told {
        return Err(BackupError::Damaged);
    }
    let cost = Cost { memory_kib, passes };
    if memory_kib > BACKUP_MEMORY_KIB_MAX || passes > BACKUP_PASSES_MAX {
        return Err(BackupError::Cost);
    }
    Ok((&bytes[..HEAD_LEN], cost, salt, sealed))
}

fn stretch(passphrase: &Passphrase, cost: Cost, salt: &[u8; SALT_LEN]) -> Result<Secret32, BackupError> {
    let params = argon2::Params::new(cost.memory_kib, cost.passes, 1, Some(32)).map_err(|_| BackupError::Cost)?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    argon2.hash_password_into(passphrase.0.as_bytes(), salt, &mut *key).map_err(|_| BackupError::Cost)?;
    Ok(Secret32::new(*key))
}

fn check(bytes: &[u8]) -> [u8; CHECK_LEN] {
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&kdf("backup check", &[bytes])[..CHECK_LEN]);
    check
}

/// As long as it gets before the first byte is written: a buffer that grows would leave secrets behind.
fn write_inside(files: &[KeyFile]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let len = 1 + files.iter().map(|file| 1 + file.name.len() + 4 + file.bytes.len()).sum::<usize>();
    let count = u8::try_from(files.len()).map_err(|_| BackupError::Content)?;
    if files.len() > BACKUP_FILES_MAX || len > BACKUP_BYTES_MAX {
        return Err(BackupError::Content);
    }
    let padded = len.next_multiple_of(PADDING);
    let mut inside = Zeroizing::new(Vec::with_capacity(padded));
    inside.push(count);
    for file in files {
        let name_len = u8::try_from(file.name.len()).map_err(|_| BackupError::Content)?;
        let bytes_len = u32::try_from(file.bytes.len()).map_err(|_| BackupError::Content)?;
        inside.push(name_len);
        inside.extend_from_slice(file.name.as_bytes());
        inside.extend_from_slice(&bytes_len.to_le_bytes());
        inside.extend_from_slice(&file.bytes);
    }
    inside.resize(padded, 0);
    Ok(inside)
}

fn read_inside(inside: &[u8]) -> Option<Vec<KeyFile>> {
    let mut rest = inside;
    let [count] = take(&mut rest)?;
    if usize::from(count) > BACKUP_FILES_MAX {
        return None;
    }
    let mut files: Vec<KeyFile> = Vec::new();
    for _ in 0..count {
        let [name_len] = take(&mut rest)?;
        let name = take_slice(&mut rest, usize::from(name_len))?;
        let bytes_len = u32::from_le_bytes(take(&mut rest)?);
        let bytes = take_slice(&mut rest, usize::try_from(bytes_len).ok()?)?;
        let file = KeyFile::new(std::str::from_utf8(name).ok()?, Zeroizing::new(bytes.to_vec()))?;
        if files.iter().any(|other| other.name == file.name) {
            return None;
        }
        files.push(file);
    }
    rest.iter().all(|byte| *byte == 0).then_some(files)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_slice<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}
