//! Frames at a port: whatever arrives is accounted for, in one burst or frame by frame, and takes
//! nothing that does not come back.

use millrace_base::{
    Address, ChecksumStatus, HeapPool, Instant, ListenerId, MacAddress, Nanos, PacketPool, PortId,
    RxMeta,
};
use millrace_stack::{
    Interface, ListenOptions, Listener, NeighborUpdate, Offloads, Prefixed, Stack, StackConfig,
    Stage, TcpTunables,
};

const PORT: PortId = PortId::new(0);
const BUFFERS: usize = 512;
/// Fewer than connections, so that some have to rest.
const DESKS: usize = 4;
/// Frames of one input.
const FRAMES_MAX: usize = 64;

fn host() -> (Stack<HeapPool>, HeapPool) {
    let config = StackConfig {
        connections_max: 64,
        syn_queue_max: 16,
        time_wait_max: 16,
        chunks_max: 256,
        neighbors_max: 16,
        secret: [7; 32],
        tcp: TcpTunables::default(),
    };
    let mut stack = Stack::with_desks(config, DESKS);
    let now = Instant::from_millis(1);
    let addresses = [
        (Address::v4([10, 0, 0, 1]), 24),
        (
            Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            64,
        ),
    ];
    let interface = Interface {
        port: PORT,
        mac: MacAddress::new([2, 0, 0, 0, 0, 1]),
        mtu: 1_500,
        addresses: addresses
            .map(|(address, prefix_len)| Prefixed {
                address,
                prefix_len,
            })
            .into_iter()
            .collect(),
        offloads: Offloads::default(),
    };
    stack.set_interfaces(now, &[interface]);
    let listeners = addresses.map(|(address, _)| Listener {
        id: ListenerId::new(1),
        address,
        port_first: 80,
        port_last: 80,
        options: ListenOptions::default(),
    });
    stack.set_listeners(&listeners);
    let peer = NeighborUpdate::Reachable(MacAddress::new([2, 0, 0, 0, 0, 2]));
    stack.set_neighbor(now, PORT, Address::v4([10, 0, 0, 2]), peer);
    (stack, HeapPool::new(BUFFERS, 2_176))
}

/// Frames, each behind two bytes: its length and how the device found its checksums.
pub(crate) fn burst(data: &[u8]) {
    let (mut stack, mut pool) = host();
    let free = pool.available();
    let mut now = Instant::from_millis(2);
    let mut rest = data;
    let mut punts = 0u64;
    for _ in 0..FRAMES_MAX {
        let [len, how, tail @ ..] = rest else { break };
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(*len) * 2));
        rest = tail;
        let Some(mut frame) = pool.receive(bytes) else {
            break;
        };
        let found = |bit: u8| match how & bit {
            0 => ChecksumStatus::Good,
            _ => ChecksumStatus::Unknown,
        };
        frame.meta = RxMeta {
            ip_checksum: found(1),
            l4_checksum: found(2),
            ..RxMeta::default()
        };
        now = now.after(Nanos::from_millis(u64::from(how >> 4)));
        if stack.handle(now, PORT, frame, &mut pool).is_some() {
            punts += 1;
        }
        while stack.poll_event().is_some() {}
        while let Some(transmit) = stack.poll_transmit(now, &mut pool) {
            drop(transmit);
        }
    }
    let stats = stack.stats();
    let explained = stats.frames_punted + stats.frames_delivered + stats.dropped_in(Stage::Frame);
    assert_eq!(stats.frames_in, explained, "every frame ends in one way");
    assert_eq!(stats.frames_punted, punts);
    drop(stack);
    assert_eq!(pool.available(), free, "buffers come back");
}
