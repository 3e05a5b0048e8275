//! HTTP/1.1 as far as a load generator needs it (RFC 9112): where a message's head ends and how
//! long its body is.
//!
//! The reader takes bytes as they come and keeps a few dozen of them per connection. It understands
//! `Content-Length`, `Connection: close` and `Expect: 100-continue`. It does not understand chunked
//! bodies, nor bodies that end with the connection: their length is not known beforehand, and the
//! message is refused.

use arrayvec::{ArrayString, ArrayVec};

/// Bytes kept of one line: the longest lines we look at are `Content-Length: ` with 20 digits and
/// our own request line.
const LINE_BYTES_KEPT: usize = 48;

/// Bytes of a head at most; what nginx takes for one request by default is 8 KiB in each of four
/// buffers.
pub const HEAD_BYTES_MAX: u32 = 32_768;

/// Bytes that [`write_head`] needs at most.
pub const WRITTEN_HEAD_BYTES_MAX: usize = 192;

/// A message that is not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// The first line is no HTTP/1.x line.
    FirstLine,
    /// The head does not end within [`HEAD_BYTES_MAX`].
    TooLong,
    /// `Content-Length` is no number.
    Length,
    /// The body is chunked.
    Chunked,
}

/// What the first line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstLine {
    /// An answer with this status.
    Status(u16),
    /// A request.
    Request {
        /// It asks for the head only.
        is_head: bool,
        /// The number behind `/bytes/`, if the path has that form.
        bytes: Option<u64>,
    },
}

/// What a head said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The first line.
    pub first: FirstLine,
    /// The length of the body, if told.
    pub content_length: Option<u64>,
    /// The connection ends after this message and its answer.
    pub closes: bool,
    /// The sender waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Reads one head after the other.
#[derive(Clone, Debug)]
pub struct HeadReader {
    line: ArrayVec<u8, LINE_BYTES_KEPT>,
    head_bytes: u32,
    head: Option<Head>,
}

impl HeadReader {
    /// Before the first byte.
    pub const NONE: Self = Self {
        line: ArrayVec::new_const(),
        head_bytes: 0,
        head: None,
    };

    /// Takes bytes up to the end of the head. Returns how many were taken, and the head once it is
    /// complete; the reader is then ready for the next one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Head>), HeadError> {
        let mut taken = 0usize;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            taken = taken.saturating_add(piece.len());
            self.head_bytes = self.head_bytes.saturating_add(piece.len() as u32);
            if self.head_bytes > HEAD_BYTES_MAX {
                return Err(HeadError::TooLong);
            }
            let room = self.line.remaining_capacity();
            let kept = piece.get(..room.min(piece.len())).unwrap_or_default();
            // It fits: no longer than what is free.
            let _ = self.line.try_extend_from_slice(kept);
            if piece.last() != Some(&b'\n') {
                break;
            }
            if let Some(head) = self.end_line()? {
                return Ok((taken, Some(head)));
            }
        }
        Ok((taken, None))
    }

    /// Whether a head has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.head_bytes > 0
    }

    fn end_line(&mut self) -> Result<Option<Head>, HeadError> {
        let line = core::mem::replace(&mut self.line, ArrayVec::new_const());
        let line = line.trim_ascii();
        let Some(head) = &mut self.head else {
            // RFC 9112 section 2.2: an empty line before a request is to be ignored.
            if !line.is_empty() {
                self.head = Some(first_line(line)?);
            }
            return Ok(None);
        };
        if line.is_empty() {
            let head = *head;
            *self = Self::NONE;
            return Ok(Some(head));
        }
        head.take_field(line)?;
        Ok(None)
    }
}

impl Head {
    fn take_field(&mut self, line: &[u8]) -> Result<(), HeadError> {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Ok(());
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        if is(b"content-length") {
            self.content_length = Some(number(value).ok_or(HeadError::Length)?);
        } else if is(b"transfer-encoding") {
            return Err(HeadError::Chunked);
        } else if is(b"connection") {
            if value.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if value.eq_ignore_ascii_case(b"keep-alive") {
                self.closes = false;
            }
        } else if is(b"expect") {
            self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }
}

/// Writes the head of an answer with a body of `length` bytes.
pub fn write_head(status: &str, length: u64, closes: bool) -> ArrayString<WRITTEN_HEAD_BYTES_MAX> {
    use core::fmt::Write as _;
    let mut head = ArrayString::new();
    let connection = if closes { "Connection: close\r\n" } else { "" };
    // A status of at most 60 bytes leaves room for everything else.
    let _ = write!(
        head,
        "HTTP/1.1 {status:.60}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n{connection}\r\n"
    );
    head
}

fn first_line(line: &[u8]) -> Result<Head, HeadError> {
    let mut words = line
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let (Some(first), Some(second)) = (words.next(), words.next()) else {
        return Err(HeadError::FirstLine);
    };
    let of = |first, closes| Head {
        first,
        content_length: None,
        closes,
        expects_continue: false,
    };
    if let Some(version) = first.strip_prefix(b"HTTP/1.") {
        let status = number(second).and_then(|status| u16::try_from(status).ok());
        let status = status.filter(|status| (100..=999).contains(status));
        let status = status.ok_or(HeadError::FirstLine)?;
        return Ok(of(FirstLine::Status(status), version == b"0"));
    }
    let is_method = first.iter().all(u8::is_ascii_uppercase);
    // The version may lie behind the bytes that were kept of a long line.
    let version = words.next().unwrap_or(b"HTTP/1.1");
    if !is_method || !second.starts_with(b"/") {
        return Err(HeadError::FirstLine);
    }
    let path = second.split(|byte| *byte == b'?').next().unwrap_or(second);
    let request = FirstLine::Request {
        is_head: first == b"HEAD",
        bytes: path.strip_prefix(b"/bytes/").and_then(number),
    };
    Ok(of(request, version == b"HTTP/1.0"))
}

fn number(digits: &[u8]) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = core::str::from_utf8(digits).ok().filter(|_| all_digits)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_pieces(text: &str, piece: usize) -> Result<Option<Head>, HeadError> {
        let mut reader = HeadReader::NONE;
        for piece in text.as_bytes().chunks(piece) {
            if let (_, Some(head)) = reader.feed(piece)? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_reads_the_same_in_pieces_of_any_size() {
        let text = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1 with a line that is longer than what is kept of it\r\n\
                    CONTENT-length:  612 \r\nConnection: Close\r\n\r\nbody";
        let expected = Head {
            first: FirstLine::Status(200),
            content_length: Some(612),
            closes: true,
            expects_continue: false,
        };
        for piece in 1..=text.len() {
            assert_eq!(read_in_pieces(text, piece), Ok(Some(expected)), "{piece}");
        }
    }

    #[test]
    fn what_lies_behind_the_head_is_left_for_the_body() {
        let text = b"GET / HTTP/1.1\r\n\r\nGET /bytes/77?x=1 HTTP/1.0\r\nHost: a\r\n\r\n";
        let mut reader = HeadReader::NONE;
        let (taken, head) = reader.feed(text).expect("good");
        assert_eq!((taken, head.map(|head| head.closes)), (18, Some(false)));
        let (rest, head) = reader.feed(&text[taken..]).expect("good");
        let head = head.expect("complete");
        assert_eq!(taken + rest, text.len());
        let bytes = Some(77);
        assert_eq!(
            head.first,
            FirstLine::Request {
                is_head: false,
                bytes
            }
        );
        assert!(head.closes);
        assert!(!reader.is_inside());
    }

    #[test]
    fn what_has_no_known_length_or_is_no_http_is_refused() {
        let error = |text: &str| read_in_pieces(text, 7).expect_err("refused");
        assert_eq!(error("SSH-2.0-OpenSSH_9.2\r\n"), HeadError::FirstLine);
        assert_eq!(error("HTTP/1.1 20 OK\r\n\r\n"), HeadError::FirstLine);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(error(chunked), HeadError::Chunked);
        assert_eq!(
            error("HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n"),
            HeadError::Length
        );
        let endless = format!(
            "GET / HTTP/1.1\r\nX: {}",
            "y".repeat(HEAD_BYTES_MAX as usize)
        );
        assert_eq!(error(&endless), HeadError::TooLong);
    }

    #[test]
    fn a_written_head_is_read_back() {
        let head = write_head("200 OK", u64::MAX, true);
        let read = read_in_pieces(&head, 5);
        let read = read.expect("good").expect("complete");
        assert_eq!(read.content_length, Some(u64::MAX));
        assert!(read.closes);
    }
}
