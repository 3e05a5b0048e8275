//! What the dataplane says about itself: its ports and lcores, once at boot and live.
//!
//! `PortInfo` and `LcoreInfo` are written before the region appears and never again. `PortState`
//! (by one thread of the dataplane) and `LcoreState` (by each lcore) are overwritten a few times a
//! second or more; a reader may see words of two writings.

use millrace_base::MacAddress;

use crate::limits::{BURST_BUCKETS, STAGES};
use crate::name::Name;
use crate::plain::Plain;

/// A port, as configured and as the device presented itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct PortInfo {
    /// The operator's name.
    pub name: Name,
    /// The driver's name.
    pub driver: Name,
    /// The receive function in use, as the driver names it.
    pub rx_mode: Name,
    /// The transmit function in use, as the driver names it.
    pub tx_mode: Name,
    /// Device capability bits as the dataplane numbers them (its `dpdk` crate).
    pub capabilities: u64,
    /// The Ethernet address in transmission order.
    pub mac: [u8; 6],
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// Receive and transmit queue pairs.
    pub queues: u16,
    /// An `RssProof`.
    pub rss_proof: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// A port's statistics and link, as the device counts them. Written by the holder of `PortStates`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortState {
    /// Frames received.
    pub ipackets: u64,
    /// Frames sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Frames the device dropped because its receive queue was full.
    pub imissed: u64,
    /// Frames received with errors.
    pub ierrors: u64,
    /// Frames that could not be sent.
    pub oerrors: u64,
    /// Receptions that found no free buffer.
    pub rx_nombuf: u64,
    /// 1 when the link is up, 0 when it is down.
    pub link_up: u64,
    /// The link's speed in Mbit/s; 0 when unknown.
    pub link_mbps: u64,
}

/// An lcore, as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LcoreInfo {
    /// The CPU it is pinned to.
    pub cpu: u32,
    /// The NUMA node of that CPU.
    pub numa_node: u32,
    /// Cycles per second of the counter behind `busy_cycles` and `idle_cycles`.
    pub tsc_hz: u64,
}

/// What an lcore did so far. Written by that lcore.
///
/// Cycles are those of the TSC. Busy and idle are exact; by stage they are an estimate: one turn of
/// many is stamped throughout, and counts for the others. A busy turn is one that received, sent or
/// was asked something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LcoreState {
    /// The lcore's clock at this writing, in nanoseconds. Watch it change; it means nothing to
    /// another process's clock.
    pub heartbeat_nanos: u64,
    /// Cycles spent in turns that found work.
    pub busy_cycles: u64,
    /// Cycles spent in turns that found none, sleep included.
    pub idle_cycles: u64,
    /// Cycles per second.
    pub tsc_hz: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Receive bursts by size, empty ones included; see `burst_bucket`.
    pub rx_bursts: [u64; BURST_BUCKETS],
    /// Transmit bursts by the frames that the device took of them; see `burst_bucket`.
    pub tx_bursts: [u64; BURST_BUCKETS],
    /// Cycles of busy turns by `Stage`, estimated.
    pub stage_cycles: [u64; STAGES],
    /// Frames handled in the turns that `stage_cycles` were estimated from, scaled likewise: the
    /// quotient of the two is cycles per frame.
    pub stage_packets: u64,
    /// Times the lcore slept because there was nothing to do.
    pub sleeps: u64,
    /// An `LcorePhase`.
    pub phase: u64,
    /// The `IdleMode` that was asked for.
    pub idle_asked: u64,
    /// The `IdleMode` that is in force: what CPU and devices can do of it.
    pub idle_in_force: u64,
    /// A bit for each port whose card is trusted to deliver to the owning lcore. Frames of the others
    /// are hashed in software; with one lcore there is nothing to decide.
    pub rss_trusted: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// What the start's self-test found about a card's receive-side scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RssProof {
    /// Not tested: one lcore, no RSS, or not wanted.
    Untested = 0,
    /// Probes arrived where they were predicted.
    Proven = 1,
    /// A probe arrived elsewhere.
    Wrong = 2,
    /// No probe came back.
    NoAnswer = 3,
}

/// What an lcore's busy cycles are spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Taking bursts from devices.
    Rx = 0,
    /// Finding out whose frames they are, and handing them over.
    Steer = 1,
    /// Received frames through the stack.
    Stack = 2,
    /// Events: sessions, the splice.
    Balancer = 3,
    /// What time asks for.
    Timers = 4,
    /// Making frames and handing them to devices.
    Tx = 5,
    /// The rings to and from control.
    Control = 6,
    /// Publishing counters.
    Report = 7,
}

/// What an lcore does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum IdleMode {
    /// Polls on.
    Poll = 1,
    /// Polls with ever longer pauses of the CPU.
    Pause = 2,
    /// Lets the CPU wait for a write to a receive ring (`umwait`).
    Monitor = 3,
    /// Sleeps until a device interrupts.
    Interrupt = 4,
    /// Sleeps for a short time.
    Sleep = 5,
}

/// Where an lcore is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum LcorePhase {
    /// Not in its loop yet.
    Starting = 0,
    /// Takes and serves sessions.
    Running = 1,
    /// Refuses new sessions.
    Draining = 2,
    /// Draining, and no session is left.
    Drained = 3,
    /// Left its loop.
    Stopped = 4,
}

/// Control's sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ControlState {
    /// The control process; 0 before the first. Meaningless across PID namespaces.
    pub pid: u64,
    /// Control's clock at its last beat, in nanoseconds. Watch it change.
    pub heartbeat_nanos: u64,
}

const _: () = assert!(size_of::<PortInfo>() == 4 * 32 + 8 + 6 + 2 + 2 + 1 + 5);
const _: () = assert!(size_of::<PortState>() == 10 * 8);
const _: () = assert!(size_of::<LcoreInfo>() == 4 + 4 + 8);
const _: () = assert!(size_of::<LcoreState>() == (6 + 2 * BURST_BUCKETS + STAGES + 10) * 8);
const _: () = assert!(Stage::ALL.len() == STAGES);
const _: () = assert!(size_of::<ControlState>() == 2 * 8);

// SAFETY: `repr(C)` records of integers and byte arrays whose sizes, asserted above, leave no
// padding.
unsafe impl Plain for PortInfo {}
// SAFETY: see above.
unsafe impl Plain for PortState {}
// SAFETY: see above.
unsafe impl Plain for LcoreInfo {}
// SAFETY: see above.
unsafe impl Plain for LcoreState {}
// SAFETY: see above.
unsafe impl Plain for ControlState {}

impl PortInfo {
    /// What the self-test found; `None` for a number this version does not know.
    pub fn rss_proof(&self) -> Option<RssProof> {
        match self.rss_proof {
            0 => Some(RssProof::Untested),
            1 => Some(RssProof::Proven),
            2 => Some(RssProof::Wrong),
            3 => Some(RssProof::NoAnswer),
            _ => None,
        }
    }

    /// The Ethernet address.
    pub fn mac(&self) -> MacAddress {
        MacAddress::new(self.mac)
    }
}

impl LcoreState {
    /// Where the lcore is in its life; `None` for a number this version does not know.
    pub fn phase(&self) -> Option<LcorePhase> {
        match self.phase {
            0 => Some(LcorePhase::Starting),
            1 => Some(LcorePhase::Running),
            2 => Some(LcorePhase::Draining),
            3 => Some(LcorePhase::Drained),
            4 => Some(LcorePhase::Stopped),
            _ => None,
        }
    }
}

impl Stage {
    /// Every stage, in the order of a turn's numbers.
    pub const ALL: [Self; 8] = [
        Self::Rx,
        Self::Steer,
        Self::Stack,
        Self::Balancer,
        Self::Timers,
        Self::Tx,
        Self::Control,
        Self::Report,
    ];

    /// The name that operators and collectors see.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Steer => "steer",
            Self::Stack => "stack",
            Self::Balancer => "lb",
            Self::Timers => "timers",
            Self::Tx => "tx",
            Self::Control => "control",
            Self::Report => "report",
        }
    }

    /// Its place in `LcoreState::stage_cycles`.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl IdleMode {
    /// The mode of this number; `None` for one that this version does not know.
    pub const fn of(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Poll),
            2 => Some(Self::Pause),
            3 => Some(Self::Monitor),
            4 => Some(Self::Interrupt),
            5 => Some(Self::Sleep),
            _ => None,
        }
    }

    /// The word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Pause => "pause",
            Self::Monitor => "monitor",
            Self::Interrupt => "interrupt",
            Self::Sleep => "sleep",
        }
    }
}

/// The histogram bucket of a burst of `frames`: 0, 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 and more.
pub fn burst_bucket(frames: usize) -> usize {
    ((usize::BITS - frames.leading_zeros()) as usize).min(BURST_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_fall_into_buckets_of_doubling_width() {
        let sizes = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 10_000];
        let buckets = [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7];
        assert_eq!(sizes.map(burst_bucket), buckets);
    }

    #[test]
    fn every_phase_keeps_its_number() {
        for phase in 0..5 {
            let state = LcoreState {
                phase,
                ..Default::default()
            };
            assert_eq!(state.phase().map(|phase| phase as u64), Some(phase));
        }
        assert_eq!(
            LcoreState {
                phase: 5,
                ..Default::default()
            }
            .phase(),
            None
        );
    }

    #[test]
    fn stages_and_idle_modes_keep_their_numbers() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage.index(), place, "{}", stage.word());
        }
        for number in 0..=6 {
            let known = IdleMode::of(number).map(|mode| mode as u64);
            assert_eq!(known, (1..=5).contains(&number).then_some(number));
        }
    }
}
