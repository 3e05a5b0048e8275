//! The bytes of every stream: what is at a place follows from the stream and the place alone.
//!
//! So whoever sees a byte, on the wire or in a program, knows whether it is the right one, and
//! nobody keeps a copy. The pattern repeats after a prime number of bytes: a segment that lands one
//! buffer, window or power of two away from its place is noticed.

use std::sync::LazyLock;

/// Bytes after which the pattern repeats: the largest prime below 2^16.
const PERIOD: u64 = 65_521;
/// The longest piece that is asked for at once.
pub(crate) const PIECE_BYTES_MAX: usize = 65_536;

/// The pattern, and enough behind it that any piece is in one piece.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = millrace_base::Rng::new(0x6d69_6c6c);
    let mut table: Vec<u8> = (0..PERIOD).map(|_| rng.next_u64() as u8).collect();
    table.extend_from_within(..);
    table.extend_from_within(..1_024);
    table
});

/// One direction of one flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    /// What the client of this flow writes, or what its server writes.
    pub(crate) const fn new(flow: usize, by_client: bool) -> Self {
        Self(flow as u64 * 2 + by_client as u64)
    }

    /// `len` bytes from `place` on; `len` is at most `PIECE_BYTES_MAX`.
    pub(crate) fn piece(self, place: u64, len: usize) -> &'static [u8] {
        assert!(len <= PIECE_BYTES_MAX, "a piece of {len} bytes");
        let start = ((place + self.0 * 9_973) % PERIOD) as usize;
        &TABLE[start..start + len]
    }

    /// Whether these are the bytes at `place`.
    pub(crate) fn holds(self, place: u64, bytes: &[u8]) -> bool {
        let mut place = place;
        bytes.chunks(PIECE_BYTES_MAX).all(|chunk| {
            let here = place;
            place += chunk.len() as u64;
            self.piece(here, chunk.len()) == chunk
        })
    }

    /// Where these are not the bytes at `place`, and which they are there.
    pub(crate) fn differs(self, place: u64, bytes: &[u8]) -> String {
        let is_other = |(at, byte): &(usize, &u8)| self.piece(place + *at as u64, 1) != [**byte];
        let first = bytes.iter().enumerate().find(is_other);
        let at = first.map_or(bytes.len(), |(at, _)| at);
        let others = bytes.get(at..bytes.len().min(at + 16)).unwrap_or_default();
        format!(
            "wrong bytes read of {self:?} from {} on, {at} behind the first of {}: {others:02x?}",
            place + at as u64,
            bytes.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_holds_at_its_place_and_nowhere_near() {
        let stream = Stream::new(3, true);
        let piece = stream.piece(1_000_000, 1_448);
        assert!(stream.holds(1_000_000, piece));
        for away in [1, 1_448, 4_096, 65_536] {
            assert!(!stream.holds(1_000_000 + away, piece), "{away}");
        }
        assert!(!Stream::new(3, false).holds(1_000_000, piece));
        assert!(!Stream::new(4, true).holds(1_000_000, piece));
    }
}
