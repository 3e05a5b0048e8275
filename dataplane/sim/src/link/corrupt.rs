//! Damage on the way: one byte is another one.
//!
//! One byte, because that is what a sum of words always notices; whether a receiver believes a
//! damage that its checksums cannot see is no question to it. In IPv6 no checksum covers the first
//! bytes of the header, so these stay.

use crate::dice::Dice;

/// Bytes of an IPv6 header in front of its addresses.
const UNCOVERED: u32 = 8;

/// Changes a byte.
pub(super) fn damage(packet: &mut [u8], dice: &mut Dice) {
    let first = match packet.first() {
        Some(byte) if byte >> 4 == 6 => UNCOVERED,
        _ => 1,
    };
    let last = (packet.len() as u32).saturating_sub(1);
    if first > last {
        return;
    }
    let place = dice.between(first, last) as usize;
    if let Some(byte) = packet.get_mut(place) {
        *byte ^= dice.between(1, 255) as u8;
    }
}
