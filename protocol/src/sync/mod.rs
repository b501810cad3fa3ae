//! The decisions: what a local change means (`observe`), what a remote entry means (`reconcile`),
//! what to do about it (`plan`), and when (`engine`). Pure: rows in, effects out.

pub mod conflict_name;
pub mod local;
pub mod plan;

pub use local::{
    Change, Cursor, Decline, DeclineCode, Fingerprint, FolderState, Have, Held, Installing, Journal, Kind, LocalRow,
    Observation, Observed, Rows, Totals, Want,
};
pub use plan::{Action, ActionId, Outcome, Problem, ProblemCode, Step};
