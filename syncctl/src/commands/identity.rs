//! `identity`: the keys of this device and its realm, out to an encrypted file and back. Works on the home itself: a
//! backup while the daemon may run, a restore while it does not.

use super::passphrase;
use crate::args::IdentityCommand;
use crate::failure::{Failure, Outcome, Result};
use crate::home::Home;
use crate::keys;
use crate::render;
use protocol::limits::BACKUP_BYTES_MAX;
use protocol::wire::backup::{self, BackupError, Cost, KeyFile, SALT_LEN};
use protocol::wire::control::PathText;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a backup or a restore says.
#[derive(Serialize)]
struct Kept {
    /// The device.
    id: String,
    /// Where the backup is.
    #[serde(flatten)]
    file: PathText,
    /// Where the keys are that a restore replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<String>,
}

pub async fn run(home: &Home, json: bool, command: IdentityCommand) -> Result {
    keep_to_ourselves();
    let kept = match command {
        IdentityCommand::Backup { file, passphrase_file } => back_up(home, &file, passphrase_file.as_deref()).await?,
        IdentityCommand::Restore { file, passphrase_file, force } => {
            restore(home, &file, passphrase_file.as_deref(), force).await?
        }
    };
    if json {
        render::json(&kept.reply);
    } else {
        render::say(kept.words);
    }
    Ok(Outcome::Yes)
}

struct Done {
    reply: Kept,
    words: String,
}

/// Keys and passphrases must not reach a core file.
fn keep_to_ourselves() {
    // Where the system refuses, the command is as safe as any other program.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

async fn back_up(home: &Home, file: &Path, passphrase_file: Option<&Path>) -> Result<Done> {
    // Before anybody types a passphrase.
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(taken(file));
    }
    let keys = keys::read(home)?;
    let id = device_of(home, &keys)?;
    let passphrase = passphrase::chosen(passphrase_file).await?;
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt).map_err(|error| Failure::new(format!("no randomness for a backup: {error}")))?;
    let sealed = backup::seal(&keys, &passphrase, Cost::USUAL, salt)?;
    keys::write_beside(file, &sealed).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => taken(file),
        _ => Failure::new(format!("cannot write {}: {error}", file.display())),
    })?;
    let file = shown(file);
    let words = format!(
        "{} holds the keys of this device ({id}) and its realm.\nKeep it away from this device, and the passphrase away \
         from it: without it the file is worthless. It holds no files, folders or settings. Devices that are paired \
         later need no new backup; after a device was removed make one.",
        render::path(&file)
    );
    Ok(Done { reply: Kept { id, file, replaced: None }, words })
}

async fn restore(home: &Home, file: &Path, passphrase_file: Option<&Path>, force: bool) -> Result<Done> {
    let sealed = read_backup(file)?;
    // Before anybody types a passphrase: what cannot work anyway.
    backup::look(&sealed)?;
    let locked = keys::lock(home)?;
    if locked.has_keys()? && !force {
        return Err(Failure::new(format!("the home {} has an identity already", home.root.display())).hint(
            "with --force it is set aside in a directory beside its keys; --home DIR names another home for the restored one",
        ));
    }
    let passphrase = passphrase::known(passphrase_file).await?;
    let keys = backup::open(&sealed, &passphrase)?;
    let id = device_of(home, &keys)?;
    let replaced = locked.put(&keys)?;
    let file = shown(file);
    let mut words = format!(
        "this home is the device {id} again, with its realm as it was in {}.\nStart it with `syncctl start`, then add or \
         join its folders. The device that the backup was made on must not run any more: two with one identity shut each \
         other out.",
        render::path(&file)
    );
    let replaced = replaced.map(|at| at.display().to_string());
    if let Some(at) = &replaced {
        words.push_str(&format!("\nThe keys that were here before are in {}.", render::escape(at)));
    }
    Ok(Done { reply: Kept { id, file, replaced }, words })
}

fn device_of(home: &Home, keys: &[KeyFile]) -> Result<String> {
    let damaged = || {
        Failure::new(format!("the identity in {} is damaged", home.keys().display()))
            .hint("syncd does not start with it either; `syncctl identity restore --force` brings back an older backup")
    };
    backup::device_of(keys).map(|id| id.to_string()).ok_or_else(damaged)
}

fn taken(file: &Path) -> Failure {
    Failure::new(format!("{} is there already, and is not overwritten", file.display()))
        .hint("name a new file; old backups stay useful")
}

fn read_backup(file: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", file.display()));
    // Head, padding and seal are far below the limit's size again.
    let limit = 2 * u64::try_from(BACKUP_BYTES_MAX).unwrap_or(u64::MAX / 2);
    let mut bytes = Vec::new();
    File::open(file).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn shown(file: &Path) -> PathText {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    PathText::new(absolute.as_os_str().as_bytes())
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            BackupError::Passphrase => failure.hint("nothing was changed; upper and lower case and spaces count"),
            _ => failure,
        }
    }
}
