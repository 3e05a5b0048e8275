//! The receiving half: what is in order, what lies behind holes, and how much more may come.
//!
//! Places count from the peer's SYN, which is 0.

use std::collections::{BTreeMap, VecDeque};

/// SACK blocks beside timestamps.
const BLOCKS_MAX: usize = 3;

/// The half.
#[derive(Debug)]
pub(super) struct Receiver {
    /// RCV.NXT.
    pub(super) nxt: u64,
    /// In order, not read yet.
    ready: VecDeque<u8>,
    /// Behind holes, by their places.
    early: BTreeMap<u64, Vec<u8>>,
    fin_at: Option<u64>,
    capacity: u64,
    /// The right edge that was promised.
    pub(super) edge: u64,
    /// The place of the segment that came last behind a hole.
    latest: u64,
}

impl Receiver {
    pub(super) const fn new(capacity: u32) -> Self {
        Self {
            nxt: 0,
            ready: VecDeque::new(),
            early: BTreeMap::new(),
            fin_at: None,
            capacity: capacity as u64,
            edge: 0,
            latest: 0,
        }
    }

    /// Takes a segment's bytes from `start` on, and its FIN. Returns whether all of it was in order.
    pub(super) fn take(&mut self, start: u64, bytes: &[u8], fin: bool) -> bool {
        let was = self.nxt;
        let stop = start + bytes.len() as u64;
        if fin && stop <= self.edge.max(self.nxt) {
            self.fin_at = Some(stop);
        }
        // What lies before RCV.NXT is known, what lies behind the window has no room.
        let skip = self.nxt.saturating_sub(start).min(bytes.len() as u64) as usize;
        let room = self.edge.saturating_sub(start).min(bytes.len() as u64) as usize;
        if skip < room {
            let place = start + skip as u64;
            let new = bytes[skip..room].to_vec();
            self.latest = place;
            let known = self.early.entry(place).or_default();
            if known.len() < new.len() {
                *known = new;
            }
        }
        self.close_holes();
        if self.fin_at == Some(self.nxt) {
            self.nxt += 1;
        }
        start == was && self.early.is_empty()
    }

    fn close_holes(&mut self) {
        while let Some(entry) = self.early.first_entry() {
            let (start, len) = (*entry.key(), entry.get().len() as u64);
            if start > self.nxt {
                break;
            }
            let bytes = entry.remove();
            if start + len > self.nxt {
                self.ready.extend(&bytes[(self.nxt - start) as usize..]);
                self.nxt = start + len;
            }
        }
    }

    /// Forgets everything behind the first hole (RFC 2018 section 8 allows it).
    pub(super) fn renege(&mut self) {
        self.early.clear();
        if self.fin_at.is_some_and(|fin_at| fin_at >= self.nxt) {
            self.fin_at = None;
        }
    }

    /// Hands bytes to the program.
    pub(super) fn read(&mut self, len: usize, into: &mut Vec<u8>) -> usize {
        let count = len.min(self.ready.len());
        into.extend(self.ready.drain(..count));
        count
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether the peer's FIN has come, and everything before it.
    pub(super) fn has_ended(&self) -> bool {
        self.fin_at.is_some_and(|fin_at| self.nxt > fin_at)
    }

    /// The window to tell, in bytes; a promise is never taken back, and grows by something worth a
    /// segment (RFC 9293 section 3.8.6.2.2).
    pub(super) fn window(&mut self, mss: u64) -> u64 {
        let edge = self.free_edge();
        if edge >= self.edge + mss.min(self.capacity / 2) {
            self.edge = edge;
        }
        self.edge.saturating_sub(self.nxt)
    }

    /// Whether the program has made so much room that the peer should hear of it.
    pub(super) fn wants_to_tell(&self, mss: u64) -> bool {
        let told = self.edge.saturating_sub(self.nxt);
        told < mss && self.free_edge() >= self.edge + mss.min(self.capacity / 2)
    }

    fn free_edge(&self) -> u64 {
        self.nxt + self.capacity.saturating_sub(self.ready.len() as u64)
    }

    /// What lies behind holes: the newest block first (RFC 2018 section 4).
    pub(super) fn blocks(&self) -> Vec<(u64, u64)> {
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        for (start, bytes) in &self.early {
            let end = start + bytes.len() as u64;
            match blocks.last_mut() {
                Some(last) if last.1 >= *start => last.1 = last.1.max(end),
                _ => blocks.push((*start, end)),
            }
        }
        let latest = self.latest;
        blocks.sort_by_key(|(start, end)| !(*start..*end).contains(&latest));
        blocks.truncate(BLOCKS_MAX);
        blocks
    }
}
