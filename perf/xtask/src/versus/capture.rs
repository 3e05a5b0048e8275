//! What a sender saw, as a pcap file: its own frames before they can be lost, and the receiver's when
//! they have arrived.
//!
//! `tcpdump` beside Millrace sees only half of that: frames sent past the queueing discipline are shown
//! to nobody.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Headers with every option, and no payload to speak of.
const SNAP_BYTES: usize = 128;

/// An open file in the classic format with nanoseconds.
pub(super) struct Capture {
    file: BufWriter<File>,
}

impl Capture {
    /// Makes the file.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        // Magic of nanoseconds, version 2.4, zone, accuracy, snapshot length, Ethernet.
        for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, SNAP_BYTES as u32, 1] {
            file.write_all(&word.to_le_bytes())?;
        }
        Ok(Self { file })
    }

    /// Writes a frame that was seen so many nanoseconds into the run.
    pub(super) fn write(&mut self, now: u64, frame: &[u8]) {
        let kept = &frame[..frame.len().min(SNAP_BYTES)];
        let words = [
            now / 1_000_000_000,
            now % 1_000_000_000,
            kept.len() as u64,
            frame.len() as u64,
        ];
        // A disk that is full costs the capture, not the run.
        for word in words {
            let _ = self.file.write_all(&(word as u32).to_le_bytes());
        }
        let _ = self.file.write_all(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_written_with_its_time_and_its_true_length() {
        let name = format!("xtask-capture-{}.pcap", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut capture = Capture::create(&path).expect("a file");
        capture.write(3_000_000_007, &[9; 200]);
        drop(capture);
        let bytes = std::fs::read(&path).expect("the file");
        let _ = std::fs::remove_file(&path);
        assert_eq!(bytes.len(), 24 + 16 + SNAP_BYTES);
        assert_eq!(bytes[..6], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0]);
        assert_eq!(
            bytes[24..40],
            [3, 0, 0, 0, 7, 0, 0, 0, 128, 0, 0, 0, 200, 0, 0, 0]
        );
    }
}
