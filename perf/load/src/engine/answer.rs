//! Where one answer ends and the next begins.

use crate::engine::Protocol;
use crate::http::{FirstLine, HeadError, HeadReader};

/// The answer that a client is reading.
#[derive(Clone, Debug)]
pub struct Answer {
    reader: HeadReader,
    /// Bytes of the body that are still to come; `None` before the body.
    body_left: Option<u64>,
    answered: Answered,
}

/// An answer that is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answered {
    /// Its status is 400 or above.
    pub is_error: bool,
    /// The peer closes the connection after it.
    pub closes: bool,
}

impl Answer {
    /// Nothing read yet.
    pub const NONE: Self = Self {
        reader: HeadReader::NONE,
        body_left: None,
        answered: Answered {
            is_error: false,
            closes: false,
        },
    };

    /// Takes bytes up to the end of the answer. Returns how many were taken, and what the answer
    /// was once it is complete; the next one may begin then.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        protocol: &Protocol,
    ) -> Result<(usize, Option<Answered>), HeadError> {
        let mut taken = 0usize;
        let left = match (self.body_left, protocol) {
            (Some(left), _) => left,
            (None, Protocol::Raw { response_bytes, .. }) => *response_bytes,
            (None, Protocol::Http) => loop {
                let rest = bytes.get(taken..).unwrap_or_default();
                let (used, head) = self.reader.feed(rest)?;
                taken = taken.saturating_add(used);
                let Some(head) = head else {
                    return Ok((taken, None));
                };
                let FirstLine::Status(status) = head.first else {
                    return Err(HeadError::FirstLine);
                };
                // RFC 9110 section 15.2: interim answers precede the one that counts.
                if status < 200 {
                    continue;
                }
                self.answered = Answered {
                    is_error: status >= 400,
                    closes: head.closes,
                };
                let is_bodyless = status == 204 || status == 304;
                let length = head.content_length.filter(|_| !is_bodyless);
                break match length {
                    Some(length) => length,
                    None if is_bodyless => 0,
                    None => return Err(HeadError::Length),
                };
            },
        };
        let rest = bytes.len().saturating_sub(taken) as u64;
        let used = left.min(rest);
        taken = taken.saturating_add(used as usize);
        let left = left.saturating_sub(used);
        if left > 0 {
            self.body_left = Some(left);
            return Ok((taken, None));
        }
        self.body_left = None;
        Ok((taken, Some(core::mem::take(&mut self.answered))))
    }

    /// Whether part of an answer has arrived.
    pub fn is_inside(&self) -> bool {
        self.body_left.is_some() || self.reader.is_inside()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(bytes: &[u8], piece: usize, protocol: &Protocol) -> Result<Vec<Answered>, HeadError> {
        let mut answer = Answer::NONE;
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut at = 0;
            while at < piece.len() {
                let (taken, answered) = answer.feed(&piece[at..], protocol)?;
                at += taken;
                found.extend(answered);
            }
        }
        assert!(!answer.is_inside());
        Ok(found)
    }

    #[test]
    fn pipelined_answers_are_told_apart_however_they_are_cut() {
        let text =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n\
            HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        let good = Answered::default();
        let bad = Answered {
            is_error: true,
            closes: true,
        };
        for piece in 1..text.len() {
            let answers = count(text, piece, &Protocol::Http);
            assert_eq!(answers, Ok(vec![good, good, bad]), "{piece}");
        }
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        let text = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end";
        assert_eq!(count(text, 9, &Protocol::Http), Err(HeadError::Length));
    }

    #[test]
    fn raw_answers_are_counted_by_their_size() {
        let protocol = Protocol::Raw {
            request_bytes: 1,
            response_bytes: 10,
        };
        for piece in 1..30 {
            let answers = count(&[0; 30], piece, &protocol).expect("good");
            assert_eq!(answers.len(), 3);
        }
    }
}
