//! Names in shared memory: UTF-8, zero padded, of fixed width.

use core::fmt;

use crate::limits::NAME_BYTES;

/// A name of at most `N` bytes. Any bytes are acceptable memory; reading stops where UTF-8 stops.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Text<const N: usize>([u8; N]);

/// A name of an interface, listener, pool or backend.
pub type Name = Text<NAME_BYTES>;

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Self = Self([0; N]);

    /// The text, cut at the last character that fits.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        let end = text.floor_char_boundary(N);
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        Self(bytes)
    }

    /// The text up to the first zero byte or the first byte that is not UTF-8.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(N);
        match core::str::from_utf8(&self.0[..end]) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&self.0[..error.valid_up_to()]).unwrap_or(""),
        }
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> From<&str> for Text<N> {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(Text::<4>::new("abcdef").as_str(), "abcd");
        assert_eq!(Text::<4>::new("abcé").as_str(), "abc");
        assert_eq!(Text::<4>::new("").as_str(), "");
    }

    #[test]
    fn bytes_that_are_not_utf8_end_the_name() {
        assert_eq!(Text::<4>([b'a', 0xff, b'b', 0]).as_str(), "a");
        assert_eq!(Text::<2>([0xff, 0xff]).as_str(), "");
    }
}
