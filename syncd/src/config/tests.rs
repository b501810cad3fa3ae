//! Files as people write them: comments survive, wrong values are refused, unknown keys are not.

use super::*;
use protocol::model::FolderId;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;

fn with_file(text: &str, check: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    if !text.is_empty() {
        std::fs::write(&path, text).unwrap();
    }
    check(&path);
}

#[test]
fn a_missing_file_means_defaults() {
    with_file("", |path| {
        let config = ConfigFile::load(path).unwrap();
        assert_eq!(config.settings(), &Settings::default());
        assert!(!path.exists());
        assert_eq!(config.reply().settings.len(), KEYS.len());
        for setting in config.reply().settings {
            assert_eq!(setting.value, setting.default, "{}", setting.key);
        }
    });
}

#[test]
fn every_setting_survives_its_own_text() {
    let rows = [
        ("name", "über laptop", "name = \"über laptop\"\n"),
        ("listen", "127.0.0.1:0,[::1]:5", "listen = [\"127.0.0.1:0\", \"[::1]:5\"]\n"),
        ("lan", "never", "lan = \"never\"\n"),
        ("relays", "syncd:r1:abc@host:28731", "relays = [\"syncd:r1:abc@host:28731\"]\n"),
        ("relay", "true", "relay = true\n"),
        ("internet", "on", "internet = \"on\"\n"),
        ("internet_nodes", "203.0.113.7:6881", "internet_nodes = [\"203.0.113.7:6881\"]\n"),
        ("proxy", "socks5://me:x@127.0.0.1:9050", "proxy = \"socks5://me:x@127.0.0.1:9050\"\n"),
        ("proxy_for", "everything", "proxy_for = \"everything\"\n"),
        ("rate_limit_up", "2000000", "rate_limit_up = 2000000\n"),
        ("rate_limit_down", "5", "rate_limit_down = 5\n"),
        ("rate_limit_lan", "true", "rate_limit_lan = true\n"),
        (
            "schedule",
            "mon-fri 09:00-17:00 up=1mb; sat,sun pause",
            "schedule = [\"mon-fri 09:00-17:00 up=1mb\", \"sat,sun pause\"]\n",
        ),
        ("metered", "true", "metered = true\n"),
        ("metered_max", "100000", "metered_max = 100000\n"),
        ("versions_days", "0", "versions_days = 0\n"),
        ("versions_max", "25%", "versions_max = \"25%\"\n"),
        ("scan_interval_s", "60", "scan_interval_s = 60\n"),
        ("watch", "false", "watch = false\n"),
        ("mass_delete_guard", "off", "mass_delete_guard = \"off\"\n"),
        ("log_level", "debug", "log_level = \"debug\"\n"),
    ];
    assert_eq!(rows.len(), KEYS.len());
    for (key, value, file) in rows {
        with_file("", |path| {
            let mut config = ConfigFile::load(path).unwrap();
            let setting = config.set(key, Some(value)).unwrap();
            assert_eq!((setting.key.as_str(), setting.value.as_str()), (key, value));
            assert_eq!(std::fs::read_to_string(path).unwrap(), file);
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(ConfigFile::load(path).unwrap().settings(), config.settings(), "{key}");
            config.set(key, None).unwrap();
            assert_eq!(config.settings(), &Settings::default(), "{key} back to its default");
            assert_eq!(std::fs::read_to_string(path).unwrap(), "");
        });
    }
}

#[test]
fn sizes_have_units() {
    let rows = [
        ("0", Some(0)),
        ("10", Some(10)),
        ("10k", Some(10_000)),
        ("10 MB/s", Some(10_000_000)),
        ("2GiB", Some(2 << 30)),
        ("1.5MB", None),
        ("-1", None),
        ("fast", None),
        ("", None),
        ("99999999TB", None),
    ];
    for (text, bytes) in rows {
        assert_eq!(keys::size(text).ok(), bytes, "{text}");
    }
}

#[test]
fn wrong_values_change_nothing_and_say_what_is_allowed() {
    let rows = [
        ("name", "", "name must be"),
        ("name", "a\u{1b}[31m", "control characters"),
        ("listen", "28730", "is no address and port"),
        ("listen", "localhost:1", "is no address and port"),
        ("lan", "nver", "always or never"),
        ("relays", "a b", "without blanks"),
        ("relays", "a,b,c,d,e", "at most 4"),
        ("relay", "on", "true or false"),
        ("proxy", "tor", "like socks5://127.0.0.1:9050"),
        ("proxy", "socks5://tor.example:9050", "looked up around the proxy"),
        ("proxy_for", "all", "internet or everything"),
        ("rate_limit_up", "fast", "a size such as"),
        ("rate_limit_lan", "1", "true or false"),
        ("schedule", "mon-fry pause", "schedule has a rule that makes no sense"),
        ("versions_days", "-1", "0 to 36500"),
        ("versions_max", "100%", "1% to 90%"),
        ("scan_interval_s", "1", "10 to"),
        ("watch", "yes", "true or false"),
        ("mass_delete_guard", "maybe", "on or off"),
        ("log_level", "loud", "error, warn"),
        ("nmae", "x", "there is no setting"),
    ];
    for (key, value, words) in rows {
        with_file("# mine\nname = \"box\"\n", |path| {
            let mut config = ConfigFile::load(path).unwrap();
            let before = config.settings().clone();
            let error = config.set(key, Some(value)).unwrap_err();
            assert!(error.error.contains(words), "{key}={value}: {}", error.error);
            assert_eq!(config.settings(), &before);
            assert_eq!(std::fs::read_to_string(path).unwrap(), "# mine\nname = \"box\"\n");
        });
    }
}

#[test]
fn comments_order_and_unknown_keys_survive() {
    let text =
        "# top\n\n# the name\nname = \"box\" # short\n\n# how far\nlan = \"always\"   # home\nfuture = 1\n# end\n";
    with_file(text, |path| {
        let mut config = ConfigFile::load(path).unwrap();
        assert_eq!(config.warnings().len(), 1);
        assert!(config.warnings()[0].contains("\"future\""));
        config.set("lan", Some("never")).unwrap();
        let changed = text.replace("\"always\"   # home", "\"never\"   # home");
        assert_eq!(std::fs::read_to_string(path).unwrap(), changed);
        config.set("lan", None).unwrap();
        let reset = std::fs::read_to_string(path).unwrap();
        for kept in ["# top", "# the name", "# short", "# how far", "# home", "future = 1", "# end"] {
            assert!(reset.contains(kept), "{kept} is lost:\n{reset}");
        }
        assert!(!reset.contains("lan ="), "{reset}");
        assert_eq!(ConfigFile::load(path).unwrap().settings().lan, Lan::Always);
    });
}

#[test]
fn a_file_edited_by_hand_is_read_before_it_is_written() {
    with_file("", |path| {
        let mut config = ConfigFile::load(path).unwrap();
        std::fs::write(path, "name = \"hand\" # mine\n").unwrap();
        config.set("watch", Some("false")).unwrap();
        assert_eq!(config.settings().name, "hand");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "name = \"hand\" # mine\nwatch = false\n");
    });
}

#[test]
fn a_wrong_file_is_refused_in_words() {
    let rows = [
        ("lan = \"nver\"\n", "lan must be always or never"),
        ("lan = 1.5\n", "lan must be a text"),
        ("listen = [1]\n", "listen must be a list"),
        ("schedule = [\"mon pause; tue pause\"]\n", "texts without ';'"),
        ("schedule = [\"mon\"]\n", "schedule has a rule that makes no sense"),
        ("watch = maybe\n", "not valid TOML"),
        ("a = 1\na = 2\n", "not valid TOML"),
    ];
    for (text, words) in rows {
        with_file(text, |path| {
            let error = format!("{:#}", ConfigFile::load(path).unwrap_err());
            assert!(error.contains(words) && error.contains("config.toml"), "{text}: {error}");
        });
    }
    with_file("lan = \"nver\"\n", |path| {
        let mut config = ConfigFile { path: path.to_owned(), settings: Settings::default(), warnings: Vec::new() };
        assert!(config.set("watch", Some("true")).unwrap_err().error.contains("lan must be"));
        config.set("lan", Some("never")).expect("setting the wrong key right repairs the file");
    });
}

#[test]
fn a_linked_file_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
    std::fs::write(&real, "# here\n").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    ConfigFile::load(&link).unwrap().set("watch", Some("false")).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = std::fs::read_to_string(&real).unwrap();
    assert!(text.contains("# here") && text.contains("watch = false"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temp stays behind");
}

fn folder(root: &[u8]) -> FolderConfig {
    use std::os::unix::ffi::OsStrExt;
    FolderConfig::new(FolderId([7; 16]), "photos", Path::new(OsStr::from_bytes(root)), [0xab; 16])
}

#[test]
fn folders_survive_their_file() {
    let mut full = folder(b"/home/me/photos");
    full.mode = api::FolderMode::ReceiveOnly;
    full.paused = true;
    full.links = Links::Inside;
    full.mass_delete_guard = Some(false);
    full.watch = Some(false);
    full.scan_interval_s = Some(60);
    full.versions_days = Some(1);
    full.versions_max = Some(VersionsMax::Bytes(5));
    for (name, folder) in [("plain", folder(b"/a b/\xc3\xbc")), ("bytes", folder(b"/a/\xff")), ("full", full)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{}.toml", folder.id));
        folder.save(&path).unwrap();
        assert_eq!(FolderConfig::load(&path).unwrap(), (folder.clone(), Vec::new()), "{name}");
        assert_eq!(load_folders(dir.path()).unwrap(), [(folder, Vec::new())], "{name}");
    }
}

#[test]
fn folder_settings_fall_back_to_the_global_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    let settings = Settings { scan_interval_s: 99, ..Settings::default() };
    let mut folder = folder(b"/a");
    folder.save(&path).unwrap();
    assert_eq!(folder.effective(&settings).scan_interval_s, 99);
    let set = folder.set(&path, "mass_delete_guard", "off", &settings).unwrap();
    assert_eq!((set.value.as_str(), set.default.as_str()), ("off", "on"));
    assert_eq!(folder.overrides().into_iter().collect::<Vec<_>>(), [("mass_delete_guard".into(), "off".into())]);
    assert!(!folder.effective(&settings).mass_delete_guard);
    let set = folder.set(&path, "mass_delete_guard", "default", &settings).unwrap();
    assert_eq!(set.value, "on");
    assert!(!std::fs::read_to_string(&path).unwrap().contains("guard"));
    folder.set(&path, "name", "pictures", &settings).unwrap();
    assert_eq!(FolderConfig::load(&path).unwrap().0, folder);
    for (key, value) in [("id", "x"), ("path", "/b"), ("marker", "00"), ("mode", "both"), ("devices", "all")] {
        assert!(folder.set(&path, key, value, &settings).is_err(), "{key}");
    }
}

#[test]
fn a_folder_that_was_limited_in_its_file_rests_until_that_is_said_in_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    folder(b"/a").save(&path).unwrap();
    let plain = std::fs::read_to_string(&path).unwrap();
    for (line, rests) in [("devices = \"all\"\n", false), ("devices = []\n", true), ("devices = [\"sd1x\"]\n", true)] {
        std::fs::write(&path, format!("{line}{plain}")).unwrap();
        let (read, warnings) = FolderConfig::load(&path).unwrap();
        assert_eq!((read.paused, warnings.concat().contains("folder share")), (rests, rests), "{line}");
    }
}

#[test]
fn comments_in_a_folder_file_survive_and_a_broken_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    let folder = folder(b"/a");
    folder.save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# the good one\n{text}extra = 1\n")).unwrap();
    let (mut read, warnings) = FolderConfig::load(&path).unwrap();
    assert_eq!(warnings.len(), 1);
    read.set(&path, "watch", "false", &Settings::default()).unwrap();
    let after = std::fs::read_to_string(&path).unwrap();
    assert!(after.starts_with("# the good one\n") && after.contains("extra = 1"), "{after}");
    for (broken, words) in [
        (text.replace("marker", "marken"), "marker is missing"),
        (text.replace("\"/a\"", "\"a\""), "path must be absolute"),
        (text.replace("abab", "xx"), "32 hexadecimal"),
        (text.replace("sf1", "sf2"), "id is wrong"),
    ] {
        std::fs::write(&path, broken).unwrap();
        let error = format!("{:#}", FolderConfig::load(&path).unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}
