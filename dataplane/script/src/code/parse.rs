//! A code block's text to statements.

use super::{Block, Does, Is, Operator, Relation, Statement, Term};
use crate::fault::{Fault, Position};

/// How deep parentheses and signs may nest; hostile text must not exhaust the stack.
const DEPTH_MAX: usize = 64;

/// Reads the text between `%{` and `}%`; `at` is the place of `%{`.
pub(crate) fn parse(text: &str, at: Position) -> Result<Block, Fault> {
    let mut reader = Reader {
        text,
        offset: 0,
        at,
        nesting: 0,
        depth: 0,
    };
    reader.at.column += 2;
    let mut statements = Vec::new();
    loop {
        reader.skip_separators();
        if reader.rest().is_empty() {
            return Ok(Block { statements });
        }
        statements.push(reader.statement()?);
        reader.skip_blanks();
        if !reader.rest().is_empty() && !reader.rest().starts_with([';', '\n']) {
            return Err(reader.expected("`;` or a new line after the statement"));
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
    at: Position,
    /// Open parentheses; inside them a new line is a blank.
    nesting: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or("")
    }

    fn skip(&mut self, length: usize) {
        let rest = self.rest();
        for byte in rest.get(..length).unwrap_or(rest).bytes() {
            if byte == b'\n' {
                self.at.line += 1;
                self.at.column = 1;
            } else {
                self.at.column += 1;
            }
            self.offset += 1;
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            if rest.starts_with([' ', '\t', '\r']) || self.nesting > 0 && rest.starts_with('\n') {
                self.skip(1);
            } else if rest.starts_with('#') {
                self.skip(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("\\\n") {
                self.skip(2);
            } else {
                return;
            }
        }
    }

    fn skip_separators(&mut self) {
        loop {
            self.skip_blanks();
            if !self.rest().starts_with([';', '\n']) {
                return;
            }
            self.skip(1);
        }
    }

    fn expected(&self, what: &str) -> Fault {
        let found: String = self
            .rest()
            .chars()
            .take_while(|c| *c != '\n')
            .take(12)
            .collect();
        let found = if found.is_empty() {
            "the end of the line".to_owned()
        } else {
            format!("`{found}`")
        };
        Fault::new(self.at, format!("expected {what}, found {found}"))
    }

    fn take(&mut self, sign: &str) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(sign);
        if found {
            self.skip(sign.len());
        }
        found
    }

    /// Takes the word if it stands here as a whole.
    fn take_word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let rest = self.rest();
        let found = rest
            .strip_prefix(word)
            .is_some_and(|after| !after.starts_with(is_word));
        if found {
            self.skip(word.len());
        }
        found
    }

    fn name(&mut self) -> Option<String> {
        self.skip_blanks();
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        let name = rest.get(..rest.find(|c| !is_word(c)).unwrap_or(rest.len()))?;
        self.skip(name.len());
        Some(name.to_owned())
    }

    fn statement(&mut self) -> Result<Statement, Fault> {
        let at = self.at;
        if self.take_word("assert") {
            self.skip_blanks();
            let start = self.offset;
            let condition = self.term()?;
            let text = self
                .text
                .get(start..self.offset)
                .unwrap_or("")
                .trim()
                .to_owned();
            let message = if self.take(",") {
                Some(self.term()?)
            } else {
                None
            };
            return Ok(Statement {
                at,
                does: Does::Assert {
                    text,
                    condition,
                    message,
                },
            });
        }
        if self.take_word("print") {
            // `print(a, b)` is a call with two arguments, not of a tuple.
            let terms = match self.term()? {
                Term {
                    is: Is::Tuple(terms),
                    ..
                } => terms,
                only => vec![only],
            };
            return Ok(Statement {
                at,
                does: Does::Print(terms),
            });
        }
        self.assignment(at)
    }

    fn assignment(&mut self, at: Position) -> Result<Statement, Fault> {
        let Some(name) = self.name() else {
            return Err(self.expected("assert, print or an assignment"));
        };
        let operators = [
            ("+=", Operator::Add),
            ("-=", Operator::Subtract),
            ("*=", Operator::Multiply),
            ("%=", Operator::Remainder),
            ("|=", Operator::Or),
            ("&=", Operator::And),
        ];
        let combined = operators.iter().find(|(sign, _)| self.take(sign));
        if combined.is_none() && !self.take("=") {
            return Err(self.expected("`=` of an assignment"));
        }
        let mut value = self.term()?;
        if let Some((_, operator)) = combined {
            let old = Term {
                at,
                is: Is::Name(name.clone()),
            };
            value = Term {
                at,
                is: Is::Binary(*operator, Box::new(old), Box::new(value)),
            };
        }
        Ok(Statement {
            at,
            does: Does::Assign { name, value },
        })
    }

    fn term(&mut self) -> Result<Term, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::new(self.at, "this nests too deep"));
        }
        let mut left = self.conjunction()?;
        while self.take_word("or") {
            let right = self.conjunction()?;
            left = Term {
                at: left.at,
                is: Is::Either(Box::new(left), Box::new(right)),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Term, Fault> {
        let mut left = self.negation()?;
        while self.take_word("and") {
            let right = self.negation()?;
            left = Term {
                at: left.at,
                is: Is::Both(Box::new(left), Box::new(right)),
            };
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Term, Fault> {
        self.skip_blanks();
        let at = self.at;
        if self.take_word("not") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Fault::new(at, "this nests too deep"));
            }
            let inner = self.negation()?;
            self.depth -= 1;
            return Ok(Term {
                at,
                is: Is::Not(Box::new(inner)),
            });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Term, Fault> {
        let first = self.binary(0)?;
        let relations = [
            ("==", Relation::Equal),
            ("!=", Relation::NotEqual),
            ("<=", Relation::LessOrEqual),
            (">=", Relation::GreaterOrEqual),
            ("<", Relation::Less),
            (">", Relation::Greater),
        ];
        let mut links = Vec::new();
        while let Some((_, relation)) = relations.iter().find(|(sign, _)| self.take(sign)) {
            links.push((*relation, self.binary(0)?));
        }
        if links.is_empty() {
            return Ok(first);
        }
        Ok(Term {
            at: first.at,
            is: Is::Compare(Box::new(first), links),
        })
    }

    /// The binary operators, weakest first.
    fn binary(&mut self, level: usize) -> Result<Term, Fault> {
        use Operator::{
            Add, And, Divide, Multiply, Or, Remainder, ShiftLeft, ShiftRight, Subtract, Xor,
        };
        const LEVELS: [&[(&str, Operator)]; 6] = [
            &[("|", Or)],
            &[("^", Xor)],
            &[("&", And)],
            &[("<<", ShiftLeft), (">>", ShiftRight)],
            &[("+", Add), ("-", Subtract)],
            &[
                ("*", Multiply),
                ("//", Divide),
                ("/", Divide),
                ("%", Remainder),
            ],
        ];
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.take(sign)) {
            let right = self.binary(level + 1)?;
            left = Term {
                at: left.at,
                is: Is::Binary(*operator, Box::new(left), Box::new(right)),
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Term, Fault> {
        self.skip_blanks();
        let at = self.at;
        for (sign, build) in [
            ("-", Is::Negative as fn(Box<Term>) -> Is),
            ("~", Is::Complement as fn(Box<Term>) -> Is),
        ] {
            if self.take(sign) {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(Fault::new(at, "this nests too deep"));
                }
                let inner = self.unary()?;
                self.depth -= 1;
                return Ok(Term {
                    at,
                    is: build(Box::new(inner)),
                });
            }
        }
        self.atom()
    }

    fn atom(&mut self) -> Result<Term, Fault> {
        self.skip_blanks();
        let at = self.at;
        let rest = self.rest();
        if rest.starts_with('(') {
            return self.parenthesis(at);
        }
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let inner = rest.get(1..).unwrap_or("");
            let Some(length) = inner
                .find([quote, '\n'])
                .filter(|end| inner[*end..].starts_with(quote))
            else {
                return Err(Fault::new(at, format!("this {quote} has no partner")));
            };
            let text = inner.get(..length).unwrap_or("").to_owned();
            self.skip(length + 2);
            return Ok(Term {
                at,
                is: Is::Text(text),
            });
        }
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = rest
                .get(..rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
                .unwrap_or("");
            let value = match digits.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16),
                None => digits.parse(),
            };
            let Ok(value) = value else {
                return Err(self.expected("a number below 2^63"));
            };
            self.skip(digits.len());
            return Ok(Term {
                at,
                is: Is::Integer(value),
            });
        }
        match self.name() {
            Some(name) => Ok(Term {
                at,
                is: Is::Name(name),
            }),
            None => Err(self.expected("a number, a name, a string or `(`")),
        }
    }

    fn parenthesis(&mut self, at: Position) -> Result<Term, Fault> {
        self.skip(1);
        self.nesting += 1;
        let mut terms = vec![self.term()?];
        let mut is_tuple = false;
        while self.take(",") {
            is_tuple = true;
            self.skip_blanks();
            if self.rest().starts_with(')') {
                break;
            }
            terms.push(self.term()?);
        }
        if !self.take(")") {
            return Err(self.expected("`)`"));
        }
        self.nesting -= 1;
        match terms.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                terms.extend(last);
                Ok(Term {
                    at,
                    is: Is::Tuple(terms),
                })
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
