//! Two connections over a link that loses, repeats, delays and reorders: every byte arrives, once
//! and in order, both ways, and nothing leaks. Each run is one seed; a failure prints it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use millrace_base::{FlowTuple, HeapBuf, Instant, Nanos, PacketBuf, Rng, SeqNumber};
use millrace_wire::{EthernetView, IpView, TcpFlags, TcpRepr, TcpView};

use crate::path::{FrameOptions, Offloads, Path, write_headers};
use crate::stats::Stats;
use crate::tcp::config::{CongestionControl, ConnectionOptions, TcpTunables};
use crate::tcp::connection::Connection;
use crate::tcp::handshake::Open;
use crate::tcp::segment::{CloseReason, Disposition};
use crate::tcp::shelf::Shelf;
use crate::tcp::testing::{World, parse, path, pattern, tuple};

/// One end: a connection, its memory, and an application that writes and reads by whim.
struct Side {
    world: World,
    connection: Connection,
    path: Path,
    to_send: usize,
    sent: usize,
    received: usize,
    /// The application reads nothing until then: windows close.
    asleep_until: Instant,
    shut: bool,
    ended: Option<Disposition>,
}

/// How a link misbehaves; chances are per 1,000 frames.
#[derive(Debug)]
struct Faults {
    lose: u32,
    repeat: u32,
    reorder: u32,
    delay_ms: u32,
    /// Faults end here, so that liveness can be asked for.
    until: Instant,
}

/// A frame on its way: arrival, order, receiving side, bytes.
type Flight = (Instant, u64, usize, Vec<u8>);

struct Simulation {
    rng: Rng,
    now: Instant,
    faults: Faults,
    sides: [Side; 2],
    link: BinaryHeap<Reverse<Flight>>,
    frames: u64,
    seed: u64,
}

fn side(rng: &mut Rng, tuple: FlowTuple, bytes: usize) -> Side {
    let tunables = TcpTunables {
        tcp_sack: rng.below(4) != 0,
        tcp_timestamps: rng.below(4) != 0,
        tcp_window_scaling: rng.below(4) != 0,
        tcp_congestion_control: [CongestionControl::Cubic, CongestionControl::Reno]
            [rng.below(2) as usize],
        tcp_rmem: [8_192 << rng.below(5), 6_291_456 >> rng.below(8)],
        ..TcpTunables::default()
    };
    let options = ConnectionOptions {
        nodelay: rng.below(4) != 0,
        ..ConnectionOptions::default()
    };
    // Sequence numbers wrap during many of the transfers.
    let iss = SeqNumber::new(0u32.wrapping_sub(rng.below(200_000)));
    let open = Open {
        tuple,
        iss,
        ts_offset: rng.next_u64() as u32,
        mtu: 1_500,
        options,
    };
    let tso = rng.below(3) == 0;
    let offloads = Offloads {
        segments_max: if tso || rng.below(2) == 0 { 32 } else { 1 },
        tso,
        tso_bytes_max: if tso { 64_000 } else { 0 },
        ..Offloads::default()
    };
    let mut path = path(offloads);
    path.mtu = 700 + rng.below(800) as u16;
    let connection = Connection::connect(&open, None, &tunables, Instant::from_millis(1));
    let mut world = World::new(tunables);
    if rng.below(8) == 0 {
        // Others hold every place on the shelf: slower, but not wrong.
        world.chunks.reorders = Shelf::new(0);
    }
    Side {
        connection,
        world,
        path,
        to_send: bytes,
        sent: 0,
        received: 0,
        asleep_until: Instant::ZERO,
        shut: false,
        ended: None,
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let loss = [0, 0, 10, 50, 200][rng.below(5) as usize];
        let faults = Faults {
            lose: loss,
            repeat: [0, 0, 30, 100][rng.below(4) as usize],
            reorder: [0, 20, 200][rng.below(3) as usize],
            delay_ms: 1 + rng.below(60),
            until: Instant::from_millis(120_000),
        };
        let sizes = [rng.below(120_000) as usize, rng.below(120_000) as usize];
        let tuple = tuple();
        // Both connect: a simultaneous open. Scripted tests cover the passive one; here it saves a
        // listener.
        let sides = [
            side(&mut rng, tuple, sizes[0]),
            side(&mut rng, tuple.reversed(), sizes[1]),
        ];
        Self {
            rng,
            now: Instant::from_millis(1),
            faults,
            sides,
            link: BinaryHeap::new(),
            frames: 0,
            seed,
        }
    }

    fn run(mut self) -> [Stats; 2] {
        // Generous: retransmission timeouts double up to two minutes while faults last.
        let deadline = Instant::from_millis(1_500_000);
        while !self.is_done() {
            for index in 0..2 {
                self.application(index);
                self.transmit(index);
            }
            let Some(next) = self.next_event() else {
                if self.is_done() {
                    break;
                }
                panic!(
                    "seed {}: nothing will ever happen: {}",
                    self.seed,
                    self.describe()
                )
            };
            self.now = self.now.max(next);
            assert!(
                self.now < deadline,
                "seed {}: no progress: {}",
                self.seed,
                self.describe()
            );
            self.deliver();
            self.expire();
        }
        self.check_end()
    }

    fn application(&mut self, index: usize) {
        let (now, nap) = (self.now, self.rng.below(400));
        let side = &mut self.sides[index];
        if side.ended.is_none() && side.connection.state().is_synchronized() {
            write(side, now, &mut self.rng, self.seed);
        }
        if side.asleep_until <= now {
            read(side, now, &mut self.rng, self.seed);
            if nap == 0 {
                side.asleep_until = now.after(Nanos::from_millis(u64::from(self.rng.below(3_000))));
            }
        }
    }

    fn transmit(&mut self, index: usize) {
        let now = self.now;
        for _ in 0..10_000 {
            let side = &mut self.sides[index];
            let path = side.path;
            let Some(frame) = side
                .connection
                .poll_transmit(&mut side.world.env(now), &path)
            else {
                return;
            };
            let segment_bytes = frame.offload.segment_bytes;
            let bytes = frame.to_vec();
            drop(frame);
            for frame in cut(&bytes, segment_bytes, &path) {
                assert!(
                    frame.len() <= usize::from(path.mtu) + 14,
                    "seed {}: too long",
                    self.seed
                );
                self.put(1 - index, frame);
            }
        }
        panic!("seed {}: sends for ever: {}", self.seed, self.describe());
    }

    fn put(&mut self, to: usize, frame: Vec<u8>) {
        let faulty = self.now < self.faults.until;
        let copies = if faulty && self.rng.below(1_000) < self.faults.lose {
            0
        } else if faulty && self.rng.below(1_000) < self.faults.repeat {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let mut delay = u64::from(self.faults.delay_ms) * 1_000;
            if faulty && self.rng.below(1_000) < self.faults.reorder {
                delay += u64::from(self.rng.below(30_000));
            }
            let at = self.now.after(Nanos::from_micros(delay));
            self.frames += 1;
            self.link
                .push(Reverse((at, self.frames, to, frame.clone())));
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let arrival = self
            .link
            .peek()
            .map_or(Instant::NEVER, |Reverse((at, ..))| *at);
        let mut next = arrival;
        for side in &self.sides {
            if side.ended.is_none() {
                next = next.min(side.connection.next_deadline());
            }
            // A sleeping application wakes up; one that is awake takes a while for what waits.
            if side.asleep_until > self.now {
                next = next.min(side.asleep_until);
            } else if side.connection.has_unread() {
                next = next.min(self.now.after(Nanos::from_millis(1)));
            }
        }
        (next != Instant::NEVER).then_some(next)
    }

    fn deliver(&mut self) {
        while let Some(Reverse((at, ..))) = self.link.peek() {
            if *at > self.now {
                break;
            }
            let Some(Reverse((_, _, to, bytes))) = self.link.pop() else {
                break;
            };
            let now = self.now;
            let side = &mut self.sides[to];
            if side.ended.is_some() {
                self.answer_for_the_dead(to, &bytes);
                continue;
            }
            let frame = side.world.pool.receive(&bytes).expect("buffers suffice");
            let segment = parse(frame);
            let disposition = side
                .connection
                .handle_segment(&mut side.world.env(now), segment);
            self.note(to, disposition);
        }
    }

    /// What a TIME-WAIT record does: a FIN that comes again is acknowledged again.
    fn answer_for_the_dead(&mut self, index: usize, bytes: &[u8]) {
        let side = &self.sides[index];
        let Some(Disposition::TimeWait(record)) = side.ended else {
            return;
        };
        let segment = parse(HeapBuf::from_frame(bytes));
        if segment.len() == 0 || segment.flags.rst() {
            return;
        }
        let header = TcpRepr {
            source_port: record.tuple.local.port,
            destination_port: record.tuple.remote.port,
            seq: record.snd_nxt,
            ack: record.rcv_nxt,
            flags: TcpFlags::ACK,
            window: 1_000,
            urgent: 0,
            options: Default::default(),
        };
        let mut frame = self.sides[index].world.pool_clone_empty();
        assert!(write_headers(
            &mut frame,
            &side.path,
            &record.tuple,
            &header,
            FrameOptions::default()
        ));
        let bytes = frame.to_vec();
        self.put(1 - index, bytes);
    }

    fn expire(&mut self) {
        for index in 0..2 {
            let now = self.now;
            let side = &mut self.sides[index];
            if side.ended.is_none() && side.connection.next_deadline().is_due(now) {
                let disposition = side.connection.on_timer(&mut side.world.env(now));
                self.note(index, disposition);
            }
        }
    }

    fn note(&mut self, index: usize, disposition: Disposition) {
        match disposition {
            Disposition::Continue | Disposition::Reset(_) => {}
            Disposition::TimeWait(record) => {
                self.sides[index].ended = Some(disposition);
                if record.ack_now {
                    let fin = fake_fin(&self.sides[index], &record);
                    self.answer_for_the_dead(index, &fin);
                }
            }
            Disposition::Closed(reason, _) => {
                assert_eq!(
                    reason,
                    CloseReason::Finished,
                    "seed {}: {}",
                    self.seed,
                    self.describe()
                );
                self.sides[index].ended = Some(disposition);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.ended.is_some() && !side.connection.has_unread())
    }

    fn check_end(mut self) -> [Stats; 2] {
        for index in 0..2 {
            let expected = self.sides[1 - index].to_send;
            assert_eq!(self.sides[index].received, expected, "seed {}", self.seed);
            let side = &mut self.sides[index];
            side.connection.release(&mut side.world.chunks);
            assert_eq!(
                side.world.chunks.used() + side.world.chunks.disordered(),
                0,
                "seed {}: chunks leaked",
                self.seed
            );
            assert_eq!(
                side.world.pool.live(),
                0,
                "seed {}: buffers leaked",
                self.seed
            );
        }
        self.sides.map(|side| side.world.stats)
    }

    fn describe(&self) -> String {
        let mut text = format!("at {:?} {:?}", self.now, self.faults);
        for side in &self.sides {
            text += &format!(
                "\n  sent {}/{} received {} ended {:?} {:?}\n  {:?}",
                side.sent,
                side.to_send,
                side.received,
                side.ended,
                side.connection.info(&side.world.chunks),
                side.connection
            );
        }
        text
    }
}

impl World {
    fn pool_clone_empty(&self) -> HeapBuf {
        let mut buf = HeapBuf::from_frame(&[]);
        assert!(buf.set_span(128, 0));
        buf
    }
}

/// The segment that made a record, as far as the answer to it goes.
fn fake_fin(side: &Side, record: &crate::tcp::segment::TimeWaitRecord) -> Vec<u8> {
    let tuple = record.tuple.reversed();
    let header = TcpRepr {
        source_port: tuple.local.port,
        destination_port: tuple.remote.port,
        seq: record.rcv_nxt.minus(1),
        ack: record.snd_nxt,
        flags: TcpFlags::FIN | TcpFlags::ACK,
        window: 0,
        urgent: 0,
        options: Default::default(),
    };
    let mut frame = side.world.pool_clone_empty();
    assert!(write_headers(
        &mut frame,
        &side.path,
        &tuple,
        &header,
        FrameOptions::default()
    ));
    frame.to_vec()
}

/// Writes some of what is left; closes the side after the last byte.
fn write(side: &mut Side, now: Instant, rng: &mut Rng, seed: u64) {
    let want = (side.to_send - side.sent).min(1 + rng.below(6_000) as usize);
    if want > 0 {
        let bytes: Vec<u8> = (0..want)
            .map(|at| pattern((side.sent + at) as i64))
            .collect();
        side.sent += side.connection.send_bytes(&bytes, &mut side.world.env(now));
    }
    if side.sent == side.to_send && !side.shut {
        side.shut = true;
        let disposition = side.connection.shutdown(&mut side.world.env(now));
        assert_eq!(disposition, Disposition::Continue, "seed {seed}");
    }
}

fn read(side: &mut Side, now: Instant, rng: &mut Rng, seed: u64) {
    let mut out = vec![0; 1 + rng.below(20_000) as usize];
    let received = side
        .connection
        .receive_bytes(&mut out, &mut side.world.env(now));
    for byte in &out[..received.bytes] {
        assert_eq!(
            *byte,
            pattern(side.received as i64),
            "seed {seed} at {}",
            side.received
        );
        side.received += 1;
    }
}

/// What a device does to a frame that it shall cut.
fn cut(frame: &[u8], segment_bytes: u16, path: &Path) -> Vec<Vec<u8>> {
    if segment_bytes == 0 {
        return vec![frame.to_vec()];
    }
    let ethernet = EthernetView::parse(frame).expect("Ethernet");
    let packet = ethernet.payload();
    let ip = IpView::parse(ethernet.ether_type(), packet, packet.len())
        .expect("IP")
        .expect("IP");
    let tcp = TcpView::parse(ip.payload()).expect("TCP");
    let whole = TcpRepr::parse(&tcp);
    let mut frames = Vec::new();
    let pieces: Vec<&[u8]> = tcp.payload().chunks(segment_bytes.into()).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let mut header = whole;
        header.seq = header.seq.plus((index * usize::from(segment_bytes)) as u32);
        if index + 1 < pieces.len() {
            header.flags = header.flags.without(TcpFlags::FIN | TcpFlags::PSH);
        }
        let tuple = FlowTuple {
            local: millrace_base::Endpoint::new(ip.source(), whole.source_port),
            remote: millrace_base::Endpoint::new(ip.destination(), whole.destination_port),
        };
        let mut frame = HeapBuf::from_frame(piece);
        assert!(write_headers(
            &mut frame,
            path,
            &tuple,
            &header,
            FrameOptions::default()
        ));
        frames.push(frame.to_vec());
    }
    frames
}

/// The seeds of one run: `MILLRACE_SEEDS=first..last` asks for others.
fn seeds() -> core::ops::Range<u64> {
    let asked = std::env::var("MILLRACE_SEEDS").ok();
    let range = asked.as_deref().and_then(|text| text.split_once(".."));
    match range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?))) {
        Some((first, last)) => first..last,
        None => 0..300,
    }
}

// behaviour: LAY-1
#[test]
fn every_byte_arrives_both_ways_whatever_the_link_does() {
    let mut total = [0u64; 9];
    for seed in seeds() {
        for stats in Simulation::new(seed).run() {
            let seen = [
                stats.tcp_timeouts,
                stats.tcp_sack_recovery,
                stats.tcp_reno_recovery,
                stats.tcp_fast_retrans,
                stats.tcp_dsack_recv,
                stats.tcp_ofo_queue,
                stats.tcp_to_zero_window_adv,
                stats.tcp_win_probe,
                stats.delayed_acks,
            ];
            for (sum, count) in total.iter_mut().zip(seen) {
                *sum += count;
            }
        }
    }
    // The seeds do reach what they are there for.
    assert!(total.iter().all(|count| *count > 10), "{total:?}");
}

#[test]
fn a_simulation_can_be_repeated_from_its_seed() {
    for seed in [3, 77] {
        let [first, second] =
            [0, 1].map(|_| Simulation::new(seed).run().map(|side| side.tcp_out_segs));
        assert_eq!(first, second);
    }
}
