//! A connection of the script, and the way between its numbers and the wire's.
//!
//! A script counts sequence numbers from the initial ones and knows no ports. The wire's initial
//! numbers are learned from the first packets. One connection is under test at a time: packets
//! belong to the socket that was made last, or to the peer that connected last.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use crate::ast::{TcpOption, flag};
use crate::packet::Segment;

/// How far a connection has come, as far as matters to who owns a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `socket` was called.
    New,
    /// `listen` was called: the next packet in begins another connection.
    Listening,
    /// `connect`, or a send that connects, was called.
    Connecting,
    /// The script expects its SYN.
    SynExpected,
    /// The peer answered the SYN.
    Answered,
    /// A peer's packet came in.
    PeerCame,
    /// The script expects the SYN-ACK, or has seen it.
    SynAckExpected,
    /// The peer acknowledged the SYN-ACK.
    PeerAcknowledged,
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) stage: Stage,
    /// Its socket, in the script's numbers.
    pub(crate) fd: Option<i32>,
    pub(crate) local: Option<(IpAddr, u16)>,
    pub(crate) remote: Option<(IpAddr, u16)>,
    pub(crate) live_local_isn: u32,
    /// A SYN, or a SYN-ACK, was seen.
    pub(crate) knows_local_isn: bool,
    pub(crate) script_local_isn: u32,
    pub(crate) remote_isn: u32,
    /// Timestamps that left: the script's, the wire's.
    timestamps: BTreeMap<u32, u32>,
    first_timestamp: Option<(u32, u32)>,
    /// The script's flow label and the wire's.
    pub(crate) flow_label: Option<(u32, u32)>,
    /// Bytes the socket took from the program.
    pub(crate) sent: u64,
    /// Parts of these that came from a file of zeros.
    pub(crate) zeros: Vec<Range<u64>>,
    /// Bytes the program got from the socket.
    pub(crate) received: u64,
    /// What leaves is not the known text.
    pub(crate) sends_other_bytes: bool,
    /// What is read is not the known text in order: urgent data went out of line.
    pub(crate) reads_out_of_line: bool,
}

impl Connection {
    pub(crate) fn new(stage: Stage, fd: Option<i32>) -> Self {
        Self {
            stage,
            fd,
            local: None,
            remote: None,
            live_local_isn: 0,
            knows_local_isn: false,
            script_local_isn: 0,
            remote_isn: 0,
            timestamps: BTreeMap::new(),
            first_timestamp: None,
            flow_label: None,
            sent: 0,
            zeros: Vec::new(),
            received: 0,
            sends_other_bytes: false,
            reads_out_of_line: false,
        }
    }

    /// Is this packet from the connection's own socket to its peer?
    pub(crate) fn owns(&self, segment: &Segment) -> bool {
        let local = Some((segment.source, segment.source_port));
        let remote = Some((segment.destination, segment.destination_port));
        self.remote.is_some() && self.remote == remote && self.local == local
    }

    /// Is this the SYN that the connection must send, from a port not yet known?
    pub(crate) fn is_first_syn(&self, segment: &Segment) -> bool {
        let remote = Some((segment.destination, segment.destination_port));
        let is_syn = segment.flags & (flag::SYN | flag::ACK) == flag::SYN;
        let is_connecting = matches!(self.stage, Stage::Connecting | Stage::SynExpected);
        is_connecting && is_syn && self.remote == remote
    }

    /// The sequence number offset of what we send: script to wire.
    fn local_offset(&self, is_syn: bool) -> u32 {
        let script = if is_syn { self.script_local_isn } else { 0 };
        self.live_local_isn.wrapping_sub(script)
    }

    /// The sequence number offset of what the peer sends. A SYN's number is not relative.
    fn remote_offset(&self, is_syn: bool) -> u32 {
        if is_syn { 0 } else { self.remote_isn }
    }

    /// The wire's sequence number of a byte that the stack sent.
    pub(crate) fn live_local(&self, seq: u32) -> u32 {
        seq.wrapping_add(self.local_offset(false))
    }

    /// Puts the wire's numbers into a packet that goes in. An echoed timestamp must be one that
    /// left before, unless echoes are scaled.
    pub(crate) fn to_wire(&self, segment: &mut Segment, is_scaled: bool) -> Result<(), String> {
        let is_syn = segment.has(flag::SYN);
        let has_ack = segment.has(flag::ACK);
        segment.seq = segment.seq.wrapping_add(self.remote_offset(is_syn));
        let offset = self.local_offset(is_syn);
        if has_ack {
            segment.ack = segment.ack.wrapping_add(offset);
        }
        for option in &mut segment.options {
            match option {
                TcpOption::Sack(blocks) => shift(blocks, offset),
                TcpOption::Timestamps { echo, .. } if has_ack => {
                    *echo = self.live_timestamp(*echo, is_scaled)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn live_timestamp(&self, script: u32, is_scaled: bool) -> Result<u32, String> {
        match (self.timestamps.get(&script), self.first_timestamp) {
            (Some(live), _) => Ok(*live),
            (None, Some((first_script, first_live))) if is_scaled => {
                Ok(script.wrapping_sub(first_script).wrapping_add(first_live))
            }
            _ => Err(format!(
                "no packet left with timestamp {script}, which is echoed here"
            )),
        }
    }

    /// Puts the script's numbers into a packet that left.
    pub(crate) fn to_script(&self, segment: &mut Segment) {
        let is_syn = segment.has(flag::SYN);
        segment.seq = segment.seq.wrapping_sub(self.local_offset(is_syn));
        let offset = self.remote_offset(is_syn).wrapping_neg();
        if segment.has(flag::ACK) {
            segment.ack = segment.ack.wrapping_add(offset);
        }
        for option in &mut segment.options {
            if let TcpOption::Sack(blocks) = option {
                shift(blocks, offset);
            }
        }
    }

    /// Puts the script's clock into a packet that is only shown.
    pub(crate) fn translate_timestamp(&self, segment: &mut Segment) {
        let Some((first_script, first_live)) = self.first_timestamp else {
            return;
        };
        for option in &mut segment.options {
            if let TcpOption::Timestamps { value, .. } = option {
                *value = value.wrapping_sub(first_live).wrapping_add(first_script);
            }
        }
    }

    /// Learns which timestamp of the wire the script's stands for, and puts the script's clock into
    /// the packet that left.
    pub(crate) fn learn_timestamp(&mut self, segment: &mut Segment, script: u32) {
        for option in &segment.options {
            if let TcpOption::Timestamps { value, .. } = option {
                self.timestamps.insert(script, *value);
                self.first_timestamp.get_or_insert((script, *value));
            }
        }
        self.translate_timestamp(segment);
    }
}

fn shift(blocks: &mut [(u32, u32)], offset: u32) {
    for (left, right) in blocks {
        *left = left.wrapping_add(offset);
        *right = right.wrapping_add(offset);
    }
}
