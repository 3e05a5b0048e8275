//! Test benches: one connection against a scripted peer, and two connections over a link that
//! misbehaves.

use core::fmt;

use millrace_base::{
    Address, Endpoint, FlowTuple, HeapBuf, HeapPool, Instant, MacAddress, Nanos, PacketBuf,
    PacketPool, SeqNumber,
};
use millrace_wire::tcp::checksum;
use millrace_wire::{EthernetView, IpView, SackBlocks, TcpFlags, TcpOptions, TcpView, Timestamps};

use super::chunk::Chunks;
use super::config::{ConnectionOptions, TcpTunables};
use super::connection::Connection;
use super::handshake::{Handshake, Open, SynAcks};
use super::info::FlowInfo;
use super::predict::Tail;
use super::segment::{Disposition, Env, Segment};
use super::timewait::Inherited;
use crate::dispatch::{Carried, TcpFrame};
use crate::path::{Offloads, Path};
use crate::stats::Stats;

/// The two ends every test uses; `a` is ours.
pub(crate) fn tuple() -> FlowTuple {
    FlowTuple {
        local: Endpoint::new(Address::v4([10, 0, 0, 1]), 1_000),
        remote: Endpoint::new(Address::v4([10, 0, 0, 2]), 2_000),
    }
}

/// A path of an ordinary Ethernet with these offloads.
pub(crate) fn path(offloads: Offloads) -> Path {
    Path {
        mtu: 1_500,
        source: MacAddress::new([2, 0, 0, 0, 0, 1]),
        destination: MacAddress::new([2, 0, 0, 0, 0, 2]),
        offloads,
        ..Path::default()
    }
}

/// A device that takes chains but computes nothing.
pub(crate) fn chains() -> Offloads {
    Offloads {
        segments_max: 32,
        ..Offloads::default()
    }
}

/// Opens the frame a connection sent: its segment, the payload in the frame's first buffer.
pub(crate) fn parse(mut frame: HeapBuf) -> Segment<HeapBuf> {
    let bytes = frame.bytes().to_vec();
    let ethernet = EthernetView::parse(&bytes).expect("Ethernet");
    let packet = ethernet.payload();
    let ip = IpView::parse(ethernet.ether_type(), packet, packet.len())
        .expect("IP")
        .expect("IP");
    assert!(ip.header_checksum_ok());
    let len = ip.payload_len() as u32;
    let pieces = core::iter::once(ip.payload());
    assert!(
        checksum::verify(ip.source(), ip.destination(), len, pieces),
        "TCP checksum"
    );
    let tcp = TcpView::parse(ip.payload()).expect("TCP");
    let payload_len = tcp.payload().len();
    let segment = Segment {
        seq: tcp.seq(),
        ack: tcp.ack(),
        flags: tcp.flags(),
        window: tcp.window(),
        traffic_class: ip.traffic_class(),
        options: tcp.options(),
        payload: None,
        payload_len: payload_len as u32,
    };
    let skip = ethernet.header_len() + ip.header_len() + tcp.header_len();
    let offset = frame.offset() + skip;
    assert!(frame.set_span(offset, payload_len));
    Segment {
        payload: (payload_len > 0).then_some(frame),
        ..segment
    }
}

impl Connection {
    /// The next frame, or `None` when there is nothing to send, nothing may be sent, or no buffer
    /// is free.
    pub(crate) fn poll_transmit<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        let mut next = None;
        self.transmit(env, path, &mut |frame| {
            next = Some(frame);
            false
        });
        next
    }
}

/// What the stack would have read of a segment whose payload begins its buffer.
fn plain_header(segment: &Segment<HeapBuf>) -> TcpFrame {
    let layout = segment.options.layout(segment.flags.syn());
    let mut options = vec![0; layout.encoded_len()];
    layout.emit(&mut options).expect("fits");
    TcpFrame {
        tuple: tuple(),
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        traffic_class: segment.traffic_class,
        carried: Carried::of(&options, segment.flags),
        options_at: 0,
        payload_at: 0,
        payload_len: segment.payload_len,
    }
}

/// What one end owns besides its connection.
pub(crate) struct World {
    pub(crate) pool: HeapPool,
    pub(crate) chunks: Chunks<HeapBuf>,
    pub(crate) stats: Stats,
    pub(crate) tunables: TcpTunables,
}

impl World {
    pub(crate) fn new(tunables: TcpTunables) -> Self {
        Self {
            pool: HeapPool::new(20_000, 2_176),
            chunks: Chunks::new(20_000),
            stats: Stats::default(),
            tunables,
        }
    }

    pub(crate) fn env(&mut self, now: Instant) -> Env<'_, HeapPool> {
        Env {
            now,
            pool: &mut self.pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: &self.tunables,
        }
    }
}

/// A segment of the scripted peer, or one that was sent to it. Numbers count from the first data
/// byte: the SYN of either side is at -1.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seg {
    pub(crate) flags: TcpFlags,
    pub(crate) seq: i64,
    pub(crate) ack: i64,
    pub(crate) window: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) sack: Vec<(i64, i64)>,
    pub(crate) stamps: Option<(u32, u32)>,
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) traffic_class: u8,
}

/// An ACK without data.
pub(crate) fn ack(ack: i64) -> Seg {
    Seg {
        flags: TcpFlags::ACK,
        seq: 0,
        ack,
        window: 60_000,
        payload: Vec::new(),
        sack: Vec::new(),
        stamps: None,
        mss: None,
        scale: None,
        sack_permitted: false,
        traffic_class: 0,
    }
}

/// Data from `seq` on; every byte tells its position.
pub(crate) fn data(seq: i64, len: usize) -> Seg {
    let payload = (0..len).map(|at| pattern(seq + at as i64)).collect();
    Seg {
        seq,
        payload,
        ..ack(0)
    }
}

/// The byte at this position of every test stream.
pub(crate) fn pattern(position: i64) -> u8 {
    (position.wrapping_mul(31) >> 2) as u8
}

impl Seg {
    pub(crate) fn flags(self, flags: TcpFlags) -> Self {
        Self { flags, ..self }
    }
    pub(crate) fn seq(self, seq: i64) -> Self {
        Self { seq, ..self }
    }
    pub(crate) fn ack(self, ack: i64) -> Self {
        Self { ack, ..self }
    }
    pub(crate) fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }
    pub(crate) fn sack(self, blocks: &[(i64, i64)]) -> Self {
        Self {
            sack: blocks.to_vec(),
            ..self
        }
    }
    pub(crate) fn stamps_if(self, agreed: bool, value: u32, echo: u32) -> Self {
        Self {
            stamps: agreed.then_some((value, echo)),
            ..self
        }
    }
    pub(crate) fn stamps(self, value: u32, echo: u32) -> Self {
        Self {
            stamps: Some((value, echo)),
            ..self
        }
    }
    pub(crate) fn fin(self) -> Self {
        Self {
            flags: self.flags | TcpFlags::FIN,
            ..self
        }
    }
    pub(crate) fn rst(self) -> Self {
        Self {
            flags: TcpFlags::RST,
            ..self
        }
    }
    pub(crate) fn is_ack_only(&self) -> bool {
        self.flags == TcpFlags::ACK && self.payload.is_empty()
    }
    pub(crate) fn len(&self) -> i64 {
        self.payload.len() as i64
    }
}

impl fmt::Debug for Seg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{:?} {}..+{} ack {}",
            self.flags,
            self.seq,
            self.payload.len(),
            self.ack
        )?;
        write!(f, " win {} sack {:?}]", self.window, self.sack)
    }
}

/// One connection against a scripted peer.
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) connection: Connection,
    pub(crate) now: Instant,
    pub(crate) path: Path,
    pub(crate) iss: SeqNumber,
    pub(crate) irs: SeqNumber,
    /// What ended it, if something did.
    pub(crate) ended: Option<Disposition>,
    /// Whether segments may take the short way, as the stack has it, and how many did.
    pub(crate) predicts: bool,
    pub(crate) predicted: usize,
}

pub(crate) const ISS: u32 = 0xffff_f000;
pub(crate) const IRS: u32 = 0xffff_fe00;

fn open(options: ConnectionOptions) -> Open {
    Open {
        tuple: tuple(),
        iss: SeqNumber::new(ISS),
        ts_offset: 5_000,
        mtu: 1_500,
        options,
    }
}

impl Bench {
    /// A connection in SYN-SENT whose SYN was not yet polled.
    pub(crate) fn connecting(tunables: TcpTunables) -> Self {
        Self::connecting_after(None, tunables)
    }

    /// The same on a tuple that an earlier connection has left.
    pub(crate) fn connecting_after(inherited: Option<Inherited>, tunables: TcpTunables) -> Self {
        let now = Instant::from_millis(1_000);
        let open = open(ConnectionOptions::default());
        let connection = Connection::connect(&open, inherited, &tunables, now);
        Self {
            world: World::new(tunables),
            iss: connection.una,
            connection,
            now,
            path: path(chains()),
            irs: SeqNumber::new(IRS),
            ended: None,
            predicts: true,
            predicted: 0,
        }
    }

    /// A passive connection just established with an MSS of 1,000, SACK if wanted, no timestamps,
    /// no scaling.
    pub(crate) fn established(sack: bool) -> Self {
        Self::established_with(
            sack,
            TcpTunables::default(),
            ConnectionOptions::default(),
            None,
        )
    }

    pub(crate) fn established_with(
        sack: bool,
        tunables: TcpTunables,
        options: ConnectionOptions,
        ts_recent: Option<u32>,
    ) -> Self {
        let mut bench = Self::connecting(tunables);
        let once = SynAcks::Once(Instant::from_millis(900));
        let handshake = Handshake {
            open: open(options),
            sack_permitted: sack,
            ..bench.handshake(once, ts_recent)
        };
        bench.connection = Connection::accept(&handshake, &bench.world.tunables, bench.now);
        let mut segment = ack(0);
        segment.stamps = ts_recent.map(|recent| (recent, 0));
        assert_eq!(bench.receive(segment), Disposition::Continue);
        bench.connection.take_ready();
        bench
    }

    /// What a passive open has agreed on: an MSS of 1,000, SACK, no scaling.
    pub(crate) fn handshake(&self, syn_acks: SynAcks, ts_recent: Option<u32>) -> Handshake {
        Handshake {
            open: open(ConnectionOptions::default()),
            irs: self.irs,
            peer_mss: if ts_recent.is_some() { 1_012 } else { 1_000 },
            scales: None,
            sack_permitted: true,
            ecn: super::ecn::Ecn::OFF,
            ts_recent,
            rcv_wnd: 65_535,
            syn_acks,
        }
    }

    /// The peer's segment arrives now.
    pub(crate) fn receive(&mut self, seg: Seg) -> Disposition {
        self.receive_burst(vec![seg])
    }

    /// The peer's segments arrive in one burst; what the last one did, or the one that ended the
    /// connection.
    pub(crate) fn receive_burst(&mut self, burst: Vec<Seg>) -> Disposition {
        let mut disposition = Disposition::Continue;
        let mut tail = Tail::of(burst.len());
        for seg in burst {
            let segment = self.segment(seg);
            disposition = self.take(segment, &mut tail);
            if disposition != Disposition::Continue {
                break;
            }
        }
        let mut env = self.world.env(self.now);
        self.connection.end_tail(&mut env, &mut tail);
        self.note(disposition)
    }

    fn segment(&mut self, seg: Seg) -> Segment<HeapBuf> {
        let (irs, iss) = (self.irs.plus(1), self.iss.plus(1));
        let at = |base: SeqNumber, relative: i64| base.plus(relative as u32);
        let mut sack = SackBlocks::NONE;
        for (start, end) in &seg.sack {
            sack.push(at(iss, *start), at(iss, *end));
        }
        let payload = (!seg.payload.is_empty())
            .then(|| self.world.pool.receive(&seg.payload).expect("buffer"));
        Segment {
            seq: at(irs, seg.seq),
            ack: at(iss, seg.ack),
            flags: seg.flags,
            window: seg.window,
            traffic_class: seg.traffic_class,
            options: TcpOptions {
                mss: seg.mss,
                window_scale: seg.scale,
                sack_permitted: seg.sack_permitted,
                timestamps: seg.stamps.map(|(value, echo)| Timestamps { value, echo }),
                sack,
                ..TcpOptions::default()
            },
            payload_len: seg.payload.len() as u32,
            payload,
        }
    }

    /// The short way if it may and can, else the long one.
    fn take(&mut self, mut segment: Segment<HeapBuf>, tail: &mut Tail) -> Disposition {
        let header = plain_header(&segment);
        let frame = segment.payload.take();
        let mut env = self.world.env(self.now);
        let is_empty = frame.is_none();
        let Some(frame) = frame.or_else(|| env.pool.alloc()) else {
            return self.connection.handle_segment(&mut env, segment);
        };
        let frame = match self.predicts {
            true => match self
                .connection
                .try_predicted(&mut env, &header, frame, tail)
            {
                Ok(disposition) => {
                    self.predicted += 1;
                    return disposition;
                }
                Err(frame) => frame,
            },
            false => frame,
        };
        segment.payload = (!is_empty).then_some(frame);
        self.connection.handle_segment(&mut env, segment)
    }

    /// Everything the connection sends now.
    pub(crate) fn sent(&mut self) -> Vec<Seg> {
        let mut sent = Vec::new();
        while let Some(seg) = self.poll() {
            sent.push(seg);
            assert!(sent.len() < 5_000, "sends for ever");
        }
        sent
    }

    /// Everything the connection sends in one turn, as on a lcore: [`Bench::sent`] has one for each segment.
    pub(crate) fn turn(&mut self) -> Vec<Seg> {
        let path = self.path;
        let mut frames = Vec::new();
        let env = &mut self.world.env(self.now);
        self.connection.transmit(env, &path, &mut |frame| {
            frames.push(frame);
            true
        });
        frames.iter().map(|frame| self.seg_of(frame)).collect()
    }

    /// The next segment the connection sends.
    pub(crate) fn poll(&mut self) -> Option<Seg> {
        let path = self.path;
        let env = &mut self.world.env(self.now);
        let frame = self.connection.poll_transmit(env, &path)?;
        Some(self.seg_of(&frame))
    }

    fn seg_of(&self, frame: &HeapBuf) -> Seg {
        let segment = parse(HeapBuf::from_frame(&frame.to_vec()));
        let (irs, iss) = (self.irs.plus(1), self.iss.plus(1));
        let relative = |value: SeqNumber, base: SeqNumber| i64::from(value.distance(base));
        Seg {
            flags: segment.flags,
            seq: relative(segment.seq, iss),
            ack: if segment.flags.ack() {
                relative(segment.ack, irs)
            } else {
                0
            },
            window: segment.window,
            payload: segment.payload.map(|buf| buf.to_vec()).unwrap_or_default(),
            sack: segment
                .options
                .sack
                .as_slice()
                .iter()
                .map(|(start, end)| (relative(*start, irs), relative(*end, irs)))
                .collect(),
            stamps: segment
                .options
                .timestamps
                .map(|stamps| (stamps.value, stamps.echo)),
            mss: segment.options.mss,
            scale: segment.options.window_scale,
            sack_permitted: segment.options.sack_permitted,
            traffic_class: segment.traffic_class,
        }
    }

    /// Time passes; timers expire in order.
    pub(crate) fn advance(&mut self, millis: u64) -> Disposition {
        let until = self.now.after(Nanos::from_millis(millis));
        let mut last = Disposition::Continue;
        while self.connection.next_deadline().is_due(until) && self.ended.is_none() {
            self.now = self.now.max(self.connection.next_deadline());
            let disposition = self.connection.on_timer(&mut self.world.env(self.now));
            last = self.note(disposition);
            if self.connection.wants_output(&self.world.chunks) {
                break;
            }
        }
        if !self.connection.wants_output(&self.world.chunks) && self.ended.is_none() {
            self.now = until;
        }
        last
    }

    /// Queues `len` bytes of the pattern, from where the last queued byte ended.
    pub(crate) fn write(&mut self, len: usize) -> usize {
        let from = i64::from(self.connection.send.end().distance(self.iss.plus(1)));
        let bytes: Vec<u8> = (0..len).map(|at| pattern(from + at as i64)).collect();
        self.connection
            .send_bytes(&bytes, &mut self.world.env(self.now))
    }

    /// What is to be told of the connection.
    pub(crate) fn info(&self) -> FlowInfo {
        self.connection.info(&self.world.chunks)
    }

    /// Reads everything that waits.
    pub(crate) fn read(&mut self) -> Vec<u8> {
        let mut out = vec![0; 300_000];
        let received = self
            .connection
            .receive_bytes(&mut out, &mut self.world.env(self.now));
        out.truncate(received.bytes);
        out
    }

    pub(crate) fn shutdown(&mut self) -> Disposition {
        let disposition = self.connection.shutdown(&mut self.world.env(self.now));
        self.note(disposition)
    }

    pub(crate) fn close(&mut self) -> Disposition {
        let disposition = self.connection.close(&mut self.world.env(self.now));
        self.note(disposition)
    }

    pub(crate) fn abort(&mut self) -> Disposition {
        let disposition = self.connection.abort(&mut self.world.env(self.now));
        self.note(disposition)
    }

    /// Frees everything and checks that nothing leaked.
    pub(crate) fn finish(mut self) {
        self.connection.release(&mut self.world.chunks);
        assert_eq!(self.world.chunks.used(), 0, "chunks leaked");
        assert_eq!(self.world.chunks.disordered(), 0, "states leaked");
        assert_eq!(self.world.pool.live(), 0, "buffers leaked");
    }

    fn note(&mut self, disposition: Disposition) -> Disposition {
        if matches!(
            disposition,
            Disposition::Closed(..) | Disposition::TimeWait(_)
        ) {
            self.ended = Some(disposition);
        }
        disposition
    }
}
