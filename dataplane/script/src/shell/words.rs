//! A shell text to simple commands made of words.

use super::Runs;
use crate::fault::{Fault, Position};

/// A pipeline with its redirections.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Position,
    pub(super) runs: Runs,
    /// Commands joined by `|`, each as its words.
    pub(super) stages: Vec<Vec<String>>,
    /// Where the output goes, if said.
    pub(super) output: Option<String>,
}

impl Line {
    pub(super) fn text(&self) -> String {
        let stages: Vec<_> = self.stages.iter().map(|words| words.join(" ")).collect();
        stages.join(" | ")
    }

    fn new(at: Position, runs: Runs) -> Self {
        Self {
            at,
            runs,
            stages: vec![Vec::new()],
            output: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.stages.iter().all(Vec::is_empty)
    }
}

/// Splits `text`; `at` is the place of the quote before it.
pub(super) fn lines(text: &str, at: Position) -> Result<Vec<Line>, Fault> {
    let mut splitter = Splitter {
        rest: text.chars().peekable(),
        at,
    };
    splitter.at.column += 1;
    let mut lines = Vec::new();
    let mut line = Line::new(splitter.at, Runs::Always);
    let mut to_file = false;
    loop {
        splitter.skip_blanks();
        let at = splitter.at;
        if line.is_empty() {
            line.at = at;
        }
        let Some(piece) = splitter.piece()? else {
            break;
        };
        let runs = match piece {
            Piece::Word(word) if to_file => {
                to_file = false;
                if word != "/dev/null" {
                    line.output = Some(word);
                }
                continue;
            }
            Piece::Word(word) => {
                if let Some(stage) = line.stages.last_mut() {
                    stage.push(word);
                }
                continue;
            }
            Piece::Redirect => {
                to_file = true;
                continue;
            }
            Piece::Pipe => {
                line.stages.push(Vec::new());
                continue;
            }
            Piece::Separator => Runs::Always,
            Piece::Both => Runs::AfterSuccess,
            Piece::Either => Runs::AfterFailure,
        };
        if !line.is_empty() {
            lines.push(std::mem::replace(&mut line, Line::new(at, runs)));
        }
        // A new line after `||` does not end the list.
        if runs != Runs::Always {
            line.runs = runs;
        }
    }
    if to_file {
        return Err(Fault::new(splitter.at, "a redirection without a file"));
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines
        .iter()
        .any(|line| line.stages.iter().any(Vec::is_empty))
    {
        return Err(Fault::new(at, "a pipe without a command"));
    }
    Ok(lines)
}

enum Piece {
    Word(String),
    Redirect,
    Pipe,
    Separator,
    Both,
    Either,
}

struct Splitter<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    at: Position,
}

impl Splitter<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        match next {
            Some('\n') => {
                self.at.line += 1;
                self.at.column = 1;
            }
            Some(c) => self.at.column += u32::try_from(c.len_utf8()).unwrap_or(1),
            None => {}
        }
        next
    }

    fn next_is(&mut self, wanted: char) -> bool {
        let is = self.rest.peek() == Some(&wanted);
        if is {
            self.next();
        }
        is
    }

    /// Spaces, comments and continued lines.
    fn skip_blanks(&mut self) {
        loop {
            match self.rest.peek() {
                Some(' ' | '\t' | '\r') => {
                    self.next();
                }
                Some('#') => {
                    while self.rest.peek().is_some_and(|c| *c != '\n') {
                        self.next();
                    }
                }
                Some('\\') => {
                    let mut ahead = self.rest.clone();
                    ahead.next();
                    if ahead.peek() != Some(&'\n') {
                        return;
                    }
                    self.next();
                    self.next();
                }
                _ => return,
            }
        }
    }

    fn piece(&mut self) -> Result<Option<Piece>, Fault> {
        let at = self.at;
        let Some(first) = self.rest.peek().copied() else {
            return Ok(None);
        };
        if !matches!(first, ';' | '\n' | '|' | '&' | '>') {
            let word = self.word()?;
            // `2>`: where error messages go is nothing to us.
            if matches!(word.as_str(), "1" | "2") && self.next_is('>') {
                return Ok(Some(Piece::Redirect));
            }
            return Ok(Some(Piece::Word(word)));
        }
        self.next();
        Ok(Some(match first {
            '|' if self.next_is('|') => Piece::Either,
            '|' => Piece::Pipe,
            '&' if self.next_is('&') => Piece::Both,
            '&' if self.next_is('>') => Piece::Redirect,
            '&' => return Err(Fault::new(at, "commands do not run in the background")),
            '>' => Piece::Redirect,
            _ => Piece::Separator,
        }))
    }

    fn word(&mut self) -> Result<String, Fault> {
        let at = self.at;
        let mut word = String::new();
        while let Some(c) = self.rest.peek().copied() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '|' | '&' | '>' => break,
                '"' | '\'' => {
                    self.next();
                    loop {
                        match self.next() {
                            Some(end) if end == c => break,
                            Some(inner) => word.push(inner),
                            None => return Err(Fault::new(at, format!("this {c} has no partner"))),
                        }
                    }
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(escaped) => word.push(escaped),
                    }
                }
                other => {
                    self.next();
                    word.push(other);
                }
            }
        }
        Ok(word)
    }
}
