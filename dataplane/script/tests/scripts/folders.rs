//! Where scripts are: the project's own, and the public suite where it is at hand.

use std::fs;
use std::path::{Path, PathBuf};

use millrace_script::Variant;

/// Names the folder of the public scripts. They are not part of this repository (their licence is
/// another); beside it, `shared/packetdrill/scripts` is looked at.
const FOLDER: &str = "MILLRACE_PACKETDRILL";

/// The folder of the public scripts; says loudly when there is none.
pub(crate) fn public() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Some(PathBuf::from(folder));
    }
    let beside = below_manifest("../../../shared/packetdrill/scripts");
    if beside.is_dir() {
        return Some(beside);
    }
    eprintln!("SKIPPED: no public scripts; name their folder in {FOLDER}");
    None
}

/// A path from this crate's folder.
pub(crate) fn below_manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All scripts below a folder, sorted.
pub(crate) fn scripts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(scripts(&path));
        } else if path.extension().is_some_and(|extension| extension == "pkt") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The variants that a script is for: by custom its name tells when not all.
pub(crate) fn variants(path: &Path) -> impl Iterator<Item = Variant> {
    let name = path.display().to_string();
    let (only_v4, only_v6) = (name.ends_with("v4.pkt"), name.ends_with("v6.pkt"));
    Variant::ALL
        .into_iter()
        .filter(move |variant| match variant {
            Variant::Ipv6 => !only_v4,
            Variant::Ipv4 | Variant::Mapped => !only_v6,
        })
}
