//! The invariants of every segment on the wire, kept per host and connection.
//!
//! The checker stands at each honest host's network card: it sees what the host sends and what
//! reaches it, and nothing of its inside. So what it demands follows from the wire alone, and holds
//! for any correct TCP.

mod half;
mod ranges;

use std::collections::BTreeMap;

use millrace_base::Endpoint;

use crate::packet::{Parsed, parse};
pub(crate) use half::Half;

/// The network cards of all honest hosts.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// By node, local end and remote end.
    ends: BTreeMap<(usize, Ends), End>,
    pub(crate) segments: u64,
}

/// One end of a flow.
#[derive(Debug)]
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
        let end = End { flow, half };
        self.ends.insert((node, ends(local, remote)), end);
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
        let Some(half) = self.ends.get_mut(&key).and_then(|end| end.half.as_mut()) else {
            return Ok(());
        };
        half.sent(&segment).map_err(|what| {
            format!(
                "node {node} {} -> {}: {what}; {:?}, {} bytes; {half:?}",
                segment.from,
                segment.to,
                segment.header,
                segment.payload.len()
            )
        })
    }

    /// A packet reaches a node; the flow it belongs to, when nothing is wrong with it.
    pub(crate) fn received(&mut self, node: usize, packet: &[u8]) -> Option<usize> {
        let Parsed::Tcp(segment) = parse(packet) else {
            return None;
        };
        let end = self.ends.get_mut(&(node, ends(segment.to, segment.from)))?;
        if let Some(half) = &mut end.half {
            half.received(&segment);
        }
        Some(end.flow)
    }
}
