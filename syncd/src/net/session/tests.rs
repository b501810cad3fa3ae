//! Requests, data and endings over a real pair of sockets are tested in `net::tests`.
