//! One host: a stack, its buffers and its address.

use millrace_base::{
    ChecksumStatus, HeapBuf, HeapPool, Instant, MacAddress, PacketBuf, PortId, RxMeta,
};
use millrace_stack::{Interface, NeighborUpdate, Offloads, Prefixed, Stack, StackConfig};
use millrace_stack::{ListenOptions, Listener, TcpTunables};

use crate::world::{SERVICE_PORT, address};

/// The only port of every host.
pub(crate) const PORT: PortId = PortId::new(0);

/// Buffers of a host: more than any path has under way.
const BUFFERS: usize = 8_192;

/// Every device checks and fills in checksums, as network cards do, and takes chains. What
/// checksums cost in software are paths of their own.
pub(crate) fn offloads() -> Offloads {
    Offloads {
        ip_checksum: true,
        tcp_checksum: true,
        segments_max: 8,
        ..Offloads::default()
    }
}

/// A stack and its buffers.
pub(crate) struct Host {
    pub(crate) stack: Stack<HeapPool>,
    pub(crate) pool: HeapPool,
    pub(crate) mac: MacAddress,
    number: u8,
}

impl Host {
    /// A host without addresses.
    pub(crate) fn new(number: u8) -> Self {
        let config = StackConfig {
            connections_max: 4_096,
            syn_queue_max: 256,
            time_wait_max: 1_024,
            chunks_max: 4_096,
            neighbors_max: 16,
            secret: [number; 32],
            tcp: TcpTunables::default(),
        };
        Self {
            stack: Stack::new(config),
            pool: HeapPool::new(BUFFERS, 2_176),
            mac: MacAddress::new([2, 0, 0, 0, 0, number]),
            number,
        }
    }

    /// Gives it its own address and lets it listen there; the balancer gets both from its tables.
    pub(crate) fn configure(&mut self, now: Instant) {
        let own = address(self.number);
        let prefix = Prefixed {
            address: own,
            prefix_len: 24,
        };
        let interface = Interface {
            port: PORT,
            mac: self.mac,
            mtu: 1_500,
            addresses: core::iter::once(prefix).collect(),
            offloads: offloads(),
        };
        self.stack.set_interfaces(now, &[interface]);
        self.stack.set_listeners(&[Listener {
            id: millrace_base::ListenerId::new(1),
            address: own,
            port_first: SERVICE_PORT,
            port_last: SERVICE_PORT,
            options: ListenOptions::default(),
        }]);
    }

    /// Tells it who has which address.
    pub(crate) fn meet(&mut self, now: Instant, host: u8, mac: MacAddress) {
        let update = NeighborUpdate::Reachable(mac);
        self.stack.set_neighbor(now, PORT, address(host), update);
    }

    /// A frame as this host's device would have received it, checksums verified.
    pub(crate) fn receive(&mut self, frame: &[u8]) -> HeapBuf {
        let mut buf = self.pool.receive(frame).expect("a buffer");
        buf.meta = RxMeta {
            ip_checksum: ChecksumStatus::Good,
            l4_checksum: ChecksumStatus::Good,
            ..RxMeta::default()
        };
        buf
    }

    /// A frame arrives.
    pub(crate) fn take(&mut self, now: Instant, frame: &[u8]) {
        let frame = self.receive(frame);
        let punt = self.stack.handle(now, PORT, frame, &mut self.pool);
        assert!(punt.is_none(), "nobody here speaks anything but TCP");
    }

    /// Everything this host sends now.
    pub(crate) fn frames(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(transmit) = self.stack.poll_transmit(now, &mut self.pool) {
            frames.push(flat(&transmit.frame));
        }
        frames
    }
}

/// All bytes of a frame in one piece.
pub(crate) fn flat(frame: &HeapBuf) -> Vec<u8> {
    frame.segments().flatten().copied().collect()
}
