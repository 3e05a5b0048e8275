//! Ports: a device is found, configured, started; each step is a type, so no step can be forgotten.
//!
//! ```text
//!   Device --configure--> ConfiguredPort --start--> (Port, [RxQueue], [TxQueue])
//!      ^                                                        |
//!      +------------- by_name again, when all of these are gone-+
//! ```
//!
//! There is one `Device` (or its successor) per port in the process. The port stops when the last
//! of its queues and its `Port` are dropped, in whichever thread that happens; a stopped port can
//! be opened and configured again.

mod config;
mod link;
mod offload;
mod ring_pair;
mod rss;
mod setup;
mod stats;

use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use std::ffi::CString;
use std::sync::Arc;

use millrace_base::MacAddress;
use millrace_dpdk_sys as sys;

use crate::eal::Eal;
use crate::error::Errno;
use crate::lcore::SocketId;
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};

pub use config::{Capabilities, Effective, PortConfig};
pub use link::Link;
pub use offload::{RxOffloads, TxOffloads};
pub use rss::{Rss, RssConfig, RssTypes};
pub use stats::PortStats;

use setup::{intersect, rss_key};
use stats::XstatNames;

const PORTS_MAX: usize = sys::RTE_MAX_ETHPORTS as usize;

/// Which ports have a handle in this process.
static CLAIMED: [AtomicBool; PORTS_MAX] = [const { AtomicBool::new(false) }; PORTS_MAX];

/// Why a port is not to be had, or does not do what it was told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PortError {
    /// EAL knows no device of this name.
    #[error("no device named {name}; there are: {}", known.join(" "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Somebody in this process has the port already.
    #[error("{name} is in use in this process")]
    InUse {
        /// The device's name.
        name: String,
    },
    /// More queues than the device has, or none at all.
    #[error("{name} has 1..{rx_max} receive and 1..{tx_max} transmit queues, not {rx} and {tx}")]
    Queues {
        /// The device's name.
        name: String,
        /// Receive queues wanted.
        rx: u16,
        /// Receive queues offered.
        rx_max: u16,
        /// Transmit queues wanted.
        tx: u16,
        /// Transmit queues offered.
        tx_max: u16,
    },
    /// A receive queue without a pool to take buffers from.
    #[error("no buffer pool for receive queue {queue}")]
    NoPool {
        /// The queue.
        queue: u16,
    },
    /// The RSS key is shorter than the device's.
    #[error("the RSS key has {given} bytes, the device needs {needed}")]
    RssKey {
        /// Bytes given.
        given: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// Buffers are too small for this device's frames and it cannot spread them over several.
    #[error("the buffers of receive queue {queue} are too small for {name}'s frames")]
    SmallBuffers {
        /// The device's name.
        name: String,
        /// The queue.
        queue: u16,
    },
    /// The driver refused.
    #[error("{name} refused to {step}: {errno}")]
    Refused {
        /// The device's name.
        name: String,
        /// What it was told.
        step: Step,
        /// What it said.
        errno: Errno,
    },
}

/// What a driver was told to do when it refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Step {
    /// Describe itself.
    #[error("describe itself")]
    Describe,
    /// Take its configuration.
    #[error("take its configuration")]
    Configure,
    /// Take its number of descriptors.
    #[error("take its number of descriptors")]
    Descriptors,
    /// Set up a receive queue.
    #[error("set up a receive queue")]
    RxQueue,
    /// Set up a transmit queue.
    #[error("set up a transmit queue")]
    TxQueue,
    /// Take its MAC address.
    #[error("take its MAC address")]
    Mac,
    /// Start.
    #[error("start")]
    Start,
    /// Close.
    #[error("close")]
    Close,
    /// Tell its counters.
    #[error("tell its counters")]
    Stats,
    /// Take its redirection table.
    #[error("take its redirection table")]
    Reta,
    /// Change promiscuous mode.
    #[error("change promiscuous mode")]
    Promiscuous,
}

/// The right to use a port; at most one per port.
#[derive(Debug)]
struct Claim {
    port: u16,
    name: String,
    /// The RSS key that the device was configured with. Drivers keep the pointer and read it again when
    /// the device starts (igb, ixgbe), so it lives as long as the device can.
    rss_key: Vec<u8>,
}

/// A device that is neither configured nor running.
#[derive(Debug)]
pub struct Device {
    claim: Claim,
    capabilities: Capabilities,
    _not_sync: PhantomData<Cell<()>>,
}

/// A device with queues that does not run yet.
#[derive(Debug)]
pub struct ConfiguredPort {
    claim: Claim,
    effective: Effective,
    flatten_from: Option<Mempool>,
    _not_sync: PhantomData<Cell<()>>,
}

/// A running device, as the thread that controls it sees it. Its frames go through the queues it
/// was started with.
#[derive(Debug)]
pub struct Port {
    running: Arc<Running>,
    effective: Effective,
    xstats: XstatNames,
    _not_sync: PhantomData<Cell<()>>,
}

/// What `Port` and its queues hold together; the port stops with the last of them.
#[derive(Debug)]
pub(crate) struct Running {
    claim: Claim,
}

impl Device {
    /// The names of all devices EAL has found or made.
    pub fn names(_: &Eal) -> Vec<String> {
        ports().filter_map(|port| name_of(port).ok()).collect()
    }

    /// Takes the device of this name.
    pub fn by_name(eal: &Eal, name: &str) -> Result<Self, PortError> {
        let unknown = || PortError::Unknown {
            name: name.to_owned(),
            known: Self::names(eal),
        };
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let mut port = 0;
        // SAFETY: the name ends in NUL; writes the number.
        let status = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut port) };
        if status != 0 {
            return Err(unknown());
        }
        let claim = Claim::take(port, name)?;
        let (capabilities, _) = claim.describe()?;
        Ok(Self {
            claim,
            capabilities,
            _not_sync: PhantomData,
        })
    }

    /// Gives the device its queues. `pools` is one pool for all receive queues, or one for each.
    ///
    /// Wishes that the device does not offer are left out, see [`ConfiguredPort::effective`];
    /// numbers of queues are not wishes. The MTU is tried first as wanted and then, when the driver
    /// refuses the whole configuration, not at all.
    pub fn configure(
        self,
        config: &PortConfig,
        pools: &[Mempool],
    ) -> Result<ConfiguredPort, PortError> {
        let Self { mut claim, .. } = self;
        let (offered, info) = claim.describe()?;
        let queues_fit = (1..=offered.rx_queues_max).contains(&config.rx_queues)
            && (1..=offered.tx_queues_max).contains(&config.tx_queues);
        if !queues_fit {
            return Err(PortError::Queues {
                name: claim.name.clone(),
                rx: config.rx_queues,
                rx_max: offered.rx_queues_max,
                tx: config.tx_queues,
                tx_max: offered.tx_queues_max,
            });
        }
        claim.rss_key = rss_key(config, &offered)?;
        let mut effective = intersect(&claim.name, claim.mac(), config, offered);
        effective.mtu = claim.apply(&effective)?;
        claim.set_up_queues(&mut effective, &info, pools)?;
        let flatten_from = if effective.sends_chains() {
            None
        } else {
            pools.first().copied()
        };
        Ok(ConfiguredPort {
            claim,
            effective,
            flatten_from,
            _not_sync: PhantomData,
        })
    }

    /// What the device offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.claim.name
    }

    /// The device's own address.
    pub fn mac(&self) -> MacAddress {
        self.claim.mac()
    }

    /// The NUMA node the device is attached to; `None` for software devices.
    pub fn socket(&self) -> Option<SocketId> {
        // SAFETY: reads an integer of an existing port.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.claim.port) };
        u16::try_from(socket).ok().map(SocketId)
    }

    /// Releases the device and everything it holds, mbufs included. It is gone from EAL after that.
    pub fn close(self) -> Result<(), PortError> {
        // SAFETY: the port exists, does not run, and nobody else has a handle.
        let status = unsafe { sys::rte_eth_dev_close(self.claim.port) };
        self.claim.check(Step::Close, status)
    }
}

impl ConfiguredPort {
    /// Starts the device and hands out its queues, in order.
    pub fn start(self) -> Result<(Port, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let Self {
            claim,
            mut effective,
            flatten_from,
            ..
        } = self;
        if let Some(mac) = effective.wanted.mac {
            let mut address = sys::rte_ether_addr {
                addr_bytes: *mac.octets(),
            };
            // SAFETY: the port is configured; reads the address.
            let status =
                unsafe { sys::rte_eth_dev_default_mac_addr_set(claim.port, &raw mut address) };
            claim.check(Step::Mac, status)?;
        }
        // SAFETY: the port is configured and all its queues are set up.
        let status = unsafe { sys::rte_eth_dev_start(claim.port) };
        claim.check(Step::Start, status)?;
        if effective.wanted.promiscuous {
            // SAFETY: the port exists. Drivers without the notion receive everything anyway.
            unsafe { sys::rte_eth_promiscuous_enable(claim.port) };
        }
        // SAFETY: reads a flag of an existing port.
        effective.promiscuous = unsafe { sys::rte_eth_promiscuous_get(claim.port) } == 1;
        effective.mac = claim.mac();
        let xstats = XstatNames::query(claim.port);
        let running = Arc::new(Running { claim });
        let rx = (0..effective.wanted.rx_queues)
            .map(|queue| RxQueue::new(Arc::clone(&running), queue))
            .collect();
        let prepares = effective.tx_offloads.intersects(TxOffloads::NEED_PREPARE);
        let tx = (0..effective.wanted.tx_queues)
            .map(|queue| TxQueue::new(Arc::clone(&running), queue, prepares, flatten_from))
            .collect();
        Ok((
            Port {
                running,
                effective,
                xstats,
                _not_sync: PhantomData,
            },
            rx,
            tx,
        ))
    }

    /// What will be in force.
    pub fn effective(&self) -> &Effective {
        &self.effective
    }
}

impl Port {
    /// Writes the redirection table: entry *i* is the queue for hashes that are *i* modulo its
    /// length.
    pub fn set_reta(&mut self, table: &[u16]) -> Result<(), PortError> {
        let refuse = |errno| self.running.claim.refused(Step::Reta, errno);
        let fits = table.len() == usize::from(self.effective.offered.reta_entries)
            && table
                .iter()
                .all(|queue| *queue < self.effective.wanted.rx_queues);
        if !fits {
            return Err(refuse(Errno::new(libc::EINVAL)));
        }
        rss::set_reta(self.running.port(), table).map_err(refuse)
    }

    /// Receives frames for any address, or only for its own.
    pub fn set_promiscuous(&mut self, is_on: bool) -> Result<(), PortError> {
        let port = self.running.port();
        // SAFETY: the port exists.
        let status = unsafe {
            if is_on {
                sys::rte_eth_promiscuous_enable(port)
            } else {
                sys::rte_eth_promiscuous_disable(port)
            }
        };
        self.running.claim.check(Step::Promiscuous, status)?;
        self.effective.promiscuous = is_on;
        Ok(())
    }

    /// Gives the device another address; see the warning at [`PortConfig::mac`].
    pub fn set_mac(&mut self, mac: MacAddress) -> Result<(), PortError> {
        let mut address = sys::rte_ether_addr {
            addr_bytes: *mac.octets(),
        };
        // SAFETY: the port exists; reads the address.
        let status =
            unsafe { sys::rte_eth_dev_default_mac_addr_set(self.running.port(), &raw mut address) };
        self.running.claim.check(Step::Mac, status)?;
        self.effective.mac = mac;
        Ok(())
    }

    /// Sets all counters to zero, where the driver can.
    pub fn reset_stats(&mut self) -> Result<(), PortError> {
        // SAFETY: the port exists.
        let status = unsafe { sys::rte_eth_stats_reset(self.running.port()) };
        self.running.claim.check(Step::Stats, status)
    }

    /// What is in force; prints as a table.
    pub fn effective(&self) -> &Effective {
        &self.effective
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.running.claim.name
    }

    /// The number DPDK's tools know the port by.
    pub fn number(&self) -> u16 {
        self.running.port()
    }

    /// The device's own address.
    pub fn mac(&self) -> MacAddress {
        self.running.claim.mac()
    }

    /// The state of the cable.
    pub fn link(&self) -> Link {
        Link::query(self.running.port())
    }

    /// The counters every driver has.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        PortStats::query(self.running.port())
            .map_err(|errno| self.running.claim.refused(Step::Stats, errno))
    }

    /// The names of the driver's own counters, read when the port started.
    pub fn xstat_names(&self) -> &[String] {
        self.xstats.names()
    }

    /// The values of the driver's own counters, in the order of the names.
    pub fn xstats(&self) -> Result<Vec<u64>, PortError> {
        self.xstats
            .values(self.running.port())
            .map_err(|errno| self.running.claim.refused(Step::Stats, errno))
    }

    /// How received frames are spread over the queues, as the device tells it; `None` when it
    /// hashes nothing.
    pub fn rss(&self) -> Option<Rss> {
        if self.effective.rss_types.is_empty() {
            return None;
        }
        let offered = &self.effective.offered;
        rss::query(
            self.running.port(),
            offered.rss_key_bytes,
            offered.reta_entries,
        )
    }
}

impl Running {
    pub(crate) fn port(&self) -> u16 {
        self.claim.port
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the last handle is gone, so nobody polls a queue.
        unsafe { sys::rte_eth_dev_stop(self.claim.port) };
    }
}

impl Claim {
    fn take(port: u16, name: &str) -> Result<Self, PortError> {
        let in_use = || PortError::InUse {
            name: name.to_owned(),
        };
        let claimed = CLAIMED.get(usize::from(port)).ok_or_else(in_use)?;
        // Acquire: what the last holder did to the port happened before (pairs with the Release in
        // `drop`).
        if claimed.swap(true, Ordering::AcqRel) {
            return Err(in_use());
        }
        Ok(Self {
            port,
            name: name.to_owned(),
            rss_key: Vec::new(),
        })
    }

    fn describe(&self) -> Result<(Capabilities, sys::rte_eth_dev_info), PortError> {
        Capabilities::query(self.port).map_err(|errno| self.refused(Step::Describe, errno))
    }

    fn mac(&self) -> MacAddress {
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: writes the address of an existing port; it stays zero on failure.
        unsafe { sys::rte_eth_macaddr_get(self.port, &raw mut address) };
        MacAddress::new(address.addr_bytes)
    }

    fn check(&self, step: Step, status: i32) -> Result<(), PortError> {
        Errno::check(status)
            .map(drop)
            .map_err(|errno| self.refused(step, errno))
    }

    fn refused(&self, step: Step, errno: Errno) -> PortError {
        PortError::Refused {
            name: self.name.clone(),
            step,
            errno,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(claimed) = CLAIMED.get(usize::from(self.port)) {
            // Pairs with the Acquire in `take`.
            claimed.store(false, Ordering::Release);
        }
    }
}

fn ports() -> impl Iterator<Item = u16> {
    // SAFETY: reads EAL's table; answers RTE_MAX_ETHPORTS at the end.
    (0..sys::RTE_MAX_ETHPORTS as u16)
        .filter(|port| unsafe { sys::rte_eth_dev_is_valid_port(*port) } == 1)
}

fn name_of(port: u16) -> Result<String, Errno> {
    let mut name = [0 as c_char; sys::RTE_ETH_NAME_MAX_LEN as usize];
    // SAFETY: the array has room for the longest name.
    Errno::check(unsafe { sys::rte_eth_dev_get_name_by_port(port, name.as_mut_ptr()) })?;
    // SAFETY: the call wrote a NUL-terminated name.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }
        .to_string_lossy()
        .into_owned())
}
