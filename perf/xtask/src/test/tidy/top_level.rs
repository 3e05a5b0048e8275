//! The visible top level of the tree stays exactly as designed.

use super::Breach;

/// Everything allowed there. Names with a leading dot are settings of tools.
const ALLOWED: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "conf",
    "control",
    "dataplane",
    "docker",
    "perf",
];

/// Files whose first path element is not allowed.
pub(super) fn breaches(files: &[String]) -> Vec<Breach> {
    files
        .iter()
        .filter(|path| {
            let first = path.split('/').next().unwrap_or_default();
            !first.starts_with('.') && !ALLOWED.contains(&first)
        })
        .map(|path| Breach {
            path: path.clone(),
            line: 0,
            rule: "the top level of the tree is fixed; find the room this belongs to".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_top_level_name_is_found_and_dotted_settings_are_fine() {
        let files = ["tools/a.rs", ".ci/run", "perf/xtask/src/main.rs"].map(str::to_owned);
        let found = breaches(&files);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "tools/a.rs");
    }
}
