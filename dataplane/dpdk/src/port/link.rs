//! The state of the cable.

use core::fmt;

use millrace_dpdk_sys as sys;

/// What the device says about its link, without waiting for negotiation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Whether frames can pass.
    pub is_up: bool,
    /// Megabits per second; `None` when the device does not know.
    pub speed_mbps: Option<u32>,
    /// Whether both directions work at once.
    pub is_full_duplex: bool,
    /// Whether speed and duplex were negotiated.
    pub is_autonegotiated: bool,
}

impl Link {
    /// A link that cannot be asked is down.
    pub(crate) fn query(port: u16) -> Self {
        let mut link = sys::mr_link::default();
        // SAFETY: writes the struct.
        if unsafe { sys::mr_eth_link_get_nowait(port, &raw mut link) } != 0 {
            return Self::default();
        }
        let speed = link.speed_mbps;
        Self {
            is_up: link.is_up != 0,
            speed_mbps: (speed != 0 && speed != sys::MR_SPEED_NUM_UNKNOWN).then_some(speed),
            is_full_duplex: link.is_full_duplex != 0,
            is_autonegotiated: link.is_autoneg != 0,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_up { "up" } else { "down" })?;
        match self.speed_mbps {
            Some(speed) => write!(f, ", {speed} Mbit/s"),
            None => f.write_str(", unknown speed"),
        }?;
        f.write_str(if self.is_full_duplex {
            ", full duplex"
        } else {
            ", half duplex"
        })
    }
}
