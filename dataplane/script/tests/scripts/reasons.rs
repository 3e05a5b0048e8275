//! Every public script passes or has a written reason: a row in the table of the scripts' README.
//!
//! The two lists are in the tree and are compared wherever this runs. That they say what is so is
//! known only where the public suite is at hand.

use std::path::Path;

use millrace_script::{Leftovers, Variant};

use crate::folders::{public, scripts, variants};
use crate::stack::{PASSING, play};

const README: &str = include_str!("../../../stack/tests/scripts/README.md");

/// A row of the table: the scripts it names, the only variant it is about, its reason.
struct Row<'a> {
    patterns: Vec<&'a str>,
    only: Option<Variant>,
    reason: &'a str,
}

impl Row<'_> {
    fn is_about(&self, script: &str, variant: Variant) -> bool {
        let names = self
            .patterns
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(begin) => script.starts_with(begin),
                None => script == *pattern,
            });
        names && self.only.is_none_or(|only| only == variant)
    }
}

fn rows() -> Vec<Row<'static>> {
    let table = README.split("| script | reason |").nth(1);
    let table = table.expect("a table of reasons").trim_start().lines();
    let lines = table.skip(1).take_while(|line| line.starts_with('|'));
    let row = |line: &'static str| {
        let mut cells = line.trim_matches('|').splitn(2, '|').map(str::trim);
        let (scripts, reason) = (cells.next()?, cells.next()?);
        let only = scripts.rsplit('`').next()?.trim();
        Some(Row {
            patterns: scripts.split('`').skip(1).step_by(2).collect(),
            only: (!only.is_empty()).then(|| only.parse().expect("a variant")),
            reason,
        })
    };
    lines.map(|line| row(line).expect("two cells")).collect()
}

/// The passing runs that are written down.
fn passing() -> Vec<(&'static str, Variant)> {
    let lines = PASSING.lines().filter(|line| !line.starts_with('#'));
    let runs = lines.flat_map(|line| {
        let mut words = line.split_whitespace();
        let script = words.next().expect("a path");
        words.map(move |word| (script, word.parse().expect("a variant")))
    });
    runs.collect()
}

#[test]
fn no_run_is_in_the_list_of_what_passes_and_has_a_reason_why_not() {
    let rows = rows();
    assert!(rows.iter().all(|row| row.reason.len() > 20), "a reason");
    let passing = passing();
    assert!(passing.len() > 200, "only {} runs", passing.len());
    for (script, variant) in passing {
        let row = rows.iter().find(|row| row.is_about(script, variant));
        let reason = row.map(|row| row.reason);
        assert_eq!(reason, None, "{script} over {variant}");
    }
}

#[test]
fn every_public_run_that_does_not_pass_has_its_reason() {
    let Some(folder) = public() else { return };
    let (rows, passing) = (rows(), passing());
    let mut wrong = Vec::new();
    let mut used = vec![false; rows.len()];
    for path in scripts(&folder) {
        let name = path.strip_prefix(&folder).map(Path::to_str);
        let name = name.ok().flatten().expect("below the folder");
        for variant in variants(&path) {
            if passing.contains(&(name, variant)) {
                continue;
            }
            match rows.iter().position(|row| row.is_about(name, variant)) {
                None => wrong.push(format!("{name} over {variant}: neither listed nor excused")),
                Some(_) if play(&path, variant, Leftovers::Allow).is_ok() => {
                    wrong.push(format!("{name} over {variant} passes: list it"));
                }
                Some(row) => used[row] = true,
            }
        }
    }
    let stale = rows.iter().zip(used).filter(|(_, used)| !used);
    wrong.extend(stale.map(|(row, _)| format!("a reason for nothing: {:?}", row.patterns)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
