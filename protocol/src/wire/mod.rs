//! The words: what two devices say to each other, byte by byte. Imports the nouns, never the decisions.

pub mod backup;
pub mod beacon;
pub mod control;
pub mod data;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod invite;
pub mod kdf;
pub mod knock;
pub mod message;
mod noise;
pub mod pair;
pub mod pairing;
pub mod relay;
pub mod rendezvous;
