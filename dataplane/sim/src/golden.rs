//! Golden tables: what the stack does on networks that are the same every time, as text in the tree.
//!
//! Each table is a file of `golden/`. A change of the stack that changes a number changes a file,
//! and its review sees which: `cargo xtask sim --golden` computes all of them and shows what is
//! different, `--bless` writes them. Every algorithm that there is has its block in every table.
//!
//! A host of the stack sends to another one (`trial`); nothing here is compared with another stack.
//! What a number must be at least is held by `tests/golden.rs`, which reads the files.

mod completion;
mod cwnd;
mod fairness;
mod outage;
mod review;
mod sheet;
mod throughput;
mod trial;
mod utilisation;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(test)]
pub(crate) use fairness::jain;
pub use review::{Verdict, review};
use sheet::{Line, Sheet};

/// A table, computed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The name of its file, without the ending.
    pub name: &'static str,
    /// What belongs into that.
    pub text: String,
}

/// Computes all tables, or the one of this name, with so many threads. Fails where a trial does.
pub fn compute(only: Option<&str>, jobs: usize) -> Result<Vec<Table>, String> {
    let mut sheets = vec![
        throughput::sheet(),
        cwnd::sheet(),
        fairness::sheet(),
        completion::sheet(),
        outage::sheet(),
        utilisation::sheet(),
    ];
    sheets.retain(|sheet| only.is_none_or(|name| name == sheet.name));
    let lines: Vec<&Line> = sheets.iter().flat_map(|sheet| &sheet.lines).collect();
    let texts: Vec<OnceLock<Result<String, String>>> =
        lines.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some((line, text)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    lines.get(number).zip(texts.get(number))
                } {
                    let computed = match line {
                        Line::Said(text) => Ok(text.clone()),
                        Line::Played(play) => play(),
                    };
                    text.get_or_init(|| computed);
                }
            });
        }
    });
    let mut texts = texts.into_iter().filter_map(OnceLock::into_inner);
    sheets
        .iter()
        .map(|sheet| table(sheet, &mut texts))
        .collect()
}

fn table(
    sheet: &Sheet,
    texts: &mut impl Iterator<Item = Result<String, String>>,
) -> Result<Table, String> {
    let mut text = String::new();
    for line in texts.take(sheet.lines.len()) {
        let line = line.map_err(|what| format!("{}: {what}", sheet.name))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(Table {
        name: sheet.name,
        text,
    })
}
