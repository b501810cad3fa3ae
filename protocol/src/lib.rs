//! Everything two devices must agree on: the nouns (`model`), the decisions (`sync`), the words (`wire`) and who
//! belongs together (`realm`).
//! Pure: no clock, file, socket, thread or async runtime. Time, randomness and rows come in as arguments.
#![forbid(unsafe_code)]

pub mod limits;
pub mod model;
pub mod realm;
pub mod sync;
pub mod wire;
