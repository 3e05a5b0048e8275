//! How much memory the packet buffers and tables need, what the machine offers, and where random bytes come from.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use millrace_abi::heap;
use millrace_stack::Watermarks;
use tracing::info;

use crate::counters::Counters;

/// Bytes of an mbuf's own struct, its private area and the pool's bookkeeping, rounded up to cache lines.
const MBUF_OVERHEAD_BYTES: u64 = 128 + 64;
/// What EAL, the drivers' rings and the plug-ins take besides: measured at 20 to 40 MiB, doubled.
const FIXED_MEBIBYTES: u64 = 96;
/// Buffers that one queue pair of a device holds: the descriptors of both rings.
const RING_FRAMES: usize = 2 * 1_024;
/// Buffers that one lcore holds on their way: mempool cache (1.5 times 256), steering queue (1,024), bursts, replies.
const LCORE_FRAMES: usize = 2_048;
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";
/// Whether the kernel gives huge pages to who asks for them.
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// What the process has of each kind of memory.
const SMAPS: &str = "/proc/self/smaps_rollup";

/// Buffers that only frames without payload are made of, for each lcore: two full bursts to each of sixteen ports.
pub(crate) const RESERVED_FRAMES: u32 = 2_047;
/// Bytes in one of them: the headroom, into which headers are written, and as much again.
pub(crate) const RESERVED_BYTES: u16 = 256;

/// Reserved buffers of all lcores.
pub(crate) fn reserved_frames(lcores: usize) -> u32 {
    RESERVED_FRAMES.saturating_mul(u32::try_from(lcores).unwrap_or(u32::MAX))
}

/// Free buffers of an lcore's cache at most: one and a half times its size. Others cannot see them.
const CACHE_FRAMES_MAX: usize = 384;

/// Connections that are kept for those that we open: one of 64, so that a full house can still reach its backends
/// and probe them.
pub(crate) fn connections_reserved(connections_max: usize) -> usize {
    (connections_max / 64).min(4_096)
}

/// When the pool counts as short. `free` is what is free while nothing goes on: devices' rings hold the rest for good,
/// and what other lcores may have in their caches is out of reach.
pub(crate) fn watermarks(free: usize, lcores: usize) -> Watermarks {
    let hidden = lcores.saturating_sub(1).saturating_mul(CACHE_FRAMES_MAX);
    Watermarks::of(free.saturating_sub(hidden))
}

/// Views a pool of `mbufs` buffers gets. A view is needed for each segment that leaves while its buffer is still held by
/// a device, and for each piece of a frame that the device cuts: rarely more than half of the buffers at a time.
pub(crate) fn views(mbufs: u32) -> u32 {
    (mbufs / 2).max(4_095)
}

/// Buffers that connections of one lcore may keep in their queues.
///
/// The rest of the pool belongs to the devices' rings, the lcores' caches and the frames on their way: were all of it
/// queued, no ACK could come in to set a buffer free, and nothing would ever move again. A pool that is small for its
/// rings is halved.
pub(crate) fn queued_max(mbufs: u32, ports: usize, lcores: usize) -> usize {
    let mbufs = mbufs as usize;
    let lcores = lcores.max(1);
    let moving = ports
        .saturating_mul(RING_FRAMES)
        .saturating_add(LCORE_FRAMES)
        .saturating_mul(lcores);
    let queued = mbufs.saturating_sub(moving.min(mbufs / 2));
    queued.checked_div(lcores).unwrap_or(queued)
}

/// MiB that the packet buffers and EAL need.
pub(crate) fn mebibytes_needed(mbufs: u32, mbuf_bytes: u16, lcores: usize) -> u32 {
    let frame = u64::from(mbuf_bytes).saturating_add(MBUF_OVERHEAD_BYTES);
    let frames = u64::from(mbufs).saturating_mul(frame);
    let views = u64::from(views(mbufs)).saturating_mul(MBUF_OVERHEAD_BYTES);
    let reserved = u64::from(RESERVED_BYTES)
        .saturating_add(MBUF_OVERHEAD_BYTES)
        .saturating_mul(u64::from(reserved_frames(lcores)));
    let mebibytes = frames
        .saturating_add(views)
        .saturating_add(reserved)
        .div_ceil(1 << 20)
        .saturating_add(FIXED_MEBIBYTES);
    u32::try_from(mebibytes).unwrap_or(u32::MAX)
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
    fn the_need_grows_with_the_buffers() {
        assert_eq!(mebibytes_needed(65_536, 2_176, 0), 148 + 6 + 96);
        assert_eq!(mebibytes_needed(65_536, 2_176, 64), 148 + 6 + 56 + 96);
        assert!(mebibytes_needed(u32::MAX, u16::MAX, 1) > 1 << 20);
    }

    // 300 downloads on a pool of 2,048 took every buffer, and no ACK could be received any more.
    #[test]
    fn queues_never_get_the_whole_pool() {
        assert_eq!(queued_max(65_536, 2, 1), 65_536 - 6_144);
        assert_eq!(queued_max(2_048, 2, 1), 1_024);
        assert_eq!(queued_max(2_048, 2, 2), 512);
        for (mbufs, ports, lcores) in [(1_024, 16, 64), (16_777_216, 2, 64), (u32::MAX, 1, 1)] {
            let queued = queued_max(mbufs, ports, lcores) * lcores;
            assert!(queued > 0 && queued < mbufs as usize);
        }
    }

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
