//! One host: a stack, its buffers and its card.

use std::collections::VecDeque;

use millrace_base::{HeapPool, Instant, MacAddress, PacketBuf, PortId};
use millrace_stack::{Interface, Offloads, Prefixed, Stack, StackConfig, TcpTunables};

/// The only port of every host.
pub(crate) const PORT: PortId = PortId::new(0);

pub(crate) struct Node {
    pub(crate) stack: Stack<HeapPool>,
    pub(crate) pool: HeapPool,
    pub(crate) mac: MacAddress,
    host: u8,
}

impl Node {
    pub(crate) fn new(host: u8, seed: u64) -> Self {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        let config = StackConfig {
            connections_max: 4_096,
            syn_queue_max: 1_024,
            time_wait_max: 4_096,
            chunks_max: 65_536,
            neighbors_max: 64,
            secret,
            tcp: TcpTunables::default(),
        };
        Self {
            stack: Stack::new(config),
            pool: HeapPool::new(65_536, 2_048),
            mac: MacAddress::new([2, 0, 0, 0, 0, host]),
            host,
        }
    }

    /// Gives a client or a server its own addresses; the balancer gets them from the tables.
    pub(crate) fn configure_host(&mut self, now: Instant) {
        let addresses = [false, true].map(|v6| Prefixed {
            address: super::address(self.host, v6),
            prefix_len: if v6 { 64 } else { 24 },
        });
        let interface = Interface {
            port: PORT,
            mac: self.mac,
            mtu: 1_500,
            addresses: addresses.into_iter().collect(),
            offloads: Offloads::default(),
        };
        self.stack.set_interfaces(now, &[interface]);
    }

    /// A frame arrives.
    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let frame = self.pool.receive(bytes).expect("a buffer");
        let punt = self.stack.handle(now, PORT, frame, &mut self.pool);
        assert!(punt.is_none(), "nobody here speaks anything but TCP");
    }

    /// Takes all frames that want to leave.
    pub(crate) fn collect(&mut self, now: Instant, frames: &mut VecDeque<Vec<u8>>) {
        while let Some(transmit) = self.stack.poll_transmit(now, &mut self.pool) {
            frames.push_back(transmit.frame.to_vec());
            assert_eq!(
                transmit.frame.frame_len(),
                frames.back().map_or(0, Vec::len)
            );
        }
    }
}
