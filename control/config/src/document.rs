//! The key table as a file: `conf/full.toml`, every key with its meaning, unit, range and default.

use crate::keys::{KEYS, Key, Kind, SECTIONS, Takes, header};

const WIDTH: usize = 100;

/// The text of `conf/full.toml`.
pub fn full_toml() -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "Every key there is, with its meaning, unit, range and default. Generated from the key table of \
         control/config; the smallest useful file is millrace.toml beside this one. \"live\" means that `millrace \
         reload` or SIGHUP brings a change into effect.",
    );
    for section in SECTIONS {
        text.push('\n');
        if !section.path.is_empty() {
            comment(&mut text, section.doc);
            text += &format!("{}\n", header(section.path));
        }
        let keys = KEYS.iter().filter(|key| key.section == section.path);
        for (position, key) in keys.enumerate() {
            if position > 0 {
                text.push('\n');
            }
            comment(&mut text, key.doc);
            comment(&mut text, &facts(key));
            let value = key.example.or(key.default).unwrap_or("\"\"");
            text += &format!("{} = {value}\n", key.name);
        }
    }
    text
}

fn facts(key: &Key) -> String {
    let mut facts = vec![match key.kind {
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Text => "string".to_owned(),
        Kind::Choice(words) => format!("one of {}", words.join(" | ")),
        Kind::Boolean => "true or false".to_owned(),
        Kind::Ports => "port or range, 1 to 65535".to_owned(),
        Kind::Integers { min, max } => format!("list of {min} to {max}"),
        Kind::Texts => "list of strings".to_owned(),
    }];
    if !key.unit.is_empty() {
        facts.push(format!("unit: {}", key.unit));
    }
    facts.push(match (key.default, key.required) {
        (Some(default), _) => format!("default: {default}"),
        (None, true) => "required".to_owned(),
        (None, false) => "optional".to_owned(),
    });
    facts.push(
        match key.takes {
            Takes::Reload => "live",
            Takes::ControlRestart => "needs a restart of control",
            Takes::DataplaneRestart => "needs a restart of the dataplane",
        }
        .to_owned(),
    );
    format!("[{}]", facts.join("; "))
}

fn comment(text: &mut String, sentence: &str) {
    let mut line = String::from("#");
    for word in sentence.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            *text += &format!("{line}\n");
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    *text += &format!("{line}\n");
}
