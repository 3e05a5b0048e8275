//! The only room that both processes enter: control decides, the dataplane obeys, and this is all
//! they share.
//!
//! The dataplane creates one file on a tmpfs and both map it. It holds records of fixed width, made
//! of integers and bytes; no pointer, no enum, no Rust type whose validity the other process could
//! break. What is not here: a protocol, a decision, a thread, a clock.
//!
//! # Memory map
//!
//! ```text
//!  0      ┌──────────────────────────────────────────────┐ writer
//!         │ header: magic version counts layout checksum │ dataplane, before the region appears
//!         │ ready                                        │ dataplane
//!         │ control: pid, heartbeat                      │ control
//!         │ ports[16]: names, driver, capabilities       │ dataplane, before the region appears
//!         │ port states[16]: statistics, link            │ dataplane, one thread
//!         │ lcores[64]: cpu, clock rate                  │ dataplane, before the region appears
//!         │ counter descriptions[512]                    │ dataplane, before the region appears
//!         │ tables: generation                           │ control
//!         │         acknowledged[64]                     │ each lcore its own
//!         │         two copies                           │ control, the spare one
//!  4 KiB  ├──────────────────────────────────────────────┤ once per lcore:
//!  units  │ state: heartbeat, cycles by stage, bursts    │ lcore
//!         │ counters[512]                                │ lcore
//!         │ commands ring  1024 × 128 B                  │ control → lcore
//!         │ events ring    4096 × 128 B                  │ lcore → control
//!         │ punt ring       512 × 2 KiB                  │ lcore → control
//!         │ inject ring     512 × 2 KiB                  │ control → lcore
//!         │ backend counters[4096], listener[1024]       │ lcore
//!         └──────────────────────────────────────────────┘
//! ```
//!
//! # Promises
//!
//! *Compatibility.* A control process works with a dataplane of the same `ABI_VERSION` and layout
//! hash and refuses any other, by name of what differs. Raise the version when a meaning changes;
//! the hash notices a changed shape by itself.
//!
//! *Death.* Either process may die at any instruction. Indices and generations are published after
//! what they cover, so a new control goes on with the rings and tables it finds, and no packet is
//! lost for it. A new dataplane makes a new region; `Region::is_current` and
//! `Region::is_dataplane_alive` tell control to open it.
//!
//! *Distrust.* Any bytes may appear in the region. Every access is an atomic load or store of a
//! word, every index is masked or checked, every number that names a variant is matched: garbage
//! costs messages, never memory safety.
//!
//! *One writer per word.* Each word above has the one writer named beside it, and the handles'
//! types keep it so.
//!
//! Limitations: Linux only; both processes run on the same machine with the same byte order;
//! `Region::create` needs about 1 MiB and 3 MiB per lcore of tmpfs (`/dev/shm` in a container is 64
//! MiB by default).
#![cfg_attr(
    loom,
    allow(
        dead_code,
        reason = "loom explores the protocols; the region is left out"
    )
)]

mod command;
mod counters;
mod event;
mod heartbeat;
mod info;
pub mod limits;
mod message;
mod name;
mod plain;
pub mod ring;
pub mod snapshot;
mod sync;
mod tables;
mod words;

#[cfg(not(loom))]
mod channel;
#[cfg(not(loom))]
mod handles;
#[cfg(not(loom))]
pub mod heap;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
pub mod plan;
#[cfg(not(loom))]
mod publication;
#[cfg(not(loom))]
mod region;

pub use command::{Command, NeighborState};
pub use counters::{
    BackendCounters, CounterBlock, CounterDescription, CounterKind, CounterSpec, CounterWriter,
    ListenerCounters,
};
pub use event::{ConnectionRow, Event, ProbeOutcome, TcpState};
pub use heartbeat::HeartbeatWatch;
pub use info::{
    ControlState, IdleMode, LcoreInfo, LcorePhase, LcoreState, PortInfo, PortState, RssProof,
    Stage, burst_bucket,
};
pub use name::{Name, Text};
pub use plain::Plain;
pub use ring::Full;
pub use snapshot::Busy;
pub use tables::{
    AddressKind, AddressRecord, Algorithm, BackendRecord, BackendState, InterfaceRecord, LegRecord,
    ListenerRecord, PORT_NONE, PoolRecord, RouteRecord, SnatRecord, TableFull, Tables,
};
pub use words::Words;

#[cfg(not(loom))]
pub use channel::{
    CommandReceiver, CommandSender, EventReceiver, EventSender, FrameReceiver, FrameRefused,
    FrameSender, Message, Receiver, Sender,
};
#[cfg(not(loom))]
pub use handles::{
    ControlError, ControlHandle, LcoreHandle, LcoreStatus, PortStates, SessionCounters,
};
#[cfg(not(loom))]
pub use mapping::Projection;
#[cfg(not(loom))]
pub use publication::{TablesPublisher, TablesReader};
#[cfg(not(loom))]
pub use region::{CreateError, OpenError, Region, RegionConfig};

/// The version of everything in this crate that both processes must understand alike. Raised when a
/// meaning changes.
pub const ABI_VERSION: u32 = 3;
