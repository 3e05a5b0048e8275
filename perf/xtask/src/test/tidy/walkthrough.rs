//! `packet-life.md` names files and functions; they must exist.

use std::fs;

use super::Breach;
use crate::paths;

const PAGE: &str = "dataplane/docs/packet-life.md";
/// What the page's paths are relative to.
const BASE: &str = "dataplane";

/// Rows that name a file or a function that is not there.
pub(super) fn breaches() -> Vec<Breach> {
    let page = fs::read_to_string(paths::root().join(PAGE)).unwrap_or_default();
    breaches_of(&page, |path| {
        fs::read_to_string(paths::root().join(BASE).join(path)).ok()
    })
}

fn breaches_of(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut rows = 0;
    for (number, line) in page.lines().enumerate() {
        let Some((path, function)) = row(line) else {
            continue;
        };
        rows += 1;
        let rule = match read(path) {
            None => format!("there is no file {path}"),
            Some(text) if !defines(&text, function) => format!("{path} has no fn {function}"),
            Some(_) => continue,
        };
        found.push(Breach {
            path: PAGE.to_owned(),
            line: number + 1,
            rule,
        });
    }
    if rows == 0 {
        found.push(Breach {
            path: PAGE.to_owned(),
            line: 0,
            rule: "no row found".to_owned(),
        });
    }
    found
}

/// The file and the function of a row `| `file` | `function` | … |`.
fn row(line: &str) -> Option<(&str, &str)> {
    let mut cells = line
        .strip_prefix("| `")?
        .split('|')
        .map(|cell| cell.trim().trim_matches('`'));
    Some((cells.next()?, cells.next()?))
}

fn defines(text: &str, function: &str) -> bool {
    let definition = format!("fn {function}");
    text.match_indices(&definition).any(|(at, _)| {
        let after = text[at + definition.len()..].chars().next();
        matches!(after, Some('(' | '<'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_function_or_a_moved_file_is_a_breach() {
        let page = "| file | function |\n|---|---|\n| `a.rs` | `go` | x |\n| `b.rs` | `go` | x |\n| `a.rs` | `g` | x |";
        let read = |path: &str| (path == "a.rs").then(|| "pub fn go<P>() {}".to_owned());
        let lines: Vec<usize> = breaches_of(page, read)
            .iter()
            .map(|breach| breach.line)
            .collect();
        assert_eq!(lines, [4, 5]);
        assert_eq!(breaches_of("", |_| None).len(), 1);
    }
}
