//! What a host is made of: its addresses, its link, its numbers.

use millrace_base::Address;
use millrace_stack::TcpTunables;

/// The host that the sockets live on: one link, with everything else behind one neighbour.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Our addresses and the lengths of their subnets (0..=32, 0..=128). At most 16.
    pub addresses: Vec<(Address, u8)>,
    /// Bytes of the largest IP packet that leaves.
    pub mtu: u16,
    /// The name of the link, for `SO_BINDTODEVICE`. At most 15 bytes.
    pub device: String,
    /// The first descriptor number: 3 for a program of its own, 10,000 beside the kernel's.
    pub fd_first: i32,
    /// Descriptors that may be open at once (`RLIMIT_NOFILE`); beyond it, `EMFILE`.
    pub fds_max: usize,
    /// Connections the stack has room for.
    pub connections_max: usize,
    /// Packet buffers: payload that is queued on all sockets.
    pub buffers_max: usize,
    /// What sequence numbers, ports and hashes are derived from. The same secret and the same calls
    /// give the same packets.
    pub secret: [u8; 32],
    /// The knobs of TCP at the start; `Sockets::set_sysctl` changes them.
    pub tcp: TcpTunables,
}

impl Default for HostConfig {
    /// No address, an Ethernet's MTU, room for a thousand connections, Linux's defaults.
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            mtu: 1_500,
            device: "eth0".to_owned(),
            fd_first: 3,
            fds_max: 1_024,
            connections_max: 1_024,
            buffers_max: 65_536,
            secret: [0x5a; 32],
            tcp: TcpTunables::default(),
        }
    }
}
