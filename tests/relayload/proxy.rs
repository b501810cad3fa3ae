//! A plain TCP proxy, as little as it can be: what a splice is measured against.

use std::net::SocketAddr;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// As much as a splice holds for either direction.
const BUFFER_LEN: usize = 64 * 1024;

/// Prints where it listens, and leads every connection to `target`; never ends.
pub async fn run(target: &str) {
    let target: SocketAddr = target.parse().expect("an address");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    println!("{}", listener.local_addr().expect("it has an address"));
    loop {
        let (mut from, _) = listener.accept().await.expect("a connection");
        tokio::spawn(async move {
            let mut to = TcpStream::connect(target).await.expect("the target listens");
            // It is over when one of them is gone.
            let _ = copy_bidirectional_with_sizes(&mut from, &mut to, BUFFER_LEN, BUFFER_LEN).await;
        });
    }
}
