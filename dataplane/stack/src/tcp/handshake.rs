//! How a connection begins: active open, passive open, simultaneous open (RFC 9293 section 3.5).
//!
//! The half-open part of a passive open is not here: `syn_queue.rs` and `syn_cookie.rs` remember a
//! request until its final ACK, and hand over what they know as a `Handshake`.

use core::ops::ControlFlow;

use millrace_base::{FlowTuple, Instant, Micros, Nanos, PacketPool, SeqNumber, Stamp};

use super::config::{ConnectionOptions, TcpTunables};
use super::connection::Connection;
use super::ecn::Ecn;
use super::marks::Marks;
use super::ready::Ready;
use super::rtt::RttSample;
use super::segment::{CloseReason, Disposition, Env, ResetSegment, Segment};
use super::state::State;
use super::timers::Purpose;
use super::timewait::Inherited;
use crate::stats::count;
use crate::verdict::DropReason;

/// How soon a SYN is sent again that met an ACK of something else (Linux: `TCP_TIMEOUT_MIN`, two
/// ticks).
const SYN_AGAIN_SOON: Nanos = Nanos::from_millis(2);

/// What is needed to open a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Addresses and ports; `local` is ours.
    pub(crate) tuple: FlowTuple,
    /// Our initial sequence number.
    pub(crate) iss: SeqNumber,
    /// What is added to the millisecond clock for timestamps.
    pub(crate) ts_offset: u32,
    /// The path MTU, bytes.
    pub(crate) mtu: u16,
    /// Options of this connection.
    pub(crate) options: ConnectionOptions,
}

/// What a half-open connection agreed on, when its final ACK comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    /// What an active open needs as well.
    pub(crate) open: Open,
    /// The peer's initial sequence number.
    pub(crate) irs: SeqNumber,
    /// The MSS the peer announced (the default of the family when it announced none).
    pub(crate) peer_mss: u16,
    /// The peer's window shift and ours; `None` when not both offered scaling.
    pub(crate) scales: Option<(u8, u8)>,
    /// Both offered SACK.
    pub(crate) sack_permitted: bool,
    /// Which ECN both speak.
    pub(crate) ecn: Ecn,
    /// TS.Recent, when both offered timestamps.
    pub(crate) ts_recent: Option<u32>,
    /// The window our SYN-ACK offered, bytes.
    pub(crate) rcv_wnd: u32,
    /// How often the SYN-ACK had to leave.
    pub(crate) syn_acks: SynAcks,
}

/// What is known of the SYN-ACKs of a passive open.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SynAcks {
    /// Nothing: a cookie remembers no time.
    Unknown,
    /// One left then: the first RTT sample.
    Once(Instant),
    /// The first left then, and others behind it.
    Again {
        first_at: Instant,
        /// How many others: at least one.
        count: u8,
        /// The timer sent some of them, and not only a SYN that came again.
        timed_out: bool,
    },
}

impl Connection {
    /// An active open: in SYN-SENT, with a SYN to send. `inherited` comes from the TIME_WAIT record
    /// that gave way, and its ISS takes the place of the one in `open`.
    pub(crate) fn connect(
        open: &Open,
        inherited: Option<Inherited>,
        tunables: &TcpTunables,
        now: Instant,
    ) -> Self {
        let iss = inherited.map_or(open.iss, |inherited| inherited.iss);
        let mut connection = Self::new(open.tuple, iss, open.mtu, open.options, tunables, now);
        connection.timestamps.offset = open.ts_offset;
        if let Some(Inherited {
            iss: _,
            ts_recent,
            ts_recent_at,
        }) = inherited
        {
            connection.timestamps.inherit(ts_recent, ts_recent_at);
        }
        connection.ask_for_ecn(tunables);
        connection.state = State::SynSent;
        connection.syn_pending = true;
        connection
    }

    /// A passive open whose final ACK has come: in SYN-RECEIVED. Feed that segment to
    /// `handle_segment` next; it completes the handshake and may carry data.
    pub(crate) fn accept(handshake: &Handshake, tunables: &TcpTunables, now: Instant) -> Self {
        let open = &handshake.open;
        let mut connection = Self::new(open.tuple, open.iss, open.mtu, open.options, tunables, now);
        connection.state = State::SynReceived;
        connection.timestamps.offset = open.ts_offset;
        connection.peer_mss = handshake.peer_mss;
        connection.sack_permitted = handshake.sack_permitted;
        connection.ack.ecn = handshake.ecn;
        if let Some(recent) = handshake.ts_recent {
            connection.timestamps.agree();
            connection.timestamps.remember(recent, now);
        }
        let (theirs, ours) = handshake.scales.unwrap_or((0, 0));
        connection.snd_scale = theirs;
        connection
            .window
            .open(handshake.irs, handshake.rcv_wnd, ours);
        match handshake.syn_acks {
            SynAcks::Once(sent_at) => connection.measure(now.since(sent_at).to_micros(), tunables),
            SynAcks::Unknown => connection.rtt.distrust_handshake(),
            SynAcks::Again {
                first_at,
                count,
                timed_out,
            } => {
                connection.rtt.distrust_handshake();
                connection.sent_at = Stamp::of(first_at);
                connection.retransmissions = count.into();
                connection.recovery.timeouts = u8::from(timed_out);
            }
        }
        connection.marks.set(Marks::PASSIVE);
        connection.ready |= Ready::ACCEPTED;
        connection
    }

    /// A segment in SYN-SENT (RFC 9293 section 3.10.7.3).
    pub(super) fn on_syn_sent<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: Segment<P::Buf>,
    ) -> Disposition {
        let flags = segment.flags;
        if let ControlFlow::Break(disposition) = self.check_ack_of_syn(env, &segment) {
            return disposition;
        }
        if flags.rst() {
            //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.3
            //# If the RST bit is set ... if the ACK was acceptable, then signal to the user "error:
            //# connection reset"
            if flags.ack() {
                return self.finish(env, CloseReason::Refused, None);
            }
            env.stats.drop(DropReason::AckMissing);
            return Disposition::Continue;
        }
        if !flags.syn() {
            env.stats.drop(DropReason::StateIgnored);
            return Disposition::Continue;
        }
        // A SYN-ACK proves by its ACK that it is new; a SYN alone may be one of the connection that
        // had this tuple before (Linux: tcp_rcv_synsent_state_process).
        if !flags.ack()
            && let Some(stamps) = segment.options.timestamps
            && self.timestamps.rejects(stamps.value, env.now)
        {
            env.stats.drop(DropReason::PawsRejected);
            return Disposition::Continue;
        }
        self.agree(&segment.options, env.now, env.tunables);
        if !self.ack.ecn.is_off() {
            self.settle_ecn(env, &segment);
        }
        if !self.extra.is_none() {
            self.peer_mss = self.clamped_mss(self.peer_mss, env.chunks);
        }
        let scale = self.agreed_scale(&segment, env.tunables);
        let offered = self.window.offer(self.first_offer(env.tunables));
        self.window.open(segment.seq, offered, scale);
        self.set_send_window(segment.seq, u32::from(segment.window));
        if flags.ack() {
            self.on_syn_ack(env, &segment);
            self.process_payload(env, segment)
        } else {
            //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.3
            //# Otherwise, enter SYN-RECEIVED, form a SYN,ACK segment ... and send it.
            // MUST-10; behaviour: A14-17. Data in such a SYN is not kept (behaviour: A14-18): it
            // comes again.
            self.state = State::SynReceived;
            self.syn_pending = true;
            self.update_mss(env.tunables, None);
            Disposition::Continue
        }
    }

    /// Is the ACK, if there is one, of our SYN? And did the peer echo a time at which we had sent
    /// it?
    fn check_ack_of_syn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        if !segment.flags.ack() {
            return ControlFlow::Continue(());
        }
        let acceptable = segment.ack.after(self.una) && segment.ack.before_or_eq(self.nxt);
        let reason = if !acceptable {
            // The peer still has the connection that was here before, and may ignore our RST: the
            // SYN shall not wait for its second (behaviour: A14-2).
            if self.recovery.timeouts == 0 {
                self.timers
                    .arm(Purpose::Retransmit, env.now, SYN_AGAIN_SOON);
            }
            DropReason::AckUnacceptable
        } else if self.is_echo_impossible(env, segment) {
            count!(env.stats.paws_active);
            DropReason::PawsRejected
        } else {
            return ControlFlow::Continue(());
        };
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.3
        //# If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set ...)
        env.stats.drop(reason);
        ControlFlow::Break(if segment.flags.rst() {
            Disposition::Continue
        } else {
            Disposition::Reset(ResetSegment::refusing(segment.ack))
        })
    }

    /// Linux's `PAWSActiveRejected`: the echo lies before our first SYN or in the future
    /// (behaviour: A14-3).
    fn is_echo_impossible<P: PacketPool>(
        &self,
        env: &Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> bool {
        let Some(stamps) = segment.options.timestamps.filter(|stamps| stamps.echo != 0) else {
            return false;
        };
        let since_first = env
            .now
            .as_millis()
            .saturating_sub(self.received_at.instant().as_millis());
        let elapsed = self.timestamps.elapsed(stamps.echo, env.now);
        elapsed.is_none_or(|elapsed| {
            u64::from(elapsed.as_micros() / 1_000) > since_first.saturating_add(1)
        })
    }

    fn agreed_scale<B>(&self, segment: &Segment<B>, tunables: &TcpTunables) -> u8 {
        // RFC 7323 section 2.2: both or none.
        let both = tunables.tcp_window_scaling && segment.options.window_scale.is_some();
        if both { tunables.window_scale() } else { 0 }
    }

    fn on_syn_ack<P: PacketPool>(&mut self, env: &mut Env<'_, P>, segment: &Segment<P::Buf>) {
        self.una = segment.ack;
        if self.recovery.timeouts == 0 {
            let rtt = env.now.since(self.sent_at.instant()).to_micros();
            self.measure(rtt, env.tunables);
        } else {
            // Karn: the answer may be to any of the SYNs, unless a timestamp tells which.
            match self.elapsed_since_echo(segment, env.now) {
                Some(elapsed) => self.measure(elapsed, env.tunables),
                None => self.rtt.distrust_handshake(),
            }
        }
        let first_at = self.received_at.instant();
        let has_lost = self.has_lost_syns(segment, first_at);
        self.enter_established(env, has_lost);
        self.take_metrics(env.chunks, env.now, env.tunables);
        if !self.extra.is_none() {
            self.on_fast_open_answer(env, segment);
        }
        self.ready |= Ready::CONNECTED | Ready::WRITABLE;
        if self.ack.is_ping_pong() {
            self.defer_third_ack(env);
        } else {
            self.ack.send_now();
        }
    }

    /// The final ACK of a passive or simultaneous open.
    pub(super) fn check_ack_of_syn_ack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# If the segment acknowledgment is not acceptable, form a reset segment
        //# <SEQ=SEG.ACK><CTL=RST> and send it.
        if !segment.ack.after(self.una) || segment.ack.after(self.nxt) {
            env.stats.drop(DropReason::AckUnacceptable);
            let reset = ResetSegment::refusing(segment.ack);
            return ControlFlow::Break(Disposition::Reset(reset));
        }
        // SND.UNA was ISS; data of a SYN are acknowledged like others.
        self.una = self.una.plus(1);
        if self.ack.ecn.is_accurate() && self.marks.has(Marks::PASSIVE) {
            self.begin_accurate_server(env, segment);
        }
        if segment.flags.syn() {
            // The SYN that was taken before is told of as the duplicate that it is.
            self.note_repeated_syn(env, segment.seq);
        }
        if !self.marks.has(Marks::PASSIVE) {
            // Simultaneous open: one sample, if the SYN went out once.
            if self.recovery.timeouts == 0 {
                let rtt = env.now.since(self.sent_at.instant()).to_micros();
                self.measure(rtt, env.tunables);
            } else {
                self.rtt.distrust_handshake();
            }
            self.ready |= Ready::CONNECTED | Ready::WRITABLE;
        } else if self.retransmissions > 0
            && let Some(elapsed) = self.elapsed_since_echo(segment, env.now)
        {
            self.measure(elapsed, env.tunables);
        }
        let window = self.offered_window(segment);
        self.set_send_window(segment.seq, window);
        let first_at = if self.marks.has(Marks::PASSIVE) {
            self.sent_at
        } else {
            self.received_at
        };
        let has_lost = self.has_lost_syns(segment, first_at.instant());
        self.enter_established(env, has_lost);
        self.take_metrics(env.chunks, env.now, env.tunables);
        ControlFlow::Continue(())
    }

    /// One round trip of the handshake.
    pub(super) fn measure(&mut self, rtt: Micros, tunables: &TcpTunables) {
        let sample = RttSample::one(rtt);
        let bounds = (self.una, self.nxt);
        self.rtt.sample(sample, bounds, tunables.rto_min_us());
    }

    /// The time since what the peer's timestamp answers.
    fn elapsed_since_echo<B>(&self, segment: &Segment<B>, now: Instant) -> Option<Micros> {
        let stamps = segment.options.timestamps?;
        let is_echo = stamps.echo != 0 && self.timestamps.agreed();
        let elapsed = self.timestamps.elapsed(stamps.echo, now);
        elapsed.filter(|_| is_echo)
    }

    /// Whether SYNs or SYN-ACKs were lost, the first of which left at `first_at`: then the first window is
    /// one segment. A single one that was sent again is none, a second after the first; nor were any
    /// lost when the peer answers the first of them (Linux: `tcp_init_transfer`,
    /// `tcp_try_undo_spurious_syn`).
    //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
    //= type=exception
    //= reason=Linux has a first timeout of one second, not of three
    //# if the SYN or SYN/ACK is lost, the initial window used by a sender after a correctly
    //# transmitted SYN MUST be one segment
    fn has_lost_syns<B>(&self, segment: &Segment<B>, first_at: Instant) -> bool {
        if self.recovery.timeouts == 0 || self.retransmissions < 2 {
            return false;
        }
        let first = self.timestamps.value(first_at);
        let echo = segment.options.timestamps.map(|stamps| stamps.echo);
        !self.timestamps.agreed() || echo != Some(first)
    }

    /// The handshake is over; `has_lost` when it took more SYNs than it should.
    pub(super) fn enter_established<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        has_lost: bool,
    ) {
        // The application may have closed its side before the handshake was complete.
        self.state = if self.fin_queued {
            State::FinWait1
        } else {
            State::Established
        };
        self.syn_pending = false;
        // The peer's window is known: it may bound the segments.
        self.update_mss(env.tunables, None);
        self.begin_search(env);
        if !self.extra.is_none() && !self.marks.has(Marks::PASSIVE) {
            let searched = self.searched(env.chunks);
            self.update_mss(env.tunables, searched);
        }
        if has_lost {
            self.congestion.cwnd = u32::from(self.mss);
        }
        if self.recovery.timeouts > 0 && !self.marks.has(Marks::PASSIVE) {
            // A reduction, for Linux, which the first data tell of (behaviour: TMR-21).
            self.ack.ecn.on_reduction();
        }
        self.recovery.timeouts = 0;
        self.recovery.stalled_since = Stamp::NEVER;
        self.recovery.point = self.una;
        self.rtt.end_backoff();
        self.timers.retransmit = Stamp::NEVER;
        self.sent_at = Stamp::of(env.now);
        self.received_at = Stamp::of(env.now);
        self.ack.note_data(env.now);
        let announced = self.announced_payload(env.tunables);
        self.window.begin(announced, env.now, env.tunables);
        self.arm_keepalive(env.now, env.tunables);
        if self.congestion.is_modelled() {
            self.begin_model(env.chunks, env.tunables, env.now);
        }
    }
}
