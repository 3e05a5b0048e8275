//! The invariants of every segment on the wire, kept per host and connection.
//!
//! The checker stands at each honest host's network card: it sees what the host sends and what
//! reaches it, and nothing of its inside. So what it demands follows from the wire alone, and holds
//! for any correct TCP.

mod half;
mod ranges;

use std::collections::BTreeMap;

use millrace_base::Endpoint;

use crate::packet::{Parsed, Segment, parse};
pub(crate) use half::Half;

/// Connections between the same ends that are remembered: no packet is older.
const INCARNATIONS_MAX: usize = 3;

/// The network cards of all honest hosts.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// By node, local end and remote end; of flows that had these ends one after the other, the
    /// newest last.
    ends: BTreeMap<(usize, Ends), Vec<End>>,
    pub(crate) segments: u64,
}

/// One end of a flow.
#[derive(Clone, Debug)]
struct End {
    flow: usize,
    /// `None` where nothing is demanded.
    half: Option<Half>,
}

/// The local and the remote end of a connection.
type Ends = [(u128, u16); 2];

fn ends(local: Endpoint, remote: Endpoint) -> Ends {
    [local, remote].map(|end| (u128::from_be_bytes(*end.address.octets()), end.port))
}

impl Watch {
    /// A connection of this flow begins between these ends, anew if there was one; what the node
    /// sends has to be what `half` allows.
    pub(crate) fn expect(
        &mut self,
        node: usize,
        [local, remote]: [Endpoint; 2],
        flow: usize,
        half: Option<Half>,
    ) {
        let known = self.ends.entry((node, ends(local, remote))).or_default();
        known.push(End { flow, half });
        if known.len() > INCARNATIONS_MAX {
            known.remove(0);
        }
    }

    /// The flow whose connection has these ends now.
    pub(crate) fn flow_of(&self, node: usize, [local, remote]: [Endpoint; 2]) -> Option<usize> {
        let known = self.ends.get(&(node, ends(local, remote)))?;
        Some(known.last()?.flow)
    }

    /// A node sends a packet.
    pub(crate) fn sent(&mut self, node: usize, packet: &[u8]) -> Result<(), String> {
        let segment = match parse(packet) {
            Parsed::Tcp(segment) => segment,
            Parsed::Other => return Ok(()),
            Parsed::Broken(how) => return Err(format!("node {node} sends a packet with {how}")),
        };
        self.segments += 1;
        let key = (node, ends(segment.from, segment.to));
        let Some(known) = self.ends.get_mut(&key) else {
            return Ok(());
        };
        sent_by_any(known, &segment).map_err(|what| {
            format!(
                "node {node} {} -> {}: {what}; {:?}, {} bytes; {:?}",
                segment.from,
                segment.to,
                segment.header,
                segment.payload.len(),
                known.last(),
            )
        })
    }

    /// A packet reaches a node; the flow it belongs to, when nothing is wrong with it.
    pub(crate) fn received(&mut self, node: usize, packet: &[u8]) -> Option<usize> {
        let Parsed::Tcp(segment) = parse(packet) else {
            return None;
        };
        let known = self.ends.get_mut(&(node, ends(segment.to, segment.from)))?;
        let (newest, older) = known.split_last_mut()?;
        let mut is_old_syn = false;
        for half in older.iter_mut().filter_map(|end| end.half.as_mut()) {
            is_old_syn |= segment.header.flags.syn() && half.was_greeted_with(segment.header.seq);
            half.received(&segment);
        }
        if let Some(half) = newest.half.as_mut().filter(|_| !is_old_syn) {
            half.received(&segment);
        }
        Some(newest.flow)
    }
}

/// A segment has to be what one of these allows, the newest first: with the ends of a connection
/// that rests, another one may have begun (RFC 6191).
fn sent_by_any(known: &mut [End], segment: &Segment<'_>) -> Result<(), String> {
    let Some((newest, older)) = known.split_last_mut() else {
        return Ok(());
    };
    let Some(half) = &mut newest.half else {
        return Ok(());
    };
    if older.is_empty() {
        return half.sent(segment);
    }
    let mut after = half.clone();
    let verdict = after.sent(segment);
    if verdict.is_ok() {
        *half = after;
        return verdict;
    }
    for half in older.iter_mut().rev().filter_map(|end| end.half.as_mut()) {
        let mut after = half.clone();
        if after.sent(segment).is_ok() {
            *half = after;
            return Ok(());
        }
    }
    verdict
}
