//! `TCP_INFO`: the kernel's structure, field by field.
//!
//! The order and the sizes are those of `struct tcp_info` in Linux 6.18. Linux counts segments where
//! the stack counts bytes: such fields are bytes divided by the segment size, rounded up, `delivered`
//! among them. Fields that the stack does not measure are 0: `fackets` (as in Linux), `rcv_rtt`,
//! `rcv_ooopack`, `rehash` and the sums of timeouts.

use millrace_base::{Instant, Micros};
use millrace_stack::{FlowInfo, State};

use crate::errno::Errno;
use crate::file::SocketId;
use crate::sockets::Sockets;

macro_rules! structure {
    ($( $(#[doc = $help:literal])+ $field:ident: $type:ty, )+) => {
        /// `struct tcp_info`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct TcpInfo {
            $( $(#[doc = $help])+ pub $field: $type, )+
        }

        impl TcpInfo {
            /// The bytes of the C structure.
            pub fn to_bytes(&self) -> Vec<u8> {
                let mut bytes = Vec::new();
                $( bytes.extend_from_slice(&self.$field.to_ne_bytes()); )+
                bytes
            }

            /// A field by its name in the C structure, without the `tcpi_` prefix.
            pub fn field(&self, name: &str) -> Option<u64> {
                match name {
                    "snd_wscale" => Some(u64::from(self.wscales & 0xf)),
                    "rcv_wscale" => Some(u64::from(self.wscales >> 4)),
                    $( stringify!($field) => Some(u64::from(self.$field)), )+
                    _ => None,
                }
            }
        }
    };
}

structure! {
    /// The state, by Linux's numbers (1 is ESTABLISHED).
    state: u8,
    /// Loss recovery: 0 open, 3 recovery, 4 loss.
    ca_state: u8,
    /// Retransmission timeouts in a row.
    retransmits: u8,
    /// Probes unanswered.
    probes: u8,
    /// Doublings of the timeout.
    backoff: u8,
    /// 1 time stamps, 2 SACK, 4 window scaling, 8 ECN, 16 marks were seen, 32 data in a SYN were
    /// acknowledged.
    options: u8,
    /// The peer's window shift in the low half, ours in the high one.
    wscales: u8,
    /// Bit fields of delivery rate and Fast Open.
    flags: u8,
    /// The retransmission timeout in microseconds.
    rto: u32,
    /// The delay of the next ACK in microseconds.
    ato: u32,
    /// Payload of a full segment.
    snd_mss: u32,
    /// Payload of the peer's full segments, as estimated.
    rcv_mss: u32,
    /// Segments sent and not acknowledged; for a listener, its accept queue.
    unacked: u32,
    /// Segments SACKed; for a listener, its backlog.
    sacked: u32,
    /// Segments believed lost.
    lost: u32,
    /// Segments retransmitted and in flight.
    retrans: u32,
    /// Always 0 since Linux 4.15.
    fackets: u32,
    /// Milliseconds since data left.
    last_data_sent: u32,
    /// Always 0 in Linux.
    last_ack_sent: u32,
    /// Milliseconds since data came.
    last_data_recv: u32,
    /// Milliseconds since an ACK came.
    last_ack_recv: u32,
    /// The path MTU.
    pmtu: u32,
    /// The largest receive window for now.
    rcv_ssthresh: u32,
    /// The smoothed round trip in microseconds.
    rtt: u32,
    /// Its mean deviation in microseconds.
    rttvar: u32,
    /// The slow-start threshold in segments.
    snd_ssthresh: u32,
    /// The congestion window in segments.
    snd_cwnd: u32,
    /// The MSS we announced.
    advmss: u32,
    /// Segments that may overtake each other.
    reordering: u32,
    /// The receiver's round trip in microseconds.
    rcv_rtt: u32,
    /// Receive buffer tuning: bytes per round trip.
    rcv_space: u32,
    /// Segments retransmitted so far.
    total_retrans: u32,
    /// Bytes per second.
    pacing_rate: u64,
    /// Bytes per second.
    max_pacing_rate: u64,
    /// Payload bytes acknowledged.
    bytes_acked: u64,
    /// Payload bytes received.
    bytes_received: u64,
    /// Segments sent.
    segs_out: u32,
    /// Segments received.
    segs_in: u32,
    /// Payload bytes queued and never sent.
    notsent_bytes: u32,
    /// The smallest round trip in microseconds.
    min_rtt: u32,
    /// Segments with data received.
    data_segs_in: u32,
    /// Segments with data sent.
    data_segs_out: u32,
    /// Bytes per second.
    delivery_rate: u64,
    /// Microseconds with data to send.
    busy_time: u64,
    /// Microseconds limited by the peer's window.
    rwnd_limited: u64,
    /// Microseconds limited by the send buffer.
    sndbuf_limited: u64,
    /// Segments delivered.
    delivered: u32,
    /// Of these, acknowledged with ECE.
    delivered_ce: u32,
    /// Payload bytes sent, again included.
    bytes_sent: u64,
    /// Payload bytes sent again.
    bytes_retrans: u64,
    /// D-SACKs received.
    dsack_dups: u32,
    /// Times that reordering was seen.
    reord_seen: u32,
    /// Segments received out of order.
    rcv_ooopack: u32,
    /// The peer's window in bytes.
    snd_wnd: u32,
    /// Our window in bytes.
    rcv_wnd: u32,
    /// Times the flow took another path.
    rehash: u32,
    /// Timeouts so far.
    total_rto: u16,
    /// Timeouts that were recovered from.
    total_rto_recoveries: u16,
    /// Milliseconds in timeouts.
    total_rto_time: u32,
    /// Packets that came marked. This and what follows: Accurate ECN, 0 without it.
    received_ce: u32,
    /// Bytes delivered with ECT(1).
    delivered_e1_bytes: u32,
    /// Bytes delivered with ECT(0).
    delivered_e0_bytes: u32,
    /// Bytes delivered with CE.
    delivered_ce_bytes: u32,
    /// Bytes received with ECT(1).
    received_e1_bytes: u32,
    /// Bytes received with ECT(0).
    received_e0_bytes: u32,
    /// Bytes received with CE.
    received_ce_bytes: u32,
    /// Two bits of the mode of ECN, two of what became of its option, four of what failed.
    ecn: u32,
}

/// The threshold before the first loss (`TCP_INFINITE_SSTHRESH`).
const SSTHRESH_INFINITE: u32 = 0x7fff_ffff;

impl Sockets {
    /// `TCP_INFO` with named fields, as of the last time that was passed in.
    pub fn tcp_info(&self, fd: i32) -> Result<TcpInfo, Errno> {
        let id = self.files.socket(fd)?;
        Ok(self.tcp_info_of(id))
    }

    pub(crate) fn tcp_info_of(&self, id: SocketId) -> TcpInfo {
        let mut told = TcpInfo {
            state: number_of(self.state(id)),
            reordering: self.sysctls.tunables().tcp_reordering.into(),
            ..TcpInfo::default()
        };
        let listening = self.sockets.get(&id).and_then(|s| s.listening.as_ref());
        if let Some(listening) = listening {
            told.unacked = u32::try_from(listening.queue.len()).unwrap_or(u32::MAX);
            told.sacked = listening.backlog;
            return told;
        }
        if let Some(socket) = self.sockets.get(&id) {
            let fast = socket.fast_open;
            told.options |= u8::from(fast.syn_data) << 5;
            told.flags |= (fast.failure as u8) << 1;
        }
        let Some(info) = self.info(id) else {
            told.snd_mss = 536;
            told.rcv_mss = 536;
            told.snd_cwnd = 10;
            told.snd_ssthresh = SSTHRESH_INFINITE;
            told.rto = 1_000_000;
            return told;
        };
        if let Some(socket) = self.sockets.get(&id) {
            let reading = socket.chrono.read(self.now);
            let traffic = socket.traffic;
            told.segs_in = traffic.segments_in;
            told.data_segs_in = traffic.data_segments_in;
            told.segs_out = traffic.segments_out;
            told.data_segs_out = traffic.data_segments_out;
            told.bytes_sent = traffic.bytes_out;
            told.bytes_retrans = traffic.bytes_out.saturating_sub(self.sent(id));
            told.last_data_recv = traffic.data_at.map_or(0, |at| self.millis_since(at));
            told.busy_time = reading.busy_us;
            told.rwnd_limited = reading.window_limited_us;
            told.sndbuf_limited = reading.buffer_limited_us;
            told.delivery_rate = socket.rate.bytes_per_second(info.mss.into());
            told.flags |= u8::from(socket.rate.is_app_limited());
            told.notsent_bytes = u32::try_from(self.unsent(id)).unwrap_or(u32::MAX);
        }
        self.tell_sender(&mut told, &info);
        self.tell_receiver(&mut told, &info, id);
        told
    }

    fn tell_sender(&self, told: &mut TcpInfo, info: &FlowInfo) {
        let mss = u32::from(info.mss.max(1));
        let sent = info.queued_bytes.saturating_sub(info.unsent_bytes);
        told.ca_state = info.phase as u8;
        told.retransmits = info.timeouts;
        told.backoff = info.backoff;
        told.probes = info.probes;
        told.options |= u8::from(info.timestamps)
            | u8::from(info.sack_permitted) << 1
            | u8::from(info.snd_scale != 0 || info.rcv_scale != 0) << 2
            | u8::from(info.ecn) << 3
            | u8::from(info.ecn_seen) << 4;
        told.wscales = info.snd_scale & 0xf | info.rcv_scale << 4;
        told.rto = u32::try_from(info.rto.as_nanos() / 1_000).unwrap_or(u32::MAX);
        told.snd_mss = mss;
        told.unacked = sent.div_ceil(mss);
        told.sacked = info.sacked_segments;
        told.lost = info.lost_segments;
        told.retrans = info.retransmitted_segments;
        told.reordering = info.reordering.unwrap_or(told.reordering);
        told.reord_seen = info.reordering_seen;
        told.dsack_dups = info.duplicates_reported;
        told.last_data_sent = self.millis_since(info.sent_at);
        told.rtt = info.srtt.map_or(0, Micros::as_micros);
        told.rttvar = info.rttvar.as_micros();
        told.min_rtt = info.rtt_min.map_or(u32::MAX, Micros::as_micros);
        told.snd_ssthresh = match info.ssthresh_bytes {
            u32::MAX => SSTHRESH_INFINITE,
            bytes => bytes / mss,
        };
        told.snd_cwnd = info.cwnd_bytes / mss;
        // The SYN or SYN-ACK counts as one.
        let acked = info.bytes_acked.div_ceil(u64::from(mss)) as u32;
        told.delivered = acked.saturating_add(told.sacked).saturating_add(1);
        told.total_retrans = info.retransmissions;
        told.delivered_ce = info.delivered_ce;
        tell_ecn(told, info);
        told.pacing_rate = info.pacing_rate;
        told.max_pacing_rate = info.pacing_rate_max;
        told.bytes_acked = info.bytes_acked;
        told.snd_wnd = info.snd_wnd;
    }

    fn tell_receiver(&self, told: &mut TcpInfo, info: &FlowInfo, id: SocketId) {
        told.rcv_mss = info.receive_mss.into();
        told.last_ack_recv = self.millis_since(info.received_at);
        told.pmtu = info.path_mtu.into();
        told.rcv_ssthresh = info.rcv_ssthresh;
        told.rcv_space = info.rcv_space;
        let common = self.sysctls.of_route();
        let own = self
            .get(id)
            .ok()
            .and_then(|s| s.options.own_tunables(common));
        let special = own.map_or(common.special, |own| own.special);
        told.advmss = special.announced(info.advertised_mss).into();
        told.ato = info.ack_delay_ms * 1_000;
        told.bytes_received = info.bytes_received;
        told.rcv_wnd = info.rcv_wnd;
    }

    fn millis_since(&self, at: Instant) -> u32 {
        let nanos = self.now.since(at).as_nanos();
        u32::try_from(nanos / 1_000_000).unwrap_or(u32::MAX)
    }
}

/// What Accurate ECN counts, and the modes with Linux's numbers (`TCPI_ECN_MODE_*`,
/// `TCP_ACCECN_*_FAIL_RECV`).
fn tell_ecn(told: &mut TcpInfo, info: &FlowInfo) {
    let counted = &info.accurate_ecn;
    let mode = match (info.ecn, counted.accurate) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) if info.state == State::SynSent => 3,
        (true, true) => 2,
    };
    let option_failed = counted.option_seen == 3;
    let failed = u32::from(counted.ace_failed) << 1 | u32::from(option_failed) << 3;
    told.ecn = mode | u32::from(counted.option_seen) << 2 | failed << 4;
    told.received_ce = counted.received_ce;
    [
        told.delivered_e1_bytes,
        told.delivered_e0_bytes,
        told.delivered_ce_bytes,
    ] = counted.delivered_bytes;
    [
        told.received_e1_bytes,
        told.received_e0_bytes,
        told.received_ce_bytes,
    ] = counted.received_bytes;
}

/// Linux's numbers of the states (`enum` in `tcp_states.h`).
const fn number_of(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // behaviour: OPT-12
    #[test]
    fn the_structure_has_the_layout_of_linux() {
        let info = TcpInfo {
            state: 1,
            wscales: 0x87,
            rto: 204_000,
            bytes_acked: 77,
            total_rto_time: 9,
            ..TcpInfo::default()
        };
        let bytes = info.to_bytes();
        assert_eq!(bytes.len(), 280);
        assert_eq!(bytes[8..12], 204_000u32.to_ne_bytes());
        assert_eq!(bytes[120..128], 77u64.to_ne_bytes());
        assert_eq!(bytes[244..248], 9u32.to_ne_bytes());
        assert_eq!(info.field("snd_wscale"), Some(7));
        assert_eq!(info.field("rcv_wscale"), Some(8));
        assert_eq!(info.field("nonsense"), None);
    }
}
