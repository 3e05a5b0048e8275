//! The paths: what each one prepares, which part of it counts, and how often.

use std::hint::black_box;

use millrace_base::rss::{KEY_BYTES_MAX, Toeplitz};
use millrace_base::{FlowTuple, HeapBuf, Instant, Nanos, PacketBuf, PacketPool, SeqNumber};
use millrace_stack::bench::Timers;
use millrace_stack::{FlowId, FrameOptions, Path as FramePath, Transmit, write_headers};
use millrace_wire::{Checksum, TcpFlags, TcpOptions, TcpRepr, Timestamps};

use crate::gate::measured;
use crate::host::{Host, PORT, offloads};
use crate::world::{STEP, World};

/// One hot path.
pub(crate) struct HotPath {
    /// Its name on the command line and in the baseline.
    pub(crate) name: &'static str,
    /// What one unit of it is.
    pub(crate) about: &'static str,
    /// Prepares it, runs it through the gate, and returns how many units went through.
    pub(crate) run: fn() -> usize,
}

/// All of them.
pub(crate) const PATHS: &[HotPath] = &[
    HotPath {
        name: "data_in",
        about: "a received in-order segment of 1,448 bytes, into the stack, in bursts of 32",
        run: || bulk(Part::DataIn),
    },
    HotPath {
        name: "splice",
        about: "the same segment from one leg to the other",
        run: || bulk(Part::Splice),
    },
    HotPath {
        name: "data_out",
        about: "the same segment out of the other leg, window and headers included",
        run: || bulk(Part::DataOut),
    },
    HotPath {
        name: "ack_in",
        about: "a pure ACK of two segments, into the stack",
        run: || bulk(Part::AckIn),
    },
    HotPath {
        name: "segment",
        about: "a whole proxied segment: in, splice, out, and its share of the ACKs both ways",
        run: || bulk(Part::Everything),
    },
    HotPath {
        name: "syn_in",
        about: "a SYN, and the SYN-ACK that answers it",
        run: syn,
    },
    HotPath {
        name: "session",
        about: "a short proxied session: two handshakes, 100 bytes in, 1,000 out, four closes",
        run: session,
    },
    HotPath {
        name: "request",
        about: "a request and a reply of 100 bytes over a session that stays",
        run: request,
    },
    HotPath {
        name: "turn_idle",
        about: "a turn without frames over 1,000 established sessions",
        run: idle_turn,
    },
    HotPath {
        name: "flow_hit",
        about: "a tuple that is in a flow table of 2,000, found",
        run: || lookup(true),
    },
    HotPath {
        name: "flow_miss",
        about: "a tuple that is not in a flow table of 2,000, not found",
        run: || lookup(false),
    },
    HotPath {
        name: "timer_arm",
        about: "a timer armed in a wheel of 1,000, at another deadline each",
        run: || timers(false),
    },
    HotPath {
        name: "timer_cancel",
        about: "the same timer disarmed",
        run: || timers(true),
    },
    HotPath {
        name: "toeplitz",
        about: "the RSS hash of an IPv4 tuple",
        run: toeplitz,
    },
    HotPath {
        name: "headers",
        about: "Ethernet, IPv4 and TCP headers with timestamps, checksums left to the device",
        run: headers,
    },
    HotPath {
        name: "checksum_64",
        about: "the Internet checksum of 64 bytes",
        run: || checksum(64),
    },
    HotPath {
        name: "checksum_1500",
        about: "the Internet checksum of 1,500 bytes",
        run: || checksum(1_500),
    },
];

/// Frames of one turn; its memory is taken outside of the counted region.
type Sent = Vec<Transmit<HeapBuf>>;

/// Room for what one turn can send here.
const SENT_MAX: usize = 1_024;

const BURST: usize = 32;
const SEGMENT_BYTES: usize = 1_448;

/// Which part of a bulk transfer goes through the gate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    DataIn,
    Splice,
    DataOut,
    AckIn,
    Everything,
}

impl Part {
    /// Runs `work` through the gate if it is the part that counts.
    fn run<T>(self, counted: Self, work: impl FnOnce() -> T) -> T {
        if self == counted || counted == Self::Everything {
            measured(work)
        } else {
            work()
        }
    }
}

/// Client to server: bursts of full segments over one session, the window wide open.
fn bulk(counted: Part) -> usize {
    const WARM_UP_ROUNDS: usize = 40;
    const ROUNDS: usize = 20;
    let mut world = World::new();
    let flow = world.open();
    let mut sent = Sent::with_capacity(SENT_MAX);
    for _ in 0..WARM_UP_ROUNDS {
        // The windows open by and by: whatever fits now.
        send_burst(&mut world, flow);
        for _ in 0..8 {
            world.exchange();
            World::drain(world.now, &mut world.server.stack);
        }
        // Longer than a delayed ACK.
        world.step(Nanos::from_millis(50));
        world.settle();
        while world.client.stack.poll_event().is_some() {}
    }
    let mut units = 0;
    for _ in 0..ROUNDS {
        units += bulk_round(&mut world, flow, counted, &mut sent);
    }
    let copied = world.lb.stack.stats().payload_copied_bytes;
    assert_eq!(copied, 0, "a splice copies nothing");
    units
}

/// The client has a burst of full segments to say; returns how many bytes its queue took.
fn send_burst(world: &mut World, flow: FlowId) -> usize {
    let data = [7; SEGMENT_BYTES];
    let client = &mut world.client;
    let mut send = || client.stack.send(world.now, flow, &data, &mut client.pool);
    (0..BURST).map(|_| send()).sum()
}

fn bulk_round(world: &mut World, flow: FlowId, counted: Part, sent: &mut Sent) -> usize {
    let bytes = send_burst(world, flow);
    assert_eq!(bytes, BURST * SEGMENT_BYTES, "room for the burst");
    let frames = world.client.frames(world.now);
    assert_eq!(frames.len(), BURST, "the window is wide open");
    let received = world.arrive(&frames);
    Part::DataIn.run(counted, || world.handle(received));
    Part::Splice.run(counted, || world.balance());
    Part::DataOut.run(counted, || world.transmit(sent));
    // In pairs: the backend answers every second segment, as it would at line rate.
    let mut frames = Vec::new();
    for pair in sent.chunks(2) {
        world.deliver(pair);
        frames.extend(world.server.frames(world.now));
    }
    sent.clear();
    let taken = World::drain(world.now, &mut world.server.stack);
    assert_eq!(taken, BURST * SEGMENT_BYTES, "every byte arrives at once");
    while world.client.stack.poll_event().is_some() {}
    world.step(STEP);
    frames.extend(world.peers_send());
    let acks = frames.len();
    let received = world.arrive(&frames);
    Part::AckIn.run(counted, || world.handle(received));
    world.turn(Vec::new(), sent);
    world.deliver(sent);
    sent.clear();
    world.step(Nanos::from_millis(1));
    if counted == Part::AckIn { acks } else { BURST }
}

/// A turn, through the gate if it counts: the first round of a path only warms up.
fn counted_turn(world: &mut World, received: Vec<HeapBuf>, sent: &mut Sent, counts: bool) {
    if counts {
        measured(|| world.turn(received, sent));
    } else {
        world.turn(received, sent);
    }
}

/// What the peers have sent arrives, and the balancer answers into `sent`.
fn counted_exchange(world: &mut World, sent: &mut Sent, counts: bool) {
    let frames = world.peers_send();
    let received = world.arrive(&frames);
    counted_turn(world, received, sent, counts);
}

/// What the balancer has sent arrives, and time passes.
fn deliver(world: &mut World, sent: &mut Sent) {
    world.deliver(sent);
    sent.clear();
    world.step(STEP);
}

/// A burst of units in each round, of which the first only warms up; returns how many counted.
fn in_rounds(
    world: &mut World,
    rounds: usize,
    mut round: impl FnMut(&mut World, &mut Sent, bool),
) -> usize {
    let mut sent = Sent::with_capacity(SENT_MAX);
    for number in 0..=rounds {
        round(world, &mut sent, number > 0);
    }
    rounds * BURST
}

/// SYNs in bursts, and their answers.
fn syn() -> usize {
    in_rounds(&mut World::new(), 4, |world, sent, counts| {
        for _ in 0..BURST {
            world.connect();
        }
        counted_exchange(world, sent, counts);
        assert_eq!(sent.len(), BURST, "a SYN-ACK each");
        sent.clear();
        world.step(STEP);
    })
}

/// Whole sessions, a burst of them at a time.
fn session() -> usize {
    let mut world = World::new();
    let units = in_rounds(&mut world, 4, |world, sent, counts| {
        for _ in 0..BURST {
            world.connect();
        }
        let mut open = BURST;
        let mut turns_left = 64;
        // The last turns take the last ACKs of the closes.
        let mut closing = 4;
        while open > 0 || closing > 0 {
            counted_exchange(world, sent, counts);
            deliver(world, sent);
            open -= world.serve(&[2; 100], &[1; 1_000]);
            closing -= usize::from(open == 0);
            turns_left -= 1;
            assert!(turns_left > 0, "sessions do not end");
        }
        world.step(Nanos::from_millis(100));
    });
    assert_eq!(world.balancer.counters().sessions_active, 0, "all ended");
    units
}

/// Keep-alive: one request and one reply in turn on each of 32 sessions.
fn request() -> usize {
    let mut world = World::new();
    let flows: Vec<FlowId> = (0..BURST).map(|_| world.open()).collect();
    in_rounds(&mut world, 16, |world, sent, counts| {
        for flow in &flows {
            let now = world.now;
            let Host { stack, pool, .. } = &mut world.client;
            let bytes = stack.send(now, *flow, &[2; 100], pool);
            assert_eq!(bytes, 100, "room for the request");
        }
        let mut replies = 0;
        for _ in 0..4 {
            counted_exchange(world, sent, counts);
            deliver(world, sent);
            replies += answer(world);
        }
        assert_eq!(replies, BURST, "every request is answered");
        world.step(Nanos::from_millis(100));
        world.settle();
    })
}

/// The server answers each request with as many bytes; returns how many answers the client has.
fn answer(world: &mut World) -> usize {
    let now = world.now;
    let mut buffer = [0; 256];
    let server = &mut world.server;
    while let Some(event) = server.stack.poll_event() {
        let received = server.stack.receive(now, event.flow, &mut buffer);
        let reply = &buffer[..received.bytes];
        server.stack.send(now, event.flow, reply, &mut server.pool);
    }
    World::drain(now, &mut world.client.stack) / 100
}

/// Turns of the loop with nothing to do but to look.
fn idle_turn() -> usize {
    const TURNS: usize = 1_000;
    let (mut world, mut sent) = (World::new(), Sent::new());
    for _ in 0..1_000 {
        world.connect();
        world.exchange();
    }
    world.settle();
    for _ in 0..40 {
        world.step(Nanos::from_millis(100));
        world.settle();
    }
    let sessions = world.balancer.counters().sessions_active;
    assert_eq!(sessions, 1_000, "all established");
    for _ in 0..TURNS {
        world.now = world.now.after(Nanos::from_micros(1));
        counted_turn(&mut world, Vec::new(), &mut sent, true);
        assert!(sent.is_empty(), "nothing to say");
    }
    TURNS
}

/// Lookups in the flow table of an established balancer: two entries for each of 1,000 sessions.
fn lookup(hit: bool) -> usize {
    let mut world = World::new();
    let mut tuples: Vec<FlowTuple> = Vec::new();
    for _ in 0..1_000 {
        let flow = world.connect();
        let info = world.client.stack.info(flow).expect("a connection");
        tuples.push(FlowTuple {
            local: info.tuple.remote,
            remote: info.tuple.local,
        });
        world.exchange();
    }
    world.settle();
    if !hit {
        for tuple in &mut tuples {
            tuple.remote.port += 20_000;
        }
    }
    let (now, stack) = (world.now, &world.lb.stack);
    let free = measured(|| {
        let is_free = |tuple: &&FlowTuple| stack.tuple_is_free(now, black_box(tuple));
        tuples.iter().filter(is_free).count()
    });
    assert_eq!(free, if hit { 0 } else { tuples.len() });
    tuples.len()
}

/// The wheel by itself: retransmission timers are armed and disarmed for nearly every segment.
fn timers(cancel: bool) -> usize {
    const TIMERS: u32 = 1_000;
    let mut wheel = Timers::new(TIMERS as usize);
    // From a millisecond to over an hour: every level of the wheel.
    let deadline = |index: u32| Instant::from_millis(1 << (index % 22)).after(STEP);
    let arm = |wheel: &mut Timers| (0..TIMERS).for_each(|i| wheel.arm(i, black_box(deadline(i))));
    if cancel {
        arm(&mut wheel);
        measured(|| (0..TIMERS).for_each(|index| wheel.cancel(black_box(index))));
    } else {
        measured(|| arm(&mut wheel));
    }
    let mut steps = 1 << 20;
    let due = wheel.pop(Instant::from_millis(1 << 23), &mut steps);
    assert_eq!(due.is_none(), cancel, "armed timers fire, others do not");
    TIMERS as usize
}

/// What software RSS computes for each frame, and a balancer for each new connection.
fn toeplitz() -> usize {
    const TUPLES: usize = 1_000;
    let hash = Toeplitz::new(&[0x6d; KEY_BYTES_MAX]).expect("a key");
    let mut world = World::new();
    let tuples: Vec<FlowTuple> = (0..TUPLES).map(|_| world.next_tuple()).collect();
    let sum = measured(|| {
        let hashes = tuples.iter().map(|tuple| hash.hash(black_box(tuple)));
        hashes.fold(0, u32::wrapping_add)
    });
    black_box(sum);
    TUPLES
}

/// Headers in front of empty buffers: what every frame that leaves gets.
fn headers() -> usize {
    const FRAMES: usize = 1_000;
    let mut world = World::new();
    let tuple = world.next_tuple();
    let path = FramePath {
        port: PORT,
        mtu: 1_500,
        source: world.lb.mac,
        destination: world.client.mac,
        offloads: offloads(),
    };
    let mut frames: Vec<HeapBuf> = (0..FRAMES)
        .map(|_| world.lb.pool.alloc().expect("a buffer"))
        .collect();
    let tcp = TcpRepr {
        source_port: tuple.local.port,
        destination_port: tuple.remote.port,
        seq: SeqNumber::new(1),
        ack: SeqNumber::new(2),
        flags: TcpFlags::ACK,
        window: 502,
        urgent: 0,
        options: TcpOptions {
            timestamps: Some(Timestamps { value: 3, echo: 4 }),
            ..TcpOptions::default()
        },
    };
    let written = measured(|| {
        let write = |frame: &mut HeapBuf| {
            write_headers(
                frame,
                &path,
                &tuple,
                black_box(&tcp),
                FrameOptions::default(),
            )
        };
        frames.iter_mut().map(write).filter(|done| *done).count()
    });
    assert_eq!(written, FRAMES);
    assert!(frames.iter().all(|frame| frame.frame_len() == 66));
    FRAMES
}

fn checksum(bytes: usize) -> usize {
    const TIMES: usize = 1_000;
    let data: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
    let mut seen = 0u64;
    measured(|| {
        for _ in 0..TIMES {
            let mut sum = Checksum::new();
            sum.add_bytes(black_box(&data));
            seen = seen.wrapping_add(u64::from(sum.finish()));
        }
    });
    assert_ne!(seen, 0);
    TIMES
}
