//! The attachment to a dataplane: opening its region, noticing that it is gone or was replaced.
//!
//! Attaching changes nothing in the region: rings and tables go on where the control before us
//! stopped. What is published or sent is decided elsewhere.

use std::path::Path;

use millrace_abi::{ControlError, ControlHandle, HeartbeatWatch, OpenError, PortInfo, Region};
use millrace_base::{Instant, Nanos, PortId};

/// The region's name in the runtime directory.
pub(crate) const REGION_NAME: &str = "region";
/// How long an lcore's beat may stand still before it counts as silent. Lcores beat a few times a
/// second.
const SILENCE_MAX: Nanos = Nanos::from_secs(2);

/// An open region that is ours to control.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Our ends of everything.
    pub(crate) handle: ControlHandle,
    /// The ports, in the dataplane's order.
    pub(crate) ports: Vec<PortInfo>,
    watches: Vec<HeartbeatWatch>,
}

/// Why there is no attachment.
#[derive(Debug)]
pub(crate) enum AttachError {
    /// The region cannot be opened.
    Open(OpenError),
    /// It cannot be controlled.
    Control(ControlError),
    /// It is left over: its dataplane is dead.
    Dead,
}

impl Attachment {
    /// Opens the region in this directory.
    pub(crate) fn open(directory: &Path, now: Instant) -> Result<Self, AttachError> {
        let region = Region::open(&directory.join(REGION_NAME)).map_err(AttachError::Open)?;
        if !region.is_dataplane_alive() {
            return Err(AttachError::Dead);
        }
        let handle = region.control().map_err(AttachError::Control)?;
        let ports = (0..region.port_count()).filter_map(|port| region.port_info(port));
        let lcores = 0..region.lcore_count();
        let beats = lcores.map(|lcore| HeartbeatWatch::new(beat(&region, lcore), now));
        Ok(Self {
            ports: ports.collect(),
            watches: beats.collect(),
            handle,
        })
    }

    /// The region, to look at.
    pub(crate) fn region(&self) -> &Region {
        self.handle.region()
    }

    /// Why this dataplane is over, if it is. A few system calls: not for every turn.
    pub(crate) fn ended(&self) -> Option<&'static str> {
        let region = self.region();
        if region.is_closed() {
            Some("the dataplane has left")
        } else if !region.is_dataplane_alive() {
            Some("the dataplane died")
        } else if !region.is_current() {
            Some("another dataplane has started")
        } else {
            None
        }
    }

    /// The lcores whose heartbeat stands still.
    pub(crate) fn silent_lcores(&mut self, now: Instant) -> Vec<u16> {
        let region = self.handle.region().clone();
        let watches = self.watches.iter_mut().enumerate();
        let silent = watches.filter_map(|(lcore, watch)| {
            let silence = watch.observe(beat(&region, lcore), now);
            (silence > SILENCE_MAX)
                .then(|| u16::try_from(lcore).ok())
                .flatten()
        });
        silent.collect()
    }

    /// The dataplane's number for the port of this name.
    pub(crate) fn port_named(&self, name: &str) -> Option<(PortId, PortInfo)> {
        let found = self
            .ports
            .iter()
            .position(|port| port.name.as_str() == name)?;
        let info = self.ports.get(found)?;
        Some((PortId::new(u16::try_from(found).ok()?), *info))
    }
}

fn beat(region: &Region, lcore: usize) -> u64 {
    region
        .lcore_state(lcore)
        .map_or(0, |state| state.heartbeat_nanos)
}

impl AttachError {
    /// Whether only an operator can help: the two processes do not fit together.
    pub(crate) fn is_for_good(&self) -> bool {
        matches!(self, Self::Open(error) if error.is_other_build())
    }
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(error) if self.is_for_good() => write!(
                f,
                "{error}; run dataplane and control of one build (its sessions go on meanwhile)"
            ),
            Self::Open(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
            Self::Dead => f.write_str("the region is left over from a dataplane that died"),
        }
    }
}
