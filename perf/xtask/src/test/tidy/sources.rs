//! What a Rust source file must and must not contain.

use super::Breach;

/// Folders whose crates may contain unsafe code.
const UNSAFE_ALLOWED: [&str; 4] = [
    "dataplane/dpdk-sys/",
    "dataplane/dpdk/",
    "dataplane/abi/",
    // A C boundary, and nothing else in that crate: decision 0011.
    "dataplane/packetdrill/src/",
];

/// Marks of unfinished work and of one person's machine. Split, so that this file does not contain them.
const BANNED: [(&str, &str); 6] = [
    (concat!("todo", "!("), "unfinished work"),
    (concat!("unimplemented", "!("), "unfinished work"),
    (concat!("FIX", "ME"), "unfinished work: open an issue"),
    (concat!("XX", "X"), "unfinished work: open an issue"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
];

/// Module names that say nothing.
const EMPTY_NAMES: [&str; 5] = [
    "utils.rs",
    "common.rs",
    "helpers.rs",
    "misc.rs",
    "manager.rs",
];

/// All breaches of one file.
pub(super) fn breaches(path: &str, text: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut breach = |line, rule: String| {
        found.push(Breach {
            path: path.to_owned(),
            line,
            rule,
        })
    };
    let file = path.rsplit('/').next().unwrap_or(path);
    if EMPTY_NAMES.contains(&file) {
        breach(0, format!("{file} says nothing about what is in it"));
    }
    if !opens_with_a_word(text) {
        breach(
            1,
            "the file does not open with `//!`: say what it is".to_owned(),
        );
    }
    let may_be_unsafe = UNSAFE_ALLOWED.iter().any(|folder| path.starts_with(folder));
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if !may_be_unsafe && has_unsafe(line) {
            breach(
                number,
                "unsafe outside of dpdk-sys, dpdk, abi and packetdrill".to_owned(),
            );
        }
        for (word, why) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
            breach(number, format!("`{word}`: {why}"));
        }
    }
    found
}

/// Inner attributes may come before the opening words.
fn opens_with_a_word(text: &str) -> bool {
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    first.is_some_and(|line| line.starts_with("//!"))
}

/// Whether code (not a comment, not a lint's name) says `unsafe`.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe trait",
        "unsafe extern",
        "#[unsafe(",
    ]
    .iter()
    .any(|form| code.contains(form) && !code.contains('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: &str = "//! A file.\n";

    #[test]
    fn unsafe_is_found_outside_of_its_crates_only() {
        let text = format!("{OPENING}fn f() {{ unsafe {{ g() }} }}\n");
        assert_eq!(breaches("dataplane/stack/src/a.rs", &text).len(), 1);
        assert_eq!(breaches("dataplane/dpdk/src/a.rs", &text), []);
    }

    #[test]
    fn a_comment_may_speak_of_unsafe_code() {
        let text = format!("{OPENING}// unsafe {{ }} is elsewhere\n#![forbid(unsafe_code)]\n");
        assert_eq!(breaches("dataplane/stack/src/a.rs", &text), []);
    }

    #[test]
    fn unfinished_work_and_missing_openings_are_found() {
        let text = format!("fn f() {{ {}) }}\n", concat!("todo", "!("));
        assert_eq!(breaches("control/cli/src/a.rs", &text).len(), 2);
    }
}
