//! Where things are: the tree, cargo's build folder, folders for one run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the source tree.
pub(crate) fn root() -> PathBuf {
    // perf/xtask is two levels below the root; cargo sets this at build time.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's build folder, as cargo itself would choose it.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// A folder below the build folder, made when it is missing.
pub(crate) fn below_target(name: &str) -> Result<PathBuf> {
    let folder = target().join(name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(folder)
}

/// A folder for one run, in memory when the machine has a place for that. Removed on drop.
///
/// The region that both processes map lives here: on a disk, write-back would stall the lcores.
pub(crate) struct RunFolder {
    path: PathBuf,
}

/// Where folders for one run go.
fn run_folders() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_path_buf()
    } else {
        std::env::temp_dir()
    }
}

/// Removes the folders of dead runs.
pub(crate) fn sweep_run_folders(is_stale: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(run_folders())
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_str().is_some_and(&is_stale) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl RunFolder {
    /// Makes `/dev/shm/NAME`, or the same below the temporary folder. An old one of that name goes.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let path = run_folders().join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove the old {}", path.display()))?;
        }
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // A folder left behind is a nuisance, not a failure; the next run removes it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
