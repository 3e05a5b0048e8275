//! A box on the way that does to ECN what it should not. RFC 9768 section 3.2.2.3 names most of
//! these; all have been met (Mandalari and others 2018).
//!
//! What it leaves is a good packet: its checksums are right.

use crate::dice::Dice;
use crate::packet::{Ecn, ecn_of, options_of, rewrite_tcp, set_ecn};

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mangling {
    /// No packet may be marked any more ("bleaching").
    Bleaches,
    /// ECT(1) becomes ECT(0).
    Levels,
    /// Every packet that may be marked is, until chance ends.
    MarksAll,
    /// SYNs and their answers ask for nothing.
    ClearsGreetings,
    /// The flag that was reserved once (AE) is none.
    ClearsReserved,
    /// The option of Accurate ECN gives way to padding.
    StripsOption,
    /// The three flags are any, until chance ends: one segment in eight.
    Garbles,
}

/// The flags of Accurate ECN: AE in the byte of the header's length, CWR and ECE in that behind it.
const LENGTH_AT: usize = 12;
const FLAGS_AT: usize = 13;
const AE: u8 = 0x01;
const CWR_AND_ECE: u8 = 0xc0;
const SYN: u8 = 0x02;
/// One in so many segments is garbled.
const GARBLED_ONE_IN: u32 = 8;
/// The kinds of the option (RFC 9768 section 3.2.3), and of padding.
const ACCURATE_ECN: [u8; 2] = [172, 174];
const PADDING: u8 = 1;

impl Mangling {
    /// Every kind.
    pub(crate) const ALL: [Self; 7] = [
        Self::Bleaches,
        Self::Levels,
        Self::MarksAll,
        Self::ClearsGreetings,
        Self::ClearsReserved,
        Self::StripsOption,
        Self::Garbles,
    ];

    /// Does it to a packet. `has_chance` until the wire is well.
    pub(super) fn mangle(self, packet: &mut [u8], dice: &mut Dice, has_chance: bool) {
        match self {
            Self::Bleaches => set_ecn(packet, Ecn::NotCapable),
            Self::Levels if ecn_of(packet) == Ecn::Ect1 => set_ecn(packet, Ecn::Ect0),
            Self::Levels => {}
            Self::MarksAll => {
                if has_chance && ecn_of(packet) != Ecn::NotCapable {
                    set_ecn(packet, Ecn::Marked);
                }
            }
            Self::ClearsGreetings => rewrite_tcp(packet, |segment| {
                if segment[FLAGS_AT] & SYN != 0 {
                    segment[LENGTH_AT] &= !AE;
                    segment[FLAGS_AT] &= !CWR_AND_ECE;
                }
            }),
            Self::ClearsReserved => rewrite_tcp(packet, |segment| segment[LENGTH_AT] &= !AE),
            Self::StripsOption => rewrite_tcp(packet, strip),
            Self::Garbles => {
                if has_chance && dice.one_in(GARBLED_ONE_IN) {
                    let bits = dice.word() as u8;
                    rewrite_tcp(packet, |segment| {
                        segment[LENGTH_AT] ^= bits & AE;
                        segment[FLAGS_AT] ^= bits & CWR_AND_ECE;
                    });
                }
            }
        }
    }
}

/// Puts padding where an option of Accurate ECN was.
fn strip(segment: &mut [u8]) {
    let options = options_of(segment);
    let mut at = 0;
    while let Some(kind) = options.get(at).copied() {
        let len = match kind {
            0 => return,
            PADDING => 1,
            _ => options.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        let end = at + len;
        if len == 0 || end > options.len() {
            return;
        }
        if ACCURATE_ECN.contains(&kind) {
            options[at..end].fill(PADDING);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Parsed, emit, parse};
    use millrace_base::{Address, SeqNumber};
    use millrace_wire::tcp::AccEcn;
    use millrace_wire::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

    fn packet(v6: bool, flags: TcpFlags, ecn: Ecn) -> Vec<u8> {
        let asks = TcpFlags::AE | TcpFlags::CWR | TcpFlags::ECE;
        let header = TcpRepr {
            source_port: 1,
            destination_port: 2,
            seq: SeqNumber::new(7),
            ack: SeqNumber::new(9),
            flags: flags | asks,
            window: 10,
            urgent: 0,
            options: TcpOptions {
                timestamps: Some(Timestamps { value: 1, echo: 2 }),
                accecn: Some(AccEcn::new(false, &[1, 2, 3])),
                ..TcpOptions::default()
            },
        };
        let address = |last: u8| match v6 {
            true => Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]),
            false => Address::v4([10, 0, 0, last]),
        };
        let mut packet = emit(&header, b"hello", address(1), address(2));
        set_ecn(&mut packet, ecn);
        packet
    }

    /// The header and the ECN field of what is left.
    fn mangled(by: Mangling, v6: bool, flags: TcpFlags, ecn: Ecn) -> (TcpRepr, Ecn) {
        let mut packet = packet(v6, flags, ecn);
        by.mangle(&mut packet, &mut Dice::new(3), true);
        match parse(&packet) {
            Parsed::Tcp(segment) => {
                assert_eq!(segment.payload, b"hello");
                (segment.header, segment.ecn)
            }
            other @ (Parsed::Other | Parsed::Broken(_)) => panic!("{by:?}: {other:?}"),
        }
    }

    #[test]
    fn each_box_changes_what_it_says_and_leaves_right_checksums() {
        use Mangling as M;
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        let asks = TcpFlags::AE | TcpFlags::CWR | TcpFlags::ECE;
        for v6 in [false, true] {
            let ecn = |by, kind| mangled(by, v6, ack, kind).1;
            assert_eq!(ecn(M::Bleaches, Ecn::Marked), Ecn::NotCapable);
            assert_eq!(ecn(M::Levels, Ecn::Ect1), Ecn::Ect0);
            assert_eq!(ecn(M::MarksAll, Ecn::Ect0), Ecn::Marked);
            assert_eq!(ecn(M::MarksAll, Ecn::NotCapable), Ecn::NotCapable);
            let flags = |by, flags| mangled(by, v6, flags, Ecn::Ect0).0.flags;
            assert_eq!(flags(M::ClearsGreetings, syn), syn);
            assert_eq!(flags(M::ClearsGreetings, ack), ack | asks);
            assert_eq!(
                flags(M::ClearsReserved, ack),
                (ack | asks).without(TcpFlags::AE)
            );
            let (left, _) = mangled(M::StripsOption, v6, ack, Ecn::Ect0);
            assert_eq!(
                (left.options.accecn, left.options.timestamps.is_some()),
                (None, true)
            );
            for seed in 0..20 {
                let mut packet = packet(v6, ack, Ecn::Ect0);
                M::Garbles.mangle(&mut packet, &mut Dice::new(seed), true);
                assert!(matches!(parse(&packet), Parsed::Tcp(_)), "seed {seed}");
            }
        }
    }
}
