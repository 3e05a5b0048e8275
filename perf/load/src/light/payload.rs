//! Request and response bytes, and the token in them.

use core::ops::Range;

/// Bytes of a token: sixteen hexadecimal digits, so that it may stand in a line of HTTP.
const TOKEN_BYTES: usize = 16;

/// The bytes of a request or a response, with a place for the token.
#[derive(Clone, Debug)]
pub struct Payload {
    bytes: Box<[u8]>,
    token_at: usize,
}

impl Payload {
    /// `bytes` bytes (at least 16) that mean nothing, the token first.
    pub fn raw(bytes: usize) -> Self {
        Self {
            bytes: vec![b'm'; bytes.max(TOKEN_BYTES)].into(),
            token_at: 0,
        }
    }

    /// A GET request of HTTP/1.1, padded by a header to `bytes` bytes; at least as long as it must be.
    pub fn http_request(bytes: usize) -> Self {
        let start = "GET /0123456789abcdef HTTP/1.1\r\nHost: millrace\r\nX-Pad: ";
        let pad = bytes.saturating_sub(start.len() + 4);
        Self {
            bytes: format!("{start}{}\r\n\r\n", "p".repeat(pad))
                .into_bytes()
                .into(),
            token_at: "GET /".len(),
        }
    }

    /// A response of HTTP/1.1 with a body that fills it to `bytes` bytes; the token is the body's start.
    pub fn http_response(bytes: usize) -> Self {
        let head = |body: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n");
        let mut body = bytes.saturating_sub(head(bytes).len()).max(TOKEN_BYTES);
        // The length's own digits may be one fewer than assumed.
        while head(body).len() + body < bytes {
            body += 1;
        }
        let token_at = head(body).len();
        Self {
            bytes: format!("{}{}", head(body), "r".repeat(body))
                .into_bytes()
                .into(),
            token_at,
        }
    }

    /// The bytes, with any token.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the token is: what a server that is none of ours must repeat.
    pub fn token_range(&self) -> Range<usize> {
        self.token_at..self.token_at + TOKEN_BYTES
    }

    /// How many bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a payload holds at least its token.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes the payload into `to`, which has its length.
    #[inline]
    pub(super) fn write(&self, to: &mut [u8], token: u64) {
        if to.len() == self.bytes.len() {
            to.copy_from_slice(&self.bytes);
        }
        if let Some(place) = to.get_mut(self.token_at..) {
            write_token(place, token);
        }
    }

    /// The token of a payload like this one.
    #[inline]
    pub(super) fn token(&self, payload: &[u8]) -> Option<u64> {
        read_token(payload.get(self.token_at..)?)
    }
}

/// The token at the start of `payload`.
#[inline]
pub(super) fn read_token(payload: &[u8]) -> Option<u64> {
    let digits = u128::from_be_bytes(*payload.first_chunk::<TOKEN_BYTES>()?);
    // '0'..='9' have bit 4 set and 'a'..='f' have bit 6: nine more than their low four bits.
    let letters = (digits >> 6) & (u128::MAX / 0xff);
    let nibbles = (digits & (u128::MAX / 0x11)) + letters * 9;
    Some(squeeze(nibbles))
}

#[inline]
pub(super) fn write_token(to: &mut [u8], token: u64) {
    if let Some(place) = to.first_chunk_mut::<TOKEN_BYTES>() {
        let nibbles = spread(token);
        // 10 and more carry into bit 4 when 6 is added; a letter is 39 above the digit it would be.
        let letters = ((nibbles + (u128::MAX / 0xff) * 6) >> 4) & (u128::MAX / 0xff);
        *place = (nibbles + (u128::MAX / 0xff) * 0x30 + letters * 39).to_be_bytes();
    }
}

/// Each half-byte of `bits` in a byte of its own.
#[inline]
fn spread(bits: u64) -> u128 {
    let mut wide = u128::from(bits);
    // All ones divided by 2^n + 1 is n zeros and n ones, again and again.
    for (shift, mask) in [
        (32, u128::MAX / 0x1_0000_0001),
        (16, u128::MAX / 0x1_0001),
        (8, u128::MAX / 0x101),
        (4, u128::MAX / 0x11),
    ] {
        wide = (wide | wide << shift) & mask;
    }
    wide
}

/// The low half of each byte, together.
#[inline]
fn squeeze(nibbles: u128) -> u64 {
    let mut wide = nibbles & (u128::MAX / 0x11);
    for (shift, mask) in [
        (4, u128::MAX / 0x101),
        (8, u128::MAX / 0x1_0001),
        (16, u128::MAX / 0x1_0000_0001),
        (32, u128::MAX / 0x1_0000_0000_0000_0001),
    ] {
        wide = (wide | wide >> shift) & mask;
    }
    wide as u64
}
