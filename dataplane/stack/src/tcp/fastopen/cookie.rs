//! The cookie: what proves that a client receives at the address it sends from (RFC 7413 section
//! 4.1.2).
//!
//! Linux's: SipHash-2-4 of the two addresses under a key that several servers may share. It does not
//! expire but with the key; a second key is believed for a while after the first was changed.

use core::hash::Hasher as _;

use millrace_base::FlowTuple;
use millrace_wire::tcp::FastOpenCookie;
use siphasher::sip::SipHasher24;

/// Bytes of a key (`TCP_FASTOPEN_KEY_LENGTH`).
pub const FASTOPEN_KEY_BYTES: usize = 16;

/// The keys of a host or a listener (`tcp_fastopen_key`, `TCP_FASTOPEN_KEY`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FastOpenKeys {
    primary: [u8; FASTOPEN_KEY_BYTES],
    backup: Option<[u8; FASTOPEN_KEY_BYTES]>,
}

/// What a cookie turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Match {
    /// Ours.
    Primary,
    /// Ours, by the key that is on its way out.
    Backup,
    None,
}

impl core::fmt::Debug for FastOpenKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Keys stay secret.
        write!(f, "FastOpenKeys({})", self.all().count())
    }
}

impl FastOpenKeys {
    /// Cookies are made with `primary`; those of `backup` are believed.
    pub const fn new(
        primary: [u8; FASTOPEN_KEY_BYTES],
        backup: Option<[u8; FASTOPEN_KEY_BYTES]>,
    ) -> Self {
        Self { primary, backup }
    }

    /// The keys, the one that makes cookies first.
    pub fn all(&self) -> impl Iterator<Item = &[u8; FASTOPEN_KEY_BYTES]> {
        core::iter::once(&self.primary).chain(&self.backup)
    }

    /// The cookie of the peer of `tuple`.
    pub(crate) fn cookie(&self, tuple: &FlowTuple) -> FastOpenCookie {
        cookie_of(&self.primary, tuple)
    }

    /// Whose cookie this is. O(keys), a hash each.
    pub(crate) fn check(&self, tuple: &FlowTuple, offered: &FastOpenCookie) -> Match {
        let fits = |key| cookie_of(key, tuple).as_slice() == offered.as_slice();
        if fits(&self.primary) {
            Match::Primary
        } else if self.backup.as_ref().is_some_and(fits) {
            Match::Backup
        } else {
            Match::None
        }
    }
}

/// Linux: `__tcp_fastopen_cookie_gen_cipher`.
fn cookie_of(key: &[u8; FASTOPEN_KEY_BYTES], tuple: &FlowTuple) -> FastOpenCookie {
    let (words, _) = key.as_chunks::<8>();
    let [low, high] = words else {
        return FastOpenCookie::default();
    };
    let (low, high) = (u64::from_le_bytes(*low), u64::from_le_bytes(*high));
    let mut hasher = SipHasher24::new_with_keys(low, high);
    for address in [tuple.remote.address, tuple.local.address] {
        match address.as_v4() {
            Some(octets) => hasher.write(&octets),
            None => hasher.write(address.octets()),
        }
    }
    FastOpenCookie::new(&hasher.finish().to_le_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Address, Endpoint};

    /// A key as the sysctl writes it: four words, each stored little-endian.
    fn key(words: [u32; 4]) -> [u8; 16] {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.try_into().expect("16 bytes")
    }

    fn tuple(remote: Address, local: Address) -> FlowTuple {
        FlowTuple {
            local: Endpoint::new(local, 80),
            remote: Endpoint::new(remote, 40_000),
        }
    }

    // Cookies that Linux 6.18 gives out.
    #[test]
    fn cookies_are_those_of_linux() {
        let cases = [
            (
                [0xa0bf_63f7, 0xed80_3d81, 0xcd64_1d30, 0xcebc_4a90],
                2,
                0x00ab_aaab_e8e9_54c2u64,
            ),
            (
                [0xa0bf_63f7, 0xed80_3d81, 0xcd64_1d30, 0xcebc_4a90],
                3,
                0x1313_a2da_994a_0951,
            ),
            ([0; 4], 2, 0x93b7_aa4f_550f_8a1a),
        ];
        for (words, last, expected) in cases {
            let keys = FastOpenKeys::new(key(words), None);
            let (remote, local) = ([10, 248, 0, last], [192, 168, 0, 2]);
            let cookie = keys.cookie(&tuple(Address::v4(remote), Address::v4(local)));
            assert_eq!(cookie.as_slice(), expected.to_be_bytes());
        }
        let keys = FastOpenKeys::new(
            key([0xa1a1_a1a1, 0xb2b2_b2b2, 0xc3c3_c3c3, 0xd4d4_d4d4]),
            None,
        );
        let v6 = |second: u8, third: u8, fifth: u8, sixth: u8| {
            let mut octets = [0; 16];
            octets[..6].copy_from_slice(&[0xfd, 0x3d, second, third, fifth, sixth]);
            octets[15] = 1;
            Address::v6(octets)
        };
        let (local, remote) = (v6(0x0a, 0x0b, 0x17, 0xd6), v6(0xfa, 0x7b, 0xd1, 0x7d));
        let cookie = keys.cookie(&tuple(remote, local));
        assert_eq!(cookie.as_slice(), 0xc1d1_e974_2a47_a9bcu64.to_be_bytes());
    }

    #[test]
    fn the_backup_key_is_believed_and_makes_no_cookies() {
        let (old, new) = ([1; 16], [2; 16]);
        let peer = tuple(Address::v4([192, 0, 2, 9]), Address::v4([192, 0, 2, 1]));
        let other = tuple(Address::v4([192, 0, 2, 8]), Address::v4([192, 0, 2, 1]));
        let cookie = FastOpenKeys::new(old, None).cookie(&peer);
        let rotated = FastOpenKeys::new(new, Some(old));
        assert_eq!(rotated.check(&peer, &cookie), Match::Backup);
        assert_eq!(rotated.check(&other, &cookie), Match::None);
        assert_eq!(rotated.check(&peer, &rotated.cookie(&peer)), Match::Primary);
        assert_eq!(
            FastOpenKeys::new(new, None).check(&peer, &cookie),
            Match::None
        );
        assert_eq!(
            rotated.check(&peer, &FastOpenCookie::default()),
            Match::None
        );
    }
}
