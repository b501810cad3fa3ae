//! Command lines that must parse, and those that must not. Scripts rely on both.

use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(std::iter::once("syncctl").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn the_contract_parses() {
    let rows = [
        ("id", "Id { name: None }"),
        ("id --name laptop", "Id { name: Some(\"laptop\") }"),
        ("ping --wait 30", "Ping { wait: Some(30) }"),
        ("device list", "Device(List)"),
        ("device rename nas store", "Device(Rename { device: \"nas\", name: \"store\" })"),
        ("device address nas a:1 b:2", "Device(Address { device: \"nas\", addresses: [\"a:1\", \"b:2\"] })"),
        ("device address nas", "Device(Address { device: \"nas\", addresses: [] })"),
        (
            "device remove nas --yes",
            "Device(Remove { device: \"nas\", disown: false, recovery_code: None, yes: true })",
        ),
        (
            "device remove nas --recovery-code -",
            "Device(Remove { device: \"nas\", disown: false, recovery_code: Some(\"-\"), yes: false })",
        ),
        ("net", "Net { command: None }"),
        ("net relay off", "Net { command: Some(Relay { switch: Off }) }"),
        ("net internet on", "Net { command: Some(Internet { switch: On }) }"),
        ("realm show", "Realm(Show)"),
        ("realm leave --yes", "Realm(Leave { yes: true })"),
        ("identity backup f", "Identity(Backup { file: \"f\", passphrase_file: None })"),
        ("identity backup f --passphrase-file -", "Identity(Backup { file: \"f\", passphrase_file: Some(\"-\") })"),
        ("identity restore f", "Identity(Restore { file: \"f\", passphrase_file: None, force: false })"),
        (
            "identity restore f --passphrase-file /p --force",
            "Identity(Restore { file: \"f\", passphrase_file: Some(\"/p\"), force: true })",
        ),
        (
            "folder add /a --name n --mode receive-only --with x --with y",
            "Folder(Add { path: \"/a\", name: Some(\"n\"), mode: ReceiveOnly, with: [\"x\", \"y\"] })",
        ),
        (
            "folder join n /b --preview",
            "Folder(Join { folder: \"n\", path: \"/b\", mode: SendReceive, preview: true })",
        ),
        ("folder offers", "Folder(Offers)"),
        ("folder approve n", "Folder(Approve(FolderName { folder: \"n\" }))"),
        ("folder override n", "Folder(Override(FolderName { folder: \"n\" }))"),
        ("folder share n x y", "Folder(Share { folder: \"n\", devices: [\"x\", \"y\"], all: false, only: false })"),
        ("folder share n x --only", "Folder(Share { folder: \"n\", devices: [\"x\"], all: false, only: true })"),
        ("folder share n --all", "Folder(Share { folder: \"n\", devices: [], all: true, only: false })"),
        ("folder unshare n x", "Folder(Unshare { folder: \"n\", devices: [\"x\"] })"),
        (
            "folder set n mass_delete_guard off",
            "Folder(Set { folder: \"n\", key: \"mass_delete_guard\", value: \"off\" })",
        ),
        ("status --check", "Status { watch: false, check: true }"),
        ("wait n --timeout 600", "Wait { folder: Some(\"n\"), timeout: Some(600) }"),
        ("wait", "Wait { folder: None, timeout: None }"),
        ("restore f --at 2026-08-05", "Restore { path: \"f\", at: Some(\"2026-08-05\"), id: None }"),
        ("log", "Log { path: None, folder: None, since: None, limit: 50 }"),
        ("ignore test a/b", "Ignore(Test { path: \"a/b\" })"),
        ("events --follow", "Events { follow: true }"),
        ("config get lan", "Config(Get { key: Some(\"lan\") })"),
        ("config set lan never", "Config(Set { key: \"lan\", value: Some(\"never\"), default: false })"),
        ("config set lan --default", "Config(Set { key: \"lan\", value: None, default: true })"),
        ("config path", "Config(Path)"),
        ("service install --system", "Service(Service { system: true, user: None, command: Install })"),
        ("service --system --user a status", "Service(Service { system: true, user: Some(\"a\"), command: Status })"),
        ("completions bash", "Completions { shell: Bash }"),
        ("man /tmp", "Man { dir: \"/tmp\" }"),
    ];
    check_parsed(&rows);
}

fn check_parsed(rows: &[(&str, &str)]) {
    for (line, command) in rows {
        let args = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(format!("{:?}", args.command), *command, "{line}");
    }
}

#[test]
fn devices_are_paired_given_roles_and_limited() {
    let rows = [
        (
            "pair --yes --json",
            "Pair(Pair { code: None, yes: true, address: None, timeout: None, role: Admin, no_admin: false })",
        ),
        (
            "pair --role reader",
            "Pair(Pair { code: None, yes: false, address: None, timeout: None, role: Reader, no_admin: false })",
        ),
        (
            "pair --no-admin",
            "Pair(Pair { code: None, yes: false, address: None, timeout: None, role: Admin, no_admin: true })",
        ),
        (
            "device role phone full --recovery-code -",
            "Device(Role { device: \"phone\", role: Full, recovery_code: Some(\"-\") })",
        ),
        (
            "device limit nas --metered default",
            "Device(Limit { device: \"nas\", up: None, down: None, metered: Some(Default) })",
        ),
        (
            "device limit nas --up 5KB",
            "Device(Limit { device: \"nas\", up: Some(\"5KB\"), down: None, metered: None })",
        ),
        (
            "device limit nas --up 0 --down 1MB",
            "Device(Limit { device: \"nas\", up: Some(\"0\"), down: Some(\"1MB\"), metered: None })",
        ),
        (
            "pair --timeout 5",
            "Pair(Pair { code: None, yes: false, address: None, timeout: Some(5), role: Admin, no_admin: false })",
        ),
        (
            "pair - ",
            "Pair(Pair { code: Some(\"-\"), yes: false, address: None, timeout: None, role: Admin, no_admin: false })",
        ),
        (
            "pair k7qm --yes --address 10.0.0.1:5",
            "Pair(Pair { code: Some(\"k7qm\"), yes: true, address: Some(\"10.0.0.1:5\"), timeout: None, role: Admin, no_admin: false })",
        ),
    ];
    check_parsed(&rows);
}

#[test]
fn global_flags_stand_anywhere() {
    for line in ["--home /h --json folder list", "folder list --home /h --json", "folder --json list --home /h"] {
        let args = parse(line).unwrap();
        assert_eq!((args.home, args.json), (Some(PathBuf::from("/h")), true), "{line}");
    }
}

#[test]
fn wrong_lines_are_refused() {
    let rows = [
        ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("explode", ErrorKind::InvalidSubcommand),
        ("device limit nas", ErrorKind::MissingRequiredArgument),
        ("device limit nas --metered perhaps", ErrorKind::InvalidValue),
        ("folder", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("folder add", ErrorKind::MissingRequiredArgument),
        ("identity", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("identity backup", ErrorKind::MissingRequiredArgument),
        ("identity backup f --force", ErrorKind::UnknownArgument),
        ("folder add /a --mode both", ErrorKind::InvalidValue),
        ("folder join n", ErrorKind::MissingRequiredArgument),
        ("wait --timeout soon", ErrorKind::ValueValidation),
        ("wait --timeout 99999999999", ErrorKind::ValueValidation),
        ("ping --wait -1", ErrorKind::UnknownArgument),
        ("pair --address a:1", ErrorKind::MissingRequiredArgument),
        ("status --watch --check", ErrorKind::ArgumentConflict),
        ("restore f --at now --id 3", ErrorKind::ArgumentConflict),
        ("config set lan", ErrorKind::MissingRequiredArgument),
        ("config set lan never --default", ErrorKind::ArgumentConflict),
        ("service install --user a", ErrorKind::MissingRequiredArgument),
        ("completions word", ErrorKind::InvalidValue),
    ];
    for (line, kind) in rows {
        let error = parse(line).err().unwrap_or_else(|| panic!("{line} parses"));
        assert_eq!(error.kind(), kind, "{line}: {error}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
