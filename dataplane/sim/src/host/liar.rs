//! A peer that lies: the model, whose every segment a liar may change on its way out.
//!
//! What it wants is more than its share, or a sender that breaks. Nothing is demanded of it; of the
//! host that it talks to everything is, but that the conversation comes to its end. What each lie is
//! worth: `fairness.rs`, and `dataplane/docs/lying-peers.md`.

use std::collections::{BTreeMap, VecDeque};

use millrace_base::{Endpoint, Instant, SeqNumber};
use millrace_wire::tcp::AccEcn;
use millrace_wire::{SackBlocks, TcpFlags, TcpRepr};

use super::model::{Model, ModelPlan};
use super::{Accepted, Conn, Host, Io};
use crate::dice::{Dice, MILLION};
use crate::packet::{ECN_FLAGS, Parsed, Segment, emit, parse};

/// The largest jump of an invented number.
const JUMP_MAX: u32 = 200_000;

/// How it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lie {
    /// Every acknowledgment in so many parts (Savage and others 1999).
    AckDivision { parts: u32 },
    /// Acknowledges what is only on its way, so many bytes ahead.
    OptimisticAck { ahead: u32 },
    /// Acknowledges so many bytes behind the newest that has come, and hides what was lost before:
    /// whoever lies so does not want the bytes, or can ask for them again.
    HiddenLoss { ahead: u32 },
    /// Every acknowledgment so many times.
    DuplicateAcks { times: u32 },
    /// SACK blocks of anything: received, sent, neither.
    SackLies,
    /// Whatever is sent again had come before (RFC 2883): there was no loss.
    DsackLies,
    /// Whatever is sent again, the first copy had come: the echo is the first one's (RFC 3522).
    OldEchoes,
    /// A window that opens and shuts at will.
    WindowGames,
    /// Forgets what it has reported.
    Reneging,
    /// Stamps and echoes of anything.
    StampLies,
    /// Any field may be anything, now and then.
    Noise,
    /// Asks for ECN, with counters or without, and then reports marks at will.
    MarkLies,
}

impl Lie {
    /// Every kind; `MarkLies`, the last, is none of the first edition.
    pub(crate) const ALL: [Self; 12] = [
        Self::AckDivision { parts: 20 },
        Self::OptimisticAck { ahead: 20_000 },
        Self::HiddenLoss { ahead: 5_000 },
        Self::DuplicateAcks { times: 10 },
        Self::SackLies,
        Self::DsackLies,
        Self::OldEchoes,
        Self::WindowGames,
        Self::Reneging,
        Self::StampLies,
        Self::Noise,
        Self::MarkLies,
    ];

    /// Whether what its host is told tells nothing of what the host should say: sequence numbers and
    /// stamps that are made up.
    pub(crate) const fn confuses(self) -> bool {
        matches!(self, Self::StampLies | Self::Noise)
    }
}

/// What is chosen of a liar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiarPlan {
    pub(crate) model: ModelPlan,
    pub(crate) lie: Lie,
    /// Segments with a lie, in a million.
    pub(crate) lies_ppm: u32,
}

/// The host.
#[derive(Debug)]
pub(crate) struct Liar {
    model: Model,
    plan: LiarPlan,
    dice: Dice,
    out: VecDeque<Vec<u8>>,
    /// Behind the newest byte that came, by our port; and what was acknowledged last.
    seen: BTreeMap<u16, SeqNumber>,
    told: BTreeMap<u16, SeqNumber>,
    /// What came that had been sent before, it seems, and the stamp of the newest before it.
    again: BTreeMap<u16, Again>,
}

/// What a liar remembers of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Again {
    /// Data have come: before that, a lie would only end the connection.
    has_begun: bool,
    /// Sent again, from here to there.
    bytes: Option<(SeqNumber, SeqNumber)>,
    /// The stamp of what came last in its order.
    stamp: u32,
}

impl Liar {
    pub(crate) fn new(node: usize, v6: bool, plan: &LiarPlan, secret: u64) -> Self {
        let mut model = plan.model;
        if plan.lie == Lie::Reneging {
            model.reneges_ppm = plan.lies_ppm / 4;
        }
        Self {
            model: Model::new(node, v6, &model, secret),
            plan: *plan,
            dice: Dice::new(secret ^ 0x006c_6965),
            out: VecDeque::new(),
            seen: BTreeMap::new(),
            told: BTreeMap::new(),
            again: BTreeMap::new(),
        }
    }

    fn note(&mut self, segment: &Segment<'_>) {
        let start = segment.header.seq;
        let end = start.plus(segment.payload.len() as u32);
        let port = segment.to.port;
        let seen = self.seen.entry(port).or_insert(end);
        let again = self.again.entry(port).or_default();
        again.has_begun |= start != end;
        if end.after(*seen) || segment.header.flags.syn() {
            *seen = end;
            again.bytes = None;
            if let Some(stamps) = segment.header.options.timestamps {
                again.stamp = stamps.value;
            }
        } else if start != end {
            again.bytes = Some((start, end));
        }
    }

    /// Takes what the model wants to say, and says something else.
    fn lie(&mut self) {
        while let Some(packet) = self.model.packet_out() {
            let Parsed::Tcp(segment) = parse(&packet) else {
                self.out.push_back(packet);
                continue;
            };
            if self.plan.lie == Lie::MarkLies && segment.header.flags.syn() {
                self.ask_for_ecn(&segment);
                continue;
            }
            let again = self.again.get(&segment.from.port);
            let has_begun = again.is_some_and(|again| again.has_begun);
            if !has_begun || !self.dice.happens(self.plan.lies_ppm) {
                self.remember(&segment);
                self.out.push_back(packet);
                continue;
            }
            self.tell(&segment);
            self.remember(&segment);
        }
    }

    fn remember(&mut self, segment: &Segment<'_>) {
        self.told.insert(segment.from.port, segment.header.ack);
    }

    fn tell(&mut self, segment: &Segment<'_>) {
        let port = segment.from.port;
        let ack = segment.header.ack;
        let seen = self.seen.get(&port).copied().unwrap_or(ack);
        let again = self.again.get(&port).copied().unwrap_or_default();
        let mut header = segment.header;
        match self.plan.lie {
            Lie::AckDivision { parts } => {
                let before = self.told.get(&port).copied().unwrap_or(ack);
                let step = ack.bytes_since(before) / parts.max(1);
                for part in 1..parts {
                    let part = TcpRepr {
                        ack: before.plus(step * part),
                        ..header
                    };
                    self.say(&part, segment, &[]);
                }
            }
            Lie::OptimisticAck { ahead } => header.ack = ack.plus(self.dice.between(1, ahead)),
            Lie::HiddenLoss { ahead } => {
                header.ack = seen.plus(self.dice.between(0, ahead));
                header.options.sack = SackBlocks::default();
            }
            Lie::DsackLies => {
                if let Some(bytes) = again.bytes.filter(|(_, end)| ack.after_or_eq(*end)) {
                    report_duplicate(&mut header, bytes);
                }
            }
            Lie::OldEchoes => {
                if let Some(stamps) = header.options.timestamps.as_mut()
                    && again.bytes.is_some()
                {
                    stamps.echo = again.stamp;
                }
            }
            Lie::DuplicateAcks { times } => {
                for _ in 1..times {
                    self.say(&header, segment, &[]);
                }
            }
            Lie::SackLies => {
                let from = self.dice.pick(&[ack, seen, ack.minus(50_000)]);
                self.report_blocks(&mut header, from);
            }
            Lie::WindowGames => {
                let shut = self.dice.pick(&[0, 0, 1, 2, 100, 1_000, 0xffff]);
                header.window = shut;
            }
            Lie::Reneging => {}
            Lie::StampLies => {
                if let Some(stamps) = &mut header.options.timestamps {
                    let wild = self.dice.word() as u32;
                    let near = stamps.echo.wrapping_sub(self.dice.spread(1, 100_000));
                    stamps.echo = self.dice.pick(&[wild, near, 0]);
                    if self.dice.one_in(10) {
                        stamps.value = self.dice.word() as u32;
                    }
                }
            }
            Lie::Noise => self.garble(&mut header),
            Lie::MarkLies => self.report_marks(&mut header),
        }
        self.say(&header, segment, segment.payload);
    }

    /// A SYN that asks for Accurate ECN or for that of RFC 3168, or an answer that agrees.
    fn ask_for_ecn(&mut self, segment: &Segment<'_>) {
        let mut header = segment.header;
        let classic = TcpFlags::CWR | TcpFlags::ECE;
        let asks = self.dice.pick(&[classic, ECN_FLAGS]);
        header.flags = header.flags
            | if header.flags.ack() {
                TcpFlags::ECE
            } else {
                asks
            };
        self.say(&header, segment, segment.payload);
    }

    /// Reports blocks of anything behind `from`.
    fn report_blocks(&mut self, header: &mut TcpRepr, from: SeqNumber) {
        header.options.sack = SackBlocks::default();
        for _ in 0..self.dice.between(1, 3) {
            let start = from.plus(self.dice.spread(1, JUMP_MAX));
            let end = start.plus(self.dice.spread(1, JUMP_MAX));
            header.options.sack.push(start, end);
        }
    }

    /// Reports any marks, in flags and now and then in counters.
    fn report_marks(&mut self, header: &mut TcpRepr) {
        let any = ECN_FLAGS.bits() & self.dice.word() as u16;
        header.flags |= TcpFlags::from_bits(any);
        // There is no room for both.
        if header.options.sack.is_empty() && self.dice.one_in(4) {
            let mut count = || self.dice.spread(1, 1 << 24);
            let counters = [count(), count(), count()];
            header.options.accecn = Some(AccEcn::new(self.dice.one_in(2), &counters));
        }
    }

    /// Makes one field anything.
    fn garble(&mut self, header: &mut TcpRepr) {
        let jump = self.dice.spread(1, JUMP_MAX);
        match self.dice.between(0, 6) {
            0 => header.seq = header.seq.plus(jump),
            1 => header.seq = header.seq.minus(jump),
            2 => header.ack = header.ack.plus(jump),
            3 => header.ack = header.ack.minus(jump),
            4 => header.window = self.dice.word() as u16,
            5 => header.urgent = self.dice.word() as u16,
            _ => {
                // Not so many of those that end a connection.
                let bits = self.dice.word() as u16;
                let rare = TcpFlags::RST | TcpFlags::SYN;
                let kept = if self.dice.one_in(20) {
                    bits
                } else {
                    bits & !rare.bits()
                };
                header.flags = TcpFlags::from_bits(kept);
            }
        }
    }

    fn say(&mut self, header: &TcpRepr, segment: &Segment<'_>, payload: &[u8]) {
        let (from, to) = (segment.from.address, segment.to.address);
        self.out.push_back(emit(header, payload, from, to));
    }
}

/// Reports in the first block that these bytes came twice (RFC 2883).
fn report_duplicate(header: &mut TcpRepr, (start, end): (SeqNumber, SeqNumber)) {
    let mut blocks = SackBlocks::default();
    blocks.push(start, end);
    for (start, end) in header.options.sack.as_slice().iter().take(2) {
        blocks.push(*start, *end);
    }
    header.options.sack = blocks;
}

impl Host for Liar {
    fn packet_in(&mut self, now: Instant, packet: &[u8]) {
        if let Parsed::Tcp(segment) = parse(packet) {
            self.note(&segment);
        }
        self.model.packet_in(now, packet);
        self.lie();
    }

    fn packet_out(&mut self) -> Option<Vec<u8>> {
        self.lie();
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Instant {
        self.model.next_deadline()
    }

    fn advance(&mut self, now: Instant) {
        self.model.advance(now);
    }

    fn listen(&mut self, now: Instant, port: u16) {
        self.model.listen(now, port);
    }

    fn stop_listening(&mut self, now: Instant) {
        self.model.stop_listening(now);
    }

    fn connect(&mut self, now: Instant, to: Endpoint, fast: bool) -> Option<(Conn, u16)> {
        self.model.connect(now, to, fast)
    }

    fn accept(&mut self, now: Instant) -> Option<Accepted> {
        self.model.accept(now)
    }

    fn write(&mut self, now: Instant, conn: Conn, bytes: &[u8]) -> Io {
        self.model.write(now, conn, bytes)
    }

    fn read(&mut self, now: Instant, conn: Conn, len: usize, into: &mut Vec<u8>) -> Io {
        self.model.read(now, conn, len, into)
    }

    fn shut_down(&mut self, now: Instant, conn: Conn) {
        self.model.shut_down(now, conn);
    }

    fn close(&mut self, now: Instant, conn: Conn, abort: bool) {
        self.model.close(now, conn, abort);
    }

    fn left_over(&self) -> Option<String> {
        None
    }

    fn is_honest(&self) -> bool {
        false
    }
}

/// A liar that lies at every chance.
pub(crate) const ALWAYS: u32 = MILLION;
