//! Connections that end on the box: the stack and its devices alone, with an application that answers.
//!
//! What `perf/load` does as a sink, and what a listener without a pool would do. The application uses the stack's copying
//! face (`receive`, `send`), as anything does that looks at the bytes; those copies are part of what is measured and are
//! told apart from copies that the packet path makes.

use anyhow::{Context, Result};
use millrace_abi::heap;
use millrace_base::{Address, Instant, ListenerId, Nanos};
use millrace_dpdk::{
    Burst, Clock, Mbuf, MbufPool, MempoolConfig, Port, PortConfig, RxQueue, TxQueue, cycles,
};
use millrace_load::light::{Link, Payload};
use millrace_stack::{
    FlowId, Interface, ListenOptions, Listener, NeighborUpdate, Offloads, Prefixed, Ready, Route,
    RouteAttributes, Stack, StackConfig, TcpTunables,
};

use crate::meter::{Meter, Stages};
use crate::nic::{Delivery, Nic};
use crate::plan::{FRONT, GATEWAY, OURS, SERVICE, THEIRS, service_address};
use crate::world::{Card, RING_FRAMES, Setup, TURN_NANOS_MAX, link, mbuf_bytes, start_eal};

/// Frames on their way beside those that connections may queue.
const MOVING_MBUFS: u32 = 4_096;
/// The most the application reads at once, bytes.
const READ_BYTES: usize = 65_536;
/// One turn of so many is stamped stage by stage and counts for the others, as an lcore's are.
const SAMPLE_TURNS: u64 = 61;
/// The stages of a turn, in their order.
const STAGES: [&str; 5] = ["rx", "stack", "timers", "application", "tx"];

/// One answer on each connection, which is closed behind it. The alternative is to read what comes.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// What is asked.
    pub(crate) request: Payload,
    /// What is answered, with the request's token.
    pub(crate) response: Payload,
}

/// What one turn cost, cycles.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Received frames through the stack, up to what is decided about their ACKs.
    pub(crate) handling: u64,
    /// Everything.
    pub(crate) all: u64,
}

/// A stack on one card.
pub(crate) struct Terminal {
    pub(crate) stack: Stack<MbufPool>,
    pub(crate) pool: MbufPool,
    pub(crate) nic: Nic,
    pub(crate) now: Instant,
    pub(crate) meter: Meter,
    /// Bytes that went through the copying face.
    pub(crate) application_bytes: u64,
    /// Turns that received something.
    pub(crate) busy_turns: u64,
    stages: Stages,
    setup: Setup,
    service: Option<Service>,
    answer: Vec<u8>,
    rx: RxQueue,
    tx: TxQueue,
    burst: Burst,
    leaving: Burst,
    buffer: Vec<u8>,
    clock: Clock,
    _ports: [Port; 2],
}

impl Terminal {
    /// Boots it.
    pub(crate) fn new(setup: Setup, service: Option<Service>) -> Result<Self> {
        let eal = start_eal(&setup)?;
        let config = MempoolConfig {
            name: "frames",
            count: setup.mbufs,
            data_room_bytes: mbuf_bytes(&setup),
            ..MempoolConfig::default()
        };
        let pool = MbufPool::create(&eal, &config, setup.mbufs / 2)?;
        let (near, far) = eal.plug_ring_pair("front", 1, RING_FRAMES)?;
        let start = |device: millrace_dpdk::Device| -> Result<(Port, RxQueue, TxQueue)> {
            let (port, mut rx, mut tx) = device
                .configure(&PortConfig::default(), &[pool.bufs()])?
                .start()?;
            let queues = rx.pop().zip(tx.pop()).context("a queue pair")?;
            Ok((port, queues.0, queues.1))
        };
        let (near_port, rx, tx) = start(near)?;
        let (far_port, far_rx, far_tx) = start(far)?;
        let has_offloads = setup.card != Card::Plain;
        Ok(Self {
            stack: stack(&setup),
            pool,
            nic: Nic::new(vec![far_rx], vec![far_tx], Delivery::First, has_offloads),
            now: Instant::from_millis(1_000),
            meter: Meter::new(setup.chunk, Stages::default()),
            application_bytes: 0,
            busy_turns: 0,
            stages: Stages::default(),
            answer: service
                .as_ref()
                .map_or_else(Vec::new, |service| service.response.bytes().to_vec()),
            setup,
            service,
            rx,
            tx,
            burst: Burst::new(),
            leaving: Burst::new(),
            buffer: vec![0; READ_BYTES],
            clock: Clock::new(&eal),
            _ports: [near_port, far_port],
        })
    }

    /// One turn, as the worker's without a balancer.
    pub(crate) fn turn(&mut self) -> Spent {
        let is_stamped = self.busy_turns.is_multiple_of(SAMPLE_TURNS);
        let stamp = || if is_stamped { cycles() } else { 0 };
        heap::seal_thread(heap::OnAllocation::Count);
        let start = cycles();
        let received = self.rx.burst(&mut self.burst);
        Mbuf::prefetch_segments(self.burst.frames());
        let received_at = cycles();
        let now = self.now;
        let Self {
            stack, pool, burst, ..
        } = self;
        // What control would get (nothing, with these peers) is dropped.
        stack.handle_burst(now, FRONT, burst.drain(), pool, drop);
        let handled_at = cycles();
        self.stack.advance(now, &mut self.pool);
        let advanced_at = stamp();
        self.serve();
        let served_at = stamp();
        let Self {
            stack,
            pool,
            leaving,
            tx,
            ..
        } = self;
        stack.transmit(now, pool, |transmit| {
            if leaving.is_full() {
                drop(tx.burst(leaving));
            }
            leaving.try_push(transmit.frame).is_ok()
        });
        if !leaving.is_empty() {
            drop(tx.burst(leaving));
        }
        let sent_at = cycles();
        heap::unseal_thread();
        let all = sent_at.wrapping_sub(start);
        let nanos = u128::from(all) * 1_000_000_000 / u128::from(self.clock.hertz());
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.now = now.after(Nanos::new(nanos.clamp(100, TURN_NANOS_MAX)));
        if received == 0 {
            return Spent::default();
        }
        self.busy_turns += 1;
        if is_stamped {
            let ends = [received_at, handled_at, advanced_at, served_at, sent_at];
            let mut began = start;
            for (sum, end) in self.stages.0.iter_mut().zip(ends) {
                *sum += end.wrapping_sub(began) * SAMPLE_TURNS;
                began = end;
            }
        }
        Spent {
            handling: handled_at.wrapping_sub(received_at),
            all,
        }
    }

    /// Adds to the meter what was spent, and what was finished meanwhile.
    pub(crate) fn measure(&mut self, cycles: u64, operations: u64) {
        let Self { meter, stages, .. } = self;
        meter.add(cycles, operations, || *stages);
    }

    /// The warm-up is over.
    pub(crate) fn restart_meter(&mut self) {
        self.meter.restart(self.stages);
    }

    /// Cycles of an operation by stage, since the meter was restarted.
    pub(crate) fn by_stage(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        STAGES.into_iter().zip(self.meter.by_stage())
    }

    /// The clock of the peers' timestamps.
    pub(crate) fn now_ms(&self) -> u32 {
        self.now.as_millis() as u32
    }

    /// The link of a generator at the far end.
    pub(crate) fn link(&self) -> Link {
        link(&self.setup, 0)
    }

    /// The application.
    fn serve(&mut self) {
        while let Some(event) = self.stack.poll_event() {
            if event.ready.contains(Ready::CLOSED) {
                continue;
            }
            let received = self.stack.receive(self.now, event.flow, &mut self.buffer);
            self.application_bytes += received.bytes as u64;
            let answered = self.answer(event.flow, received.bytes);
            if received.end_of_stream || answered {
                self.stack.close(self.now, event.flow);
            }
        }
    }

    /// Answers what was read if it is a request; tells whether it was.
    fn answer(&mut self, flow: FlowId, bytes: usize) -> bool {
        let Some(Service { request, response }) = &self.service else {
            return false;
        };
        if bytes != request.len() {
            return false;
        }
        self.answer[response.token_range()].copy_from_slice(&self.buffer[request.token_range()]);
        let sent = self
            .stack
            .send(self.now, flow, &self.answer, &mut self.pool);
        self.application_bytes += sent as u64;
        true
    }
}

fn stack(setup: &Setup) -> Stack<MbufPool> {
    let has_checksums = setup.card != Card::Plain;
    let mut stack = Stack::new(StackConfig {
        connections_max: setup.connections_max as usize,
        syn_queue_max: setup.connections_max as usize / 4,
        time_wait_max: setup.connections_max as usize,
        chunks_max: setup.mbufs.saturating_sub(MOVING_MBUFS).max(1_024) as usize,
        neighbors_max: 16,
        secret: [7; 32],
        tcp: TcpTunables::default(),
    });
    let now = Instant::from_millis(1_000);
    let interface = Interface {
        port: FRONT,
        mac: OURS[0],
        mtu: setup.mtu,
        addresses: [Prefixed {
            address: Address::v4([10, 0, 0, 1]),
            prefix_len: 24,
        }]
        .into_iter()
        .collect(),
        offloads: Offloads {
            ip_checksum: has_checksums,
            tcp_checksum: has_checksums,
            segments_max: 8,
            ..Offloads::default()
        },
    };
    stack.set_interfaces(now, &[interface]);
    stack.set_local_addresses(&[service_address()]);
    if let Some(everywhere) = millrace_base::Prefix::new(Address::v4([0; 4]), 0) {
        stack.set_routes(&[Route {
            prefix: everywhere,
            via: Some(Address::v4(GATEWAY)),
            port: FRONT,
            mtu: 0,
            attributes: RouteAttributes::default(),
        }]);
    }
    stack.set_listeners(&[Listener {
        id: ListenerId::new(0),
        address: service_address(),
        port_first: SERVICE.1,
        port_last: SERVICE.1,
        options: ListenOptions {
            backlog: 65_535,
            ..ListenOptions::default()
        },
    }]);
    let update = NeighborUpdate::Reachable(THEIRS[0]);
    stack.set_neighbor(now, FRONT, Address::v4(GATEWAY), update);
    stack
}
