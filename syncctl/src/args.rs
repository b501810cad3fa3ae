//! The command line: names, flags and help texts. Doc comments are what `--help` and the man pages say.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use protocol::wire::control::FolderMode;
use std::path::PathBuf;

/// Pair devices, add folders, and see what syncd is doing.
///
/// Exit codes: 0 done or yes, 1 failed or no, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "syncctl", version, max_term_width = 100)]
pub struct Args {
    /// The daemon's home directory; else that in the variable SYNCD_HOME, else the platform's.
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print JSON with stable keys, one object per line.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// At most a year: sums with the clock stay in range.
fn seconds() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(..=365 * 24 * 3600)
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show or set this device's name, and show its id.
    Id {
        /// The name that other devices see.
        #[arg(long)]
        name: Option<String>,
    },
    /// Exit 0 when the daemon answers.
    Ping {
        /// Wait so many seconds for it.
        #[arg(long, value_name = "SECONDS", value_parser = seconds())]
        wait: Option<u64>,
    },
    /// Pair with another device.
    ///
    /// Without CODE: show a one-time code and wait. With CODE: pair with the device that shows it. Both devices show
    /// the other's name and a check number; accept only when the numbers are equal.
    Pair(Pair),
    /// Paired devices.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Show how each device is reached, why not better, and what was tried.
    Net {
        #[command(subcommand)]
        command: Option<NetCommand>,
    },
    /// The realm: all your devices, which trust each other.
    #[command(subcommand)]
    Realm(RealmCommand),
    /// The keys of this device and its realm: back them up, bring them back.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Synced folders.
    #[command(subcommand)]
    Folder(FolderCommand),
    /// Show folders, devices, progress and problems on one screen.
    Status {
        /// Keep showing it until interrupted.
        #[arg(long)]
        watch: bool,
        /// Exit 1 when anything needs a person.
        #[arg(long, conflicts_with = "watch")]
        check: bool,
    },
    /// Wait until a folder, or every folder, is in sync with all connected devices it is shared with.
    Wait {
        /// Name or id of the folder; all folders when not given.
        folder: Option<String>,
        /// Give up after so many seconds and exit 1.
        #[arg(long, value_name = "SECONDS", value_parser = seconds())]
        timeout: Option<u64>,
    },
    /// List kept versions of a file that other devices replaced or deleted.
    Versions {
        /// The file.
        path: PathBuf,
    },
    /// Bring a kept version back; what is there now is kept as a version.
    Restore {
        /// The file.
        path: PathBuf,
        /// As it was then: 2026-08-05, "2026-08-05 14:30" or "2h ago"; the newest kept version when not given.
        #[arg(long, value_name = "TIME", conflicts_with = "id")]
        at: Option<String>,
        /// Exactly this version, as `syncctl versions` lists it.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// List what changed here, and who changed it.
    Log {
        /// Only this file, or what is below this directory.
        path: Option<PathBuf>,
        /// Only this folder.
        #[arg(long, value_name = "NAME")]
        folder: Option<String>,
        /// Not older than this: 2026-08-05, "2026-08-05 14:30" or "2h ago".
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// The newest so many.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: usize,
    },
    /// Ignore rules.
    #[command(subcommand)]
    Ignore(IgnoreCommand),
    /// List what happened since the daemon started.
    Events {
        /// Keep listing.
        #[arg(long, short)]
        follow: bool,
    },
    /// The daemon's settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Start the daemon in the background.
    Start {
        /// How long it may take until it answers.
        #[arg(long, value_name = "SECONDS", value_parser = seconds(), default_value_t = 30)]
        timeout: u64,
    },
    /// Stop the daemon, and wait until it has stopped.
    Stop {
        /// How long it may take.
        #[arg(long, value_name = "SECONDS", value_parser = seconds(), default_value_t = 30)]
        timeout: u64,
    },
    /// Run the daemon as a systemd service.
    Service(Service),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages into a directory.
    Man {
        /// The directory; it must exist.
        dir: PathBuf,
    },
}

#[derive(Debug, ClapArgs)]
pub struct Pair {
    /// The code or link that the other device shows; `-` reads it from standard input, out of the shell's history.
    pub code: Option<String>,
    /// Accept without asking, so without comparing the check number. Needed where there is no terminal.
    #[arg(long)]
    pub yes: bool,
    /// Where the other device is, when neither the local network nor a relay can tell.
    #[arg(long, value_name = "HOST:PORT", requires = "code")]
    pub address: Option<String>,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    pub timeout: Option<u64>,
    /// What the new device may do among your devices, when this one takes it in.
    #[arg(long, default_value = "admin")]
    pub role: RoleWord,
    /// The new device shall neither add nor remove devices: `--role full`.
    #[arg(long, conflicts_with = "role")]
    pub no_admin: bool,
}

/// What a device may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleWord {
    /// Reads, writes, adds and removes devices.
    Admin,
    /// Reads and writes.
    Full,
    /// Only reads: what is changed there stays there.
    Reader,
}

/// Whether a connection costs by the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MeteredWord {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// As the setting says.
    Default,
}

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List paired devices: how they are reached, when last seen, in sync or what they lack.
    List,
    /// Give a device another name here.
    Rename {
        /// Name, id or a beginning of the id.
        device: String,
        /// The new name.
        name: String,
    },
    /// Say where a device is; without an address, forget what was said.
    Address {
        /// Name, id or a beginning of the id.
        device: String,
        /// Where it is.
        #[arg(value_name = "HOST:PORT")]
        addresses: Vec<String>,
    },
    /// Limit how fast file contents move to and from a device, in any network.
    ///
    /// RATE is an amount a second such as 500KB or 2MB; 0: no limit. What is not named stays as it is. The limits of all
    /// devices together are settings: `rate_limit_up`, `rate_limit_down`, `rate_limit_lan`, `schedule`.
    #[command(group = clap::ArgGroup::new("limits").required(true).multiple(true).args(["up", "down", "metered"]))]
    Limit {
        /// Name, id or a beginning of the id.
        device: String,
        /// What goes to it.
        #[arg(long, value_name = "RATE")]
        up: Option<String>,
        /// What comes from it.
        #[arg(long, value_name = "RATE")]
        down: Option<String>,
        /// Whether the way to it costs by the byte, wherever it is: then only files up to the setting `metered_max` are
        /// fetched from it. `default`: as the setting `metered` says.
        #[arg(long)]
        metered: Option<MeteredWord>,
    },
    /// Disconnect from a device until resumed.
    Pause {
        /// Name, id or a beginning of the id.
        device: String,
    },
    /// Connect to a paused device again.
    Resume {
        /// Name, id or a beginning of the id.
        device: String,
    },
    /// Say what a device may do, on all your devices.
    ///
    /// A device can say that of those that were added after it; the recovery code, shown with the first pairing, of any.
    Role {
        /// Name, id or a beginning of the id.
        device: String,
        /// What it may do from now on.
        role: RoleWord,
        /// The recovery code; `-` reads it from standard input, out of the shell's history.
        #[arg(long, value_name = "CODE")]
        recovery_code: Option<String>,
    },
    /// Remove a device from all your devices: it is cut off at once; files it has stay there.
    ///
    /// It cannot come back under the same identity. A device can remove those that were added after it; the recovery
    /// code, shown with the first pairing, removes any.
    Remove {
        /// Name, id or a beginning of the id.
        device: String,
        /// Also take back what it did to the list of your devices: those that it added go, too. Names a device that was removed
        /// before by its whole id.
        #[arg(long)]
        disown: bool,
        /// The recovery code; `-` reads it from standard input, out of the shell's history.
        #[arg(long, value_name = "CODE")]
        recovery_code: Option<String>,
        /// Do not ask. Needed where there is no terminal.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Let strangers on the internet help to find devices, or not (the default).
    ///
    /// On: devices leave word for each other in BitTorrent's public table (DHT), sealed, at places that only they can compute, and
    /// ask the router for a port. Strangers there see this address, and that something is left. Off: none of them is ever contacted.
    Internet {
        /// on or off.
        switch: Switch,
    },
    /// Be a relay for your other devices, or not (the default).
    ///
    /// For a device that the others can reach, such as one at home with a forwarded port: two that cannot reach each other meet
    /// through it, at the port it listens on. Nobody else can use it, and what it passes on is sealed.
    Relay {
        /// on or off.
        switch: Switch,
    },
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

#[derive(Debug, Subcommand)]
pub enum RealmCommand {
    /// Show how many devices are in it and what this one may do.
    Show,
    /// Leave it: this device forgets all others and gets a new identity. Folders and files stay as they are.
    Leave {
        /// Do not ask. Needed where there is no terminal.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Write the keys of this device and its realm into FILE, encrypted with a passphrase.
    ///
    /// For the day when this device's disk is lost: on another one `restore` makes it this device again, for all others
    /// too. No files, folders or settings are in it. Works whether syncd runs or not; never overwrites a file.
    Backup {
        /// The file to write.
        file: PathBuf,
        /// Read the passphrase from the first line of a file; `-` reads it from standard input.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Make this home the device that FILE is a backup of. syncd must be stopped.
    ///
    /// The device that the backup was made on must not run any more: two with one identity shut each other out.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Read the passphrase from the first line of a file; `-` reads it from standard input.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Also where this home has keys already: those are set aside in `keys.replaced-N` beside them.
        #[arg(long)]
        force: bool,
    },
}

/// Which way changes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Both ways.
    SendReceive,
    /// Changes of others are not taken.
    SendOnly,
    /// Changes made here are not sent.
    ReceiveOnly,
}

impl From<Mode> for FolderMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::SendReceive => Self::SendReceive,
            Mode::SendOnly => Self::SendOnly,
            Mode::ReceiveOnly => Self::ReceiveOnly,
        }
    }
}

/// A folder by name, id or a beginning of the id.
#[derive(Debug, ClapArgs)]
pub struct FolderName {
    /// Name, id or a beginning of the id.
    pub folder: String,
}

#[derive(Debug, Subcommand)]
pub enum FolderCommand {
    /// Sync a directory and offer it to paired devices.
    Add {
        /// The directory.
        path: PathBuf,
        /// Its name; the directory's when not given.
        #[arg(long)]
        name: Option<String>,
        /// Which way changes go.
        #[arg(long, value_enum, default_value = "send-receive")]
        mode: Mode,
        /// Sync it with this device only; may be given several times. Otherwise all your devices, now and later.
        #[arg(long, value_name = "DEVICE")]
        with: Vec<String>,
    },
    /// List folders.
    List,
    /// List folders that other devices offer.
    Offers,
    /// Take an offer: sync that folder at PATH.
    Join {
        /// Name or id of the offered folder.
        folder: String,
        /// Where it goes here.
        path: PathBuf,
        /// Which way changes go.
        #[arg(long, value_enum, default_value = "send-receive")]
        mode: Mode,
        /// Only say what would be added, replaced or in conflict.
        #[arg(long)]
        preview: bool,
    },
    /// Stop syncing a folder until resumed.
    Pause(FolderName),
    /// Go on with a paused folder.
    Resume(FolderName),
    /// Compare the disk with the index now.
    Rescan(FolderName),
    /// Let held changes happen (mass deletions, mass replacements).
    Approve(FolderName),
    /// Take held changes back: what was deleted here is fetched, what others deleted or replaced goes back to them.
    Reject(FolderName),
    /// Send-only folder: make the other devices like this one.
    Override(FolderName),
    /// Receive-only folder: make this device like the others; local changes are kept as versions.
    Revert(FolderName),
    /// Sync a folder no more; the files stay.
    Remove(FolderName),
    /// Take devices into a folder. Every device of yours keeps to it.
    Share {
        /// Name, id or a beginning of the id.
        folder: String,
        /// Devices, by name or id.
        #[arg(required_unless_present_any = ["all", "only"])]
        devices: Vec<String>,
        /// All your devices, also those that you pair later.
        #[arg(long, conflicts_with = "devices")]
        all: bool,
        /// These, this device, and no others. Without a name: this device alone.
        #[arg(long, conflicts_with = "all")]
        only: bool,
    },
    /// Take devices out of a folder: they receive and send nothing more of it, and keep what they have.
    Unshare {
        /// Name, id or a beginning of the id.
        folder: String,
        /// Devices, by name or id.
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Change a setting of one folder.
    ///
    /// Settings: name, mode, links, mass_delete_guard, watch, scan_interval_s, versions_days, versions_max.
    /// The value `default` takes one back to that of `syncctl config`.
    Set {
        /// Name, id or a beginning of the id.
        folder: String,
        /// The setting.
        key: String,
        /// Its value.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum IgnoreCommand {
    /// Say whether a path is ignored, and by which line of which file. Exit 0 when it is, 1 when it is not.
    Test {
        /// The path; it need not exist.
        path: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show one setting, or all.
    Get {
        /// The setting.
        key: Option<String>,
    },
    /// Change a setting; comments in the file stay.
    Set {
        /// The setting.
        key: String,
        /// Its value; lists are separated by commas.
        #[arg(required_unless_present = "default", allow_hyphen_values = true)]
        value: Option<String>,
        /// Back to the default.
        #[arg(long, conflicts_with = "value")]
        default: bool,
    },
    /// Print where the settings file is. Works without a daemon.
    Path,
}

#[derive(Debug, ClapArgs)]
pub struct Service {
    /// For the whole machine: starts at boot, runs as one user. Needs root.
    #[arg(long, global = true)]
    pub system: bool,
    /// With --system: the user to run as; the one who called sudo when not given.
    #[arg(long, global = true, value_name = "NAME", requires = "system")]
    pub user: Option<String>,
    #[command(subcommand)]
    pub command: ServiceCommand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ServiceCommand {
    /// Write the unit, enable it and start it.
    Install,
    /// Stop it, disable it and remove the unit; settings, keys and files stay.
    Uninstall,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Say whether it is installed and running; exit 0 when it runs.
    Status,
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
