//! What the machine offers in memory, when packet buffers count as short, and where random bytes come from. How much is
//! needed is `millrace_abi::plan`'s.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use millrace_abi::heap;
use millrace_stack::Watermarks;
use tracing::info;

use crate::counters::Counters;

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";
/// Whether the kernel gives huge pages to who asks for them.
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// What the process has of each kind of memory.
const SMAPS: &str = "/proc/self/smaps_rollup";

/// Free buffers of an lcore's cache at most: one and a half times its size. Others cannot see them.
const CACHE_FRAMES_MAX: usize = 384;

/// When the pool counts as short. `free` is what is free while nothing goes on: devices' rings hold the rest for good,
/// and what other lcores may have in their caches is out of reach.
pub(crate) fn watermarks(free: usize, lcores: usize) -> Watermarks {
    let hidden = lcores.saturating_sub(1).saturating_mul(CACHE_FRAMES_MAX);
    Watermarks::of(free.saturating_sub(hidden))
}

/// MiB in free huge pages of every size; 0 when there are none or the kernel does not tell.
pub(crate) fn huge_mebibytes_free() -> u32 {
    huge_mebibytes_free_in(Path::new(HUGE_PAGES))
}

fn huge_mebibytes_free_in(folder: &Path) -> u32 {
    let Ok(sizes) = std::fs::read_dir(folder) else {
        return 0;
    };
    let kibibytes: u64 = sizes
        .flatten()
        .filter_map(|size| free_kibibytes(&size.path()))
        .sum();
    u32::try_from(kibibytes / 1_024).unwrap_or(u32::MAX)
}

fn free_kibibytes(size: &Path) -> Option<u64> {
    let name = size.file_name()?.to_str()?;
    let page: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    let free: u64 = std::fs::read_to_string(size.join("free_hugepages"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(page.saturating_mul(free))
}

/// Says how large the tables are and how much of them lies on huge pages: the rest costs TLB misses.
pub(crate) fn report_tables(counters: &mut Counters) {
    let bytes = heap::large_bytes_held() as u64;
    let smaps = std::fs::read_to_string(SMAPS).unwrap_or_default();
    // Packet buffers are not among them: EAL's pages come from the reserved ones, or from files.
    let huge = anonymous_huge_bytes(&smaps).min(bytes);
    let transparent = std::fs::read_to_string(TRANSPARENT).unwrap_or_default();
    info!(
        mebibytes = bytes >> 20,
        on_huge_pages = huge >> 20,
        transparent_hugepage = transparent.trim(),
        "tables"
    );
    counters.table_bytes = bytes;
    counters.table_huge_bytes = huge;
}

/// Bytes on transparent huge pages; 0 when the kernel does not tell.
fn anonymous_huge_bytes(smaps: &str) -> u64 {
    let line = smaps
        .lines()
        .find_map(|line| line.strip_prefix("AnonHugePages:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0);
    kibibytes.saturating_mul(1_024)
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> std::io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_read_as_the_kernel_writes_them() {
        let smaps = "Rss: 12 kB\nAnonHugePages:     81920 kB\nShmemPmdMapped: 0 kB\n";
        assert_eq!(anonymous_huge_bytes(smaps), 80 << 20);
        assert_eq!(anonymous_huge_bytes("Rss: 1 kB\n"), 0);
    }

    #[test]
    fn free_pages_of_every_size_count() {
        let folder = std::env::temp_dir().join(format!("millrace-huge-{}", std::process::id()));
        for (size, free) in [
            ("hugepages-2048kB", "3\n"),
            ("hugepages-1048576kB", "1\n"),
            ("else", "9"),
        ] {
            std::fs::create_dir_all(folder.join(size)).expect("temporary folder");
            std::fs::write(folder.join(size).join("free_hugepages"), free).expect("temporary file");
        }
        assert_eq!(huge_mebibytes_free_in(&folder), 6 + 1_024);
        std::fs::remove_dir_all(&folder).expect("removes what it made");
        assert_eq!(huge_mebibytes_free_in(&folder), 0);
    }
}
