//! One connection of the model: the states of RFC 9293, its segments and its timers.

use std::collections::VecDeque;

use millrace_base::{Endpoint, Instant, Nanos, SeqNumber};
use millrace_wire::{SackBlocks, TcpFlags, TcpOptions, TcpRepr, Timestamps};

use super::ModelPlan;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::host::{Conn, Io};
use crate::packet::{Segment, emit};

/// How long a closed connection remembers, and how long one waits for the other's FIN.
const REST: Nanos = Nanos::from_secs(60);
/// An acknowledgment waits at most so long.
const DELAY: Nanos = Nanos::from_millis(40);
/// SYNs or SYN-ACKs in a row without an answer.
const GREETINGS_MAX: u32 = 40;
/// Between two of them, at most.
const GREETING_EVERY: Nanos = Nanos::from_secs(1);
/// Bytes of the timestamps option with its padding.
const STAMPS_BYTES: u64 = 12;
/// What a peer takes that says nothing (RFC 9293 section 3.7.1).
const MSS_DEFAULT: u16 = 536;

/// How far the connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    SynSent,
    SynReceived,
    /// Established and the states in which FINs are under way: the halves know.
    Open,
    TimeWait,
    Gone,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) conn: Conn,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    stage: Stage,
    /// The program has taken it; one that it opened is its own from the start.
    pub(super) accepted: bool,
    closed: bool,
    broken: Option<String>,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    iss: SeqNumber,
    irs: SeqNumber,
    own_mss: u16,
    own_scale: u8,
    peer_scale: u8,
    options: ModelPlan,
    sacks: bool,
    stamps: bool,
    /// What the peer's newest acceptable stamp was.
    recent: u32,
    clock: u32,
    /// An acknowledgment is due now, or at an instant.
    ack_now: bool,
    ack_at: Option<Instant>,
    unacked: u32,
    greetings: u32,
    greet_at: Option<Instant>,
    /// When the record is forgotten.
    rest_until: Option<Instant>,
    /// The peer's window field and its acknowledgment as they were last.
    last_told: (u64, u64),
    greets: bool,
    reset: bool,
}

impl Connection {
    pub(super) fn new(
        conn: Conn,
        [local, remote]: [Endpoint; 2],
        stage: Stage,
        plan: &ModelPlan,
        mss: u16,
        [iss, clock]: [u32; 2],
    ) -> Self {
        Self {
            conn,
            local,
            remote,
            stage,
            accepted: stage == Stage::SynSent,
            closed: false,
            broken: None,
            sender: Sender::new(mss.into()),
            receiver: Receiver::new(plan.window),
            iss: SeqNumber::new(iss),
            irs: SeqNumber::new(0),
            own_mss: mss,
            own_scale: plan.scale.unwrap_or(0),
            peer_scale: 0,
            options: *plan,
            sacks: plan.sack,
            stamps: plan.timestamps,
            recent: 0,
            clock,
            ack_now: false,
            ack_at: None,
            unacked: 0,
            greetings: 0,
            greet_at: None,
            rest_until: None,
            last_told: (0, 0),
            greets: true,
            reset: false,
        }
    }

    /// Whether nothing is left to be remembered.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Gone && (self.closed || !self.accepted)
    }

    pub(super) fn is_acceptable(&self) -> bool {
        !self.accepted && matches!(self.stage, Stage::Open | Stage::TimeWait)
    }

    /// The listener is gone.
    pub(super) fn abandon_unaccepted(&mut self) {
        if !self.accepted {
            self.reset = self.stage == Stage::Open;
            self.stage = Stage::Gone;
        }
    }

    /// A passive connection begins with the peer's SYN.
    pub(super) fn accept_syn(&mut self, _now: Instant, segment: &Segment<'_>) {
        self.learn(segment);
    }

    pub(super) fn write(&mut self, bytes: &[u8], room: usize) -> Io {
        if let Some(why) = &self.broken {
            return Io::Broken(why.clone());
        }
        if matches!(self.stage, Stage::SynSent | Stage::SynReceived) || bytes.is_empty() {
            return Io::Later;
        }
        match self.sender.push(bytes, room) {
            0 => Io::Later,
            count => Io::Moved(count),
        }
    }

    pub(super) fn read(&mut self, len: usize, into: &mut Vec<u8>) -> Io {
        let count = self.receiver.read(len, into);
        if count > 0 {
            if self.receiver.wants_to_tell(self.own_mss.into()) {
                self.ack_now = true;
            }
            return Io::Moved(count);
        }
        match &self.broken {
            _ if self.receiver.has_ended() => Io::End,
            Some(why) => Io::Broken(why.clone()),
            None => Io::Later,
        }
    }

    pub(super) fn close(&mut self, now: Instant, abort: bool) {
        self.closed = true;
        if self.stage == Stage::Gone {
            return;
        }
        if abort || self.receiver.has_unread() || self.stage != Stage::Open {
            self.reset = self.stage == Stage::Open || self.stage == Stage::SynReceived;
            if self.stage != Stage::TimeWait {
                self.stage = Stage::Gone;
            }
            return;
        }
        self.sender.end();
        self.rest_if_done(now);
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let timers = [
            self.sender.timer.filter(|_| self.stage == Stage::Open),
            self.ack_at,
            self.greet_at,
            self.rest_until,
        ];
        timers.into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    pub(super) fn advance(&mut self, now: Instant) {
        if self.rest_until.is_some_and(|at| at <= now) {
            self.rest_until = None;
            self.stage = Stage::Gone;
        }
        if self.greet_at.is_some_and(|at| at <= now) {
            self.greets = true;
            self.greet_at = None;
            if self.greetings >= GREETINGS_MAX {
                self.fail("no answer");
            }
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_now = true;
        }
        if self.stage == Stage::Open {
            self.sender.on_time(now);
            if self.sender.gives_up() {
                self.fail("timed out");
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.broken = Some(why.to_owned());
        self.stage = Stage::Gone;
        (self.greet_at, self.ack_at, self.rest_until) = (None, None, None);
    }

    /// A segment of this connection (RFC 9293 section 3.10.7).
    pub(super) fn handle(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        out: &mut VecDeque<Vec<u8>>,
    ) {
        match self.stage {
            Stage::Gone => {}
            Stage::SynSent => self.handle_answer(segment),
            Stage::SynReceived | Stage::Open | Stage::TimeWait => self.handle_open(now, segment),
        }
        self.rest_if_done(now);
        self.transmit(now, out);
    }

    fn handle_answer(&mut self, segment: &Segment<'_>) {
        let header = &segment.header;
        let acceptable = header.flags.ack() && header.ack == self.iss.plus(1);
        if header.flags.rst() {
            if acceptable {
                self.fail("refused");
            }
        } else if header.flags.syn() && acceptable {
            self.learn(segment);
            self.sender.una = 1;
            self.sender.edge = 1 + u64::from(header.window);
            self.last_told = (1, self.sender.edge);
            self.stage = Stage::Open;
            self.greet_at = None;
            self.ack_now = true;
        }
    }

    fn handle_open(&mut self, now: Instant, segment: &Segment<'_>) {
        let header = &segment.header;
        let start = i64::from(header.seq.distance(self.irs));
        let len = segment.payload.len() as i64;
        let window_end = self.receiver.edge.max(self.receiver.nxt) as i64;
        if header.flags.syn() {
            // A copy of the SYN: our answer, or the acknowledgment of theirs, has been lost.
            self.greets |= self.stage == Stage::SynReceived;
            self.ack_now |= self.stage != Stage::SynReceived;
            return;
        }
        let nxt = self.receiver.nxt as i64;
        if start > window_end || start + len + i64::from(header.flags.fin()) < nxt {
            self.ack_now |= !header.flags.rst();
            return;
        }
        if self.stamps && !header.flags.rst() && !self.check_stamp(header, start) {
            self.ack_now = true;
            return;
        }
        if header.flags.rst() {
            if start == nxt {
                self.fail("reset");
            }
            return;
        }
        if !header.flags.ack() || !self.take_ack(now, segment) {
            return;
        }
        self.take_text(now, start, segment);
    }

    /// PAWS (RFC 7323 section 5).
    fn check_stamp(&mut self, header: &TcpRepr, start: i64) -> bool {
        let Some(stamps) = header.options.timestamps else {
            return false;
        };
        let age = self.recent.wrapping_sub(stamps.value).cast_signed();
        if age > 0 {
            return false;
        }
        if start <= self.receiver.nxt as i64 {
            self.recent = stamps.value;
        }
        true
    }

    /// Whether the segment's acknowledgment is one of this connection.
    fn take_ack(&mut self, now: Instant, segment: &Segment<'_>) -> bool {
        let header = &segment.header;
        let ack = i64::from(header.ack.distance(self.iss));
        if ack < 0 || ack as u64 > self.sender.max.max(1) {
            self.ack_now = true;
            return false;
        }
        let ack = ack as u64;
        if self.stage == Stage::SynReceived {
            if ack < 1 {
                return false;
            }
            self.stage = Stage::Open;
            self.greet_at = None;
            self.sender.una = 1;
        }
        let edge = ack + (u64::from(header.window) << self.peer_scale);
        if ack < self.sender.una {
            return true;
        }
        let told = (ack, edge);
        let pure = segment.payload.is_empty() && !header.flags.fin() && told == self.last_told;
        self.last_told = told;
        self.sender.on_ack(now, ack, edge, pure);
        true
    }

    fn take_text(&mut self, now: Instant, start: i64, segment: &Segment<'_>) {
        let fin = segment.header.flags.fin();
        if segment.payload.is_empty() && !fin {
            return;
        }
        let (start, bytes) = match u64::try_from(start) {
            Ok(start) if start >= 1 => (start, segment.payload),
            _ => {
                let skip = (1 - start).min(segment.payload.len() as i64) as usize;
                (1, &segment.payload[skip..])
            }
        };
        let in_order = self.receiver.take(start, bytes, fin);
        self.unacked += 1;
        if !in_order || fin || self.unacked >= 2 || !self.options.delays_acks {
            self.ack_now = true;
        } else {
            self.ack_at.get_or_insert(now.after(DELAY));
        }
        if fin && self.stage == Stage::TimeWait {
            self.rest_until = Some(now.after(REST));
        }
    }

    /// Both FINs are acknowledged, or nobody will read the other's.
    fn rest_if_done(&mut self, now: Instant) {
        if self.stage != Stage::Open || !self.sender.is_done() {
            return;
        }
        if self.receiver.has_ended() {
            self.stage = Stage::TimeWait;
            self.rest_until = Some(now.after(REST));
        } else if self.closed {
            self.rest_until.get_or_insert(now.after(REST));
        }
    }

    /// The peer's SYN.
    fn learn(&mut self, segment: &Segment<'_>) {
        let (header, options) = (&segment.header, &segment.header.options);
        self.irs = header.seq;
        self.receiver.nxt = 1;
        // What our SYN offered counts from the peer's.
        self.receiver.edge += 1;
        if self.own_scale > 0 || self.options.scale.is_some() {
            match options.window_scale {
                Some(scale) => self.peer_scale = scale,
                None => self.own_scale = 0,
            }
        }
        if options.window_scale.is_none() {
            self.options.scale = None;
        }
        self.sacks &= options.sack_permitted;
        self.stamps &= options.timestamps.is_some();
        self.recent = options.timestamps.map_or(0, |stamps| stamps.value);
        let mss = u64::from(options.mss.unwrap_or(MSS_DEFAULT).min(self.own_mss));
        let stamps = if self.stamps { STAMPS_BYTES } else { 0 };
        self.sender.set_mss(mss - stamps);
    }

    /// Sends everything that may leave.
    pub(super) fn transmit(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>) {
        if core::mem::take(&mut self.reset) {
            let flags = TcpFlags::RST | TcpFlags::ACK;
            self.send(now, self.sender.max.max(1), flags, &[], out);
        }
        match self.stage {
            Stage::Gone => return,
            Stage::SynSent | Stage::SynReceived => {
                if core::mem::take(&mut self.greets) {
                    self.greet(now, out);
                }
                return;
            }
            Stage::Open | Stage::TimeWait => {}
        }
        while self.stage == Stage::Open
            && let Some(piece) = self.sender.next(now)
        {
            let bytes = self.sender.copy(piece.start, piece.end);
            let fin = if piece.fin {
                TcpFlags::FIN
            } else {
                TcpFlags::NONE
            };
            self.send(now, piece.start, TcpFlags::ACK | fin, &bytes, out);
        }
        self.sender.watch_window(now);
        if self.ack_now {
            self.send(now, self.sender.max.max(1), TcpFlags::ACK, &[], out);
        }
    }

    fn greet(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>) {
        self.greetings += 1;
        self.greet_at = Some(now.after(GREETING_EVERY));
        self.sender.max = self.sender.max.max(1);
        self.sender.nxt = 1;
        let answers = self.stage == Stage::SynReceived;
        let flags = match answers {
            true => TcpFlags::SYN | TcpFlags::ACK,
            false => TcpFlags::SYN,
        };
        self.send(now, 0, flags, &[], out);
    }

    fn send(
        &mut self,
        now: Instant,
        place: u64,
        flags: TcpFlags,
        bytes: &[u8],
        out: &mut VecDeque<Vec<u8>>,
    ) {
        let window = self.window_field(flags.syn());
        let mut options = TcpOptions::default();
        if flags.syn() {
            options.mss = Some(self.own_mss);
            options.window_scale = self.options.scale;
            options.sack_permitted = self.sacks;
        }
        if self.stamps {
            let value = self.clock.wrapping_add(now.as_millis() as u32);
            let echo = if flags.ack() { self.recent } else { 0 };
            options.timestamps = Some(Timestamps { value, echo });
        }
        // Blocks would make a full segment too long: they travel with what is empty.
        if self.sacks && bytes.is_empty() && !flags.syn() {
            let mut blocks = SackBlocks::default();
            for (start, end) in self.receiver.blocks() {
                blocks.push(self.irs.plus(start as u32), self.irs.plus(end as u32));
            }
            options.sack = blocks;
        }
        let ack = match flags.ack() {
            true => self.irs.plus(self.receiver.nxt as u32),
            false => SeqNumber::new(0),
        };
        let header = TcpRepr {
            source_port: self.local.port,
            destination_port: self.remote.port,
            seq: self.iss.plus(place as u32),
            ack,
            flags,
            window,
            urgent: 0,
            options,
        };
        if flags.ack() {
            (self.ack_now, self.ack_at, self.unacked) = (false, None, 0);
        }
        out.push_back(emit(
            &header,
            bytes,
            self.local.address,
            self.remote.address,
        ));
    }

    /// The window field, rounded up so that no promise is taken back.
    fn window_field(&mut self, syn: bool) -> u16 {
        let scale = if syn { 0 } else { self.own_scale };
        let unit = 1_u64 << scale;
        let bytes = self.receiver.window(self.own_mss.into());
        let field = bytes.div_ceil(unit).min(0xffff);
        self.receiver.edge = self.receiver.nxt + field * unit;
        field as u16
    }
}
