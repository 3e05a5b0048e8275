//! Pieces in every order, pieces that lie, and packets that never become whole.

use super::*;
use millrace_base::{HeapBuf, HeapPool, Rng};
use millrace_wire::IpRepr;

const IP_AT: usize = 14;

struct Bench {
    reassembler: Reassembler<HeapBuf>,
    tunables: FragmentTunables,
    stats: Stats,
    now: Instant,
    source: Address,
    pool: HeapPool,
}

impl Bench {
    fn new(v4: bool) -> Self {
        let source = if v4 {
            Address::v4([10, 0, 0, 2])
        } else {
            Address::v6([0xfd; 16])
        };
        Self {
            reassembler: Reassembler::new(),
            tunables: FragmentTunables::default(),
            stats: Stats::default(),
            now: Instant::from_millis(1_000),
            source,
            pool: HeapPool::new(4_096, 2_176),
        }
    }

    fn is_v4(&self) -> bool {
        self.source.is_v4()
    }

    /// A piece of packet `id` with link padding behind it.
    fn piece(
        &mut self,
        id: u32,
        start: u16,
        more: bool,
        bytes: &[u8],
        ecn: u8,
    ) -> Gathered<HeapBuf> {
        let v4 = self.is_v4();
        let destination = if v4 {
            Address::v4([10, 0, 0, 1])
        } else {
            Address::v6([0xfe; 16])
        };
        let extension = if v4 { 0 } else { FRAGMENT_HEADER_BYTES };
        let repr = IpRepr {
            source: self.source,
            destination,
            protocol: if v4 {
                protocol::TCP
            } else {
                protocol::FRAGMENT
            },
            hop_limit: 64,
            traffic_class: ecn,
            dont_fragment: false,
            identification: id as u16,
            payload_len: (bytes.len() + extension) as u16,
        };
        let mut frame = vec![0xee; IP_AT + repr.header_len()];
        repr.emit(&mut frame[IP_AT..], false).expect("fits");
        if !v4 {
            let field = start | u16::from(more);
            frame.extend([protocol::TCP, 0]);
            frame.extend(field.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let payload_at = frame.len() - IP_AT;
        frame.extend(bytes);
        frame.extend([0; 7]);
        let info = FragmentFrame {
            packet: PacketId {
                source: self.source,
                destination,
                identification: id,
                protocol: if v4 { protocol::TCP } else { 0 },
            },
            fragment: Fragment {
                identification: id,
                offset: start,
                more,
            },
            ip_at: IP_AT as u16,
            payload_at: payload_at as u16,
            payload_len: bytes.len() as u16,
            ecn,
        };
        let frame = self.pool.receive(&frame).expect("room");
        let (tunables, stats) = (&self.tunables, &mut self.stats);
        self.reassembler
            .take(self.now, &info, frame, tunables, stats)
    }

    fn dropped(&mut self, id: u32, start: u16, more: bool, bytes: &[u8]) -> DropReason {
        match self.piece(id, start, more, bytes, 0) {
            Gathered::Dropped(reason) => reason,
            other @ (Gathered::Waits | Gathered::Whole(_)) => panic!("{other:?}"),
        }
    }

    fn waits(&mut self, id: u32, start: u16, more: bool, bytes: &[u8]) {
        let outcome = self.piece(id, start, more, bytes, 0);
        assert!(matches!(outcome, Gathered::Waits), "{outcome:?}");
    }
}

/// The payload of a whole packet, after its header was checked.
fn payload(bench: &Bench, frame: &HeapBuf) -> Vec<u8> {
    let bytes: Vec<u8> = frame.segments().flatten().copied().collect();
    let ether_type = if bench.is_v4() {
        millrace_wire::EtherType::IPV4
    } else {
        millrace_wire::EtherType::IPV6
    };
    let packet = &bytes[IP_AT..];
    let view = millrace_wire::IpView::parse(ether_type, packet, packet.len());
    let view = view.expect("IP").expect("well formed");
    assert!(view.header_checksum_ok());
    assert_eq!((view.fragment(), view.protocol()), (None, protocol::TCP));
    assert_eq!(view.total_len(), packet.len(), "no link padding is left");
    view.payload().to_vec()
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

// Seeded by a constant: fifty orders of pieces of uneven sizes. behaviour: IPI-7
#[test]
fn pieces_become_the_packet_in_whatever_order_they_come() {
    for v4 in [true, false] {
        let mut rng = Rng::new(0x5eed_f4a6);
        for round in 0..50u32 {
            let mut bench = Bench::new(v4);
            let whole = text(1 + rng.below(20_000) as usize);
            let mut cuts = Vec::new();
            let mut at = 0;
            while at < whole.len() {
                let len = (8 * (1 + rng.below(180) as usize)).max((whole.len() / 60) & !7);
                let end = (at + len).min(whole.len());
                cuts.push((at, end));
                at = end;
            }
            for index in (1..cuts.len()).rev() {
                cuts.swap(index, rng.below(index as u32 + 1) as usize);
            }
            let last = cuts.len() - 1;
            for (number, (start, end)) in cuts.into_iter().enumerate() {
                let more = end < whole.len();
                match bench.piece(round, start as u16, more, &whole[start..end], 0) {
                    Gathered::Waits => assert!(number < last, "round {round}"),
                    Gathered::Whole(frame) => {
                        assert_eq!(number, last, "round {round}");
                        assert_eq!(payload(&bench, &frame), whole);
                    }
                    Gathered::Dropped(reason) => panic!("{reason:?} in round {round}"),
                }
            }
            assert_eq!(
                (bench.reassembler.len(), bench.reassembler.held_bytes),
                (0, 0)
            );
            assert_eq!(bench.pool.live(), 0);
            assert_eq!(bench.stats.ip_reasm_oks, 1);
        }
    }
}

// RFC 5722 section 4; Linux since 4.19 for IPv4.
#[test]
fn an_overlap_ends_the_packet_and_a_duplicate_does_not() {
    for v4 in [true, false] {
        let mut bench = Bench::new(v4);
        let whole = text(48);
        bench.waits(1, 0, true, &whole[..16]);
        bench.waits(1, 16, true, &whole[16..32]);
        let (same, within) = (&whole[16..32], &whole[8..24]);
        assert_eq!(
            bench.dropped(1, 16, true, same),
            DropReason::FragmentDuplicate
        );
        assert_eq!(
            bench.dropped(1, 8, true, within),
            DropReason::FragmentDuplicate
        );
        assert_eq!(bench.stats.ip_reasm_fails, 0);
        let across = bench.dropped(1, 24, true, &whole[24..48]);
        assert_eq!(across, DropReason::FragmentOverlap);
        assert_eq!((bench.reassembler.len(), bench.pool.live()), (0, 0));
        let stats = &bench.stats;
        assert_eq!((stats.ip_reasm_overlaps, stats.ip_reasm_fails), (1, 1));
    }
}

// The ends of a packet that pieces disagree about.
#[test]
fn pieces_that_contradict_each_other_end_the_packet() {
    for v4 in [true, false] {
        let impossible: [&[(u16, bool, usize)]; 5] = [
            &[(16, false, 8), (24, false, 8)],
            &[(16, false, 8), (24, true, 8)],
            &[(32, true, 8), (16, false, 8)],
            &[(0, true, 0)],
            &[(65_528, false, 100)],
        ];
        for pieces in impossible {
            let mut bench = Bench::new(v4);
            let (last, first) = pieces.split_last().expect("some");
            for (start, more, len) in first {
                bench.waits(1, *start, *more, &text(*len));
            }
            let reason = bench.dropped(1, last.0, last.1, &text(last.2));
            assert_eq!(reason, DropReason::FragmentInvalid, "{pieces:?}");
            assert_eq!((bench.reassembler.len(), bench.pool.live()), (0, 0));
        }
    }
}

// RFC 8200 section 4.5 against Linux's IPv4.
#[test]
fn a_piece_of_uneven_length_is_cut_in_ipv4_and_an_end_in_ipv6() {
    let mut bench = Bench::new(true);
    bench.waits(1, 0, true, &text(13));
    let outcome = bench.piece(1, 8, false, b"end", 0);
    let Gathered::Whole(frame) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(payload(&bench, &frame), [&text(8)[..], b"end"].concat());
    let mut bench = Bench::new(false);
    assert_eq!(
        bench.dropped(1, 0, true, &text(13)),
        DropReason::FragmentInvalid
    );
}

// `ipfrag_time`, `ip6frag_time`.
#[test]
fn what_does_not_become_whole_in_time_is_given_up_and_its_first_piece_told() {
    for (v4, seconds) in [(true, 30), (false, 60)] {
        let mut bench = Bench::new(v4);
        bench.waits(1, 8, true, &text(8));
        bench.waits(2, 0, true, &text(8));
        let due = bench.now.after(Nanos::from_secs(seconds));
        assert_eq!(bench.reassembler.next_deadline(), due);
        let before = Instant::from_nanos(due.as_nanos() - 1);
        assert!(bench.reassembler.expire(before, &mut bench.stats).is_none());
        let mut told = Vec::new();
        while let Some(overdue) = bench.reassembler.expire(due, &mut bench.stats) {
            told.push((overdue.packet.identification, overdue.first.is_some()));
        }
        told.sort_unstable();
        assert_eq!(told, [(1, false), (2, true)]);
        let stats = &bench.stats;
        assert_eq!((stats.ip_reasm_timeout, stats.ip_reasm_fails), (2, 2));
        assert_eq!(bench.pool.live(), 0);
        assert_eq!(bench.reassembler.next_deadline(), Instant::NEVER);
    }
}

// An attacker who never sends the rest.
#[test]
fn packets_pieces_and_bytes_under_way_are_bounded() {
    let mut bench = Bench::new(true);
    for id in 0..FRAGMENT_PACKETS_MAX as u32 {
        bench.waits(id, 8, true, &text(8));
    }
    let refused = bench.dropped(9_999, 8, true, &text(8));
    assert_eq!(refused, DropReason::FragmentMemory);
    assert_eq!(bench.reassembler.len(), FRAGMENT_PACKETS_MAX);
    let mut bench = Bench::new(true);
    for at in 0..FRAGMENTS_PER_PACKET_MAX as u16 {
        bench.waits(1, at * 16, true, &text(8));
    }
    let refused = bench.dropped(1, 60_000, true, &text(8));
    assert_eq!(refused, DropReason::FragmentMemory);
    assert_eq!(bench.reassembler.len(), 0, "it can never be whole");
    let mut bench = Bench::new(true);
    bench.tunables.ipfrag_high_thresh = 5_000;
    for id in 0..3 {
        bench.waits(id, 8, true, &text(8));
    }
    assert_eq!(
        bench.dropped(3, 8, true, &text(8)),
        DropReason::FragmentMemory
    );
    bench.waits(2, 24, true, &text(8));
}

// `ip_frag_too_far`: an identification of 16 bits comes round.
#[test]
fn a_packet_that_was_begun_too_many_pieces_ago_begins_again() {
    let mut bench = Bench::new(true);
    bench.waits(7, 0, true, &text(8));
    for id in 100..165 {
        bench.waits(id, 8, true, &text(8));
    }
    bench.waits(7, 8, false, b"another");
    assert_eq!(bench.stats.ip_reasm_fails, 1);
    let mut bench = Bench::new(true);
    bench.tunables.ipfrag_max_dist = 0;
    bench.waits(7, 0, true, &text(8));
    for id in 100..165 {
        bench.waits(id, 8, true, &text(8));
    }
    let outcome = bench.piece(7, 8, false, b"the same", 0);
    assert!(matches!(outcome, Gathered::Whole(_)));
}

// RFC 3168 section 5.3.
#[test]
fn a_mark_of_congestion_on_one_piece_is_the_packets_and_contradictions_end_it() {
    for v4 in [true, false] {
        for (first, second, expected) in [
            (0, 0, Some(0)),
            (2, 3, Some(3)),
            (1, 1, Some(1)),
            (0, 3, None),
            (0, 2, None),
        ] {
            let mut bench = Bench::new(v4);
            assert!(matches!(
                bench.piece(1, 0, true, &text(8), first),
                Gathered::Waits
            ));
            let joined = match bench.piece(1, 8, false, &text(8), second) {
                Gathered::Whole(frame) => {
                    let bytes = frame.bytes();
                    Some(if v4 {
                        bytes[IP_AT + 1] & 3
                    } else {
                        bytes[IP_AT + 1] >> 4 & 3
                    })
                }
                Gathered::Dropped(_) => None,
                Gathered::Waits => panic!("whole"),
            };
            assert_eq!(joined, expected, "{first} and {second}");
        }
    }
}
