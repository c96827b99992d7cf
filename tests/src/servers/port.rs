//! Ports for processes that are told where to listen.

use std::net::{Ipv4Addr, TcpListener};

use rand::Rng as _;

/// A port of the loopback interface that nobody uses, below those that the kernel hands out by itself: none of our own
/// connections can take it meanwhile.
///
/// # Panics
/// When a thousand ports are taken.
#[must_use]
pub fn free_port() -> u16 {
    (0..1000)
        .map(|_| rand::rng().random_range(10_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a port is free")
}
