//! What control may ask of an lcore. A slot that says nothing we know decodes to `None` and is
//! counted by the receiver.

use millrace_base::{Address, Endpoint, MacAddress, PortId};

use crate::limits::MESSAGE_WORDS;
use crate::message::{Decoder, Encoder};

/// One request from control to one lcore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The next hop `address` on `port` changed.
    NeighborSet {
        /// The port.
        port: PortId,
        /// The neighbour's IP address.
        address: Address,
        /// What is known about it now.
        state: NeighborState,
    },
    /// Connect to `target` through the lcore's own stack from a SNAT address, and report how that
    /// went.
    Probe {
        /// Comes back in `Event::ProbeResult`.
        token: u64,
        /// Where to connect.
        target: Endpoint,
        /// When to give up, in milliseconds.
        timeout_ms: u32,
    },
    /// Report sessions, beginning at `cursor`, at most `limit` of them; answered by rows and an
    /// end.
    ListConnections {
        /// Comes back in every row and in the end.
        token: u64,
        /// 0 to begin; then `next_cursor` of the previous end.
        cursor: u64,
        /// Rows at most.
        limit: u32,
    },
    /// Refuse new sessions and let existing ones finish.
    Drain,
    /// Leave the loop after this burst.
    Shutdown,
}

/// What control knows about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborState {
    /// It answers at this Ethernet address.
    Reachable(MacAddress),
    /// It does not answer: fail what waits for it.
    Failed,
    /// Forget it.
    Remove,
}

const TAG_NEIGHBOR_SET: u8 = 1;
const TAG_PROBE: u8 = 2;
const TAG_LIST_CONNECTIONS: u8 = 3;
const TAG_DRAIN: u8 = 4;
const TAG_SHUTDOWN: u8 = 5;

const STATE_REACHABLE: u8 = 0;
const STATE_FAILED: u8 = 1;
const STATE_REMOVE: u8 = 2;

impl Command {
    /// The slot that carries this command.
    pub fn encode(&self) -> [u64; MESSAGE_WORDS] {
        match *self {
            Self::NeighborSet {
                port,
                address,
                state,
            } => {
                let (number, mac) = match state {
                    NeighborState::Reachable(mac) => (STATE_REACHABLE, mac),
                    NeighborState::Failed => (STATE_FAILED, MacAddress::ZERO),
                    NeighborState::Remove => (STATE_REMOVE, MacAddress::ZERO),
                };
                let mut slot = Encoder::new(TAG_NEIGHBOR_SET);
                slot.u8(number)
                    .u16(port.number())
                    .bytes(mac.octets())
                    .address(address);
                slot.finish()
            }
            Self::Probe {
                token,
                target,
                timeout_ms,
            } => {
                let mut slot = Encoder::new(TAG_PROBE);
                slot.u64(token).u32(timeout_ms).endpoint(target);
                slot.finish()
            }
            Self::ListConnections {
                token,
                cursor,
                limit,
            } => {
                let mut slot = Encoder::new(TAG_LIST_CONNECTIONS);
                slot.u64(token).u64(cursor).u32(limit);
                slot.finish()
            }
            Self::Drain => Encoder::new(TAG_DRAIN).finish(),
            Self::Shutdown => Encoder::new(TAG_SHUTDOWN).finish(),
        }
    }

    /// The command a slot carries; `None` when it carries none this version knows.
    pub fn decode(words: &[u64; MESSAGE_WORDS]) -> Option<Self> {
        let mut slot = Decoder::new(words);
        match slot.u8() {
            TAG_NEIGHBOR_SET => {
                let number = slot.u8();
                let port = PortId::new(slot.u16());
                let mac = MacAddress::new(slot.bytes());
                let address = slot.address();
                let state = match number {
                    STATE_REACHABLE => NeighborState::Reachable(mac),
                    STATE_FAILED => NeighborState::Failed,
                    STATE_REMOVE => NeighborState::Remove,
                    _ => return None,
                };
                Some(Self::NeighborSet {
                    port,
                    address,
                    state,
                })
            }
            TAG_PROBE => {
                let (token, timeout_ms) = (slot.u64(), slot.u32());
                Some(Self::Probe {
                    token,
                    target: slot.endpoint(),
                    timeout_ms,
                })
            }
            TAG_LIST_CONNECTIONS => {
                let (token, cursor) = (slot.u64(), slot.u64());
                Some(Self::ListConnections {
                    token,
                    cursor,
                    limit: slot.u32(),
                })
            }
            TAG_DRAIN => Some(Self::Drain),
            TAG_SHUTDOWN => Some(Self::Shutdown),
            _ => None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn commands() -> impl Strategy<Value = Command> {
        let state = prop_oneof![
            any::<[u8; 6]>().prop_map(|mac| NeighborState::Reachable(MacAddress::new(mac))),
            Just(NeighborState::Failed),
            Just(NeighborState::Remove),
        ];
        prop_oneof![
            (any::<u16>(), any::<[u8; 16]>(), state).prop_map(|(port, address, state)| {
                let (port, address) = (PortId::new(port), Address::v6(address));
                Command::NeighborSet {
                    port,
                    address,
                    state,
                }
            }),
            (any::<u64>(), any::<[u8; 16]>(), any::<u16>(), any::<u32>()).prop_map(
                |(token, address, port, timeout_ms)| {
                    let target = Endpoint::new(Address::v6(address), port);
                    Command::Probe {
                        token,
                        target,
                        timeout_ms,
                    }
                }
            ),
            any::<(u64, u64, u32)>().prop_map(|(token, cursor, limit)| {
                Command::ListConnections {
                    token,
                    cursor,
                    limit,
                }
            }),
            Just(Command::Drain),
            Just(Command::Shutdown),
        ]
    }

    proptest! {
        #[test]
        fn a_command_survives_its_slot(command in commands()) {
            prop_assert_eq!(Command::decode(&command.encode()), Some(command));
        }

        #[test]
        fn what_decodes_from_garbage_encodes_to_itself(words in any::<[u64; MESSAGE_WORDS]>()) {
            if let Some(command) = Command::decode(&words) {
                prop_assert_eq!(Command::decode(&command.encode()), Some(command));
            }
        }
    }

    #[test]
    fn an_empty_slot_and_an_unknown_tag_are_no_command() {
        assert_eq!(Command::decode(&[0; MESSAGE_WORDS]), None);
        assert_eq!(Command::decode(&[0xff; MESSAGE_WORDS]), None);
    }
}
