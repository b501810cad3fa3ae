//! What a network, a relay and a log give away, measured: real daemons, whole captures, and counts of what must not be
//! in them. Each measure is shown to be able to fail, on bytes made for that or on traffic that the test sends itself.

mod caller;
mod frames;
mod lab;
mod linkable;
mod logs;
mod memory;
mod openings;
mod quiet;
mod random;
mod recorder;
mod relay;
mod uniform;
mod windows;
