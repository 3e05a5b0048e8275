//! What Accurate ECN counts (RFC 9768 section 2.2 and 3.2): packets and bytes that came marked, and
//! what the peer's ACE field and option say of ours.
//!
//! Values only: whose they are and when they are told is in `accurate.rs`. The rules for an ACE field
//! that may have cycled are those of Linux 6.18 (`__tcp_accecn_process`).

use millrace_base::{Instant, Micros};
use millrace_wire::AccEcn;
use millrace_wire::tcp::ACCECN_COUNTERS_MAX;

use super::{CE, ECT_0, ECT_1};
use crate::tcp::config::TcpTunables;

/// What the ACE field says before anything was marked (RFC 9768 section 3.2.2).
const CEP_INIT: u32 = 5;
/// The bits of the field.
pub(super) const ACE_MASK: u32 = 7;
/// Marked packets that one ACK can tell without doubt: behind them one leaves (Linux:
/// `TCP_ACCECN_ACE_MAX_DELTA`).
pub(super) const UNTOLD_MAX: u8 = 6;
/// Untold packets are not counted beyond this.
const UNTOLD_COUNTED_MAX: u32 = 15;
/// What the counters of ECT(1), ECT(0) and CE begin with in an option: a counter of 0 was erased.
const INITIAL: [u32; ACCECN_COUNTERS_MAX] = [1, 1, 0];
/// Bits of a counter in an option.
const COUNTER_BITS: u32 = 24;
/// An option leaves at least once in so many bytes of one codepoint: a quarter of what a counter
/// tells.
const TELL_BITS: u32 = 22;
/// Bytes sent after which the first option comes too late: a counter may have wrapped by half.
const FIRST_OPTION_BYTES_MAX: u64 = (1 << 23) - 1;
/// The bytes of an option are believed to be small in number when they are less than this part of
/// what the larger number of packets could be (Linux: `TCP_ACCECN_SAFETY_SHIFT`).
const SAFETY_SHIFT: u32 = 1;
/// Segments that carry an option once it is demanded: only the second says what the first changed.
pub(super) const DEMANDED: u8 = 2;

/// What has become of the option (Linux: `saw_accecn_opt`, with its numbers).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub(crate) enum OptionSeen {
    /// None has come.
    #[default]
    None = 0,
    /// One without a counter.
    Empty = 1,
    /// One with counters.
    Counters = 2,
    /// One that was changed on its way, or none in time.
    Failed = 3,
}

/// What a connection with Accurate ECN counts, on a shelf (`Extra`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AccurateEcn {
    /// Packets that came marked, and those of them that no ACE field has told.
    pub(super) received_ce: u32,
    pub(super) untold: u8,
    /// Payload bytes that came with ECT(1), ECT(0), CE.
    pub(super) received: [u32; ACCECN_COUNTERS_MAX],
    /// The same of what we have sent, as the peer tells it.
    pub(super) delivered: [u32; ACCECN_COUNTERS_MAX],
    /// The codepoint of the last packet that came.
    pub(super) last_codepoint: u8,
    /// What data without an option is believed to have been marked as; 0 is not known.
    pub(super) believed: u8,
    /// Counters that the next option must have, and segments that must carry one.
    pub(super) counters_min: u8,
    pub(super) demanded: u8,
    pub(super) seen: OptionSeen,
    /// The path erases or changes the ACE field.
    pub(super) is_ace_broken: bool,
    /// The next ACK is that of our SYN or SYN-ACK: its ACE field is no counter.
    pub(super) is_first_ack: bool,
    /// When the last option left.
    pub(super) told_at: Instant,
}

/// What one ACK says, and of how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feedback {
    pub(super) ace: u8,
    pub(super) option: Option<AccEcn>,
    /// What it newly reports as delivered.
    pub(super) segments: u32,
    pub(super) bytes: u32,
    pub(super) mss: u32,
    /// How many segments it reports is known.
    pub(super) is_counted: bool,
    /// Payload bytes sent so far.
    pub(super) sent: u64,
}

/// The place of a codepoint's counter; `None` for what is not counted.
const fn place_of(codepoint: u8) -> Option<usize> {
    match codepoint {
        ECT_1 => Some(0),
        ECT_0 => Some(1),
        CE => Some(2),
        _ => None,
    }
}

/// The codepoints of an option's counters in their order.
const fn order_of(option: &AccEcn) -> [u8; ACCECN_COUNTERS_MAX] {
    if option.is_order_1() {
        [ECT_1, CE, ECT_0]
    } else {
        [ECT_0, CE, ECT_1]
    }
}

impl AccurateEcn {
    /// Takes note of one received segment, or several that were merged; tells whether its codepoint
    /// is another than the last one's (Linux: `tcp_ecn_received_counters`).
    pub(super) fn count(&mut self, codepoint: u8, segments: u32, bytes: u32) -> bool {
        if codepoint == CE {
            self.received_ce = self.received_ce.wrapping_add(segments);
            let untold = u32::from(self.untold).saturating_add(segments);
            self.untold = untold.min(UNTOLD_COUNTED_MAX) as u8;
        }
        if let Some(place) = place_of(codepoint)
            && bytes > 0
            && let Some(counter) = self.received.get_mut(place)
        {
            let before = *counter;
            *counter = counter.wrapping_add(bytes);
            if (before ^ *counter) >> TELL_BITS != 0 {
                self.demanded = self.demanded.max(1);
            }
            // In the order in which we tell them: ECT(1), CE, ECT(0).
            let needed = match codepoint {
                ECT_1 => 1,
                CE => 2,
                _ => 3,
            };
            self.counters_min = self.counters_min.max(needed);
        }
        let is_edge = self.last_codepoint != codepoint;
        self.last_codepoint = codepoint;
        if is_edge || codepoint == CE {
            self.demanded = DEMANDED;
        }
        is_edge
    }

    /// The ACE field that tells what has come.
    pub(super) const fn ace(&self) -> u8 {
        (self.received_ce.wrapping_add(CEP_INIT) & ACE_MASK) as u8
    }

    /// The first option: was it erased? (Linux: `tcp_accecn_option_init`.)
    pub(super) fn judge(&mut self, option: &AccEcn) {
        if self.seen >= OptionSeen::Counters {
            return;
        }
        let is_erased = |place| option.counter(place) == Some(0);
        self.seen = if option.is_empty() {
            OptionSeen::Empty
        } else if is_erased(0) || is_erased(2) {
            OptionSeen::Failed
        } else {
            OptionSeen::Counters
        };
    }

    /// Whether the peer's counters may be believed.
    fn believes_options(&self) -> bool {
        self.seen != OptionSeen::Failed
    }

    /// Takes over the peer's counters, or what they would be; tells whether the bytes that were
    /// delivered are accounted for (Linux: `tcp_accecn_process_option`).
    fn take_option(&mut self, told: &Feedback) -> bool {
        if !self.believes_options() {
            return false;
        }
        let Some(option) = told.option else {
            if self.seen == OptionSeen::None {
                if told.sent >= FIRST_OPTION_BYTES_MAX {
                    self.seen = OptionSeen::Failed;
                }
                return false;
            }
            let Some(place) = place_of(self.believed) else {
                return false;
            };
            if let Some(counter) = self.delivered.get_mut(place) {
                *counter = counter.wrapping_add(told.bytes);
            }
            return true;
        };
        self.judge(&option);
        let believed = self.believed;
        let mut holds = believed != 0;
        let (mut has_changed, mut is_ambiguous) = (false, false);
        for (place, codepoint) in order_of(&option).into_iter().enumerate() {
            let Some(value) = option.counter(place) else {
                break;
            };
            let delta = self.advance(codepoint, value);
            if delta < 0 {
                is_ambiguous = true;
            }
            if delta != 0 && codepoint != believed {
                if has_changed {
                    is_ambiguous = true;
                } else {
                    self.believed = codepoint;
                    has_changed = true;
                }
            }
        }
        if is_ambiguous {
            self.believed = 0;
            holds = false;
        }
        holds
    }

    /// Moves a counter of what was delivered to what an option says; by how much, within 24 bits.
    fn advance(&mut self, codepoint: u8, value: u32) -> i32 {
        let Some(place) = place_of(codepoint) else {
            return 0;
        };
        let initial = INITIAL.get(place).copied().unwrap_or(0);
        let Some(counter) = self.delivered.get_mut(place) else {
            return 0;
        };
        let beyond = u32::BITS.wrapping_sub(COUNTER_BITS);
        let raw = value.wrapping_sub(initial).wrapping_sub(*counter);
        let delta = (raw.wrapping_shl(beyond) as i32) >> beyond;
        *counter = counter.wrapping_add(delta as u32);
        delta
    }

    /// How many marked packets an ACK tells of, `known` of which were told before (Linux:
    /// `__tcp_accecn_process`). One that reports many segments may mean eight or sixteen more than its
    /// three bits say: the bytes of the option decide, and without them the larger number.
    //= https://www.rfc-editor.org/rfc/rfc9768#section-3.2.2.5.2
    //# If the Data Sender has not received AccECN TCP Options to give it more dependable
    //# information, and it detects that the ACE field could have cycled, it SHOULD deem whether it
    //# cycled by taking the safest likely case under the prevailing conditions.
    pub(super) fn take_feedback(&mut self, told: &Feedback, known: u32) -> u32 {
        let marked_before = self.delivered_with(CE);
        let has_bytes = self.take_option(told);
        if core::mem::replace(&mut self.is_first_ack, false) {
            return 0;
        }
        let delta = u32::from(told.ace)
            .wrapping_sub(CEP_INIT)
            .wrapping_sub(known)
            & ACE_MASK;
        let segments = told.segments;
        if segments <= ACE_MASK {
            return delta;
        }
        let safe = segments.wrapping_sub(segments.wrapping_sub(delta) & ACE_MASK);
        if !has_bytes {
            return safe;
        }
        let marked = self.delivered_with(CE).wrapping_sub(marked_before);
        if marked == 0 {
            return delta;
        }
        if segments > ACE_MASK.saturating_mul(2).saturating_add(1) && told.is_counted {
            if told.bytes <= marked {
                return safe;
            }
            let part = u64::from(marked).saturating_mul(segments.into());
            let estimate = part.div_ceil(u64::from(told.bytes).max(1)) as u32;
            return safe.min(delta.saturating_add(estimate & !ACE_MASK));
        }
        if marked > delta.saturating_mul(told.mss) {
            return safe;
        }
        if marked < safe.saturating_mul(told.mss) >> SAFETY_SHIFT {
            return delta;
        }
        safe
    }

    fn delivered_with(&self, codepoint: u8) -> u32 {
        place_of(codepoint)
            .and_then(|place| self.delivered.get(place).copied())
            .unwrap_or(0)
    }

    /// An option with so many counters.
    pub(super) fn option(&self, count: usize) -> AccEcn {
        let [ect_1, ect_0, ce] = self.received;
        let [first, third, second] = INITIAL;
        let counters = [
            ect_1.wrapping_add(first),
            ce.wrapping_add(second),
            ect_0.wrapping_add(third),
        ];
        AccEcn::new(true, counters.get(..count).unwrap_or_default())
    }

    /// Whether it is time for one again (`tcp_ecn_option_beacon` times in a round trip).
    pub(super) fn is_beacon_due(
        &self,
        now: Instant,
        srtt: Option<Micros>,
        tunables: &TcpTunables,
    ) -> bool {
        let times = u64::from(tunables.tcp_ecn_option_beacon);
        let since = now.since(self.told_at).as_nanos() / 1_000;
        let srtt = u64::from(srtt.map_or(0, Micros::as_micros));
        times > 0 && since.saturating_mul(times) >= srtt
    }

    /// An option left.
    pub(super) fn on_told(&mut self, now: Instant) {
        self.counters_min = 0;
        self.told_at = now;
        self.demanded = self.demanded.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
