//! Ports for processes that are given the port to listen on.

use std::net::{Ipv4Addr, TcpListener};

use rand::Rng as _;

/// A free port of the loopback interface, below the range from which the kernel assigns ports. So none of our own
/// connections can take it before the process listens.
///
/// # Panics
/// When a thousand random ports are all in use.
#[must_use]
pub fn free_port() -> u16 {
    (0..1000)
        .map(|_| rand::rng().random_range(10_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a port is free")
}
