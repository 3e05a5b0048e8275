//! Tests and scripts that name rows.
//!
//! A Rust test is a function behind `#[test]`: its body up to the brace that closes it, and the
//! comments and attributes above it. So is an end-to-end case (`const …: Case = Case {`), with its
//! description. A packet script is one test.

use super::rows::named;

/// A row named in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Citation {
    /// The row.
    pub(super) row: String,
    /// `path:line`.
    pub(super) place: String,
    /// The test, if it is one.
    pub(super) test: Option<String>,
}

/// Requirement names of RFC 9293, which need no introducing word.
const REQUIREMENTS: [&str; 3] = ["MUST-", "SHLD-", "MAY-"];

/// Every row that a file names.
pub(super) fn find(path: &str, text: &str) -> Vec<Citation> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = if path.ends_with(".pkt") {
        vec![Test {
            name: path.to_owned(),
            first: 0,
            last: lines.len(),
        }]
    } else {
        tests(path, &lines)
    };
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let test = tests.iter().find(|t| (t.first..=t.last).contains(&number));
        for row in rows_of(line) {
            found.push(Citation {
                row,
                place: format!("{path}:{}", number + 1),
                test: test.map(|test| test.name.clone()),
            });
        }
    }
    found
}

/// What a line names: rows after `behaviour:`, and requirements in any comment.
fn rows_of(line: &str) -> Vec<String> {
    let Some((_, comment)) = line.split_once("//").or(line.split_once('#')) else {
        return Vec::new();
    };
    let is_requirement = |row: &String| REQUIREMENTS.iter().any(|prefix| row.starts_with(prefix));
    if let Some((before, rows)) = comment.split_once("behaviour:") {
        let mut all: Vec<String> = named(before);
        all.retain(is_requirement);
        all.extend(named(rows));
        return all;
    }
    let mut all = named(comment);
    all.retain(is_requirement);
    all
}

/// A test function and its lines, from 0, comments above it included.
struct Test {
    name: String,
    first: usize,
    last: usize,
}

fn tests(path: &str, lines: &[&str]) -> Vec<Test> {
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let is_case = is_case(line);
        if line.trim() != "#[test]" && !is_case {
            continue;
        }
        let above = lines.get(..number).unwrap_or_default().iter().rev();
        let belongs = |line: &&&str| line.trim().starts_with("//") || line.trim().starts_with("#[");
        let first = number - above.take_while(belongs).count();
        let below = lines.iter().enumerate().skip(number);
        let is_head = |line: &str| is_case || is_function(line);
        let Some((at, function)) = below.clone().find(|(_, line)| is_head(line)) else {
            continue;
        };
        let indent = function.len() - function.trim_start().len();
        let is_end = |line: &str| {
            let line = line.trim_end();
            let closes = line.len() == indent + 1 && line.ends_with('}');
            closes || (is_case && line == "};")
        };
        let ends_at = if function.trim_end().ends_with('}') {
            at
        } else {
            below
                .skip_while(|(number, _)| *number <= at)
                .find(|(_, line)| is_end(line))
                .map_or(at, |(number, _)| number)
        };
        found.push(Test {
            name: match is_case {
                true => path.to_owned(),
                false => format!("{path}::{}", name_of(function)),
            },
            first,
            last: ends_at,
        });
    }
    found
}

/// Whether an end-to-end case begins here.
fn is_case(line: &str) -> bool {
    line.contains("const ") && line.trim_end().ends_with(": Case = Case {")
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("fn ") || line.starts_with("async fn ")
}

fn name_of(function: &str) -> &str {
    let after = function
        .split_once("fn ")
        .map_or(function, |(_, name)| name);
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    after.split(is_end).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
//! MUST-1 lives here.

fn code() {
    // behaviour: A1-1
}

// RFC 9293, MUST-2. behaviour: A1-2, A1-3
#[test]
fn a_claim() {
    // behaviour: A1-4
    if true {
    }
}

// behaviour: A1-5
fn helper() {}
";

    #[test]
    fn rows_named_above_or_inside_a_test_are_held_by_it_and_others_by_nobody() {
        let found = find("a.rs", SOURCE);
        let held: Vec<(&str, bool)> = found
            .iter()
            .map(|c| (c.row.as_str(), c.test.is_some()))
            .collect();
        let expected = [
            ("MUST-1", false),
            ("A1-1", false),
            ("MUST-2", true),
            ("A1-2", true),
            ("A1-3", true),
            ("A1-4", true),
            ("A1-5", false),
        ];
        assert_eq!(held, expected);
        assert_eq!(found[3].test.as_deref(), Some("a.rs::a_claim"));
        assert_eq!(found[3].place, "a.rs:7");
    }

    #[test]
    fn an_end_to_end_case_is_a_test() {
        let source = "// behaviour: TAP-1\npub(super) const CASE: Case = Case {\n    name: \"x\",\n};\n\
                      // behaviour: TAP-2\nfn test() {}\n";
        let found = find("cases/x.rs", source);
        let held: Vec<_> = found.iter().map(|it| it.test.as_deref()).collect();
        assert_eq!(held, [Some("cases/x.rs"), None]);
    }

    #[test]
    fn a_script_is_one_test() {
        let found = find("x/y.pkt", "// behaviour: LSN-2\n+0 < S 0:0(0)\n# MUST-14\n");
        let rows: Vec<&str> = found.iter().map(|c| c.row.as_str()).collect();
        assert_eq!(rows, ["LSN-2", "MUST-14"]);
        assert!(found.iter().all(|c| c.test.as_deref() == Some("x/y.pkt")));
    }
}
