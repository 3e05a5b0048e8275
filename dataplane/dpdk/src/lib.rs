//! DPDK with the sharp edges covered: EAL, lcores, pools, mbufs, ports and queues that cannot be
//! misused from safe code.
//!
//! ```no_run
//! use millrace_dpdk::{Burst, Device, Eal, EalArgs, Mempool, MempoolConfig, PortConfig, Vdev};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vdevs = vec![Vdev::tap("net_tap0", "millrace0")];
//! let args = EalArgs { vdevs, ..EalArgs::default() };
//! let eal = Eal::start(&args)?;
//! let pool = Mempool::new(&eal, &MempoolConfig::default())?;
//! let device = Device::by_name(&eal, "net_tap0")?;
//! let (port, mut rx, mut tx) = device.configure(&PortConfig::default(), &[pool])?.start()?;
//! println!("{}", port.effective()); // wanted, offered, in force: one line per capability
//! let mut burst = Burst::new();
//! let mut dropped = 0;
//! loop {
//!     rx[0].burst(&mut burst);
//!     dropped += tx[0].burst(&mut burst).discard(); // frames that the device did not take
//! }
//! # }
//! ```
//!
//! | to know | read |
//! |---|---|
//! | how a process starts | [`Eal`], [`EalArgs`], [`Lcore`] |
//! | who owns packet memory, and who may write it | [`Mbuf`], [`Mempool`], [`MbufPool`] |
//! | what a card can do and what it was told | [`Device`], [`Effective`], [`PortConfig`] |
//! | how frames come and go | [`RxQueue`], [`TxQueue`], [`Unsent`] |
//!
//! What holds everywhere: an mbuf is freed exactly once; a queue has one handle; an errno becomes
//! an enum where it enters; drivers are plug-ins that EAL loads from its folder, none is linked (so
//! that `dpdk-dumpcap` sees the same tables as we do). Works with DPDK 22.11 and later.
//!
//! Not here: rte_flow, multi-process (a DPDK secondary can wedge its primary;
//! control talks to workers through `abi` instead), hot unplug.
#![warn(missing_debug_implementations)]

mod bell;
mod cache;
mod clock;
mod eal;
mod error;
mod hash;
mod lcore;
mod mbuf;
mod mempool;
mod operands;
mod port;
mod prefetch;
mod queue;
mod usage;
mod vdev;

pub use bell::Bell;
pub use clock::{Clock, cycles};
pub use eal::{Eal, EalArgs, EalError, Iova, LogLevel, Memory, PciDevices, PlugError};
pub use error::Errno;
pub use hash::{HASH_BULK_MAX, HashTable};
pub use lcore::{LaunchError, Lcore, LcoreCpu, SocketId, Task};
pub use mbuf::{Mbuf, SEGMENTS_MAX};
pub use mempool::{MbufPool, Mempool, MempoolConfig, MempoolError};
pub use operands::{DeviceName, LcoreList};
pub use port::{
    Capabilities, ConfiguredPort, Device, Effective, Link, Port, PortConfig, PortError, PortStats,
    Rss, RssConfig, RssTypes, RxOffloads, Step, TxOffloads,
};
pub use queue::{
    BURST_FRAMES_MAX, Burst, RX_BURST_FRAMES_MAX, RxInterrupts, RxMonitor, RxQueue, TxQueue, Unsent,
};
pub use usage::LcoreUsage;
pub use vdev::{AfPacketRing, Vdev};
