//! What each side holds: the lcore its ends, control all the others.
//!
//! There is one `LcoreHandle` per lcore and one `ControlHandle` per region: the rings have one
//! producer and one consumer each, and these types are how that is kept. Two control processes are
//! kept apart by a lock on the region file.

use std::io;
use std::sync::atomic::Ordering;

use millrace_base::{BackendId, Instant, LcoreIndex, ListenerId, PortId};

use crate::channel::{
    CommandReceiver, CommandSender, EventReceiver, EventSender, FrameReceiver, FrameSender,
};
use crate::counters::{BackendCounters, CounterBlock, CounterWriter, ListenerCounters};
use crate::info::{ControlState, LcoreState, PortState};
use crate::layout::{LcoreBlock, Shared};
use crate::limits::COUNTERS_MAX;
use crate::mapping::{self, Projection, Role};
use crate::publication::{TablesPublisher, TablesReader};
use crate::region::Region;
use crate::snapshot::Busy;
use crate::tables::Tables;

/// An lcore's ends. Made at boot (it allocates), then moved to the lcore's thread.
#[derive(Debug)]
pub struct LcoreHandle {
    /// What control asks.
    pub commands: CommandReceiver,
    /// What this lcore tells.
    pub events: EventSender,
    /// Frames for control.
    pub punt: FrameSender,
    /// Frames from control.
    pub inject: FrameReceiver,
    /// The tables that control publishes.
    pub tables: TablesReader,
    /// This lcore's counters, indexed as `RegionConfig::counters` listed them.
    pub counters: CounterWriter<Projection<CounterBlock<COUNTERS_MAX>>>,
    /// This lcore's counters about backends and listeners.
    pub sessions: SessionCounters,
    /// This lcore's state.
    pub status: LcoreStatus,
    index: LcoreIndex,
}

/// Writes one lcore's counters about backends and listeners.
#[derive(Debug)]
pub struct SessionCounters {
    block: Projection<LcoreBlock>,
}

/// Writes one lcore's state, and tells about control.
#[derive(Debug)]
pub struct LcoreStatus {
    block: Projection<LcoreBlock>,
    shared: Projection<Shared>,
}

/// Writes the ports' statistics and links. Whichever thread of the dataplane asks the devices holds
/// it; asking can take long, so that is not an lcore.
#[derive(Debug)]
pub struct PortStates {
    shared: Projection<Shared>,
}

/// Control's ends: vectors are indexed by lcore.
#[derive(Debug)]
pub struct ControlHandle {
    /// What control asks of each lcore.
    pub commands: Vec<CommandSender>,
    /// What each lcore tells.
    pub events: Vec<EventReceiver>,
    /// Frames from each lcore.
    pub punt: Vec<FrameReceiver>,
    /// Frames for each lcore to send.
    pub inject: Vec<FrameSender>,
    /// The tables.
    pub tables: TablesPublisher,
    region: Region,
}

/// Why the control handle was refused.
#[derive(Debug)]
pub enum ControlError {
    /// Another process, or this one, already controls this dataplane.
    InUse,
    /// This process is the dataplane.
    NotControl,
    /// The operating system refused.
    Io(io::Error),
}

impl Region {
    /// An lcore's ends. `None` when there is no such lcore, when its ends were given out before, or
    /// when this process only opened the region.
    pub fn lcore(&self, index: LcoreIndex) -> Option<LcoreHandle> {
        let block = self.inner.blocks.get(index.index())?;
        let taken = self.inner.taken.get(index.index())?;
        if self.inner.role != Role::Dataplane || taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        let shared = &self.inner.shared;
        Some(LcoreHandle {
            commands: CommandReceiver::new(block.map(|block| &block.commands)),
            events: EventSender::new(block.map(|block| &block.events)),
            punt: FrameSender::new(block.map(|block| &block.punt)),
            inject: FrameReceiver::new(block.map(|block| &block.inject)),
            tables: TablesReader::new(shared.map(|shared| &shared.tables), index.index()),
            counters: CounterWriter::attach(block.map(|block| &block.counters)),
            sessions: SessionCounters {
                block: block.map(|block| block),
            },
            status: LcoreStatus {
                block: block.map(|block| block),
                shared: shared.map(|shared| shared),
            },
            index,
        })
    }

    /// The writer of the ports' statistics. `None` when it was given out before, or when this process
    /// only opened the region.
    pub fn port_states(&self) -> Option<PortStates> {
        let taken = &self.inner.port_states_taken;
        if self.inner.role != Role::Dataplane || taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(PortStates {
            shared: self.inner.shared.map(|shared| shared),
        })
    }

    /// Control's ends, going on where the previous control stopped. Held until this opening of the
    /// region and everything taken from it are dropped.
    pub fn control(&self) -> Result<ControlHandle, ControlError> {
        if self.inner.role != Role::Control {
            return Err(ControlError::NotControl);
        }
        let Some(taken) = self.inner.taken.first() else {
            return Err(ControlError::NotControl);
        };
        if taken.swap(true, Ordering::Relaxed) {
            return Err(ControlError::InUse);
        }
        match mapping::try_lock(self.file(), Role::Control) {
            Ok(true) => {}
            refused => {
                taken.store(false, Ordering::Relaxed);
                return Err(refused.map_or_else(ControlError::Io, |_| ControlError::InUse));
            }
        }
        let blocks = &self.inner.blocks;
        let shared = &self.inner.shared;
        Ok(ControlHandle {
            commands: blocks
                .iter()
                .map(|it| CommandSender::new(it.map(|b| &b.commands)))
                .collect(),
            events: blocks
                .iter()
                .map(|it| EventReceiver::new(it.map(|b| &b.events)))
                .collect(),
            punt: blocks
                .iter()
                .map(|it| FrameReceiver::new(it.map(|b| &b.punt)))
                .collect(),
            inject: blocks
                .iter()
                .map(|it| FrameSender::new(it.map(|b| &b.inject)))
                .collect(),
            tables: TablesPublisher::new(shared.map(|shared| &shared.tables), blocks.len()),
            region: self.clone(),
        })
    }
}

impl LcoreHandle {
    /// Which lcore this is.
    pub fn index(&self) -> LcoreIndex {
        self.index
    }
}

impl SessionCounters {
    /// Overwrites this lcore's counters about a backend. An identifier beyond the bound is ignored.
    pub fn set_backend(&mut self, backend: BackendId, counters: &BackendCounters) {
        if let Some(record) = self.block.backends.get(backend.index()) {
            record.store(counters);
        }
    }

    /// Overwrites this lcore's counters about a listener. An identifier beyond the bound is
    /// ignored.
    pub fn set_listener(&mut self, listener: ListenerId, counters: &ListenerCounters) {
        if let Some(record) = self.block.listeners.get(listener.index()) {
            record.store(counters);
        }
    }
}

impl LcoreStatus {
    /// Overwrites this lcore's state. Cost: 40 stores.
    pub fn set(&mut self, state: &LcoreState) {
        self.block.state.0.store(state);
    }

    /// Control's sign of life.
    pub fn control(&self) -> ControlState {
        self.shared.control.0.load()
    }
}

impl PortStates {
    /// Overwrites a port's statistics and link. A port beyond the bound is ignored.
    pub fn set(&mut self, port: PortId, state: &PortState) {
        if let Some(record) = self.shared.port_states.get(port.index()) {
            record.0.store(state);
        }
    }
}

impl ControlHandle {
    /// Publishes what `fill` writes into empty tables; tells the generation. `Busy`, without
    /// calling `fill`, while an lcore has not acknowledged the current one.
    pub fn publish(&mut self, fill: impl FnOnce(&mut Tables)) -> Result<u64, Busy> {
        self.tables.publish(fill)
    }

    /// Shows a sign of life.
    pub fn heartbeat(&mut self, now: Instant) {
        let pid = u64::from(std::process::id());
        let state = ControlState {
            pid,
            heartbeat_nanos: now.as_nanos(),
        };
        self.region.inner.shared.control.0.store(&state);
    }

    /// The region: everything that is only looked at.
    pub fn region(&self) -> &Region {
        &self.region
    }
}

impl core::fmt::Display for ControlError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::InUse => f.write_str("another control runs with this dataplane"),
            Self::NotControl => f.write_str("the process that made the region cannot control it"),
            Self::Io(error) => write!(f, "cannot lock the region: {error}"),
        }
    }
}

impl core::error::Error for ControlError {}
