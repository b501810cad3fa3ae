//! The realm: which devices belong to one person, as a list that they sign for each other (the roster).
//!
//! A roster is a set of signed [`Link`]s that only grows. Each names the links that its author knew (its parents), so
//! the set is a graph like that of commits, and putting two rosters together is their union. Everything else, members,
//! roles, names, the current epoch, is a pure function of the set ([`Roster::resolve`]): devices that hold the same
//! links agree, however these came.
//!
//! Invariant: what a set of links shows as removed, no larger set shows as a member. A link of a removed device has an
//! effect only if the removal's author knew it: what a thief signs later, or dates back, changes nothing else.
//! No clock, randomness or IO; times are told and never decide.

mod author;
mod judge;
mod link;
mod past;
mod recovery;
mod roster;
mod sharing;
#[cfg(test)]
mod tests;
mod view;

pub use author::{Author, Denied, Newcomer};
pub use link::{Commit, DeviceName, Generation, Genesis, Link, Malformed, NameError, Op, Role, Signer, Whom};
pub use recovery::{RecoveryCode, RecoveryError};
pub use roster::{Inserted, Refused, Roster, RosterHash};
pub use sharing::Access;
pub use view::{Epoch, Member, Realm};
