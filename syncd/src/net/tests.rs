//! Nets of one process over loopback.
