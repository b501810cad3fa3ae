//! The local control API in types: what `syncctl` and the page say to the daemon over its Unix socket, as JSON.
//! Only shapes, no transport. Keys are stable: scripts read them through `--json`. Conventions: `*_ms` are Unix
//! milliseconds (`waited_ms`, `rtt_ms`: a duration), `*_s` seconds, `*_bps` bytes per second, sizes bytes. Absent optional
//! values are left out. A reader ignores keys it does not know.
//!
//! Routes, all below `/v1`; a refused request answers 4xx or 5xx with a `ControlError`:
//!
//! | route | request | reply |
//! |---|---|---|
//! | `GET ping` | | `Ping` |
//! | `GET identity`, `PUT identity` | `SetIdentity` | `Identity` |
//! | `GET status` | | `Status` |
//! | `POST stop` | | `Done` |
//! | `GET devices` | | `Devices` |
//! | `POST devices/rename` | `DeviceRename` | `Done` |
//! | `POST devices/address` | `DeviceAddress` | `Done` |
//! | `POST devices/limit` | `DeviceLimit` | `Done` |
//! | `POST devices/pause`, `resume` | `DeviceRef` | `Done` |
//! | `POST devices/remove` | `DeviceRemove` | `Done` |
//! | `POST devices/role` | `DeviceSetRole` | `Done` |
//! | `GET net` | | `NetStatus` |
//! | `GET realm` | | `RealmStatus` |
//! | `POST realm/leave` | | `Done` |
//! | `GET folders` | | `Folders` |
//! | `GET folders/offers` | | `Offers` |
//! | `POST folders/add` | `FolderAdd` | `FolderStatus` |
//! | `POST folders/join` | `FolderJoin` | `FolderStatus` |
//! | `POST folders/preview` | `FolderJoin` | `JoinPreview` |
//! | `POST folders/pause`, `resume`, `rescan`, `approve`, `reject`, `override`, `revert`, `remove` | `FolderRef` | `Done` |
//! | `POST folders/share` | `FolderShare` | `Done` |
//! | `POST folders/set` | `FolderSet` | `Setting` |
//! | `POST pairing/show` | `PairShow` | stream of `PairingEvent` |
//! | `POST pairing/join` | `PairJoin` | stream of `PairingEvent` |
//! | `POST pairing/answer` | `PairAnswer` | `Done` |
//! | `POST wait` | `Wait` | `Waited` |
//! | `POST versions` | `FileRef` | `Versions` |
//! | `POST restore` | `Restore` | `Restored` |
//! | `POST log` | `LogQuery` | `Log` |
//! | `POST ignore/test` | `FileRef` | `IgnoreVerdict` |
//! | `GET events?since=ID` | | `Events`: what is remembered |
//! | `GET events/stream?since=ID` | | stream of `Event`, what is remembered first |
//! | `GET config` | | `Config` |
//! | `PUT config` | `ConfigSet` | `Setting` |
//!
//! A stream is server-sent events: `data:` is the JSON, `event:` its tag, `id:` an event's id. A pairing lives as
//! long as its stream is read: hanging up voids the code. A device or folder is named by its name, its id, or an
//! unambiguous beginning of its id.

mod device;
mod error;
mod event;
mod file;
mod folder;
mod net;
mod pairing;
mod path;
mod realm;
mod status;
#[cfg(test)]
mod tests;

pub use device::{
    DeviceAction, DeviceAddress, DeviceFolder, DeviceLimit, DeviceRef, DeviceRemove, DeviceRename, DeviceRole,
    DeviceSetRole, DeviceStatus, Devices, RecoveryText, Via,
};
pub use error::{ControlError, ErrorCode};
pub use event::{Event, EventKind, Events};
pub use file::{
    Change, FileRef, FileVersion, IgnoreVerdict, Log, LogEntry, LogQuery, Restore, Restored, VersionKind, Versions,
};
pub use folder::{
    FolderAction, FolderAdd, FolderDevice, FolderJoin, FolderMode, FolderRef, FolderSet, FolderShare, FolderState,
    FolderStatus, Folders, Hold, HoldKind, JoinPreview, Offer, Offers, PreviewKind, PreviewPath,
};
pub use net::{NetDevice, NetPath, NetStatus, NetTried};
pub use pairing::{PairAnswer, PairJoin, PairShow, PairingEvent};
pub use path::PathText;
pub use realm::RealmStatus;
pub use status::{
    Config, ConfigSet, Counts, Done, Identity, Limits, Named, Ping, Problem, Progress, SetIdentity, Setting, Status,
    Wait, WaitReason, Waited,
};

/// The API's version: the first segment of every route is `v1`. It grows only when a reader would break.
pub const API_VERSION: u32 = 1;
/// Where the socket is below a daemon's home.
pub const SOCKET_PATH: &str = "run/control.sock";
/// Longest path that fits a socket address (`sun_path` without its NUL). Longer ones go through `/proc/self/fd`.
pub const SOCKET_PATH_LEN_MAX: usize = 107;
/// Largest request body, in bytes.
pub const REQUEST_LEN_MAX: usize = 256 * 1024;
/// Most items in one list of a reply (problems, preview paths); the reply says how many there are in all.
pub const LIST_LEN_MAX: usize = 1000;
