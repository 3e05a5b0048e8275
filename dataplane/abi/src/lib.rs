//! The only room that both processes enter.

mod command;
mod event;
pub mod limits;
mod message;
mod name;
mod plain;
mod tables;

pub use command::{Command, NeighborState};
pub use event::{ConnectionRow, Event, ProbeOutcome, TcpState};
pub use name::{Name, Text};
pub use plain::Plain;
pub use tables::{
    AddressKind, AddressRecord, Algorithm, BackendRecord, BackendState, InterfaceRecord,
    ListenerRecord, PORT_NONE, PoolRecord, RouteRecord, SnatRecord, TableFull, Tables,
};
