//! The decisions: what a local change means (`observe`), what a remote entry means (`reconcile`),
//! what to do about it (`plan`), and when (`engine`). Pure: rows in, effects out.

pub mod conflict_name;
pub mod decide;
pub mod engine;
pub mod local;
pub mod observe;
pub mod plan;
pub mod reconcile;

pub use local::{
    Change, Cursor, Decline, DeclineCode, Disk, Fingerprint, FolderState, Have, Held, History, Installing, Journal,
    Kind, LocalRow, Observation, Observed, Rows, Totals, Want,
};
pub use plan::{Action, ActionId, Outcome, Problem, ProblemCode, Step};
