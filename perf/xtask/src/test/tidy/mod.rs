//! The tree test: reads every tracked file and prints `path:line: rule` for each breach.
//!
//! | rule | file |
//! |---|---|
//! | a crate names only crates that the design lets it name | `arrows` |
//! | only `dpdk-sys`, `dpdk`, `abi` and `packetdrill` contain unsafe code | `sources` |
//! | files open with a `//!`, no words that do not belong, no leftovers | `sources` |
//! | the top level stays as designed | `top_level` |
//! | the packet's walk through the code names what exists | `walkthrough` |
//! | files and functions stay short | `lengths` (a report, not a failure) |

mod arrows;
mod lengths;
mod sources;
mod top_level;
mod walkthrough;

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::{paths, process};

/// One breach.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) path: String,
    /// From 1; 0 when the whole file is meant.
    pub(crate) line: usize,
    pub(crate) rule: String,
}

/// Every file that git tracks or would track, relative to the root.
pub(crate) fn tracked_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(paths::root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = process::must(&mut git, Duration::from_secs(30))?;
    let exists = |path: &&str| paths::root().join(path).is_file();
    Ok(listed.lines().filter(exists).map(str::to_owned).collect())
}

/// All breaches of the tree.
fn breaches() -> Result<Vec<Breach>> {
    let files = tracked_files()?;
    let mut found = arrows::breaches(&files)?;
    found.extend(top_level::breaches(&files));
    found.extend(walkthrough::breaches());
    for path in files.iter().filter(|path| path.ends_with(".rs")) {
        if let Ok(text) = std::fs::read_to_string(paths::root().join(path)) {
            found.extend(sources::breaches(path, &text));
        }
    }
    Ok(found)
}

/// Prints the breaches and the length report; `true` when there is no breach.
pub(crate) fn run() -> Result<bool> {
    for note in lengths::report(&tracked_files()?) {
        println!("note: {note}");
    }
    let found = breaches()?;
    for Breach { path, line, rule } in &found {
        println!("{path}:{line}: {rule}");
    }
    Ok(found.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_dependency_arrow_of_the_tree_points_up() {
        let files = super::tracked_files().expect("git lists the tree");
        assert_eq!(
            super::arrows::breaches(&files).expect("manifests parse"),
            []
        );
    }
}
