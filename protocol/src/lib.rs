//! Everything two devices must agree on: the nouns (`model`), the decisions (`sync`) and the words (`wire`).
//! Pure: no clock, file, socket, thread or async runtime. Time, randomness and rows come in as arguments.
#![forbid(unsafe_code)]

pub mod limits;
pub mod model;
pub mod sync;
pub mod wire;
