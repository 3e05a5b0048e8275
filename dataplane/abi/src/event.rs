//! What an lcore may tell control. A slot that says nothing we know decodes to `None` and is
//! counted by the receiver.

use millrace_base::{Address, BackendId, CongestionControl, Endpoint, ListenerId, PortId};

use crate::limits::{MESSAGE_BYTES, MESSAGE_WORDS};
use crate::message::{Decoder, Encoder};

/// One report from an lcore to control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Frames wait for the Ethernet address of this neighbour.
    NeighborNeeded {
        /// The port the frames leave by.
        port: PortId,
        /// The neighbour's IP address.
        address: Address,
    },
    /// TCP made forward progress through this neighbour: it needs no probe (RFC 4861 section
    /// 7.3.1).
    NeighborConfirmed {
        /// The port.
        port: PortId,
        /// The neighbour's IP address.
        address: Address,
    },
    /// How a probe went.
    ProbeResult {
        /// The command's token.
        token: u64,
        /// How it ended.
        outcome: ProbeOutcome,
        /// Microseconds from SYN to the end.
        rtt_us: u32,
    },
    /// One session of a listing.
    ConnectionRow(ConnectionRow),
    /// The listing's answer is complete.
    ConnectionsEnd {
        /// The command's token.
        token: u64,
        /// Where the next command goes on; 0 when there is nothing more.
        next_cursor: u64,
        /// Rows sent.
        count: u32,
    },
    /// A session could not be connected to this backend.
    BackendFailed {
        /// The backend.
        backend: BackendId,
        /// Why; never `Connected`.
        reason: ProbeOutcome,
    },
}

/// How a connection attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProbeOutcome {
    /// The handshake completed.
    Connected = 0,
    /// The target answered with RST.
    Refused = 1,
    /// Nothing came in time.
    TimedOut = 2,
    /// No route, no neighbour, or ICMP said unreachable.
    Unreachable = 3,
    /// We had no free port, connection or buffer.
    NoResources = 4,
}

/// The state of a connection, with Linux's numbers (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// ESTABLISHED.
    Established = 1,
    /// SYN-SENT.
    SynSent = 2,
    /// SYN-RECEIVED.
    SynReceived = 3,
    /// FIN-WAIT-1.
    FinWait1 = 4,
    /// FIN-WAIT-2.
    FinWait2 = 5,
    /// TIME-WAIT.
    TimeWait = 6,
    /// CLOSED: the leg does not exist (yet, or any more).
    Closed = 7,
    /// CLOSE-WAIT.
    CloseWait = 8,
    /// LAST-ACK.
    LastAck = 9,
    /// LISTEN.
    Listen = 10,
    /// CLOSING.
    Closing = 11,
}

/// One session as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// The command's token.
    pub token: u64,
    /// The client's end.
    pub client: Endpoint,
    /// Our end towards the client.
    pub vip: Endpoint,
    /// Our end towards the backend; zeros while there is none.
    pub snat: Endpoint,
    /// The backend's end.
    pub backend: Endpoint,
    /// The client's connection.
    pub client_state: TcpState,
    /// The backend's connection.
    pub backend_state: TcpState,
    /// The client's connection; `None` while there is none.
    pub client_congestion: Option<CongestionControl>,
    /// The backend's connection; `None` while there is none.
    pub backend_congestion: Option<CongestionControl>,
    /// Bytes moved from client to backend.
    pub bytes_in: u64,
    /// Bytes moved from backend to client.
    pub bytes_out: u64,
    /// Milliseconds since the client was accepted.
    pub age_ms: u64,
    /// Segments retransmitted on both connections.
    pub retransmissions: u32,
    /// The listener that accepted the client.
    pub listener_id: ListenerId,
    /// The backend that was picked.
    pub backend_id: BackendId,
}

const TAG_NEIGHBOR_NEEDED: u8 = 1;
const TAG_NEIGHBOR_CONFIRMED: u8 = 2;
const TAG_PROBE_RESULT: u8 = 3;
const TAG_CONNECTION_ROW: u8 = 4;
const TAG_CONNECTIONS_END: u8 = 5;
const TAG_BACKEND_FAILED: u8 = 6;

/// The longest message: tag, two states, two algorithms, four endpoints, four words, one half word,
/// two identifiers.
const CONNECTION_ROW_BYTES: usize = 1 + 2 + 2 + 4 * 18 + 4 * 8 + 4 + 2 * 2;
const _: () = assert!(CONNECTION_ROW_BYTES <= MESSAGE_BYTES);

impl Event {
    /// The slot that carries this event.
    pub fn encode(&self) -> [u64; MESSAGE_WORDS] {
        match *self {
            Self::NeighborNeeded { port, address } => {
                let mut slot = Encoder::new(TAG_NEIGHBOR_NEEDED);
                slot.u16(port.number()).address(address);
                slot.finish()
            }
            Self::NeighborConfirmed { port, address } => {
                let mut slot = Encoder::new(TAG_NEIGHBOR_CONFIRMED);
                slot.u16(port.number()).address(address);
                slot.finish()
            }
            Self::ProbeResult {
                token,
                outcome,
                rtt_us,
            } => {
                let mut slot = Encoder::new(TAG_PROBE_RESULT);
                slot.u8(outcome as u8).u64(token).u32(rtt_us);
                slot.finish()
            }
            Self::ConnectionRow(row) => row.encode(),
            Self::ConnectionsEnd {
                token,
                next_cursor,
                count,
            } => {
                let mut slot = Encoder::new(TAG_CONNECTIONS_END);
                slot.u64(token).u64(next_cursor).u32(count);
                slot.finish()
            }
            Self::BackendFailed { backend, reason } => {
                let mut slot = Encoder::new(TAG_BACKEND_FAILED);
                slot.u8(reason as u8).u16(backend.number());
                slot.finish()
            }
        }
    }

    /// The event a slot carries; `None` when it carries none this version knows.
    pub fn decode(words: &[u64; MESSAGE_WORDS]) -> Option<Self> {
        let mut slot = Decoder::new(words);
        match slot.u8() {
            TAG_NEIGHBOR_NEEDED => {
                let port = PortId::new(slot.u16());
                Some(Self::NeighborNeeded {
                    port,
                    address: slot.address(),
                })
            }
            TAG_NEIGHBOR_CONFIRMED => {
                let port = PortId::new(slot.u16());
                Some(Self::NeighborConfirmed {
                    port,
                    address: slot.address(),
                })
            }
            TAG_PROBE_RESULT => {
                let outcome = ProbeOutcome::from_number(slot.u8())?;
                Some(Self::ProbeResult {
                    outcome,
                    token: slot.u64(),
                    rtt_us: slot.u32(),
                })
            }
            TAG_CONNECTION_ROW => ConnectionRow::decode(&mut slot).map(Self::ConnectionRow),
            TAG_CONNECTIONS_END => {
                let (token, next_cursor) = (slot.u64(), slot.u64());
                Some(Self::ConnectionsEnd {
                    token,
                    next_cursor,
                    count: slot.u32(),
                })
            }
            TAG_BACKEND_FAILED => {
                let reason = ProbeOutcome::from_number(slot.u8())?;
                Some(Self::BackendFailed {
                    backend: BackendId::new(slot.u16()),
                    reason,
                })
            }
            _ => None,
        }
    }
}

impl ConnectionRow {
    fn encode(&self) -> [u64; MESSAGE_WORDS] {
        let Self {
            token,
            client,
            vip,
            snat,
            backend,
            client_state,
            backend_state,
            client_congestion,
            backend_congestion,
            bytes_in,
            bytes_out,
            age_ms,
            retransmissions,
            listener_id,
            backend_id,
        } = *self;
        let mut slot = Encoder::new(TAG_CONNECTION_ROW);
        slot.u8(client_state as u8)
            .u8(backend_state as u8)
            .u8(client_congestion.map_or(0, CongestionControl::number))
            .u8(backend_congestion.map_or(0, CongestionControl::number))
            .u64(token);
        slot.endpoint(client)
            .endpoint(vip)
            .endpoint(snat)
            .endpoint(backend);
        slot.u64(bytes_in)
            .u64(bytes_out)
            .u64(age_ms)
            .u32(retransmissions);
        slot.u16(listener_id.number()).u16(backend_id.number());
        slot.finish()
    }

    fn decode(slot: &mut Decoder) -> Option<Self> {
        // Fields are read in the order they are written here, which is the order of `encode`.
        Some(Self {
            client_state: TcpState::from_number(slot.u8())?,
            backend_state: TcpState::from_number(slot.u8())?,
            client_congestion: CongestionControl::of_number(slot.u8()),
            backend_congestion: CongestionControl::of_number(slot.u8()),
            token: slot.u64(),
            client: slot.endpoint(),
            vip: slot.endpoint(),
            snat: slot.endpoint(),
            backend: slot.endpoint(),
            bytes_in: slot.u64(),
            bytes_out: slot.u64(),
            age_ms: slot.u64(),
            retransmissions: slot.u32(),
            listener_id: ListenerId::new(slot.u16()),
            backend_id: BackendId::new(slot.u16()),
        })
    }
}

impl ProbeOutcome {
    /// The outcome with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Connected),
            1 => Some(Self::Refused),
            2 => Some(Self::TimedOut),
            3 => Some(Self::Unreachable),
            4 => Some(Self::NoResources),
            _ => None,
        }
    }

    /// The words an operator reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::NoResources => "no resources",
        }
    }
}

impl TcpState {
    /// The state with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Established),
            2 => Some(Self::SynSent),
            3 => Some(Self::SynReceived),
            4 => Some(Self::FinWait1),
            5 => Some(Self::FinWait2),
            6 => Some(Self::TimeWait),
            7 => Some(Self::Closed),
            8 => Some(Self::CloseWait),
            9 => Some(Self::LastAck),
            10 => Some(Self::Listen),
            11 => Some(Self::Closing),
            _ => None,
        }
    }

    /// The state's name in RFC 9293 section 3.3.2.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "CLOSED",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses() -> impl Strategy<Value = Address> {
        any::<[u8; 16]>().prop_map(Address::v6)
    }

    fn endpoints() -> impl Strategy<Value = Endpoint> {
        (addresses(), any::<u16>()).prop_map(|(address, port)| Endpoint::new(address, port))
    }

    fn outcomes() -> impl Strategy<Value = ProbeOutcome> {
        (0u8..5).prop_map(|number| ProbeOutcome::from_number(number).expect("in range"))
    }

    fn rows() -> impl Strategy<Value = Event> {
        let ends = (endpoints(), endpoints(), endpoints(), endpoints());
        let all = || prop::sample::select(CongestionControl::ALL.to_vec());
        let congestion = || prop::option::of(all());
        (
            any::<(u64, u64, u64, u64, u32, u16, u16)>(),
            ends,
            (1u8..=11, 1u8..=11),
            (congestion(), congestion()),
        )
            .prop_map(
                |(
                    numbers,
                    (client, vip, snat, backend),
                    (client_state, backend_state),
                    congestion,
                )| {
                    let (token, bytes_in, bytes_out, age_ms, retransmissions, listener, id) =
                        numbers;
                    Event::ConnectionRow(ConnectionRow {
                        token,
                        client,
                        vip,
                        snat,
                        backend,
                        client_state: TcpState::from_number(client_state).expect("in range"),
                        backend_state: TcpState::from_number(backend_state).expect("in range"),
                        client_congestion: congestion.0,
                        backend_congestion: congestion.1,
                        bytes_in,
                        bytes_out,
                        age_ms,
                        retransmissions,
                        listener_id: ListenerId::new(listener),
                        backend_id: BackendId::new(id),
                    })
                },
            )
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            (any::<u16>(), addresses()).prop_map(|(port, address)| {
                Event::NeighborNeeded {
                    port: PortId::new(port),
                    address,
                }
            }),
            (any::<u16>(), addresses()).prop_map(|(port, address)| {
                Event::NeighborConfirmed {
                    port: PortId::new(port),
                    address,
                }
            }),
            (any::<u64>(), outcomes(), any::<u32>()).prop_map(|(token, outcome, rtt_us)| {
                Event::ProbeResult {
                    token,
                    outcome,
                    rtt_us,
                }
            }),
            rows(),
            any::<(u64, u64, u32)>().prop_map(|(token, next_cursor, count)| {
                Event::ConnectionsEnd {
                    token,
                    next_cursor,
                    count,
                }
            }),
            (any::<u16>(), outcomes()).prop_map(|(backend, reason)| {
                Event::BackendFailed {
                    backend: BackendId::new(backend),
                    reason,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn an_event_survives_its_slot(event in events()) {
            prop_assert_eq!(Event::decode(&event.encode()), Some(event));
        }

        #[test]
        fn what_decodes_from_garbage_encodes_to_itself(
            tag in 0u8..10,
            mut words in any::<[u64; MESSAGE_WORDS]>(),
        ) {
            let mut first = words[0].to_ne_bytes();
            first[0] = tag;
            words[0] = u64::from_ne_bytes(first);
            if let Some(event) = Event::decode(&words) {
                prop_assert_eq!(Event::decode(&event.encode()), Some(event));
            }
        }
    }

    #[test]
    fn an_empty_slot_and_an_unknown_tag_are_no_event() {
        assert_eq!(Event::decode(&[0; MESSAGE_WORDS]), None);
        assert_eq!(Event::decode(&[u64::MAX; MESSAGE_WORDS]), None);
    }

    #[test]
    fn every_state_and_outcome_keeps_its_number() {
        for number in 0..=u8::MAX {
            if let Some(state) = TcpState::from_number(number) {
                assert_eq!(state as u8, number);
            }
            if let Some(outcome) = ProbeOutcome::from_number(number) {
                assert_eq!(outcome as u8, number);
            }
        }
        assert_eq!(TcpState::from_number(0), None);
        assert_eq!(TcpState::from_number(12), None);
    }
}
