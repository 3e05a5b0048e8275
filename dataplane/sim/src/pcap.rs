//! Captures in the classic format that every analyser reads (draft-ietf-opsawg-pcap).
//!
//! Raw IP packets, times in nanoseconds of virtual time.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use millrace_base::Instant;

/// The number that says "nanoseconds", in the writer's byte order.
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// The version of the format.
const VERSION: [u16; 2] = [2, 4];
/// Packets begin with an IP header.
const LINKTYPE_RAW: u32 = 101;
/// No packet is longer.
const SNAP_BYTES: u32 = 262_144;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Packets as one network card sees them, in their order.
#[derive(Debug, Default)]
pub(crate) struct Capture(Vec<(Instant, Vec<u8>)>);

impl Capture {
    pub(crate) fn add(&mut self, at: Instant, packet: &[u8]) {
        self.0.push((at, packet.to_vec()));
    }

    /// Writes the file.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        self.write(&mut file)?;
        file.flush()
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&MAGIC_NANOS.to_le_bytes())?;
        for number in VERSION {
            to.write_all(&number.to_le_bytes())?;
        }
        // Time zone and accuracy, which nobody reads.
        to.write_all(&[0; 8])?;
        to.write_all(&SNAP_BYTES.to_le_bytes())?;
        to.write_all(&LINKTYPE_RAW.to_le_bytes())?;
        for (at, packet) in &self.0 {
            let nanos = at.as_nanos();
            let len = packet.len() as u32;
            let seconds = (nanos / NANOS_PER_SECOND) as u32;
            let rest = (nanos % NANOS_PER_SECOND) as u32;
            for word in [seconds, rest, len, len] {
                to.write_all(&word.to_le_bytes())?;
            }
            to.write_all(packet)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The bytes of a file with one packet, as the draft's section 4 and 5 lay them out.
    #[test]
    fn a_capture_is_a_header_and_a_record_for_each_packet() {
        let mut capture = Capture::default();
        capture.add(Instant::from_micros(1_500_000), &[0x45, 0, 0]);
        let mut file = Vec::new();
        capture.write(&mut file).expect("memory takes all");
        assert_eq!(file.len(), 24 + 16 + 3);
        assert_eq!(file[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        assert_eq!(file[20..24], [101, 0, 0, 0]);
        assert_eq!(file[24..28], [1, 0, 0, 0]);
        assert_eq!(file[28..32], 500_000_000_u32.to_le_bytes());
        assert_eq!(file[32..36], file[36..40]);
        assert_eq!(file[40..], [0x45, 0, 0]);
    }
}
