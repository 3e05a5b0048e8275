//! Long files and functions, reported so that a reader can ask whether one idea still lives in each.
//!
//! A report, not a failure: the style guide gives the numbers as examples to follow.

use crate::paths;

/// Production lines in a file.
const FILE_LINES: usize = 600;
/// Lines from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// One sentence per long file or function.
pub(super) fn report(files: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    for path in files.iter().filter(|path| path.ends_with(".rs")) {
        let Ok(text) = std::fs::read_to_string(paths::root().join(path)) else {
            continue;
        };
        let production = production_lines(&text);
        if production > FILE_LINES && !path.contains("/tests") {
            notes.push(format!(
                "{path}: {production} production lines (guide: {FILE_LINES})"
            ));
        }
        for (line, length) in long_functions(&text) {
            notes.push(format!(
                "{path}:{line}: a function of {length} lines (guide: {FUNCTION_LINES})"
            ));
        }
    }
    notes
}

/// Lines before the test module.
fn production_lines(text: &str) -> usize {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .count()
}

/// Functions of formatted code: the closing brace stands in the column where the item began.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().take(production_lines(text)).collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if !is_function(code) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let length = lines
            .iter()
            .skip(start)
            .position(|line| *line == closing)
            .map(|n| n + 1);
        if let Some(length) = length.filter(|length| *length > FUNCTION_LINES) {
            found.push((start + 1, length));
        }
    }
    found
}

fn is_function(code: &str) -> bool {
    const QUALIFIERS: [&str; 6] = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "unsafe",
        "async",
    ];
    let Some((before, _)) = code.split_once("fn ") else {
        return false;
    };
    !code.ends_with(';')
        && before
            .split_whitespace()
            .all(|word| QUALIFIERS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_found_with_its_first_line() {
        let body = "        let x = 1;\n".repeat(80);
        let text = format!("impl A {{\n    pub(crate) fn long(&self) {{\n{body}    }}\n}}\n");
        assert_eq!(long_functions(&text), [(2, 82)]);
    }

    #[test]
    fn tests_do_not_count_as_production() {
        assert_eq!(production_lines("a\nb\n#[cfg(test)]\nmod tests {}\n"), 2);
    }
}
