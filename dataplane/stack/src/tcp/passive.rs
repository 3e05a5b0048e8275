//! From a SYN to what must be remembered of it, and from a final ACK to the `Handshake` a
//! connection begins with.
//!
//! Pure translations; whether a SYN is admitted, and where the result is kept, is decided in
//! `tcp_input.rs`.

use millrace_base::{FlowTuple, Instant, ListenerId, PacketPool, SeqNumber};
use millrace_wire::TcpRepr;

use super::config::{ConnectionOptions, TcpTunables};
use super::connection::Connection;
use super::ecn::{self, Ecn};
use super::handshake::{Handshake, Open, SynAcks};
use super::isn::Secrets;
use super::options::{MSS_DEFAULT, MSS_DEFAULT_V6};
use super::segment::{CloseReason, Disposition, Env, Segment};
use super::state::State;
use super::syn_cookie::{self, CookieOptions};
use super::syn_queue::{HalfOpen, Request};

/// What the stack knows of a SYN beside the segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) now: Instant,
    pub(crate) tuple: FlowTuple,
    pub(crate) listener: ListenerId,
    /// MTU of the route back.
    pub(crate) mtu: u16,
}

impl HalfOpen {
    /// What is agreed on by answering this SYN. `iss` is set when the SYN reuses a TIME_WAIT tuple.
    pub(crate) fn from_syn<B>(
        arrival: &Arrival,
        segment: &Segment<B>,
        iss: Option<SeqNumber>,
        secrets: &Secrets,
        tunables: &TcpTunables,
    ) -> Self {
        let Arrival {
            now,
            tuple,
            listener,
            mtu,
        } = *arrival;
        let options = &segment.options;
        let origin = secrets.origin(&tuple, now);
        Self {
            tuple,
            listener,
            iss: iss.unwrap_or(origin.isn),
            irs: segment.seq,
            peer_mss: options
                .mss
                .map_or(default_mss(&tuple), |mss| tunables.special.agreed(mss)),
            own_mss: tunables.special.announced(announced_mss(&tuple, mtu)),
            peer_window_scale: options.window_scale.filter(|_| tunables.tcp_window_scaling),
            sack: options.sack_permitted && tunables.tcp_sack,
            ecn: ecn::agrees_with(segment, tunables),
            ts_recent: options
                .timestamps
                .filter(|_| tunables.tcp_timestamps)
                .map(|stamps| stamps.value),
            ts_offset: origin.ts_offset,
        }
    }

    /// Turns the answer into a cookie: the MSS goes into the sequence number, the other options
    /// into the timestamp, and without timestamps they are given up (behaviour: A17-7). Returns the
    /// SYN-ACK to send.
    pub(crate) fn into_cookie(
        mut self,
        now: Instant,
        secrets: &Secrets,
        tunables: &TcpTunables,
    ) -> TcpRepr {
        if self.ts_recent.is_none() {
            self.peer_window_scale = None;
            self.sack = false;
            self.ecn = Ecn::OFF;
        }
        let (iss, _) = syn_cookie::encode(secrets, &self.tuple, self.irs, self.peer_mss, now);
        self.iss = iss;
        let options = CookieOptions {
            window_scale: self.peer_window_scale,
            sack: self.sack,
            ecn: !self.ecn.is_off(),
        };
        let clock = syn_cookie::encode_timestamp(now.as_millis() as u32, options);
        self.syn_ack_with_clock(clock, tunables)
    }

    /// What a cookie in a final ACK says was agreed on; `None` when it is none of ours, or names
    /// what is switched off.
    pub(crate) fn from_cookie<B>(
        arrival: &Arrival,
        segment: &Segment<B>,
        secrets: &Secrets,
        tunables: &TcpTunables,
    ) -> Option<Self> {
        let Arrival {
            now,
            tuple,
            listener,
            mtu,
        } = *arrival;
        let (iss, irs) = (segment.ack.minus(1), segment.seq.minus(1));
        let peer_mss = syn_cookie::decode(secrets, &tuple, irs, iss, now)?;
        let ts_offset = secrets.timestamp_offset(&tuple);
        let options = match segment.options.timestamps {
            Some(_) if !tunables.tcp_timestamps => return None,
            Some(stamps) => syn_cookie::decode_timestamp(stamps.echo.wrapping_sub(ts_offset)),
            None => CookieOptions::default(),
        };
        let refused = options.sack && !tunables.tcp_sack
            || options.window_scale.is_some() && !tunables.tcp_window_scaling;
        (!refused).then_some(Self {
            tuple,
            listener,
            iss,
            irs,
            peer_mss,
            own_mss: tunables.special.announced(announced_mss(&tuple, mtu)),
            peer_window_scale: options.window_scale,
            sack: options.sack,
            ecn: if options.ecn && tunables.tcp_ecn != 0 {
                Ecn::of_cookie_ack(segment.flags, tunables)
            } else {
                Ecn::OFF
            },
            ts_recent: segment.options.timestamps.map(|stamps| stamps.value),
            ts_offset,
        })
    }

    /// What the connection begins with. `mtu` is that of the route.
    pub(crate) fn handshake(
        &self,
        mtu: u16,
        syn_acks: SynAcks,
        tunables: &TcpTunables,
    ) -> Handshake {
        Handshake {
            open: Open {
                tuple: self.tuple,
                iss: self.iss,
                ts_offset: self.ts_offset,
                mtu,
                options: ConnectionOptions::default(),
            },
            irs: self.irs,
            peer_mss: self.peer_mss,
            scales: self
                .peer_window_scale
                .map(|theirs| (theirs, tunables.window_scale())),
            sack_permitted: self.sack,
            ecn: self.ecn,
            ts_recent: self.ts_recent,
            rcv_wnd: self.offer(tunables),
            syn_acks,
        }
    }
}

impl Request {
    /// How often the SYN-ACK left (Karn; behaviour: LSN-24).
    pub(crate) fn syn_acks(&self) -> SynAcks {
        match self.retransmissions {
            0 => SynAcks::Once(self.sent_at),
            count => SynAcks::Again {
                first_at: self.sent_at,
                count,
                timed_out: self.timeouts > 0,
            },
        }
    }
}

impl Connection {
    /// Ends a connection that has had no way to its peer for too long.
    pub(crate) fn give_up<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        self.finish(env, CloseReason::Unreachable, None)
    }

    /// Makes segments smaller by what others put between the IP header and TCP's.
    pub(crate) fn reserve_headers<P: PacketPool>(&mut self, bytes: u16, env: &mut Env<'_, P>) {
        self.on_path_mtu(self.mtu.saturating_sub(bytes), env);
    }

    /// Whether `TcpCurrEstab` counts it.
    pub(crate) const fn is_established(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
    }

    /// Payload bytes the peer has acknowledged: more of them is forward progress.
    pub(crate) const fn bytes_acked(&self) -> u64 {
        self.bytes_acked.value()
    }
}

/// The MSS of a peer that does not say one (RFC 9293 section 3.7.1, MUST-15).
fn default_mss(tuple: &FlowTuple) -> u16 {
    if tuple.remote.address.is_v4() {
        MSS_DEFAULT
    } else {
        MSS_DEFAULT_V6
    }
}

/// The MSS we announce: what fits the path without options (RFC 6691).
fn announced_mss(tuple: &FlowTuple, mtu: u16) -> u16 {
    let headers = if tuple.remote.address.is_v4() { 40 } else { 60 };
    mtu.saturating_sub(headers).max(MSS_DEFAULT)
}
