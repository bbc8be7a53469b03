//! Free ports, and names that no one else has.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// A port of `127.0.0.1` that nobody listens on just now. Another process may still take it first: callers retry.
pub(crate) fn free() -> Result<u16, String> {
    // Ports below the range of outgoing connections first. A server that is stopped and started again must find its
    // port free; and a client that keeps knocking at a stopped server's port within that range can be given the very
    // same port for its own end, and is then connected to itself.
    let lowest_outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768_u16);
    let lowest = 15_000;
    if lowest_outgoing > lowest + 1_000 {
        for _ in 0..100 {
            let offset = u16::try_from(random() % u64::from(lowest_outgoing - lowest)).unwrap_or_default();
            let port = lowest + offset;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| format!("no free port on 127.0.0.1: {e}"))
}

/// A number that another process or thread will not draw too.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
