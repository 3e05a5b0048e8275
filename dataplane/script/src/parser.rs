//! Tokens to a tree: the whole script, its option lines, its times.
//!
//! `parser/packet.rs` reads packets, `parser/call.rs` system calls. Encapsulation (IP in IP, GRE,
//! MPLS, PSP) and UDP are not read: no TCP script here uses them, and a fault says so.

mod call;
mod packet;

use std::collections::BTreeMap;

use crate::ast::{Action, Direction, Event, OptionLine, Span, When};
use crate::code;
use crate::fault::{Fault, Position};
use crate::lexer::{self, Kind, Token};
use crate::shell::{self, Command};

/// Words and what stands for them, from `--define` lines and from the variant.
pub(crate) type Definitions = BTreeMap<String, String>;

/// What a script's text says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    pub(crate) options: Vec<OptionLine>,
    /// Run before the first event.
    pub(crate) before: Vec<Command>,
    pub(crate) events: Vec<Event>,
    /// Run after the last event.
    pub(crate) after: Vec<Command>,
}

/// Reads a script.
pub(crate) fn parse(text: &str, definitions: &Definitions) -> Result<Tree, Fault> {
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
    };
    let options = parser.options()?;
    let mut definitions = definitions.clone();
    for option in options.iter().filter(|option| option.name == "define") {
        let value = option
            .value
            .as_deref()
            .and_then(|value| value.split_once('='));
        let Some((name, value)) = value else {
            return Err(Fault::new(option.at, "--define wants NAME=value"));
        };
        definitions.insert(name.to_owned(), value.to_owned());
    }
    parser.substitute(&definitions)?;
    let before = parser.shell_lines()?;
    let mut events = Vec::new();
    while !matches!(parser.peek().kind, Kind::End | Kind::Shell) {
        events.push(parser.event()?);
    }
    if events.is_empty() {
        return Err(parser.expected("an event: a time, then a packet, a call, a command or code"));
    }
    let after = parser.shell_lines()?;
    if parser.peek().kind != Kind::End {
        return Err(parser.expected("the end of the script after the last command"));
    }
    Ok(Tree {
        options,
        before,
        events,
        after,
    })
}

/// How deep structures may nest. Real scripts need six; the bound keeps hostile text off the stack.
const DEPTH_MAX: usize = 64;

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

/// The token past the end, for lookahead.
static PAST_THE_END: Token = Token {
    kind: Kind::End,
    text: String::new(),
    at: Position { line: 0, column: 0 },
};

impl Parser {
    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        let last = self.tokens.last().unwrap_or(&PAST_THE_END);
        self.tokens.get(self.next + ahead).unwrap_or(last)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn expected(&self, what: &str) -> Fault {
        let found = self.peek();
        Fault::new(
            found.at,
            format!("expected {what}, found {}", found.described()),
        )
    }

    fn is_sign(&self, sign: char) -> bool {
        self.peek().kind == Kind::Sign(sign)
    }

    fn is_word(&self, word: &str) -> bool {
        let token = self.peek();
        token.kind == Kind::Word && token.text == word
    }

    fn take_if_sign(&mut self, sign: char) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.take();
        }
        found
    }

    fn take_if_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.take();
        }
        found
    }

    fn sign(&mut self, sign: char, context: &str) -> Result<(), Fault> {
        if self.take_if_sign(sign) {
            return Ok(());
        }
        Err(self.expected(&format!("`{sign}` {context}")))
    }

    fn word(&mut self, what: &str) -> Result<String, Fault> {
        if self.peek().kind == Kind::Word {
            return Ok(self.take().text);
        }
        Err(self.expected(what))
    }

    /// An integer between 0 and `largest`.
    fn number(&mut self, what: &str, largest: u32) -> Result<u32, Fault> {
        let (Kind::Integer(value) | Kind::Hex(value)) = self.peek().kind else {
            return Err(self.expected(what));
        };
        match u32::try_from(value) {
            Ok(value) if value <= largest => {
                self.take();
                Ok(value)
            }
            _ => Err(self.expected(&format!("{what} between 0 and {largest}"))),
        }
    }

    fn number16(&mut self, what: &str) -> Result<u16, Fault> {
        let value = self.number(what, u32::from(u16::MAX))?;
        Ok(u16::try_from(value).unwrap_or(u16::MAX))
    }

    fn number8(&mut self, what: &str) -> Result<u8, Fault> {
        let value = self.number(what, u32::from(u8::MAX))?;
        Ok(u8::try_from(value).unwrap_or(u8::MAX))
    }

    fn options(&mut self) -> Result<Vec<OptionLine>, Fault> {
        let mut options = Vec::new();
        while self.peek().kind == Kind::Flag {
            let Token { text: name, at, .. } = self.take();
            let value = if self.take_if_sign('=') {
                Some(self.option_value()?)
            } else {
                None
            };
            options.push(OptionLine { at, name, value });
        }
        Ok(options)
    }

    fn option_value(&mut self) -> Result<String, Fault> {
        let known = matches!(
            self.peek().kind,
            Kind::Word
                | Kind::Integer(_)
                | Kind::Hex(_)
                | Kind::Decimal
                | Kind::Text(_)
                | Kind::Shell
                | Kind::Ipv4
                | Kind::Ipv6
        );
        if !known {
            return Err(self.expected("the option's value"));
        }
        let mut value = self.take().text;
        if self.take_if_sign('=') {
            // A defined string keeps its quotes: it stays a string where it is put.
            let quote = if matches!(self.peek().kind, Kind::Text(_)) {
                "\""
            } else {
                ""
            };
            value = format!("{value}={quote}{}{quote}", self.option_value()?);
        } else if self.is_sign('/') && self.peek().at.line == self.peek_at(1).at.line {
            // `--remote_ip=192.0.2.1/24`
            self.take();
            value.push('/');
            value.push_str(&self.number8("a prefix length")?.to_string());
        }
        Ok(value)
    }

    /// Puts what is defined in place of the words that name it.
    fn substitute(&mut self, definitions: &Definitions) -> Result<(), Fault> {
        for token in self.tokens.iter_mut().skip(self.next) {
            if token.kind != Kind::Word {
                continue;
            }
            let Some(value) = definitions.get(&token.text) else {
                continue;
            };
            let replaced = lexer::tokens(value)?;
            match replaced.as_slice() {
                [only, end] if end.kind == Kind::End => {
                    token.kind = only.kind.clone();
                    token.text.clone_from(&only.text);
                }
                _ => {
                    let message = format!(
                        "`{}` is defined as `{value}`, which is not one word or number",
                        token.text
                    );
                    return Err(Fault::new(token.at, message));
                }
            }
        }
        Ok(())
    }

    /// Shell commands that have no time: before the first event and after the last.
    fn shell_lines(&mut self) -> Result<Vec<Command>, Fault> {
        let mut commands = Vec::new();
        while self.peek().kind == Kind::Shell {
            let token = self.take();
            commands.extend(shell::parse(&token.text, token.at)?);
        }
        Ok(commands)
    }

    fn event(&mut self) -> Result<Event, Fault> {
        let at = self.peek().at;
        let time = self.when()?;
        let action = self.action(time)?;
        if let When::AbsoluteRange(from, to) | When::RelativeRange(from, to) = time
            && to < from
        {
            return Err(Fault::new(at, "this range of time ends before it begins"));
        }
        let is_expected_packet =
            matches!(&action, Action::Packet(packet) if packet.direction == Direction::Outbound);
        let is_point = matches!(time, When::Absolute(_) | When::Relative(_));
        if !is_point && !is_expected_packet {
            return Err(Fault::new(
                at,
                "only an outbound packet may have `*` or a range of time",
            ));
        }
        Ok(Event { at, time, action })
    }

    fn when(&mut self) -> Result<When, Fault> {
        if self.take_if_sign('*') {
            return Ok(When::Any);
        }
        let relative = self.take_if_sign('+');
        let from = self.time("a time: `0.1`, `+.01`, `+0~+.5` or `*`")?;
        if !self.take_if_sign('~') {
            return Ok(if relative {
                When::Relative(from)
            } else {
                When::Absolute(from)
            });
        }
        if !relative {
            return Ok(When::AbsoluteRange(
                from,
                self.time("the end of the range")?,
            ));
        }
        self.sign('+', "before the end of a relative range")?;
        Ok(When::RelativeRange(
            from,
            self.time("the end of the range")?,
        ))
    }

    /// Seconds with an optional fraction, to microseconds; digits past the sixth are cut.
    fn time(&mut self, what: &str) -> Result<Span, Fault> {
        let fault = self.expected(what);
        if !matches!(self.peek().kind, Kind::Integer(_) | Kind::Decimal) {
            return Err(fault);
        }
        let text = self.peek().text.clone();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let whole: Span = if whole.is_empty() {
            0
        } else {
            whole.parse().unwrap_or(-1)
        };
        let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
        let fraction: Span = digits.parse().unwrap_or(0);
        let micros = whole
            .checked_mul(1_000_000)
            .and_then(|micros| micros.checked_add(fraction));
        // A week is longer than any script and keeps all sums of times in range.
        const LONGEST: Span = 7 * 24 * 3_600 * 1_000_000;
        match micros {
            Some(micros) if !text.starts_with('-') && (0..=LONGEST).contains(&micros) => {
                self.take();
                Ok(micros)
            }
            _ => Err(Fault::new(
                fault.at,
                format!("{text} is no time between 0 s and a week"),
            )),
        }
    }

    fn action(&mut self, time: When) -> Result<Action, Fault> {
        let token = self.peek().clone();
        match token.kind {
            Kind::Sign('<') => Ok(Action::Packet(self.packet(Direction::Inbound)?)),
            Kind::Sign('>') => Ok(Action::Packet(self.packet(Direction::Outbound)?)),
            Kind::Shell => {
                self.take();
                Ok(Action::Shell(shell::parse(&token.text, token.at)?))
            }
            Kind::Code => {
                self.take();
                Ok(Action::Code(code::parse(&token.text, token.at)?))
            }
            Kind::Word | Kind::Ellipsis => Ok(Action::Call(self.call(time)?)),
            _ => Err(self.expected("`<`, `>`, a system call, a shell command or a code block")),
        }
    }
}
