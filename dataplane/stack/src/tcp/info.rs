//! A connection as an operator sees it: the core of Linux's `TCP_INFO`, and the tuple.

use millrace_base::{FlowTuple, Micros};

use super::connection::Connection;
use super::segment::CloseReason;
use super::state::State;

/// One connection at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowInfo {
    /// Addresses and ports; `local` is ours.
    pub tuple: FlowTuple,
    /// The state.
    pub state: State,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Payload bytes the peer has acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes that wait for the application.
    pub unread_bytes: u32,
    /// Payload bytes queued to send, in flight included.
    pub queued_bytes: u32,
    /// Payload bytes in flight.
    pub in_flight_bytes: u32,
    /// Congestion window in bytes.
    pub cwnd_bytes: u32,
    /// Slow-start threshold in bytes; `u32::MAX` before the first loss.
    pub ssthresh_bytes: u32,
    /// The peer's window in bytes.
    pub snd_wnd: u32,
    /// Our window in bytes.
    pub rcv_wnd: u32,
    /// Payload bytes of a full segment.
    pub mss: u16,
    /// The smoothed round trip, once known.
    pub srtt: Option<Micros>,
    /// Its mean deviation.
    pub rttvar: Micros,
    /// The smallest round trip seen.
    pub rtt_min: Option<Micros>,
    /// Segments retransmitted.
    pub retransmissions: u32,
    /// Timeouts in a row now.
    pub timeouts: u8,
    /// Keep-alive or window probes unanswered now.
    pub probes: u8,
    /// The congestion control.
    pub congestion_control: &'static str,
    /// Why it ended, when it has.
    pub closed: Option<CloseReason>,
}

impl Connection {
    /// What is to be told about this connection.
    pub(crate) fn info(&self) -> FlowInfo {
        FlowInfo {
            tuple: self.tuple,
            state: self.state,
            bytes_received: self.bytes_received,
            bytes_acked: self.bytes_acked,
            unread_bytes: self.receive.bytes(),
            queued_bytes: self.send.bytes(),
            in_flight_bytes: self.in_flight(),
            cwnd_bytes: self.congestion.cwnd,
            ssthresh_bytes: self.congestion.ssthresh,
            snd_wnd: self.snd_wnd,
            rcv_wnd: self.window.size(),
            mss: self.mss,
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            rtt_min: self.rtt.min(),
            retransmissions: self.retransmissions,
            timeouts: self.recovery.timeouts,
            probes: self.probes,
            congestion_control: self.congestion.name(),
            closed: self.closed,
        }
    }
}
