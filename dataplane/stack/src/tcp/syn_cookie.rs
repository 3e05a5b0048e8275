//! SYN cookies: what must survive of a SYN, kept in the sequence number and the timestamp we answer
//! with.
//!
//! RFC 4987 section 3.6, as Linux does it (`net/ipv4/syncookies.c`), but for the place of the MSS index:
//!
//! ```text
//!   cookie = hash(tuple, 0) + peer ISN + (minute << 24)
//!          + (hash(tuple, minute) + (mss index << 22)) mod 2^24
//!   TSval  = clock with its low six bits replaced:  | ECN | SACK | window scale (15: none) |
//!                                                      5     4     3 .. 0
//! ```
//!
//! Linux adds the index as it is. Then a peer's ISN that is a byte too high looks like an index that is one
//! too low, and an ACK that has overtaken a first segment of one to three bytes opens a connection which
//! takes these bytes for old. With the index on top, an ACK that is not the first byte's is refused.
//!
//! A cookie is good for the minute it was made in and the one after. The key does not rotate: the
//! minute under the hash does its work.
//!
//! It does not decide when cookies are sent (`passive.rs`), and cannot carry what does not fit:
//! without timestamps a cookie connection has no window scaling, no SACK and no ECN.

use millrace_base::{FlowTuple, Instant, SeqNumber};

use super::isn::Secrets;

/// MSS values a cookie can name for IPv4 (Linux: `msstab`), from the 2012 survey it cites.
const MSS_V4: [u16; 4] = [536, 1_300, 1_440, 1_460];
/// The same for IPv6.
const MSS_V6: [u16; 4] = [1_280 - 60, 1_480 - 60, 1_500 - 60, 9_000 - 60];

const COOKIE_BITS: u32 = 24;
const COOKIE_MASK: u32 = (1 << COOKIE_BITS) - 1;
/// Where the MSS index lies: four of them fill the cookie's low bits.
const INDEX_SHIFT: u32 = COOKIE_BITS - 2;
const _: () = assert!(MSS_V4.len() << INDEX_SHIFT == 1 << COOKIE_BITS);
/// Minutes after which a cookie is refused (`MAX_SYNCOOKIE_AGE`).
const COOKIE_AGE_MAX: u32 = 2;
/// Seconds after the last cookie sent for which one may come back (`TCP_SYNCOOKIE_VALID`).
pub(crate) const COOKIE_VALID_SECS: u64 = 60 * COOKIE_AGE_MAX as u64;

const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const OPTION_WSCALE_MASK: u32 = 0xf;
const OPTION_SACK: u32 = 1 << 4;
const OPTION_ECN: u32 = 1 << 5;
const _: () = assert!(OPTION_ECN << 1 == 1 << OPTION_BITS);

/// Options of a SYN that the timestamp of a cookie SYN-ACK carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CookieOptions {
    /// The peer's window scale (0..=14).
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) ecn: bool,
}

/// The sequence number that answers a SYN, and the MSS that it will say (at most `mss`).
pub(crate) fn encode(
    secrets: &Secrets,
    tuple: &FlowTuple,
    peer_isn: SeqNumber,
    mss: u16,
    now: Instant,
) -> (SeqNumber, u16) {
    let table = mss_table(tuple);
    let index = table.iter().rposition(|entry| *entry <= mss).unwrap_or(0);
    let minute = minute(now);
    let low = secrets
        .cookie_hash(tuple, minute, 1)
        .wrapping_add((index as u32) << INDEX_SHIFT)
        & COOKIE_MASK;
    let cookie = secrets
        .cookie_hash(tuple, 0, 0)
        .wrapping_add(peer_isn.value())
        .wrapping_add(minute << COOKIE_BITS)
        .wrapping_add(low);
    (
        SeqNumber::new(cookie),
        table.get(index).copied().unwrap_or(mss),
    )
}

/// The MSS that a cookie says, when it is one of ours and young enough.
///
/// `cookie` is the acknowledged number less one, `peer_isn` the segment's sequence number less one.
pub(crate) fn decode(
    secrets: &Secrets,
    tuple: &FlowTuple,
    peer_isn: SeqNumber,
    cookie: SeqNumber,
    now: Instant,
) -> Option<u16> {
    let minute = minute(now);
    let rest = cookie
        .value()
        .wrapping_sub(secrets.cookie_hash(tuple, 0, 0))
        .wrapping_sub(peer_isn.value());
    let age = minute.wrapping_sub(rest >> COOKIE_BITS) & (u32::MAX >> COOKIE_BITS);
    if age >= COOKIE_AGE_MAX {
        return None;
    }
    let made = minute.wrapping_sub(age);
    let low = rest.wrapping_sub(secrets.cookie_hash(tuple, made, 1)) & COOKIE_MASK;
    let index = low >> INDEX_SHIFT;
    if index << INDEX_SHIFT != low {
        return None;
    }
    mss_table(tuple).get(index as usize).copied()
}

/// The timestamp clock (milliseconds, before the connection's offset) with the options in its low
/// bits; never later than the clock.
pub(crate) const fn encode_timestamp(clock_ms: u32, options: CookieOptions) -> u32 {
    let mut bits = match options.window_scale {
        Some(scale) => scale as u32 & OPTION_WSCALE_MASK,
        None => OPTION_WSCALE_MASK,
    };
    if options.sack {
        bits |= OPTION_SACK;
    }
    if options.ecn {
        bits |= OPTION_ECN;
    }
    let stamp = clock_ms & !OPTION_MASK | bits;
    if stamp > clock_ms {
        stamp.wrapping_sub(1 << OPTION_BITS)
    } else {
        stamp
    }
}

/// The options in an echoed timestamp (the connection's offset taken off).
pub(crate) const fn decode_timestamp(echoed: u32) -> CookieOptions {
    let scale = (echoed & OPTION_WSCALE_MASK) as u8;
    CookieOptions {
        window_scale: if scale == OPTION_WSCALE_MASK as u8 {
            None
        } else {
            Some(scale)
        },
        sack: echoed & OPTION_SACK != 0,
        ecn: echoed & OPTION_ECN != 0,
    }
}

fn mss_table(tuple: &FlowTuple) -> &'static [u16; 4] {
    if tuple.remote.address.is_v4() {
        &MSS_V4
    } else {
        &MSS_V6
    }
}

const fn minute(now: Instant) -> u32 {
    (now.as_millis() / 60_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Address, Endpoint};
    use proptest::prelude::*;

    fn tuple(remote_port: u16) -> FlowTuple {
        FlowTuple {
            local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
            remote: Endpoint::new(Address::v4([10, 0, 0, 2]), remote_port),
        }
    }

    const MINUTE_MS: u64 = 60_000;

    proptest! {
        // behaviour: A17-2 LSN-11
        #[test]
        fn a_cookie_says_the_largest_mss_not_above_the_peers(
            port: u16, isn: u32, mss: u16, start_ms in 0u64..1 << 40, later_ms in 0..MINUTE_MS
        ) {
            let secrets = Secrets::new(&[5; 32]);
            let (isn, start) = (SeqNumber::new(isn), Instant::from_millis(start_ms));
            let (cookie, said) = encode(&secrets, &tuple(port), isn, mss, start);
            prop_assert!(said <= mss.max(536));
            let later = Instant::from_millis(start_ms + later_ms);
            prop_assert_eq!(decode(&secrets, &tuple(port), isn, cookie, later), Some(said));
            let stale = Instant::from_millis(start_ms + 2 * MINUTE_MS);
            prop_assert_eq!(decode(&secrets, &tuple(port), isn, cookie, stale), None);
        }

        // Found by the simulator, seed 19336: a byte was lost for good.
        #[test]
        fn an_ack_that_has_overtaken_the_first_bytes_is_refused(
            port: u16, isn: u32, mss: u16, ahead in 1u32..100_000
        ) {
            let (secrets, now) = (Secrets::new(&[5; 32]), Instant::from_millis(MINUTE_MS));
            let isn = SeqNumber::new(isn);
            let (cookie, _) = encode(&secrets, &tuple(port), isn, mss, now);
            prop_assert_eq!(decode(&secrets, &tuple(port), isn.plus(ahead), cookie, now), None);
        }

        #[test]
        fn options_survive_in_a_timestamp_that_is_never_in_the_future(
            clock: u32, scale in prop::option::of(0u8..=14), sack: bool, ecn: bool
        ) {
            let options = CookieOptions { window_scale: scale, sack, ecn };
            let stamp = encode_timestamp(clock, options);
            prop_assert_eq!(decode_timestamp(stamp), options);
            prop_assert!(clock.wrapping_sub(stamp) < 1 << (OPTION_BITS + 1));
        }
    }

    // RFC 4987 section 3.6: a guess must not succeed more often than one in 2^22.
    #[test]
    fn guessed_cookies_are_refused() {
        let secrets = Secrets::new(&[5; 32]);
        let now = Instant::from_millis(10 * MINUTE_MS);
        let guesses = 0..100_000u32;
        let hits = guesses
            .map(|guess| SeqNumber::new(guess.wrapping_mul(0x9e37_79b9)))
            .filter(|guess| decode(&secrets, &tuple(1), SeqNumber::new(9), *guess, now).is_some());
        assert_eq!(hits.count(), 0);
    }
}
