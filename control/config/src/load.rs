//! From files and variables to a valid configuration: layers are read, merged, completed with
//! defaults and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::check;
use crate::fault::{Fault, Place, Problem, Problems};
use crate::keys::{self, Key};
use crate::layer::Layer;
use crate::raw::Raw;
use crate::valid::Config;

/// All layers of one configuration, first to last.
pub(crate) struct Layers(Vec<Layer>);

/// Reads the file, its drop-in directory and this process's environment.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with(path, std::env::vars().collect())
}

/// Reads the file, its drop-in directory and these environment variables.
pub fn load_with(path: &Path, variables: BTreeMap<String, String>) -> Result<Config, Problems> {
    let mut layers = vec![read(path)];
    layers.extend(drop_ins(path).iter().map(|path| read(path)));
    layers.push(Layer::from_environment(variables));
    resolve(Layers(layers))
}

/// Parses one text as the whole configuration; `name` is what messages call it.
pub fn parse(name: &str, text: &str) -> Result<Config, Problems> {
    resolve(Layers(vec![Layer::from_text(Path::new(name), text)]))
}

fn read(path: &Path) -> Layer {
    match std::fs::read_to_string(path) {
        Ok(text) => Layer::from_text(path, &text),
        Err(error) => Layer::unreadable(path, &error),
    }
}

/// The files `*.toml` in `<file without .toml>.d`, in alphabetical order; none when there is no
/// such directory.
fn drop_ins(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path.with_extension("d")) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

fn resolve(mut layers: Layers) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    for layer in &mut layers.0 {
        problems.append(&mut layer.problems);
    }
    let unreadable =
        |problem: &Problem| matches!(problem.fault, Fault::Syntax(_) | Fault::Unreadable(_));
    if problems.iter().any(unreadable) {
        return Err(sorted(problems));
    }
    let mut merged = merge(&layers, &mut problems);
    complete(&layers, "", "", &mut merged, &mut problems);
    let raw: Option<Raw> = match Value::Table(merged).try_into() {
        Ok(raw) => Some(raw),
        Err(error) => {
            problems.push(layers.problem("", Fault::Syntax(error.to_string())));
            None
        }
    };
    let config = raw.and_then(|raw| check::check(&raw, &layers, &mut problems));
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(sorted(problems)),
    }
}

fn sorted(mut problems: Vec<Problem>) -> Problems {
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    Problems(problems)
}

/// One table out of all layers, by the `config` crate's rules.
fn merge(layers: &Layers, problems: &mut Vec<Problem>) -> Table {
    let mut builder = config::Config::builder();
    for layer in &layers.0 {
        match config::Config::try_from(&layer.values) {
            Ok(source) => builder = builder.add_source(source),
            Err(error) => problems.push(Problem {
                place: layer.whole(),
                fault: Fault::Syntax(error.to_string()),
            }),
        }
    }
    match builder.build().and_then(config::Config::try_deserialize) {
        Ok(table) => table,
        Err(error) => {
            problems.push(layers.problem("", Fault::Syntax(error.to_string())));
            Table::new()
        }
    }
}

/// Fills in defaults and reports required keys that are absent.
fn complete(
    layers: &Layers,
    section: &str,
    path: &str,
    table: &mut Table,
    problems: &mut Vec<Problem>,
) {
    for key in keys::KEYS.iter().filter(|key| key.section == section) {
        if table.contains_key(key.name) {
            continue;
        }
        if let Some(default) = key.default {
            table.insert(key.name.to_owned(), toml_value(default));
        } else if key.required && !layers.removed(&join(path, key.name)) {
            problems.push(layers.problem(path, missing(key)));
        }
    }
    for name in keys::names_in(section) {
        let child = join(section, name);
        let child_path = join(path, name);
        if keys::is_section(&child) {
            let inner = table
                .entry(name)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                complete(layers, &child, &child_path, inner, problems);
            }
        } else if let Some(Value::Array(items)) = table.get_mut(name) {
            for (index, item) in items.iter_mut().enumerate() {
                if let Value::Table(inner) = item {
                    let item_path = format!("{child_path}[{index}]");
                    complete(layers, &format!("{child}[]"), &item_path, inner, problems);
                }
            }
        }
    }
}

fn missing(key: &Key) -> Fault {
    Fault::Missing {
        key: key.name.to_owned(),
        section: keys::header(key.section),
        example: format!("{} = {}", key.name, key.example.unwrap_or("...")),
    }
}

/// The value of a default of the key table, which is TOML text.
pub(crate) fn toml_value(text: &str) -> Value {
    text.parse()
        .unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl Layers {
    /// A problem at this path, or at the nearest enclosing thing that some layer has.
    pub(crate) fn problem(&self, path: &str, fault: Fault) -> Problem {
        Problem {
            place: self.place(path),
            fault,
        }
    }

    /// Where the value of this path was set. A list comes from the last layer that has it, as a
    /// whole.
    pub(crate) fn place(&self, path: &str) -> Place {
        let list = path.find('[').map(|end| &path[..end]);
        let candidates: Vec<&Layer> = self
            .0
            .iter()
            .rev()
            .filter(|layer| list.is_none_or(|list| layer.place(list).is_some()))
            .take(if list.is_some() { 1 } else { usize::MAX })
            .collect();
        let mut prefix = path;
        loop {
            if let Some(place) = candidates.iter().find_map(|layer| layer.place(prefix)) {
                return place;
            }
            match prefix.rfind(['.', '[']) {
                Some(end) => prefix = &prefix[..end],
                None => break,
            }
        }
        match self.0.first() {
            Some(main) => main.whole(),
            None => Place::Variable(crate::VARIABLE_PREFIX.to_owned()),
        }
    }

    /// Whether this path was taken out because it was wrong in itself.
    pub(crate) fn removed(&self, path: &str) -> bool {
        self.0
            .iter()
            .any(|layer| layer.removed.iter().any(|removed| removed == path))
    }
}
