//! What a request is answered with, and how that is queued piece by piece.

use crate::http::{FirstLine, Head, write_head};
use crate::message::Message;

/// What a request is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// The answer that is at hand.
    Standard,
    /// 200 with a body of this many bytes; `closes` ends the connection.
    Sized { body: u64, closes: bool },
    /// 200 with a length and no body.
    HeadOnly { length: u64, closes: bool },
    /// `100 Continue`: not an answer yet.
    Continue,
    /// The request is not understood; ends the connection.
    BadRequest,
}

/// Equal replies, one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) reply: Reply,
    pub(super) count: u32,
}

impl Reply {
    pub(super) fn to(head: &Head, response_bytes: u64) -> Self {
        let closes = head.closes;
        let FirstLine::Request { is_head, bytes } = head.first else {
            return Self::BadRequest;
        };
        match bytes {
            _ if is_head => Self::HeadOnly {
                length: bytes.unwrap_or(response_bytes),
                closes,
            },
            None if !closes => Self::Standard,
            _ => Self::Sized {
                body: bytes.unwrap_or(response_bytes),
                closes,
            },
        }
    }

    pub(super) fn ends_connection(self) -> bool {
        match self {
            Self::Standard | Self::Continue => false,
            Self::Sized { closes, .. } | Self::HeadOnly { closes, .. } => closes,
            Self::BadRequest => true,
        }
    }
}

/// Queues what there is room for of one reply. Returns the bytes queued, and whether that was the
/// end of it.
pub(super) fn send_reply(
    reply: Reply,
    position: &mut u64,
    (standard, filler): (&Message, &Message),
    send: &mut impl FnMut(&[u8]) -> usize,
) -> (u64, bool) {
    let began = *position;
    let head = match reply {
        Reply::Standard => write_head("", 0, false),
        Reply::Sized { body, closes } => write_head("200 OK", body, closes),
        Reply::HeadOnly { length, closes } => write_head("200 OK", length, closes),
        Reply::Continue => write_head("", 0, false),
        Reply::BadRequest => write_head("400 Bad Request", 0, true),
    };
    let (head, body): (&[u8], u64) = match reply {
        Reply::Standard => (b"", 0),
        Reply::Continue => (b"HTTP/1.1 100 Continue\r\n\r\n", 0),
        Reply::Sized { body, .. } => (head.as_bytes(), body),
        Reply::HeadOnly { .. } | Reply::BadRequest => (head.as_bytes(), 0),
    };
    let total = match reply {
        Reply::Standard => standard.len(),
        Reply::Sized { .. } | Reply::HeadOnly { .. } | Reply::Continue | Reply::BadRequest => {
            body.saturating_add(head.len() as u64)
        }
    };
    // Ends: each round queues something, or there is no room.
    while *position < total {
        let inside = usize::try_from(*position).ok();
        let head_rest = inside.and_then(|at| head.get(at..)).unwrap_or_default();
        let piece = if reply == Reply::Standard {
            standard.at(*position)
        } else if head_rest.is_empty() {
            let left = total.saturating_sub(*position);
            let block = filler.at(0);
            let len = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            block.get(..len).unwrap_or_default()
        } else {
            head_rest
        };
        let queued = send(piece);
        *position = position.saturating_add(queued as u64);
        if queued < piece.len() {
            break;
        }
    }
    (position.saturating_sub(began), *position >= total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_its_length_however_little_room_there_is() {
        let reply = Reply::Sized {
            body: 100_000,
            closes: true,
        };
        let (standard, filler) = (Message::new(b"", 0), Message::new(b"", u64::MAX));
        let mut position = 0;
        let mut sent = Vec::new();
        let mut rounds = 0;
        loop {
            let mut room = 1_000 + rounds % 7;
            let mut send = |piece: &[u8]| {
                let queued = piece.len().min(room);
                room -= queued;
                sent.extend_from_slice(&piece[..queued]);
                queued
            };
            let parts = (&standard, &filler);
            let (_, is_all) = send_reply(reply, &mut position, parts, &mut send);
            rounds += 1;
            if is_all {
                break;
            }
        }
        let head = write_head("200 OK", 100_000, true);
        assert!(sent.starts_with(head.as_bytes()));
        assert_eq!(sent.len(), head.len() + 100_000);
    }
}
