//! What this process occupies, as the kernel tells it.

use anyhow::{Context, Result};

const STATUS: &str = "/proc/self/status";

/// Resident memory, huge pages included, bytes.
pub(super) fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string(STATUS).context(STATUS)?;
    let kibibytes = field(&status, "VmRSS:").context("no VmRSS")?
        + field(&status, "HugetlbPages:").unwrap_or(0);
    Ok(kibibytes * 1_024)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_resident() {
        let before = resident_bytes().expect("Linux tells");
        let touched = vec![1u8; 64 << 20];
        let after = resident_bytes().expect("Linux tells");
        assert!(after >= before + (60 << 20), "{before} {after}");
        drop(touched);
        assert_eq!(field("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }
}
