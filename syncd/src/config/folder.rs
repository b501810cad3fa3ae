//! `folders/<id>.toml`: one synced folder as this device has it. Settings it leaves out are those of `config.toml`.

use super::keys::{self, Key, Kind, VersionsMax};
use super::{SCAN_INTERVAL_S, Settings, VERSIONS_DAYS, document};
use anyhow::{Result, bail};
use protocol::model::FolderId;
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, ErrorCode, FolderMode, PathText};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Which symbolic links are taken from peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// All: a link is only text, and is never followed.
    #[default]
    All,
    /// Those that stay inside the folder.
    Inside,
}

/// One folder. `None` in a setting: as in `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderConfig {
    /// The same on all devices.
    pub id: FolderId,
    /// Its name here.
    pub name: String,
    /// Where it is, absolute.
    pub root: PathBuf,
    /// Which way changes go.
    pub mode: FolderMode,
    /// Whether a person paused it.
    pub paused: bool,
    /// What `.syncd/marker` must hold, so that another disk at the same place is noticed.
    pub marker: [u8; 16],
    /// The directory that was found at the root last, so that another one is noticed even where it has the marker.
    pub known_root: Option<String>,
    /// Which links are taken.
    pub links: Links,
    /// Hold back mass changes.
    pub mass_delete_guard: Option<bool>,
    /// Use file system events.
    pub watch: Option<bool>,
    /// Seconds between full scans.
    pub scan_interval_s: Option<u64>,
    /// Days that versions are kept.
    pub versions_days: Option<u64>,
    /// Space that versions may take.
    pub versions_max: Option<VersionsMax>,
}

/// What holds for a folder after `config.toml` filled the gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Hold back mass changes.
    pub mass_delete_guard: bool,
    /// Use file system events.
    pub watch: bool,
    /// Seconds between full scans.
    pub scan_interval_s: u64,
    /// Days that versions are kept.
    pub versions_days: u64,
    /// Space that versions may take.
    pub versions_max: VersionsMax,
}

const NO_ID: FolderId = FolderId([0; 16]);

type Own = Key<FolderConfig>;

const KEYS: [Own; 14] = [
    Own::new(
        "id",
        Kind::Text,
        "the folder's id",
        |f| Some(f.id.to_string()),
        |f, text| {
            f.id = text.parse().map_err(|why| format!("is wrong: {why}"))?;
            Ok(())
        },
    )
    .fixed(),
    Own::new(
        "name",
        Kind::Text,
        "its name here",
        |f| Some(f.name.clone()),
        |f, text| {
            f.name = keys::name(text)?;
            Ok(())
        },
    ),
    Own::new(
        "path",
        Kind::Text,
        "where it is",
        |f| Some(f.root_text().text().to_owned()),
        |f, text| {
            f.root = PathBuf::from(text);
            Ok(())
        },
    )
    .fixed(),
    Own::new(
        "path_bytes",
        Kind::Text,
        "the same in hexadecimal, when it is no UTF-8",
        FolderConfig::root_hex,
        |f, text| {
            f.root = root_from_hex(text)?;
            Ok(())
        },
    )
    .fixed(),
    Own::new(
        "marker",
        Kind::Text,
        "what .syncd/marker must hold",
        |f| Some(hex(&f.marker)),
        |f, text| {
            f.marker = u128::from_str_radix(text, 16)
                .ok()
                .filter(|_| text.len() == 32)
                .ok_or("must be 32 hexadecimal digits")?
                .to_be_bytes();
            Ok(())
        },
    )
    .fixed(),
    Own::new(
        "known_root",
        Kind::Text,
        "file system and inode of the directory that was found at the root last",
        |f| f.known_root.clone(),
        |f, text| {
            f.known_root = Some(text.trim().to_owned());
            Ok(())
        },
    )
    .fixed(),
    Own::new(
        "mode",
        Kind::Text,
        "send-receive, send-only or receive-only",
        |f| Some(f.mode.word().to_owned()),
        |f, text| {
            f.mode = FolderMode::from_word(text.trim()).ok_or("must be send-receive, send-only or receive-only")?;
            Ok(())
        },
    ),
    Own::new(
        "paused",
        Kind::Switch,
        "whether it is paused",
        |f| Some(f.paused.to_string()),
        |f, text| {
            f.paused = keys::switch(text)?;
            Ok(())
        },
    )
    .fixed(),
    Own::new(
        "links",
        Kind::Text,
        "all, or inside: no links that lead out of the folder",
        |f| Some(if f.links == Links::All { "all" } else { "inside" }.to_owned()),
        |f, text| {
            f.links = match text.trim() {
                "all" | "default" => Links::All,
                "inside" => Links::Inside,
                _ => return Err("must be all or inside".to_owned()),
            };
            Ok(())
        },
    ),
    Own::new(
        "mass_delete_guard",
        Kind::Text,
        "on or off: hold back mass changes until a person approves",
        |f| f.mass_delete_guard.map(keys::on_off_word),
        |f, text| {
            f.mass_delete_guard = keys::or_default(text, keys::on_off)?;
            Ok(())
        },
    ),
    Own::new(
        "watch",
        Kind::Switch,
        "true or false: notice changes at once",
        |f| f.watch.map(|on| on.to_string()),
        |f, text| {
            f.watch = keys::or_default(text, keys::switch)?;
            Ok(())
        },
    ),
    Own::new(
        "scan_interval_s",
        Kind::Number,
        "seconds between full scans",
        |f| f.scan_interval_s.map(|seconds| seconds.to_string()),
        |f, text| {
            f.scan_interval_s = keys::or_default(text, |text| keys::number(text, SCAN_INTERVAL_S))?;
            Ok(())
        },
    ),
    Own::new(
        "versions_days",
        Kind::Number,
        "days that replaced and deleted files are kept",
        |f| f.versions_days.map(|days| days.to_string()),
        |f, text| {
            f.versions_days = keys::or_default(text, |text| keys::number(text, VERSIONS_DAYS))?;
            Ok(())
        },
    ),
    Own::new(
        "versions_max",
        Kind::Text,
        "space that kept files may take",
        |f| f.versions_max.map(|max| max.to_string()),
        |f, text| {
            f.versions_max = keys::or_default(text, str::parse)?;
            Ok(())
        },
    ),
];

/// Keys that are listed only where they differ from `config.toml` or from what every folder starts with.
const OVERRIDES: [&str; 6] =
    ["links", "mass_delete_guard", "watch", "scan_interval_s", "versions_days", "versions_max"];

impl FolderConfig {
    /// A folder with default settings.
    #[must_use]
    pub fn new(id: FolderId, name: &str, root: &Path, marker: [u8; 16]) -> Self {
        Self {
            id,
            name: name.to_owned(),
            root: root.to_owned(),
            mode: FolderMode::SendReceive,
            paused: false,
            marker,
            known_root: None,
            links: Links::All,
            mass_delete_guard: None,
            watch: None,
            scan_interval_s: None,
            versions_days: None,
            versions_max: None,
        }
    }

    /// Reads one file; with it come warnings about unknown keys.
    ///
    /// # Errors
    /// It cannot be read, a value makes no sense, or id, name, path or marker is missing.
    pub fn load(path: &Path) -> Result<(Self, Vec<String>)> {
        let document = document::read(path)?;
        for needed in ["id", "name", "path", "marker"] {
            if !document.contains_key(needed) {
                bail!("{}: {needed} is missing", path.display());
            }
        }
        let mut folder = Self::new(NO_ID, "", Path::new(""), [0; 16]);
        let mut warnings = document::load(&document, &KEYS, path, &mut folder)?;
        // Who is in a folder was once said here, and has to be said in the realm's list: until then nobody else gets it.
        if document.get("devices").is_some_and(|devices| devices.as_str() != Some("all")) {
            folder.paused = true;
            warnings.push(format!(
                "{}: devices is no longer a setting, so the folder is paused: `syncctl folder share {} DEVICE --only` says who is \
                 in it; then remove the line and `syncctl folder resume` it",
                path.display(),
                folder.name
            ));
        }
        if document.contains_key("path_bytes") {
            let text = document["path_bytes"].as_str().unwrap_or_default();
            folder.root = root_from_hex(text).map_err(|why| anyhow::anyhow!("{}: path_bytes {why}", path.display()))?;
        }
        if !folder.root.is_absolute() {
            bail!("{}: path must be absolute", path.display());
        }
        Ok((folder, warnings))
    }

    /// Writes the file (`Home::folder`); comments and unknown keys in an existing one stay.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut document = document::read(path)?;
        for key in &KEYS {
            document::put(&mut document, key.name, key.kind, (key.get)(self).as_deref());
        }
        document::write(path, &document)
    }

    /// Changes one setting, here and in the file.
    ///
    /// # Errors
    /// There is no such key, the value makes no sense (`BadRequest`), or the file cannot be written (`Io`). Nothing
    /// has changed then.
    pub fn set(
        &mut self,
        path: &Path,
        key: &str,
        value: &str,
        settings: &Settings,
    ) -> Result<api::Setting, ControlError> {
        let key = super::find(&KEYS, key)?;
        let mut changed = self.clone();
        (key.parse)(&mut changed, value).map_err(|why| ControlError::bad_request(format!("{} {why}", key.name)))?;
        changed.save(path).map_err(|error| ControlError::new(ErrorCode::Io, format!("{error:#}")))?;
        *self = changed;
        Ok(super::setting(key, self, self.default_of(key.name, settings)))
    }

    /// Settings of its own, as `folder set` takes them, for `FolderStatus::settings`.
    #[must_use]
    pub fn overrides(&self) -> BTreeMap<String, String> {
        KEYS.iter()
            .filter(|key| OVERRIDES.contains(&key.name) && !(key.name == "links" && self.links == Links::All))
            .filter_map(|key| Some((key.name.to_owned(), (key.get)(self)?)))
            .collect()
    }

    /// What holds, with `config.toml` filling the gaps.
    #[must_use]
    pub fn effective(&self, settings: &Settings) -> Effective {
        Effective {
            mass_delete_guard: self.mass_delete_guard.unwrap_or(settings.mass_delete_guard),
            watch: self.watch.unwrap_or(settings.watch),
            scan_interval_s: self.scan_interval_s.unwrap_or(settings.scan_interval_s),
            versions_days: self.versions_days.unwrap_or(settings.versions_days),
            versions_max: self.versions_max.unwrap_or(settings.versions_max),
        }
    }

    /// The root as JSON has it.
    #[must_use]
    pub fn root_text(&self) -> PathText {
        PathText::new(self.root.as_os_str().as_bytes())
    }

    fn root_hex(&self) -> Option<String> {
        self.root.to_str().is_none().then(|| hex(self.root.as_os_str().as_bytes()))
    }

    fn default_of(&self, key: &str, settings: &Settings) -> String {
        let plain = Self::new(self.id, &self.name, &self.root, self.marker);
        if OVERRIDES.contains(&key)
            && let Some(global) = super::KEYS.iter().find(|global| global.name == key)
        {
            return (global.get)(settings).unwrap_or_default();
        }
        KEYS.iter().find(|own| own.name == key).and_then(|own| (own.get)(&plain)).unwrap_or_default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn root_from_hex(text: &str) -> Result<PathBuf, String> {
    let wrong = "must be hexadecimal";
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong.to_owned());
    }
    let bytes: Result<Vec<u8>, _> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16)).collect();
    Ok(PathBuf::from(OsString::from_vec(bytes.map_err(|_| wrong)?)))
}
