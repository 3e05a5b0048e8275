//! A table before it is computed: lines that are known, and lines that have to be played.
//!
//! Plain text: `#` begins what explains, `[name]` a block, and a block is one line of column names
//! and rows below them, everything set right.

use millrace_stack::CongestionControl;

/// A table.
pub(super) struct Sheet {
    pub(super) name: &'static str,
    pub(super) lines: Vec<Line>,
}

/// Plays what a line, or several, say.
type Play = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// One line of it, or several that belong together.
pub(super) enum Line {
    Said(String),
    Played(Play),
}

/// Names and widths of columns.
pub(super) type Columns = [(&'static str, usize)];

impl Sheet {
    /// A table that begins with what it is about.
    pub(super) fn new(name: &'static str, about: &str) -> Self {
        let mut sheet = Self {
            name,
            lines: Vec::new(),
        };
        for line in about.trim().lines() {
            sheet.say(format!("# {line}"));
        }
        let how = "# `cargo xtask sim --golden` computes this file anew, `--bless` writes it.";
        sheet.say(how.to_owned());
        sheet
    }

    /// Begins a block.
    pub(super) fn begin(&mut self, name: &str, columns: &Columns) {
        let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.say(format!("\n[{name}]\n{}", row(columns, &names)));
    }

    pub(super) fn say(&mut self, line: String) {
        self.lines.push(Line::Said(line));
    }

    /// Adds what is to be played.
    pub(super) fn play(
        &mut self,
        play: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) {
        self.lines.push(Line::Played(Box::new(play)));
    }
}

/// Cells below the names of their columns.
pub(super) fn row(columns: &Columns, cells: &[String]) -> String {
    assert_eq!(columns.len(), cells.len(), "a cell for each column");
    let mut line = String::new();
    for ((name, width), cell) in columns.iter().zip(cells) {
        let width = (*width).max(name.len());
        line.push_str(&format!("  {cell:>width$}"));
    }
    line.truncate(line.trim_end().len());
    line
}

/// All algorithms, in the order of their names.
pub(super) fn controls() -> Vec<CongestionControl> {
    let mut all = CongestionControl::ALL.to_vec();
    all.sort_by_key(|control| control.name());
    all
}

/// The mean.
pub(super) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values
        .into_iter()
        .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count == 0.0 { 0.0 } else { sum / count }
}
