//! Where the signature of RFC 2385 is in a segment.
//!
//! Keys, and what a digest is made of, are not here: who has a key computes the digest and puts it at
//! `SIGNATURE_AT` of a header whose options say `md5`.

use super::header::HEADER_BYTES;
use super::options::{KIND_END, KIND_MD5, KIND_NOP};

/// Bytes of a digest.
pub const SIGNATURE_BYTES: usize = 16;
/// Where the digest is in a TCP header that was written here: behind two NOPs, kind and length, before
/// every other option, as Linux writes it.
pub const SIGNATURE_AT: usize = HEADER_BYTES + 4;
/// Bytes of the option (`TCPOLEN_MD5SIG`).
pub(super) const OPTION_BYTES: usize = SIGNATURE_BYTES + 2;

/// What the options of a segment say of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signature<'a> {
    /// There is none.
    Absent,
    /// Its digest.
    Present(&'a [u8; SIGNATURE_BYTES]),
    /// A length that cannot be, or a second signature.
    Malformed,
}

impl<'a> Signature<'a> {
    /// Looks through the option bytes of a segment (Linux: `tcp_do_parse_auth_options`).
    //= https://www.rfc-editor.org/rfc/rfc2385#section-3.0
    //# Every segment sent on a TCP connection to be protected against spoofing will contain the
    //# 16-byte MD5 digest
    pub fn find(mut options: &'a [u8]) -> Self {
        let mut found = Self::Absent;
        // What is shorter cannot hold one.
        while options.len() >= OPTION_BYTES {
            let [kind, rest @ ..] = options else { break };
            match *kind {
                KIND_END => break,
                KIND_NOP => {
                    options = rest;
                    continue;
                }
                _ => {}
            }
            let len = rest.first().copied().map_or(0, usize::from);
            let Some(data) = options.get(2..len) else {
                return Self::Malformed;
            };
            if *kind == KIND_MD5 {
                found = match data.as_array() {
                    Some(digest) if found == Self::Absent => Self::Present(digest),
                    _ => return Self::Malformed,
                };
            }
            options = options.get(len..).unwrap_or_default();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(before: &[u8], behind: &[u8]) -> Vec<u8> {
        let mut bytes = before.to_vec();
        bytes.extend([KIND_MD5, 18]);
        bytes.extend(1..=16);
        bytes.extend(behind);
        bytes
    }

    // behaviour: SND-35
    #[test]
    fn a_signature_is_found_wherever_it_is_and_twice_is_once_too_often() {
        let digest: [u8; 16] = core::array::from_fn(|at| at as u8 + 1);
        let stamps = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        for bytes in [
            signed(&[], &[1, 1]),
            signed(&[1, 1], &[]),
            signed(&stamps, &[]),
            signed(&[2, 4, 5, 180], &[0, 9, 9, 9]),
            signed(&[], &stamps),
        ] {
            assert_eq!(Signature::find(&bytes), Signature::Present(&digest));
        }
        for bytes in [&[][..], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], &[0; 40]] {
            assert_eq!(Signature::find(bytes), Signature::Absent, "{bytes:?}");
        }
        let behind_the_end = signed(&[0, 0], &[]);
        assert_eq!(Signature::find(&behind_the_end), Signature::Absent);
        let twice = signed(&signed(&[1, 1], &[1, 1]), &[]);
        assert_eq!(Signature::find(&twice), Signature::Malformed);
        for len in (0..=40).filter(|len| *len != 18) {
            let mut bytes = signed(&[], &[1; 22]);
            bytes[1] = len;
            assert_eq!(Signature::find(&bytes), Signature::Malformed, "{len}");
        }
    }
}
