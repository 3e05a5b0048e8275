//! The list against a plain map of bytes, and the reports a sender relies on.

use super::*;
use millrace_base::{HeapBuf, HeapPool, Rng};
use std::collections::BTreeMap;

struct Bench {
    pool: HeapPool,
    chunks: Chunks<HeapBuf>,
    reassembly: Reassembly,
}

impl Bench {
    fn new() -> Self {
        Self {
            pool: HeapPool::new(9_000, 256),
            chunks: Chunks::new(9_000),
            reassembly: Reassembly::EMPTY,
        }
    }

    /// `len` bytes at `seq`, each byte being `fill`.
    fn piece(&mut self, seq: u32, len: u16, fill: u8) -> Piece<HeapBuf> {
        let buf = self.pool.receive(&vec![fill; len.into()]).expect("room");
        let offset = buf.offset() as u16;
        Piece {
            buf,
            seq: SeqNumber::new(seq),
            offset,
            len,
        }
    }

    /// Receives such a segment.
    fn insert(&mut self, seq: u32, len: u16, fill: u8) -> Inserted {
        let piece = self.piece(seq, len, fill);
        self.reassembly.insert(&mut self.chunks, piece)
    }

    fn blocks(&self) -> Vec<(u32, u32)> {
        self.reassembly
            .blocks(&self.chunks)
            .map(|block| (block.start.value(), block.end.value()))
            .collect()
    }

    fn bytes(&self) -> Vec<(u32, u8)> {
        let mut bytes = Vec::new();
        for (_, chunk) in self.chunks.iter(&self.reassembly.queue(&self.chunks)) {
            let buf = chunk.buf().expect("buffer");
            let skip = usize::from(chunk.offset) - buf.offset();
            for (index, byte) in buf.bytes()[skip..skip + usize::from(chunk.len)]
                .iter()
                .enumerate()
            {
                bytes.push((chunk.seq.plus(index as u32).value(), *byte));
            }
        }
        bytes
    }
}

// RFC 2018 section 4: the first block holds the segment that triggered the ACK.
// behaviour: CCW-13, RCV-50, RCV-54
#[test]
fn the_latest_block_is_reported_first_and_neighbours_join() {
    let mut bench = Bench::new();
    bench.insert(200, 10, 1);
    bench.insert(300, 10, 2);
    bench.insert(400, 10, 3);
    assert_eq!(bench.blocks(), [(400, 410), (300, 310), (200, 210)]);
    bench.insert(210, 10, 4);
    assert_eq!(bench.blocks(), [(200, 220), (400, 410), (300, 310)]);
    bench.insert(220, 80, 5);
    assert_eq!(bench.blocks(), [(200, 310), (400, 410)]);
    bench
        .reassembly
        .on_advance(&mut bench.chunks, SeqNumber::new(310));
    assert_eq!(bench.blocks(), [(400, 410)]);
}

// Linux: tcp_data_queue_ofo. What is covered wholly is of no use any more: its buffers are free at
// once, and the report of the duplicate goes on while what was here continues it.
// behaviour: RCV-52, RCV-53
#[test]
fn a_segment_that_covers_others_takes_their_place_and_no_more_memory() {
    let mut bench = Bench::new();
    bench.insert(10, 2, 1);
    bench.insert(12, 2, 2);
    bench.insert(15, 2, 3);
    assert_eq!((bench.chunks.used(), bench.pool.live()), (3, 3));
    let inserted = bench.insert(8, 10, 9);
    let duplicate = SeqRange {
        start: SeqNumber::new(10),
        end: SeqNumber::new(14),
    };
    assert_eq!((inserted.bytes, inserted.duplicate), (4, duplicate));
    assert_eq!((bench.chunks.used(), bench.pool.live()), (1, 1));
    assert_eq!(bench.blocks(), [(8, 18)]);
    // The same start, and longer.
    let inserted = bench.insert(8, 12, 7);
    let duplicate = SeqRange {
        start: SeqNumber::new(8),
        end: SeqNumber::new(18),
    };
    assert_eq!((inserted.bytes, inserted.duplicate), (2, duplicate));
    let fills: Vec<u8> = bench.bytes().iter().map(|(_, byte)| *byte).collect();
    assert_eq!(fills, [7; 12]);
    assert_eq!((bench.chunks.used(), bench.pool.live()), (1, 1));
    assert_eq!(
        bench.insert(9, 3, 5),
        Inserted {
            bytes: 0,
            duplicate: SeqRange {
                start: SeqNumber::new(9),
                end: SeqNumber::new(12)
            },
            refused: false,
            crowds: false,
        }
    );
}

// The stated overlap policy.
// behaviour: RCV-51, RCV-53
#[test]
fn where_segments_overlap_in_part_the_bytes_received_first_win() {
    let mut bench = Bench::new();
    bench.insert(10, 4, 1);
    assert_eq!(bench.insert(12, 4, 2).bytes, 2);
    assert_eq!(bench.insert(8, 4, 3).bytes, 2);
    let fills: Vec<u8> = bench.bytes().iter().map(|(_, byte)| *byte).collect();
    assert_eq!(fills, [3, 3, 1, 1, 1, 1, 2, 2]);
}

// Linux: tcp_ooo_try_coalesce, skb_condense. A tiny segment that continues another needs no buffer of
// its own, and one that would lie on a third is left alone.
// behaviour: RCV-58, SKB-13
#[test]
fn tiny_segments_that_continue_each_other_share_one_buffer() {
    let mut bench = Bench::new();
    bench.insert(100, 2, 1);
    for step in 0..20u8 {
        let piece = bench.piece(102 + u32::from(step) * 3, 3, step);
        assert!(bench.reassembly.merge(&mut bench.chunks, piece).is_ok());
    }
    assert_eq!((bench.chunks.used(), bench.pool.live()), (1, 1));
    assert_eq!(bench.blocks(), [(100, 162)]);
    let fills: Vec<u8> = bench.bytes().iter().map(|(_, byte)| *byte).collect();
    assert_eq!(
        (fills.len(), fills[0], fills[2..5].to_vec()),
        (62, 1, vec![0; 3])
    );
    assert_eq!(fills[59..], [19; 3]);
    bench.insert(164, 2, 7);
    for (seq, len) in [(162, 3), (170, 1), (90, 2)] {
        let piece = bench.piece(seq, len, 8);
        assert!(bench.reassembly.merge(&mut bench.chunks, piece).is_err());
    }
    assert_eq!(bench.reassembly.held(&bench.chunks), (64, 2));
}

// behaviour: RCV-48
#[test]
fn random_segments_behave_like_a_map_of_bytes_across_the_wrap() {
    for seed in 0..60u64 {
        let mut rng = Rng::new(seed);
        let mut bench = Bench::new();
        let base = u32::MAX - 150;
        // The segments that had a byte.
        let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for step in 0..80u8 {
            let (start, len) = (rng.below(300), 1 + rng.below(40));
            let inserted = bench.insert(base.wrapping_add(start), len as u16, step);
            let before = model.len();
            for at in start..start + len {
                model.entry(at).or_default().push(step);
            }
            let added = (model.len() - before) as u32;
            assert_eq!(inserted.bytes, added, "seed {seed} step {step}");
            assert!(bench.chunks.used() <= usize::from(step) + 1);
        }
        let bytes = bench.bytes();
        let places: Vec<_> = bytes.iter().map(|(seq, _)| *seq).collect();
        let expected: Vec<_> = model.keys().map(|at| base.wrapping_add(*at)).collect();
        assert_eq!(places, expected, "seed {seed}");
        for ((_, fill), had) in bytes.iter().zip(model.values()) {
            assert!(had.contains(fill), "seed {seed}");
        }
        bench.reassembly.clear(&mut bench.chunks);
        assert_eq!(
            (bench.chunks.used(), bench.pool.live()),
            (0, 0),
            "seed {seed}"
        );
    }
}

// A peer that sends every second byte meets a bound, and the hole in front still gets its place.
#[test]
fn a_flood_of_tiny_ranges_is_bounded() {
    let mut bench = Bench::new();
    let mut refused = 0;
    for index in 0..REASSEMBLY_CHUNKS_MAX + 10 {
        refused += u32::from(bench.insert(1_000 + index * 2, 1, 0).refused);
    }
    assert_eq!(refused, 10);
    assert_eq!(
        bench.reassembly.queue(&bench.chunks).count(),
        REASSEMBLY_CHUNKS_MAX
    );
    assert!(
        bench.insert(1_000 + REASSEMBLY_CHUNKS_MAX, 1, 0).refused,
        "the middle is too far to walk"
    );
    assert!(bench.reassembly.prune(&mut bench.chunks));
    assert!(
        !bench.insert(998, 1, 0).refused,
        "the front is always found"
    );
    let taken = bench
        .reassembly
        .take_at(&mut bench.chunks, SeqNumber::new(998))
        .expect("in turn");
    bench.chunks.free(taken);
}

// A shelf that is full is a value: the segment is refused and will be sent again.
#[test]
fn without_a_place_on_the_shelf_a_segment_is_refused_and_nothing_leaks() {
    let mut bench = Bench::new();
    bench.chunks.reorders = crate::tcp::shelf::Shelf::new(0);
    let inserted = bench.insert(200, 10, 1);
    assert!(inserted.refused && inserted.bytes == 0);
    let range = SeqRange {
        start: SeqNumber::new(1),
        end: SeqNumber::new(2),
    };
    bench.reassembly.note_duplicate(&mut bench.chunks, range);
    assert!(bench.reassembly.is_empty() && !bench.reassembly.has_duplicate());
    assert_eq!(bench.reassembly.take_duplicate(&mut bench.chunks), None);
    assert_eq!((bench.chunks.used(), bench.pool.live()), (0, 0));
}
