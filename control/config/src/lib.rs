//! The configuration: read in layers, checked as a whole, parsed into types that cannot be wrong.
//!
//! Layers, later ones win: the defaults of the key table, the main file, the files `*.toml` in the
//! directory named after it (`millrace.d` beside `millrace.toml`) in alphabetical order, and
//! environment variables such as `MILLRACE__DATAPLANE__LCORES=2,3`. A table is merged key by key; a
//! list, also a list of tables such as `[[listener]]`, replaces the list of an earlier layer.
//!
//! The way in: `layer` (each source against the key table in `keys`) → `raw` (serde mirror of the
//! merged whole) → `check` (relations) → `valid`. Every mistake is reported with its file, line and
//! a hint (`fault`), all of them at once. `diff` compares two configurations, `boot` writes the
//! dataplane's arguments, `document` writes `conf/full.toml`.
//!
//! Nothing here opens a socket or touches the shared region.
#![forbid(unsafe_code)]

mod boot;
mod check;
mod diff;
mod document;
mod fault;
mod keys;
mod layer;
mod load;
mod raw;
mod valid;

pub use boot::dataplane_args;
pub use diff::{Change, diff};
pub use document::full_toml;
pub use fault::{Fault, Place, Problem, Problems};
pub use keys::{KEYS, Key, Kind, SECTIONS, Section, Takes};
pub use layer::VARIABLE_PREFIX;
pub use load::{load, load_with, parse};
pub use valid::{
    Backend, Balance, Config, Dataplane, Health, Idle, InitialHealth, InterfaceAddress, Leg,
    Listener, Log, LogFormat, LogLevel, Memory, Name, Neighbor, Pool, Port, PortRange, Route,
    RssMode, Snat, SnatAddress, Tcp,
};
