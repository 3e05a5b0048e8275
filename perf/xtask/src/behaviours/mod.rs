//! `cargo xtask behaviours`: which rows of the reference's behaviour a named test holds, which do not
//! apply, and which are open.
//!
//! | file | what it reads |
//! |---|---|
//! | `rows` | the rows there are (`dataplane/docs/behaviours.tsv`), and how a text names rows |
//! | `citations` | tests and scripts that name rows |
//!
//! A row is held when a `#[test]` or a script names it after the word `behaviour:`, or, for a
//! requirement of RFC 9293, anywhere in the test or in the comment above it. A name in other code says
//! where the behaviour lives and holds nothing. `dataplane/docs/not-applicable.md` says what does
//! not apply, and why.

mod citations;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::paths;
use crate::test::tidy::tracked_files;
use citations::Citation;
use rows::Row;

/// Arguments of `cargo xtask behaviours`.
#[derive(Args)]
pub(crate) struct BehavioursArguments {
    /// Every row of these areas (`LSN`, `A26`, `Window`), with who holds it; comma separated.
    #[arg(long, value_delimiter = ',')]
    area: Vec<String>,
    /// The open rows in place of the counts.
    #[arg(long)]
    open: bool,
    /// End with an error while a row is open.
    #[arg(long)]
    strict: bool,
}

/// What is known of every row.
struct Ledger {
    rows: Vec<Row>,
    /// Tests by row.
    held: BTreeMap<String, Vec<String>>,
    /// Reasons by row.
    exempt: BTreeMap<String, String>,
    /// Names of rows that there are not, with the place.
    unknown: Vec<String>,
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Held,
    Exempt,
    Open,
}

impl Ledger {
    fn of_the_tree() -> Result<Self> {
        let read = |path: &str| {
            std::fs::read_to_string(paths::root().join(path)).with_context(|| path.to_owned())
        };
        let rows = rows::parse(&read("dataplane/docs/behaviours.tsv")?)?;
        let exempt = rows::exempt(&read("dataplane/docs/not-applicable.md")?);
        let mut citations = Vec::new();
        for path in tracked_files()? {
            let is_test = path.ends_with(".rs") || path.ends_with(".pkt");
            if is_test && !path.starts_with("perf/xtask/src/behaviours") {
                citations.extend(citations::find(&path, &read(&path)?));
            }
        }
        Ok(Self::new(rows, exempt, citations))
    }

    fn new(rows: Vec<Row>, exempt: BTreeMap<String, String>, citations: Vec<Citation>) -> Self {
        let names: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let mut unknown: Vec<String> = exempt
            .keys()
            .filter(|id| !names.contains(id.as_str()))
            .map(|id| format!("not-applicable.md: there is no row {id}"))
            .collect();
        let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Citation { row, place, test } in citations {
            if !names.contains(row.as_str()) {
                unknown.push(format!("{place}: there is no row {row}"));
            } else if let Some(test) = test {
                let tests = held.entry(row).or_default();
                if !tests.contains(&test) {
                    tests.push(test);
                }
            }
        }
        Self {
            rows,
            held,
            exempt,
            unknown,
        }
    }

    fn standing(&self, row: &Row) -> Standing {
        if self.held.contains_key(&row.id) {
            Standing::Held
        } else if self.exempt.contains_key(&row.id) {
            Standing::Exempt
        } else {
            Standing::Open
        }
    }

    /// Held, not applicable, open.
    fn count<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> [usize; 3] {
        let mut counts = [0; 3];
        for row in rows {
            counts[self.standing(row) as usize] += 1;
        }
        counts
    }

    fn line(&self, row: &Row) -> String {
        let Row { id, name, .. } = row;
        let holder = match self.standing(row) {
            Standing::Held => self.held[id].join(", "),
            Standing::Exempt => format!("not applicable: {}", self.exempt[id]),
            Standing::Open => "OPEN".to_owned(),
        };
        format!("{id:<9} {name}\n          {holder}")
    }
}

/// Runs the task.
pub(crate) fn run(arguments: &BehavioursArguments) -> Result<()> {
    let ledger = Ledger::of_the_tree()?;
    if !arguments.area.is_empty() || arguments.open {
        let wanted = |row: &&Row| {
            let of_area = arguments.area.is_empty() || arguments.area.contains(&row.area);
            of_area && (!arguments.open || ledger.standing(row) == Standing::Open)
        };
        for row in ledger.rows.iter().filter(wanted) {
            println!("{}", ledger.line(row));
        }
    } else {
        print_counts(&ledger);
    }
    if !ledger.unknown.is_empty() {
        bail!("{}", ledger.unknown.join("\n"));
    }
    let [_, _, open] = ledger.count(ledger.rows.iter());
    if arguments.strict && open > 0 {
        bail!("{open} rows are open");
    }
    Ok(())
}

fn print_counts(ledger: &Ledger) {
    println!(
        "{:<9} {:<34} {:>5} {:>5} {:>5}",
        "list", "area", "held", "n/a", "open"
    );
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for row in &ledger.rows {
        let group = (row.list.as_str(), row.area.as_str());
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut lists: Vec<&str> = groups.iter().map(|(list, _)| *list).collect();
    lists.dedup();
    let print = |list: &str, area: &str, [held, exempt, open]: [usize; 3]| {
        println!("{list:<9} {area:<34} {held:>5} {exempt:>5} {open:>5}");
    };
    for list in lists {
        for (_, area) in groups.iter().filter(|(of, _)| *of == list) {
            let rows = ledger.rows.iter();
            let of_area = rows.filter(|row| row.list == list && row.area == *area);
            print(list, area, ledger.count(of_area));
        }
        let of_list = ledger.rows.iter().filter(|row| row.list == list);
        print(list, "all", ledger.count(of_list));
    }
    print("all", "", ledger.count(ledger.rows.iter()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_that_the_tree_names_exists() {
        let ledger = Ledger::of_the_tree().expect("a readable tree");
        assert_eq!(ledger.unknown, Vec::<String>::new());
        assert!(ledger.rows.len() > 1_400);
    }

    #[test]
    fn no_row_is_both_held_and_declared_not_applicable() {
        let ledger = Ledger::of_the_tree().expect("a readable tree");
        let both: Vec<_> = ledger.exempt.keys().collect();
        let both: Vec<_> = both
            .into_iter()
            .filter(|id| ledger.held.contains_key(*id))
            .collect();
        assert_eq!(both, Vec::<&String>::new());
    }

    #[test]
    fn a_row_is_held_by_a_test_exempt_by_a_reason_and_open_otherwise() {
        let rows = rows::parse("x\tA\tA1-1\tone\nx\tA\tA1-2\ttwo\nx\tA\tA1-3\tthree\n");
        let cite = |row: &str, test: Option<&str>| Citation {
            row: row.to_owned(),
            place: "file:1".to_owned(),
            test: test.map(str::to_owned),
        };
        let exempt = BTreeMap::from([("A1-2".to_owned(), "no kernel".to_owned())]);
        let citations = vec![
            cite("A1-1", Some("t")),
            cite("A1-3", None),
            cite("A9-9", None),
        ];
        let ledger = Ledger::new(rows.expect("rows"), exempt, citations);
        assert_eq!(ledger.count(ledger.rows.iter()), [1, 1, 1]);
        assert_eq!(ledger.unknown, ["file:1: there is no row A9-9"]);
        assert!(ledger.line(&ledger.rows[2]).ends_with("OPEN"));
    }
}
