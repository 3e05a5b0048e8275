//! Huge pages of 2 MiB: reserved when the kernel lets us, verified, never required.
//!
//! Without them the dataplane runs with `--no-huge`: correct, and 1.7 to 3 times slower.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;

/// What the end-to-end tests ask for: 512 × 2 MiB = 1 GiB, two dataplanes with room to spare.
pub(crate) const PAGES_WANTED: u32 = 512;

/// Huge pages may take at most this share of the memory that is free now.
const FREE_SHARE: u64 = 4;

const COUNT: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

fn count() -> u32 {
    fs::read_to_string(COUNT)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Pages of 2 MiB that fit in the allowed share of `MemAvailable`.
fn affordable(meminfo: &str) -> u32 {
    let kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0);
    u32::try_from(kib / FREE_SHARE / 2048).unwrap_or(u32::MAX)
}

/// Raises the reservation to `wanted` (never lowers it) and says how many there are.
pub(crate) fn reserve(wanted: u32) -> u32 {
    let have = count();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let goal = wanted.min(affordable(&meminfo));
    if have >= goal {
        return have;
    }
    if !Path::new(COUNT).exists() {
        println!(
            "setup: this kernel has no 2 MiB huge pages; the dataplane will run with --no-huge"
        );
        return 0;
    }
    // The kernel may give fewer than asked, or refuse the write; what counts is what is there after it.
    let written = fs::write(COUNT, goal.to_string());
    let now = count();
    match written {
        Ok(()) => println!(
            "setup: reserved huge pages of 2 MiB: asked for {goal}, had {have}, have {now}"
        ),
        Err(error) => println!(
            "setup: cannot reserve huge pages ({error}), have {now}; with none the dataplane runs with --no-huge"
        ),
    }
    now
}

/// Folders where a hugetlbfs is mounted.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(2) == Some(&"hugetlbfs"))
        .map(|row| PathBuf::from(row[1]))
        .collect()
}

/// Whether files of huge pages can be made: what a second DPDK process (a capture) needs.
pub(crate) fn are_mounted() -> bool {
    !mounts().is_empty() && count() > 0
}

/// Mounts a hugetlbfs when there is none. Only captures need it, so a refusal is told and not an error.
pub(super) fn mount() {
    const FOLDER: &str = "/dev/hugepages";
    if !mounts().is_empty() || count() == 0 {
        return;
    }
    let mut command = Command::new("mount");
    command.args(["-t", "hugetlbfs", "-o", "pagesize=2M", "hugetlbfs", FOLDER]);
    let mounted = fs::create_dir_all(FOLDER)
        .map_err(Into::into)
        .and_then(|()| process::must(&mut command, Duration::from_secs(10)));
    match mounted {
        Ok(_) => println!("setup: mounted a hugetlbfs at {FOLDER}"),
        Err(error) => println!("setup: no hugetlbfs, dpdk-dumpcap cannot be used: {error:#}"),
    }
}

/// Removes the files of a dataplane that was ended with -9: its pages stay taken as long as they exist.
pub(crate) fn release_files_of(file_prefix: &str) {
    for folder in mounts() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{file_prefix}map_"))
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::affordable;

    #[test]
    fn huge_pages_take_a_quarter_of_the_available_memory_at_most() {
        assert_eq!(
            affordable("MemTotal: 9999 kB\nMemAvailable:    8388608 kB\n"),
            1024
        );
        assert_eq!(affordable("nothing"), 0);
    }
}
