//! The local API: HTTP/1.1 with JSON and server-sent events over a Unix socket that only this user can open.
//! It knows no folder and no device: each route becomes one `Request` to the task that owns everything, and the reply
//! comes back through a oneshot. Routes and JSON are in `protocol::wire::control`.
//!
//! Invariant: nothing here outlives its client. When a client hangs up, its reply channel closes, and a stream's
//! receiver is dropped, so that the owner can see (`Sender::closed`) that nobody waits any more.

mod events;
mod routes;
mod server;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

pub use events::{EventHub, NewEvent};
pub use server::Server;
pub use socket::AlreadyAnswered;

use protocol::wire::control as api;
use protocol::wire::control::ControlError;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the node; more callers wait in line.
pub const REQUESTS_QUEUED_MAX: usize = 64;

/// Where an answer goes. Dropping it tells the client that the daemon is stopping.
pub type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// What a client asks. The node answers each through its `reply`; a closed `reply` means that nobody waits any more.
#[derive(Debug)]
pub enum Request {
    /// The node's loop turns.
    Ping {
        /// The answer.
        reply: Reply<api::Ping>,
    },
    /// This device; renames it first when `name` is given.
    Identity {
        /// The new name.
        name: Option<String>,
        /// The answer.
        reply: Reply<api::Identity>,
    },
    /// Everything; lists of devices and folders are cut out of it.
    Status {
        /// The answer.
        reply: Reply<api::Status>,
    },
    /// Shut down cleanly. Reply first.
    Stop {
        /// The answer.
        reply: Reply<api::Done>,
    },
    /// Do something with a device.
    Device {
        /// Name, id or a beginning of the id.
        device: String,
        /// What.
        action: api::DeviceAction,
        /// The answer.
        reply: Reply<api::Done>,
    },
    /// How devices are reached.
    Net {
        /// The answer.
        reply: Reply<api::NetStatus>,
    },
    /// The realm that this device is in.
    Realm {
        /// The answer.
        reply: Reply<api::RealmStatus>,
    },
    /// Leave the realm and become another device. Reply first, then start anew.
    LeaveRealm {
        /// The answer.
        reply: Reply<api::Done>,
    },
    /// Folders that others offer and nobody joined here.
    Offers {
        /// The answer.
        reply: Reply<api::Offers>,
    },
    /// Start to sync a directory.
    FolderAdd {
        /// Which, how and with whom.
        add: api::FolderAdd,
        /// The answer.
        reply: Reply<api::FolderStatus>,
    },
    /// Take an offer.
    FolderJoin {
        /// Which and where.
        join: api::FolderJoin,
        /// The answer.
        reply: Reply<api::FolderStatus>,
    },
    /// Say what taking an offer would do.
    FolderPreview {
        /// Which and where.
        join: api::FolderJoin,
        /// The answer.
        reply: Reply<api::JoinPreview>,
    },
    /// Do something with a folder.
    Folder {
        /// Name, id or a beginning of the id.
        folder: String,
        /// What.
        action: api::FolderAction,
        /// The answer.
        reply: Reply<api::Done>,
    },
    /// Say which devices are in a folder.
    FolderShare {
        /// Which folder, and who.
        share: api::FolderShare,
        /// The answer.
        reply: Reply<api::Done>,
    },
    /// Change a setting of a folder.
    FolderSet {
        /// Which setting and its value.
        set: api::FolderSet,
        /// The setting as it is now.
        reply: Reply<api::Setting>,
    },
    /// Show a code. The stream opens with `Code` and ends with `Paired` or `Failed`; its closing voids the code.
    PairShow {
        /// How long.
        show: api::PairShow,
        /// The events; the node keeps the sender.
        reply: Reply<mpsc::Receiver<api::PairingEvent>>,
    },
    /// Pair with the device that shows a code. The stream opens with `Searching`.
    PairJoin {
        /// The code and where.
        join: api::PairJoin,
        /// The events; the node keeps the sender.
        reply: Reply<mpsc::Receiver<api::PairingEvent>>,
    },
    /// A person compared the check numbers.
    PairAnswer {
        /// Which pairing and the verdict.
        answer: api::PairAnswer,
        /// The answer.
        reply: Reply<api::Done>,
    },
    /// Wait until in sync. The node keeps `reply` until then, or until the time is over.
    Wait {
        /// Which folder and how long.
        wait: api::Wait,
        /// The answer: `in_sync` or the reasons why not.
        reply: Reply<api::Waited>,
    },
    /// Kept versions of a path.
    Versions {
        /// Absolute path.
        file: api::FileRef,
        /// The answer.
        reply: Reply<api::Versions>,
    },
    /// Bring a version back.
    Restore {
        /// Which.
        restore: api::Restore,
        /// The answer.
        reply: Reply<api::Restored>,
    },
    /// What changed.
    Log {
        /// Which part.
        query: api::LogQuery,
        /// The answer.
        reply: Reply<api::Log>,
    },
    /// Which line ignores a path.
    IgnoreTest {
        /// Absolute path.
        file: api::FileRef,
        /// The answer.
        reply: Reply<api::IgnoreVerdict>,
    },
    /// All settings.
    ConfigGet {
        /// The answer.
        reply: Reply<api::Config>,
    },
    /// Change one setting.
    ConfigSet {
        /// Which and its value.
        set: api::ConfigSet,
        /// The setting as it is now.
        reply: Reply<api::Setting>,
    },
}

/// How the server reaches the node: requests one way, events the other.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    events: EventHub,
}

impl Handle {
    /// A handle and the end that the node reads.
    #[must_use]
    pub fn new(events: EventHub) -> (Self, mpsc::Receiver<Request>) {
        let (requests, inbox) = mpsc::channel(REQUESTS_QUEUED_MAX);
        (Self { requests, events }, inbox)
    }

    /// The events that the node publishes.
    #[must_use]
    pub const fn events(&self) -> &EventHub {
        &self.events
    }

    /// Sends the request that `make` builds around a reply channel and waits for the answer.
    ///
    /// # Errors
    /// The node's refusal, or `Unavailable` when it is going down.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(make(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

fn stopping() -> ControlError {
    ControlError::new(api::ErrorCode::Unavailable, "the daemon is stopping")
}
