//! Nothing allocates after `new`: a counting allocator watches every call into two stacks that
//! talk.

mod wire;

use std::cell::Cell;

use millrace_base::{
    HEADROOM_BYTES_DEFAULT, HeapBuf, HeapPool, Instant, Nanos, PacketBuf, PacketPool, PortId,
};
use millrace_stack::{NeighborUpdate, Ready, Stack};
use wire::{address, config, interface, listener, mac, tuple};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn watched<T>(call: impl FnOnce() -> T) -> T {
    let mut result = None;
    let seen = allocation_counter::measure(|| result = Some(call()));
    ALLOCATIONS.set(ALLOCATIONS.get() + seen.count_total);
    result.expect("the call returned")
}

/// A pool whose buffers were all made before.
struct Prepared(Vec<HeapBuf>);

impl Prepared {
    fn new() -> Self {
        let mut pool = HeapPool::new(4_000, 2_176);
        Self((0..4_000).filter_map(|_| pool.alloc()).collect())
    }

    fn receive(&mut self, bytes: &[u8]) -> HeapBuf {
        let mut buf = self.alloc().expect("prepared");
        assert!(buf.set_span(HEADROOM_BYTES_DEFAULT, bytes.len()));
        buf.bytes_mut().expect("unique").copy_from_slice(bytes);
        buf
    }
}

impl PacketPool for Prepared {
    type Buf = HeapBuf;

    fn alloc(&mut self) -> Option<HeapBuf> {
        self.0.pop()
    }

    fn view(&mut self, _of: &HeapBuf, _offset: usize, _len: usize) -> Option<HeapBuf> {
        None
    }

    fn available(&self) -> usize {
        self.0.len()
    }
}

/// Moves every frame from one stack to the other.
fn carry(
    now: Instant,
    from: (&mut Stack<Prepared>, &mut Prepared),
    to: (&mut Stack<Prepared>, &mut Prepared),
) {
    while let Some(sent) = watched(|| from.0.poll_transmit(now, from.1)) {
        let frame = to.1.receive(&sent.frame.to_vec());
        let punt = watched(|| to.0.handle(now, PortId::new(0), frame, to.1));
        assert!(punt.is_none());
    }
}

// DESIGN.md decision 2; `stack` is documented to allocate nothing after `new`.
#[test]
fn nothing_allocates_after_new() {
    let control = watched(|| std::hint::black_box(vec![0u8; std::hint::black_box(10)]));
    assert_eq!(ALLOCATIONS.replace(0), 1, "the counter sees {control:?}");
    let (left, right) = (address(false, 0, 1), address(false, 0, 2));
    let mut stacks = [Stack::<Prepared>::new(config(1)), Stack::new(config(2))];
    let mut pools = [Prepared::new(), Prepared::new()];
    let mut now = Instant::from_millis(1);
    for (index, own, peer) in [(0, left, right), (1, right, left)] {
        let interfaces = [interface(0, mac(index, 0), &[own])];
        let update = NeighborUpdate::Reachable(mac(1 - index, 0));
        watched(|| {
            stacks[index].set_interfaces(now, &interfaces);
            stacks[index].set_neighbor(now, PortId::new(0), peer, update);
            stacks[index].set_local_addresses(&[own]);
            stacks[index].set_listeners(&[listener(1, own, 80)]);
        });
    }
    let [client, server] = &mut stacks;
    let [client_pool, server_pool] = &mut pools;
    let flow = watched(|| client.connect(now, tuple(left, 40_000, right, 80), 0));
    let flow = flow.expect("connects");
    let mut accepted = None;
    let data = [7u8; 1_448];
    let (mut received, mut closed) = (0, 0);
    for round in 0..400 {
        carry(now, (client, client_pool), (server, server_pool));
        carry(now, (server, server_pool), (client, client_pool));
        while let Some(event) = watched(|| server.poll_event()) {
            accepted = Some(event.flow);
            closed += usize::from(event.ready.contains(Ready::CLOSED));
        }
        while watched(|| client.poll_event()).is_some() {}
        if round < 200 {
            watched(|| client.send(now, flow, &data, client_pool));
        } else if round == 200 {
            watched(|| client.close(now, flow));
        }
        if let Some(accepted) = accepted {
            let mut out = [0; 2_048];
            let read = watched(|| server.receive(now, accepted, &mut out));
            received += read.bytes;
            if read.end_of_stream {
                watched(|| server.shutdown(now, accepted));
            }
        }
        now = now.after(Nanos::from_millis(500));
        watched(|| client.advance(now, client_pool));
        watched(|| server.advance(now, server_pool));
    }
    assert!(received > 100_000, "{received} bytes arrived");
    assert_eq!(
        (
            closed,
            client.occupancy().connections,
            server.occupancy().connections
        ),
        (1, 0, 0)
    );
    assert_eq!(ALLOCATIONS.get(), 0);
}
