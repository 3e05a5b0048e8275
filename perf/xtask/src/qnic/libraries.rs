//! Which files a program of this machine needs to run elsewhere: what the dynamic linker says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

/// DPDK's drivers that the guest needs. EAL loads every driver in the folder; these are all it gets.
const DRIVERS: [&str; 4] = ["bus_pci", "bus_vdev", "mempool_ring", "net_e1000"];
const QUICK: Duration = Duration::from_secs(20);

/// The shared libraries of a program or library, the linker itself included.
pub(super) fn of(file: &Path) -> Result<Vec<PathBuf>> {
    let said = process::must(Command::new("ldd").arg(file), QUICK)?;
    Ok(paths_in(&said))
}

/// The paths in `ldd`'s answer: `name => /path (address)` or `/path (address)`.
fn paths_in(said: &str) -> Vec<PathBuf> {
    let words = said.lines().flat_map(str::split_whitespace);
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The files of the drivers, links included, where EAL looks for them.
pub(super) fn drivers() -> Result<Vec<PathBuf>> {
    let mut ask = Command::new("pkg-config");
    let libraries = process::must(ask.args(["--variable=libdir", "libdpdk"]), QUICK)?;
    let dpdk = Path::new(libraries.trim()).join("dpdk");
    let folder = entries(&dpdk)?
        .into_iter()
        .filter(|path| name_of(path).starts_with("pmds-"))
        .max()
        .with_context(|| format!("no drivers in {}", dpdk.display()))?;
    let files = entries(&folder)?;
    let wanted = |path: &PathBuf| {
        DRIVERS
            .iter()
            .any(|driver| name_of(path).starts_with(&format!("librte_{driver}.so")))
    };
    Ok(files.into_iter().filter(wanted).collect())
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_both_forms_of_the_answer() {
        let said = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                    \tlibdpdk.so.23 => /lib/x86_64-linux-gnu/libdpdk.so.23 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths = [
            "/lib/x86_64-linux-gnu/libdpdk.so.23",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths_in(said), paths.map(PathBuf::from));
        assert!(paths_in("\tstatically linked\n").is_empty());
    }
}
