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

    /// Receives `len` bytes at `seq`, each byte being `fill`.
    fn insert(&mut self, seq: u32, len: u16, fill: u8) -> Inserted {
        let buf = self.pool.receive(&vec![fill; len.into()]).expect("room");
        let offset = buf.offset() as u16;
        let piece = Piece {
            buf,
            seq: SeqNumber::new(seq),
            offset,
            len,
        };
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

// The stated overlap policy.
// behaviour: RCV-51, RCV-53
#[test]
fn bytes_received_first_win() {
    let mut bench = Bench::new();
    bench.insert(10, 2, 1);
    bench.insert(14, 2, 2);
    let inserted = bench.insert(8, 10, 9);
    assert_eq!(inserted.bytes, 6);
    assert_eq!(
        inserted.duplicate,
        SeqRange {
            start: SeqNumber::new(10),
            end: SeqNumber::new(12)
        }
    );
    let fills: Vec<u8> = bench.bytes().iter().map(|(_, byte)| *byte).collect();
    assert_eq!(fills, [9, 9, 1, 1, 9, 9, 2, 2, 9, 9]);
    assert_eq!(
        bench.insert(9, 3, 7),
        Inserted {
            bytes: 0,
            duplicate: SeqRange {
                start: SeqNumber::new(9),
                end: SeqNumber::new(10)
            },
            refused: false,
        }
    );
}

// behaviour: RCV-48
#[test]
fn random_segments_behave_like_a_map_of_bytes_across_the_wrap() {
    for seed in 0..60u64 {
        let mut rng = Rng::new(seed);
        let mut bench = Bench::new();
        let base = u32::MAX - 150;
        let mut model: BTreeMap<u32, u8> = BTreeMap::new();
        for step in 0..80u8 {
            let (start, len) = (rng.below(300), 1 + rng.below(40));
            let inserted = bench.insert(base.wrapping_add(start), len as u16, step);
            let mut added = 0;
            for at in start..start + len {
                model.entry(at).or_insert_with(|| {
                    added += 1;
                    step
                });
            }
            assert_eq!(inserted.bytes, added, "seed {seed} step {step}");
        }
        let expected: Vec<_> = model
            .iter()
            .map(|(at, byte)| (base.wrapping_add(*at), *byte))
            .collect();
        assert_eq!(bench.bytes(), expected, "seed {seed}");
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
