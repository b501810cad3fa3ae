//! End-to-end tests: real `syncd` and `syncctl` processes in scratch homes on loopback, through the command line contract
//! alone. Names tell the story. Each test has devices, ports and files of its own, so that all may run at once.

mod apart;
mod backup;
mod chaos;
mod cli;
mod conflicts;
mod crash;
mod fidelity;
mod folders;
mod guard;
mod identity;
mod ignore;
mod index;
mod limits;
mod mitm;
mod modes;
mod pairing;
mod proxy;
mod realm;
mod relay;
mod roles;
mod scenarios;
mod sharing;
mod strangers;
mod sync;
mod trouble;
mod versions;
