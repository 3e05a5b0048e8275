//! Files with content that does not repeat, and their SHA-256. Made once, kept below cargo's build folder.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths;

/// Bytes in the binary megabyte that file sizes here are counted in.
pub(crate) const MIB: u64 = 1 << 20;

/// A file to transfer.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// A deterministic stream of bytes (xorshift64*): both ends can make it, so both can check it.
pub(crate) struct Pattern(u64);

impl Pattern {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Fills a block with the next bytes of the stream. Blocks must be a multiple of 8 bytes long.
    pub(crate) fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_exact_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            word.copy_from_slice(&self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
    }
}

/// The digest as curl users know it.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads to the end: length and digest.
pub(crate) fn digest_of(mut source: impl Read) -> Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut block = vec![0; 1 << 20];
    loop {
        let length = source.read(&mut block)?;
        if length == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        bytes += length as u64;
        hash.update(&block[..length]);
    }
}

/// The digest of a file.
pub(crate) fn digest_of_file(path: &Path) -> Result<(u64, String)> {
    digest_of(File::open(path).with_context(|| path.display().to_string())?)
}

/// The sample of a size, made when it is not there yet.
pub(crate) fn sample(mebibytes: u64) -> Result<Sample> {
    let folder = paths::below_target("e2e-data")?;
    let path = folder.join(format!("{mebibytes}MiB.bin"));
    let note = folder.join(format!("{mebibytes}MiB.sha256"));
    let bytes = mebibytes * MIB;
    if let Ok(sha256) = std::fs::read_to_string(&note)
        && std::fs::metadata(&path).is_ok_and(|file| file.len() == bytes)
    {
        return Ok(Sample {
            path,
            bytes,
            sha256,
        });
    }
    let mut file = BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?);
    let mut pattern = Pattern::new(mebibytes);
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        pattern.fill(&mut block);
        hash.update(&block);
        file.write_all(&block)?;
    }
    file.flush()?;
    let sha256 = hex(&hash.finalize());
    // The note comes last: a sample without one is made again.
    std::fs::write(&note, &sha256)?;
    Ok(Sample {
        path,
        bytes,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_matches_the_published_one() {
        // FIPS 180-2, appendix B.1.
        let (bytes, digest) = digest_of(&b"abc"[..]).expect("reads");
        assert_eq!(bytes, 3);
        assert_eq!(
            digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_pattern_is_the_same_on_both_ends_and_differs_by_seed() {
        let make = |seed| {
            let mut block = [0; 64];
            Pattern::new(seed).fill(&mut block);
            block
        };
        assert_eq!(make(3), make(3));
        assert_ne!(make(3), make(5));
    }
}
