//! Text to tokens.
//!
//! The language has no reserved words: `ack`, `win` or `fd` are words, and the parser knows where
//! they mean something. Numbers keep their text, because the same digits may be a Fast Open cookie
//! whose leading zeros count. Words that the script or the runner defines are replaced later, when
//! the option lines have been read.

use crate::fault::{Fault, Position};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Letters, digits, underscores.
    Word,
    /// Decimal, with an optional minus sign.
    Integer(i64),
    /// `0x...`
    Hex(i64),
    /// Digits with a point among them.
    Decimal,
    /// Dotted quad.
    Ipv4,
    /// With `::`, or eight groups.
    Ipv6,
    /// Between double quotes, escapes resolved.
    Text(Vec<u8>),
    /// Between back quotes.
    Shell,
    /// Between `%{` and `}%`.
    Code,
    /// `--name`
    Flag,
    /// `...`
    Ellipsis,
    /// Any other single character.
    Sign(char),
    /// After the last token.
    End,
}

/// A token: its kind, its text without delimiters, its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) at: Position,
}

impl Token {
    /// How an error message calls it.
    pub(crate) fn described(&self) -> String {
        match &self.kind {
            Kind::End => "the end of the script".to_owned(),
            Kind::Shell => "a shell command".to_owned(),
            Kind::Code => "a code block".to_owned(),
            Kind::Flag => format!("`--{}`", self.text),
            Kind::Text(_) => format!("\"{}\"", self.text),
            _ => format!("`{}`", self.text),
        }
    }
}

/// All tokens of `text`; the last is [`Kind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer {
        text,
        offset: 0,
        at: Position { line: 1, column: 1 },
    };
    let mut found = Vec::new();
    loop {
        let token = lexer.next_token()?;
        let end = token.kind == Kind::End;
        found.push(token);
        if end {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    offset: usize,
    at: Position,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or("")
    }

    /// Moves over `length` bytes, keeping the place.
    fn skip(&mut self, length: usize) -> &'a str {
        let rest = self.rest();
        let taken = rest.get(..length).unwrap_or(rest);
        for byte in taken.bytes() {
            if byte == b'\n' {
                self.at.line += 1;
                self.at.column = 1;
            } else {
                self.at.column += 1;
            }
        }
        self.offset += taken.len();
        taken
    }

    fn next_token(&mut self) -> Result<Token, Fault> {
        self.skip_blanks()?;
        let at = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token {
                kind: Kind::End,
                text: String::new(),
                at,
            });
        };
        if rest.starts_with("...") {
            return Ok(self.token(Kind::Ellipsis, 3));
        }
        if rest.starts_with("%{") {
            return self.delimited("%{", "}%", Kind::Code);
        }
        if first == '`' {
            return self.quoted('`', at);
        }
        if first == '"' {
            return self.quoted('"', at);
        }
        if let Some(name) = rest.strip_prefix("--") {
            let length = run(name, is_word);
            if length > 0 {
                self.skip(2);
                return Ok(Token {
                    at,
                    ..self.token(Kind::Flag, length)
                });
            }
        }
        if let Some((kind, length)) = address(rest) {
            return Ok(self.token(kind, length));
        }
        if let Some((kind, length)) = number(rest).map_err(|message| Fault::new(at, message))? {
            return Ok(self.token(kind, length));
        }
        let length = run(rest, is_word);
        if length > 0 {
            return Ok(self.token(Kind::Word, length));
        }
        Ok(self.token(Kind::Sign(first), first.len_utf8()))
    }

    fn token(&mut self, kind: Kind, length: usize) -> Token {
        let at = self.at;
        let text = self.skip(length).to_owned();
        Token { kind, text, at }
    }

    fn skip_blanks(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let blanks = run(rest, |c| c.is_ascii_whitespace());
            if blanks > 0 {
                self.skip(blanks);
            } else if rest.starts_with("//") {
                self.skip(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                let Some(end) = rest.find("*/") else {
                    return Err(Fault::new(self.at, "this comment has no `*/`"));
                };
                self.skip(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn delimited(&mut self, open: &str, close: &str, kind: Kind) -> Result<Token, Fault> {
        let at = self.at;
        self.skip(open.len());
        let Some(length) = self.rest().find(close) else {
            return Err(Fault::new(at, format!("`{open}` without `{close}`")));
        };
        let mut token = self.token(kind, length);
        self.skip(close.len());
        token.at = at;
        Ok(token)
    }

    /// A string or a shell command: up to the next `quote` that no backslash precedes.
    fn quoted(&mut self, quote: char, at: Position) -> Result<Token, Fault> {
        self.skip(1);
        let rest = self.rest();
        let mut escaped = false;
        let mut end = None;
        for (index, c) in rest.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                end = Some(index);
                break;
            }
        }
        let Some(length) = end else {
            return Err(Fault::new(at, format!("this {quote} has no partner")));
        };
        let mut token = self.token(Kind::Shell, length);
        self.skip(1);
        token.at = at;
        if quote == '"' {
            token.kind = Kind::Text(unescaped(&token.text).map_err(|m| Fault::new(at, m))?);
        }
        Ok(token)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// How many bytes at the start of `text` satisfy `accept`.
fn run(text: &str, accept: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accept(c)).unwrap_or(text.len())
}

/// An IP address at the start of `text`. A range of sequence numbers, `1:1001`, is none.
fn address(text: &str) -> Option<(Kind, usize)> {
    let length = run(text, |c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    let candidate = text.get(..length)?.trim_end_matches('.');
    let ends_here = !text.get(candidate.len()..)?.starts_with(is_word);
    if !ends_here {
        return None;
    }
    if candidate.parse::<std::net::Ipv4Addr>().is_ok() {
        return Some((Kind::Ipv4, candidate.len()));
    }
    // The colon that ends an encapsulation's address is not part of it.
    let trimmed = candidate.strip_suffix(':').unwrap_or(candidate);
    for candidate in [candidate, trimmed] {
        if candidate.parse::<std::net::Ipv6Addr>().is_ok() {
            return Some((Kind::Ipv6, candidate.len()));
        }
    }
    None
}

/// A number at the start of `text`; digits that run into letters are a word.
fn number(text: &str) -> Result<Option<(Kind, usize)>, String> {
    if let Some(digits) = text.strip_prefix("0x") {
        let length = run(digits, |c| c.is_ascii_hexdigit());
        let whole = run(digits, is_word);
        if length > 0 && length == whole {
            let value = digits
                .get(..length)
                .and_then(|d| i64::from_str_radix(d, 16).ok());
            let value = value.ok_or("this number does not fit into 63 bits")?;
            return Ok(Some((Kind::Hex(value), length + 2)));
        }
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let sign = text.len() - unsigned.len();
    let whole = run(unsigned, |c| c.is_ascii_digit());
    let after = unsigned.get(whole..).unwrap_or("");
    if let Some(fraction) = after.strip_prefix('.') {
        let length = run(fraction, |c| c.is_ascii_digit());
        if length > 0 {
            return Ok(Some((Kind::Decimal, sign + whole + 1 + length)));
        }
    }
    if whole == 0 || after.starts_with(is_word) {
        return Ok(None);
    }
    let digits = text.get(..sign + whole).unwrap_or("");
    match digits.parse::<i64>() {
        Ok(value) => Ok(Some((Kind::Integer(value), sign + whole))),
        Err(_) => Err("this number does not fit into 63 bits".to_owned()),
    }
}

/// Resolves the escapes of a C string.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut buffer = [0; 4];
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        match rest.next() {
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('r') => bytes.push(b'\r'),
            Some('0') => bytes.push(0),
            Some('x') => {
                let mut value = 0_u8;
                for _ in 0..2 {
                    let digit = rest.next_if(char::is_ascii_hexdigit);
                    let digit = digit.and_then(|d| d.to_digit(16));
                    let digit = digit.ok_or("`\\x` wants two hexadecimal digits")?;
                    value = value << 4 | u8::try_from(digit).unwrap_or(0);
                }
                bytes.push(value);
            }
            Some(other) => {
                bytes.extend_from_slice(other.encode_utf8(&mut buffer).as_bytes());
            }
            None => return Err("a backslash at the end of the string".to_owned()),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text)
            .expect("lexes")
            .into_iter()
            .map(|token| token.kind)
            .collect()
    }

    #[test]
    fn a_time_span_is_two_times_and_an_ellipsis() {
        use Kind::{Decimal, Ellipsis, End, Integer, Sign};
        assert_eq!(
            kinds("+0...0.200"),
            [Sign('+'), Integer(0), Ellipsis, Decimal, End]
        );
        assert_eq!(kinds(".01...1"), [Decimal, Ellipsis, Integer(1), End]);
    }

    #[test]
    fn a_cookie_that_starts_with_digits_is_a_word_and_sequence_numbers_are_no_address() {
        use Kind::{End, Integer, Ipv4, Ipv6, Sign, Word};
        assert_eq!(kinds("00abaaabe8e954c2"), [Word, End]);
        assert_eq!(kinds("1:1001"), [Integer(1), Sign(':'), Integer(1001), End]);
        assert_eq!(kinds("192.0.2.1"), [Ipv4, End]);
        assert_eq!(kinds("fd3d:fa7b:d17d::1"), [Ipv6, End]);
    }

    #[test]
    fn places_count_lines_and_columns_from_one() {
        let found = tokens("// one\n  two `x\ny` three").expect("lexes");
        let places: Vec<_> = found.iter().map(|t| (t.at.line, t.at.column)).collect();
        assert_eq!(places, [(2, 3), (2, 7), (3, 4), (3, 9)]);
    }

    #[test]
    fn what_is_not_closed_is_named_where_it_opens() {
        for text in ["  `sysctl", "  \"abc", "  %{ assert", "  /* abc"] {
            let fault = tokens(text).expect_err("is open");
            assert_eq!(fault.at, Position { line: 1, column: 3 }, "{text}");
        }
    }
}
