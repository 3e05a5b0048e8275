//! One source of configuration - a file or the environment - read against the key table.
//!
//! A layer keeps what it found and the line of everything in it, and collects what is structurally
//! wrong: unknown keys, types, ranges, words. Wrong values are taken out, so that the remaining
//! checks can still run and all mistakes are reported at once. Relations between keys are not
//! looked at here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::fault::{Fault, Place, Problem};
use crate::keys::{self, Key, Kind};

/// The prefix of environment variables; sections and keys follow, separated by the same two
/// underscores.
pub const VARIABLE_PREFIX: &str = "MILLRACE";
const SEPARATOR: &str = "__";

/// One source of values.
#[derive(Debug)]
pub(crate) struct Layer {
    source: Source,
    /// The values that have the right shape.
    pub(crate) values: Table,
    places: BTreeMap<String, Spot>,
    /// Paths of values that were wrong and taken out.
    pub(crate) removed: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Environment,
}

#[derive(Debug)]
enum Spot {
    Line(usize),
    Variable(String),
}

struct Walk<'t> {
    text: &'t str,
    layer: Layer,
}

impl Layer {
    /// Reads the text of a file.
    pub(crate) fn from_text(path: &Path, text: &str) -> Self {
        let mut walk = Walk {
            text,
            layer: Self::empty(Source::File(path.to_owned())),
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            walk.layer.values = walk.table("", "", root.get_ref());
        }
        // Later errors of a broken file are mostly echoes of the first.
        for error in errors.into_iter().take(1) {
            let line = error.span().map_or(0, |span| walk.line(span.start));
            walk.fault(line, Fault::Syntax(error.message().to_owned()));
        }
        walk.layer
    }

    /// A file that could not be read.
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let mut layer = Self::empty(Source::File(path.to_owned()));
        layer.problems.push(Problem {
            place: layer.whole(),
            fault: Fault::Unreadable(error.to_string()),
        });
        layer
    }

    /// Reads the variables of the environment that start with the prefix, through the `config`
    /// crate's rules: `MILLRACE__DATAPLANE__LCORES=2,3` sets `lcores` of `[dataplane]`. Tables in
    /// lists cannot be set.
    pub(crate) fn from_environment(variables: BTreeMap<String, String>) -> Self {
        use config::Source as _;
        let mut layer = Self::empty(Source::Environment);
        let names: BTreeMap<String, String> = variables
            .keys()
            .filter_map(|name| {
                let rest = name
                    .strip_prefix(VARIABLE_PREFIX)?
                    .strip_prefix(SEPARATOR)?;
                Some((rest.to_lowercase().replace(SEPARATOR, "."), name.clone()))
            })
            .collect();
        let environment = config::Environment::with_prefix(VARIABLE_PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .source(Some(variables.into_iter().collect()));
        let Ok(found) = environment.collect() else {
            return layer;
        };
        for (path, value) in found {
            let text = value.into_string().unwrap_or_default();
            let name = names.get(&path).cloned().unwrap_or_else(|| path.clone());
            layer.variable(&path, name, &text);
        }
        layer
    }

    fn variable(&mut self, path: &str, name: String, text: &str) {
        let place = Place::Variable(name.clone());
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        let Some(row) = keys::find(section, key) else {
            let hint = if keys::is_section(section) {
                unknown_hint(section, key)
            } else {
                "single keys of plain tables can be set, lists of tables only in files".to_owned()
            };
            self.problems.push(Problem {
                place,
                fault: Fault::UnknownKey {
                    key: key.to_owned(),
                    section: keys::header(section),
                    hint,
                },
            });
            return;
        };
        self.places.insert(path.to_owned(), Spot::Variable(name));
        match value_of_text(row, text) {
            Ok(value) => {
                let target = if section.is_empty() {
                    Some(&mut self.values)
                } else {
                    let table = self.values.entry(section);
                    table.or_insert_with(|| Table::new().into()).as_table_mut()
                };
                if let Some(target) = target {
                    target.insert(key.to_owned(), value);
                }
            }
            Err(fault) => {
                self.removed.push(path.to_owned());
                self.problems.push(Problem { place, fault });
            }
        }
    }

    /// Where this path is, if the layer has it.
    pub(crate) fn place(&self, path: &str) -> Option<Place> {
        self.places
            .get(path)
            .map(|spot| match (spot, &self.source) {
                (Spot::Line(line), Source::File(path)) => Place::File {
                    path: path.clone(),
                    line: *line,
                },
                (Spot::Line(_), Source::Environment) => self.whole(),
                (Spot::Variable(name), _) => Place::Variable(name.clone()),
            })
    }

    /// The layer as a whole.
    pub(crate) fn whole(&self) -> Place {
        match &self.source {
            Source::File(path) => Place::File {
                path: path.clone(),
                line: 0,
            },
            Source::Environment => Place::Variable(format!("{VARIABLE_PREFIX}{SEPARATOR}*")),
        }
    }

    fn empty(source: Source) -> Self {
        Self {
            source,
            values: Table::new(),
            places: BTreeMap::new(),
            removed: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl Walk<'_> {
    /// `section` is the table's path in the key table, `path` its path in this file.
    fn table(&mut self, section: &str, path: &str, table: &DeTable<'_>) -> Table {
        let mut kept = Table::new();
        for (name, value) in table {
            let line = self.line(name.span().start);
            let name = name.get_ref().as_ref();
            let child_path = join(path, name);
            let child_section = join(section, name);
            let list_section = format!("{child_section}[]");
            let value = if let Some(row) = keys::find(section, name) {
                self.mark(&child_path, self.line(value.span().start));
                self.leaf(row, &child_path, value)
            } else if keys::is_section(&child_section) {
                self.mark(&child_path, line);
                match value.get_ref().as_table() {
                    Some(inner) => {
                        Some(Value::Table(self.table(&child_section, &child_path, inner)))
                    }
                    None => self.wrong_table(&child_path, line, "a table", value.get_ref()),
                }
            } else if keys::is_section(&list_section) {
                self.mark(&child_path, line);
                match value.get_ref().as_array() {
                    Some(items) => self.tables(&list_section, &child_path, items),
                    None => {
                        self.wrong_table(&child_path, line, "a list of tables", value.get_ref())
                    }
                }
            } else {
                let hint = unknown_hint(section, name);
                let (key, section) = (name.to_owned(), keys::header(section));
                self.fault(line, Fault::UnknownKey { key, section, hint });
                None
            };
            if let Some(value) = value {
                kept.insert(name.to_owned(), value);
            }
        }
        kept
    }

    fn tables(
        &mut self,
        section: &str,
        path: &str,
        items: &[Spanned<DeValue<'_>>],
    ) -> Option<Value> {
        let mut kept = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let item_path = format!("{path}[{index}]");
            let line = self.line(item.span().start);
            self.mark(&item_path, line);
            let table = match item.get_ref().as_table() {
                Some(table) => self.table(section, &item_path, table),
                None => {
                    let _ = self.wrong_table(&item_path, line, "a table", item.get_ref());
                    Table::new()
                }
            };
            kept.push(Value::Table(table));
        }
        Some(Value::Array(kept))
    }

    fn leaf(&mut self, row: &Key, path: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let line = self.line(value.span().start);
        if let DeValue::Array(items) = value.get_ref() {
            for (index, item) in items.iter().enumerate() {
                self.mark(&format!("{path}[{index}]"), self.line(item.span().start));
            }
        }
        match value_of_toml(row, value.get_ref()) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.layer.removed.push(path.to_owned());
                self.fault(line, fault);
                None
            }
        }
    }

    fn wrong_table(
        &mut self,
        path: &str,
        line: usize,
        expected: &str,
        found: &DeValue<'_>,
    ) -> Option<Value> {
        self.layer.removed.push(path.to_owned());
        self.fault(
            line,
            Fault::WrongType {
                key: path.to_owned(),
                expected: expected.to_owned(),
                found: type_name(found).to_owned(),
            },
        );
        None
    }

    fn mark(&mut self, path: &str, line: usize) {
        self.layer.places.insert(path.to_owned(), Spot::Line(line));
    }

    fn fault(&mut self, line: usize, fault: Fault) {
        let place = match self.layer.whole() {
            Place::File { path, .. } => Place::File { path, line },
            place @ Place::Variable(_) => place,
        };
        self.layer.problems.push(Problem { place, fault });
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn unknown_hint(section: &str, name: &str) -> String {
    if let Some(near) = keys::nearest(section, name) {
        return format!("did you mean \"{near}\"?");
    }
    let elsewhere = keys::KEYS.iter().find(|key| key.name == name);
    if let Some(key) = elsewhere {
        return format!("\"{name}\" belongs in {}", keys::header(key.section));
    }
    format!("known here: {}", keys::names_in(section).join(", "))
}

fn expectation(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer { .. } => "a whole number",
        Kind::Text | Kind::Choice(_) => "a string",
        Kind::Boolean => "true or false",
        Kind::Ports => "a port or a range of ports",
        Kind::Integers { .. } => "a list of whole numbers",
        Kind::Texts => "a list of strings",
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn integer(row: &Key, text: &str, radix: u32, min: i64, max: i64) -> Result<Value, Fault> {
    match i64::from_str_radix(&text.replace('_', ""), radix) {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
        _ => Err(Fault::OutOfRange {
            key: row.path(),
            value: text.to_owned(),
            min,
            max,
        }),
    }
}

fn choice(row: &Key, text: &str, words: &'static [&'static str]) -> Result<Value, Fault> {
    if words.contains(&text) {
        Ok(Value::String(text.to_owned()))
    } else {
        Err(Fault::UnknownWord {
            key: row.path(),
            value: text.to_owned(),
            words,
        })
    }
}

fn value_of_toml(row: &Key, value: &DeValue<'_>) -> Result<Value, Fault> {
    let wrong = |found: &DeValue<'_>| {
        Err(Fault::WrongType {
            key: row.path(),
            expected: expectation(row.kind).to_owned(),
            found: type_name(found).to_owned(),
        })
    };
    match (row.kind, value) {
        (Kind::Integer { min, max }, DeValue::Integer(number)) => {
            integer(row, number.as_str(), number.radix(), min, max)
        }
        (Kind::Text | Kind::Ports, DeValue::String(text)) => Ok(Value::String(text.to_string())),
        (Kind::Choice(words), DeValue::String(text)) => choice(row, text, words),
        (Kind::Boolean, DeValue::Boolean(flag)) => Ok(Value::Boolean(*flag)),
        (Kind::Ports, DeValue::Integer(number)) => Ok(Value::String(number.as_str().to_owned())),
        (Kind::Integers { min, max }, DeValue::Array(items)) => items
            .iter()
            .map(|item| match item.get_ref().as_integer() {
                Some(number) => integer(row, number.as_str(), number.radix(), min, max),
                None => wrong(item.get_ref()),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        (Kind::Texts, DeValue::Array(items)) => items
            .iter()
            .map(|item| match item.get_ref().as_str() {
                Some(text) => Ok(Value::String(text.to_owned())),
                None => wrong(item.get_ref()),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        (_, other) => wrong(other),
    }
}

/// The value an environment variable means: lists are separated by commas.
fn value_of_text(row: &Key, text: &str) -> Result<Value, Fault> {
    let list = matches!(row.kind, Kind::Integers { .. });
    let wrong = || Fault::WrongType {
        key: row.path(),
        expected: if list {
            "whole numbers with commas between them".to_owned()
        } else {
            expectation(row.kind).to_owned()
        },
        found: format!("\"{text}\""),
    };
    let items = || {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
    };
    let number = |text: &str, min, max| {
        if text.parse::<i128>().is_err() {
            return Err(wrong());
        }
        integer(row, text, 10, min, max)
    };
    match row.kind {
        Kind::Integer { min, max } => number(text.trim(), min, max),
        Kind::Text | Kind::Ports => Ok(Value::String(text.to_owned())),
        Kind::Choice(words) => choice(row, text, words),
        Kind::Boolean => text.parse().map(Value::Boolean).map_err(|_| wrong()),
        Kind::Integers { min, max } => items()
            .map(|item| number(item, min, max))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        Kind::Texts => Ok(Value::Array(
            items().map(|item| Value::String(item.to_owned())).collect(),
        )),
    }
}
