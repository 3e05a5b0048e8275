//! An impostor: he sends segments in another's name.
//!
//! He knows addresses and ports, and about where the streams are, as somebody may who watches from
//! afar; what he does not hit is the very number that a RST has to have (RFC 5961 section 3.2), or
//! an acknowledgment of what is under way (section 5.2). Nothing of his ends a connection or puts a
//! byte into its stream.

use std::collections::{BTreeMap, BTreeSet};

use millrace_base::SeqNumber;
use millrace_wire::{TcpFlags, TcpRepr};

use crate::dice::Dice;
use crate::packet::{Parsed, Segment, emit, parse};

/// Farther off than anything that is under way.
const FAR: u32 = 1 << 30;
/// How far ahead a guess may be.
const GUESS_MAX: u32 = 200_000;
/// What he would like to have read.
const LIE: [u8; 64] = *b"The bytes of an impostor, which nobody may find in their stream.";

/// The impostor.
#[derive(Debug)]
pub(crate) struct Impostor {
    dice: Dice,
    /// Arrivals that he adds something to, in a million.
    ppm: u32,
    /// Behind the newest byte that has come, by node and flow.
    newest: BTreeMap<(usize, usize), SeqNumber>,
    /// Flows of which a FIN or a RST has come: a record of TIME_WAIT may be opened by any SYN
    /// (RFC 6191).
    ending: BTreeSet<usize>,
}

impl Impostor {
    pub(crate) const fn new(ppm: u32, dice: Dice) -> Self {
        Self {
            dice,
            ppm,
            newest: BTreeMap::new(),
            ending: BTreeSet::new(),
        }
    }

    /// A packet of a flow has come to a node; what comes behind it. Nothing, unless the connection
    /// `is_open` at both ends.
    pub(crate) fn follow(
        &mut self,
        node: usize,
        flow: usize,
        packet: &[u8],
        is_open: bool,
    ) -> Option<Vec<u8>> {
        if self.ppm == 0 {
            return None;
        }
        let Parsed::Tcp(segment) = parse(packet) else {
            return None;
        };
        let flags = segment.header.flags;
        let end = segment.header.seq.plus(segment.payload.len() as u32);
        let newest = self.newest.entry((node, flow)).or_insert(end);
        if flags.syn() {
            *newest = end;
        }
        *newest = newest.latest(end);
        let newest = *newest;
        if flags.fin() || flags.rst() {
            self.ending.insert(flow);
        }
        let is_fair = is_open && !flags.syn() && !self.ending.contains(&flow);
        if !is_fair || !self.dice.happens(self.ppm) {
            return None;
        }
        Some(self.forge(&segment, newest))
    }

    /// Something in the name of who sent `segment`.
    fn forge(&mut self, segment: &Segment<'_>, newest: SeqNumber) -> Vec<u8> {
        // Nobody has sent so much: RCV.NXT is not there.
        let ahead = newest.plus(1 + self.dice.spread(1, GUESS_MAX));
        let guess = self.dice.word() as u32;
        let (syn, rst, ack) = (TcpFlags::SYN, TcpFlags::RST, TcpFlags::ACK);
        let (far_ahead, far_behind) = (segment.header.ack.plus(FAR), segment.header.ack.minus(FAR));
        let was = segment.header;
        let kinds = [
            (ahead, was.ack, rst, 0),
            (ahead, was.ack, rst | ack, 0),
            (newest.minus(FAR), was.ack, rst, 0),
            (ahead, was.ack, syn, 0),
            (SeqNumber::new(guess), SeqNumber::new(0), syn, 0),
            (SeqNumber::new(guess), was.ack, syn | ack, 0),
            (newest, far_ahead, ack, LIE.len()),
            (newest, far_behind, ack, LIE.len()),
            (newest, far_ahead, ack | TcpFlags::FIN, 0),
            (newest, was.ack, TcpFlags::NONE, LIE.len()),
        ];
        let (seq, ack, flags, len) = self.dice.pick(&kinds);
        let mut header = TcpRepr {
            seq,
            ack,
            flags,
            ..was
        };
        header.options.sack = millrace_wire::SackBlocks::default();
        let (from, to) = (segment.from.address, segment.to.address);
        emit(&header, &LIE[..len], from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Address;
    use millrace_wire::TcpOptions;

    fn segment(flags: TcpFlags) -> Vec<u8> {
        let header = TcpRepr {
            source_port: 1,
            destination_port: 2,
            seq: SeqNumber::new(1_000),
            ack: SeqNumber::new(9_000),
            flags,
            window: 10,
            urgent: 0,
            options: TcpOptions::default(),
        };
        emit(
            &header,
            b"hello",
            Address::v4([10, 0, 0, 1]),
            Address::v4([10, 0, 0, 2]),
        )
    }

    #[test]
    fn an_impostor_hits_no_number_that_would_be_believed() {
        let mut impostor = Impostor::new(crate::dice::MILLION, Dice::new(7));
        for _ in 0..2_000 {
            let forged = impostor.follow(0, 0, &segment(TcpFlags::ACK), true);
            let forged = forged.expect("each arrival is followed");
            let Parsed::Tcp(forged) = parse(&forged) else {
                panic!("a segment");
            };
            let header = forged.header;
            if header.flags.rst() {
                assert_ne!(header.seq, SeqNumber::new(1_005), "the next byte's number");
            }
            if !forged.payload.is_empty() && header.flags.ack() {
                let off = header.ack.distance(SeqNumber::new(9_000)).unsigned_abs();
                assert!(off >= FAR, "an acknowledgment that may be right");
            }
        }
    }

    #[test]
    fn an_impostor_leaves_alone_what_begins_or_ends() {
        let mut impostor = Impostor::new(crate::dice::MILLION, Dice::new(7));
        assert_eq!(impostor.follow(0, 0, &segment(TcpFlags::SYN), true), None);
        assert_eq!(impostor.follow(0, 0, &segment(TcpFlags::ACK), false), None);
        let fin = TcpFlags::ACK | TcpFlags::FIN;
        assert_eq!(impostor.follow(0, 1, &segment(fin), true), None);
        assert_eq!(impostor.follow(1, 1, &segment(TcpFlags::ACK), true), None);
    }
}
