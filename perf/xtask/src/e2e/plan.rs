//! Addresses, names and services of the test network, in one place.
//!
//! ```text
//!  client namespace            lb namespace                servers namespace
//!  c0 10.8.0.1     ── wire ──  d0 (Millrace: 10.8.0.10)
//!     fd00:8::1                   VIPs 10.8.0.100 fd00:8::100
//!                              d1 (Millrace: 10.9.0.10) ── wire ── s0 10.9.0.2 .3
//!                                             fd00:9::10              fd00:9::2 ::3
//! ```
//! `d0` and `d1` carry no address when Millrace is there: it answers ARP and ND itself, under MAC
//! addresses that are not the interfaces' own, so that the kernel beneath ignores its frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The virtual address clients know, IPv4.
pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 100);
/// The virtual address clients know, IPv6.
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 0x100);

/// Network part of the client's side, with our own address on it.
pub(crate) const FRONT: Side = Side {
    port: "front",
    interface: "d0",
    peer_interface: "c0",
    mac: "02:4d:52:00:01:0a",
    peer_mac: "02:4d:52:00:01:01",
    address4: "10.8.0.10/24",
    address6: "fd00:8::10/64",
    peer_addresses: &["10.8.0.1/24", "fd00:8::1/64"],
    subnets: ["10.8.0.0/24", "fd00:8::/64"],
    gateway4: "10.8.0.10",
    gateway6: "fd00:8::10",
};
/// The same for the servers' side.
pub(crate) const BACK: Side = Side {
    port: "back",
    interface: "d1",
    peer_interface: "s0",
    mac: "02:4d:52:00:02:0a",
    peer_mac: "02:4d:52:00:02:01",
    address4: "10.9.0.10/24",
    address6: "fd00:9::10/64",
    peer_addresses: &["10.9.0.2/24", "10.9.0.3/24", "fd00:9::2/64", "fd00:9::3/64"],
    subnets: ["10.9.0.0/24", "fd00:9::/64"],
    gateway4: "10.9.0.10",
    gateway6: "fd00:9::10",
};

/// One side of the load balancer: its port and the kernel peer on the other end of the wire.
pub(crate) struct Side {
    /// The port's name in the configuration.
    pub(crate) port: &'static str,
    /// The kernel interface in the lb namespace that the device uses.
    pub(crate) interface: &'static str,
    /// The peer's end.
    pub(crate) peer_interface: &'static str,
    /// The MAC address Millrace uses: not that of `interface`.
    pub(crate) mac: &'static str,
    /// The peer's MAC address.
    pub(crate) peer_mac: &'static str,
    /// Our own addresses with their prefix lengths.
    pub(crate) address4: &'static str,
    pub(crate) address6: &'static str,
    /// The peer's addresses with their prefix lengths.
    pub(crate) peer_addresses: &'static [&'static str],
    /// What is on this wire.
    pub(crate) subnets: [&'static str; 2],
    /// Our addresses again, without prefix length.
    pub(crate) gateway4: &'static str,
    pub(crate) gateway6: &'static str,
}

/// The first and the second server, IPv4 then IPv6.
pub(crate) const SERVERS4: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3)),
];
/// The same two servers by their IPv6 addresses.
pub(crate) const SERVERS6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 3)),
];

/// Web servers listen here; so do the listeners before them.
pub(crate) const WEB_PORT: u16 = 80;
/// iperf3's own port.
pub(crate) const IPERF_PORT: u16 = 5201;
/// The peer that answers after the client's FIN.
pub(crate) const HALF_CLOSE_PORT: u16 = 9000;

/// One pool with its two listeners, one on each VIP.
#[derive(Clone)]
pub(crate) struct Service {
    /// Base name of the pools and listeners.
    pub(crate) name: &'static str,
    /// Port of the listeners and of the servers.
    pub(crate) port: u16,
    /// How many of the two servers belong to it.
    pub(crate) servers: usize,
    /// Milliseconds between two health checks of one server; `None` = no checks, always up.
    pub(crate) health_interval_ms: Option<u32>,
}

/// The services most cases need.
pub(crate) fn services() -> Vec<Service> {
    vec![
        Service {
            name: "web",
            port: WEB_PORT,
            servers: 2,
            health_interval_ms: Some(500),
        },
        // iperf3 serves one test at a time, and a stray connection during a test ends it: no checks.
        Service {
            name: "iperf",
            port: IPERF_PORT,
            servers: 1,
            health_interval_ms: None,
        },
        Service {
            name: "half-close",
            port: HALF_CLOSE_PORT,
            servers: 1,
            health_interval_ms: Some(1_000),
        },
    ]
}

/// An URL on a VIP.
pub(crate) fn url(vip: IpAddr, path: &str) -> String {
    format!("http://{}/{path}", SocketAddr::new(vip, WEB_PORT)).replacen(":80/", "/", 1)
}

/// Whether answers of two servers show round robin by `lcores` lcores, each with turns of its own.
pub(crate) fn takes_turns(answers: &[String], lcores: usize) -> bool {
    if lcores == 1 {
        return answers.windows(2).all(|pair| pair[0] != pair[1]);
    }
    let first = answers.iter().filter(|name| *name == "a").count();
    let second = answers.iter().filter(|name| *name == "b").count();
    first + second == answers.len() && first.abs_diff(second) <= lcores
}

/// Both VIPs, for cases that must hold on both families.
pub(crate) const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];

/// The servers of one family.
pub(crate) fn servers_of(vip: IpAddr) -> [IpAddr; 2] {
    if vip.is_ipv4() { SERVERS4 } else { SERVERS6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lcore_must_alternate_and_several_must_be_fair() {
        let answers = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert!(takes_turns(&answers("ababab"), 1));
        assert!(!takes_turns(&answers("abbaab"), 1));
        assert!(takes_turns(&answers("abbaab"), 2));
        assert!(!takes_turns(&answers("aaaaab"), 2));
        assert!(!takes_turns(&answers("abcabc"), 3), "a stranger answered");
    }

    #[test]
    fn urls_keep_the_brackets_of_an_ipv6_address() {
        assert_eq!(url(IpAddr::V4(VIP4), "who"), "http://10.8.0.100/who");
        assert_eq!(url(IpAddr::V6(VIP6), "who"), "http://[fd00:8::100]/who");
    }
}
