//! What is wanted of a port, what its device offers, and what is in force.
//!
//! A device is described, not assumed: each wish is intersected with what `rte_eth_dev_info_get`
//! says, and every missing capability has a path in software (checksums and segmentation in the
//! stack, flat copies in the transmit queue, software RSS in the worker). [`Effective`] prints one
//! line per capability.

use core::ffi::CStr;
use core::fmt;

use millrace_base::MacAddress;
use millrace_dpdk_sys as sys;

use crate::error::Errno;
use crate::port::offload::{RxOffloads, TxOffloads};
use crate::port::rss::{RssConfig, RssTypes};

/// Drivers that free what they are given without sending it. A chain is as good to them as any frame,
/// though they do not offer to take it, and nobody misses a flat copy.
const DISCARDING: [&str; 1] = ["net_null"];

/// Payload of the largest frame that a device is handed to cut, bytes: with any headers it stays below
/// 64 KiB, where the IP length field ends.
const TSO_BYTES_MAX: u32 = 61_440;

/// What is wanted of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// Receive queues, at least 1.
    pub rx_queues: u16,
    /// Transmit queues, at least 1.
    pub tx_queues: u16,
    /// Descriptors per receive queue; moved into what the device allows.
    pub rx_descriptors: u16,
    /// Descriptors per transmit queue; moved into what the device allows.
    pub tx_descriptors: u16,
    /// The longest IP packet, bytes; `None` leaves the device alone. A device that refuses to be
    /// told keeps its own.
    pub mtu: Option<u16>,
    /// Receive offloads to switch on where offered.
    pub rx_offloads: RxOffloads,
    /// Transmit offloads to switch on where offered.
    pub tx_offloads: TxOffloads,
    /// Receive-side scaling; takes effect with more than one receive queue.
    pub rss: Option<RssConfig>,
    /// Give the device this address. With a kernel interface behind the device (af_packet, tap)
    /// this changes the *interface's* address; a worker that wants its own beside it leaves this
    /// `None` and asks for promiscuous mode.
    pub mac: Option<MacAddress>,
    /// Receive frames for any address.
    pub promiscuous: bool,
    /// Prepare receive interrupts, for [`RxInterrupts`](crate::RxInterrupts), where the driver has
    /// them.
    pub rx_interrupts: bool,
    /// Ask the device to send its frames to itself, for tests. Not every driver can, and not every
    /// driver that cannot says so.
    pub loopback: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1_024,
            tx_descriptors: 1_024,
            mtu: None,
            rx_offloads: RxOffloads::IPV4_CKSUM
                | RxOffloads::TCP_CKSUM
                | RxOffloads::UDP_CKSUM
                | RxOffloads::RSS_HASH,
            tx_offloads: TxOffloads::IPV4_CKSUM
                | TxOffloads::TCP_CKSUM
                | TxOffloads::UDP_CKSUM
                | TxOffloads::TCP_TSO
                | TxOffloads::MULTI_SEGS,
            rss: None,
            mac: None,
            promiscuous: true,
            rx_interrupts: false,
            loopback: false,
        }
    }
}

/// What a device offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// The driver's name, as in `net_af_packet`.
    pub driver: String,
    /// Receive queues at most.
    pub rx_queues_max: u16,
    /// Transmit queues at most.
    pub tx_queues_max: u16,
    /// Descriptors per receive queue, least and most.
    pub rx_descriptors: (u16, u16),
    /// Descriptors per transmit queue, least and most.
    pub tx_descriptors: (u16, u16),
    /// Receive offloads.
    pub rx_offloads: RxOffloads,
    /// Transmit offloads.
    pub tx_offloads: TxOffloads,
    /// Packet types the device can hash.
    pub rss_types: RssTypes,
    /// Length of the RSS key, bytes; 0 when it cannot be set.
    pub rss_key_bytes: usize,
    /// Entries of the redirection table; 0 when there is none.
    pub reta_entries: u16,
    /// The longest IP packet, least and most, bytes.
    pub mtu: (u16, u16),
    /// The longest frame received, bytes.
    pub rx_frame_bytes_max: u32,
    /// Buffers per transmitted frame at most; 1 without `MULTI_SEGS`.
    pub tx_segments_max: u16,
    /// The kernel's number of the interface behind the device; `None` when there is none.
    pub interface_index: Option<u32>,
}

/// What is in force on a configured port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// The device's name.
    pub name: String,
    /// What was wanted.
    pub wanted: PortConfig,
    /// What the device offers.
    pub offered: Capabilities,
    /// Descriptors per receive queue.
    pub rx_descriptors: u16,
    /// Descriptors per transmit queue.
    pub tx_descriptors: u16,
    /// The longest IP packet, bytes, as the device accepted it. `None`: the device would not be
    /// told (af_packet), and what the link behind it passes is what holds.
    pub mtu: Option<u16>,
    /// Receive offloads switched on.
    pub rx_offloads: RxOffloads,
    /// Transmit offloads switched on. What is wanted and not here is the stack's job.
    pub tx_offloads: TxOffloads,
    /// Packet types hashed.
    pub rss_types: RssTypes,
    /// Whether frames for other addresses arrive.
    pub promiscuous: bool,
    /// The device's own address.
    pub mac: MacAddress,
}

impl Capabilities {
    /// Asks the device; also hands out the raw answer, whose defaults the queues are set up with.
    pub(crate) fn query(port: u16) -> Result<(Self, sys::rte_eth_dev_info), Errno> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: writes the struct.
        Errno::check(unsafe { sys::rte_eth_dev_info_get(port, &raw mut info) })?;
        let driver = if info.driver_name.is_null() {
            String::new()
        } else {
            // SAFETY: the driver's name is a static NUL-terminated string.
            unsafe { CStr::from_ptr(info.driver_name) }
                .to_string_lossy()
                .into_owned()
        };
        let tx_offloads = TxOffloads::from_bits(info.tx_offload_capa);
        let segments_max = match info.tx_desc_lim.nb_seg_max {
            _ if !tx_offloads.contains(TxOffloads::MULTI_SEGS) => 1,
            0 => u16::MAX,
            limit => limit,
        };
        let capabilities = Self {
            driver,
            rx_queues_max: info.max_rx_queues,
            tx_queues_max: info.max_tx_queues,
            rx_descriptors: (info.rx_desc_lim.nb_min, info.rx_desc_lim.nb_max),
            tx_descriptors: (info.tx_desc_lim.nb_min, info.tx_desc_lim.nb_max),
            rx_offloads: RxOffloads::from_bits(info.rx_offload_capa),
            tx_offloads,
            rss_types: RssTypes::from_bits(info.flow_type_rss_offloads),
            rss_key_bytes: usize::from(info.hash_key_size),
            reta_entries: info.reta_size,
            mtu: (info.min_mtu, info.max_mtu),
            rx_frame_bytes_max: info.max_rx_pktlen,
            tx_segments_max: segments_max,
            interface_index: (info.if_index != 0).then_some(info.if_index),
        };
        Ok((capabilities, info))
    }
}

impl Effective {
    /// Whether chains leave as they are; otherwise the transmit queue copies them flat.
    pub fn sends_chains(&self) -> bool {
        self.tx_offloads.contains(TxOffloads::MULTI_SEGS)
            || DISCARDING.contains(&self.offered.driver.as_str())
    }

    /// Pieces that one frame may have; 1 where it leaves flat.
    pub fn tx_segments_max(&self) -> u16 {
        if self.sends_chains() {
            self.offered.tx_segments_max
        } else {
            1
        }
    }

    /// Payload of the largest TCP frame that the device cuts into segments, bytes; 0 where it cuts none.
    /// Such a frame is a chain, and its pieces need their checksums from the device too.
    pub fn tso_bytes_max(&self) -> u32 {
        let needed = [TxOffloads::TCP_TSO, TxOffloads::TCP_CKSUM];
        let cuts = needed.iter().all(|one| self.tx_offloads.contains(*one));
        if cuts && self.tx_segments_max() > 1 {
            TSO_BYTES_MAX
        } else {
            0
        }
    }

    /// Whether only the last piece of a chain may be of odd length. `net_tap` of DPDK 22.11 adds up the
    /// checksum of a chain piece by piece, in words, and is wrong behind an odd one: such a segment
    /// would be refused by its receiver for ever.
    pub fn needs_even_pieces(&self) -> bool {
        self.tx_offloads.contains(TxOffloads::TCP_CKSUM) && self.offered.driver == "net_tap"
    }

    /// The longest frame, Ethernet header included, that may come out of segmentation; `None` when
    /// the MTU alone decides.
    ///
    /// `net_tap` compares the whole frame, not the IP packet, with the MTU, and refuses for good to
    /// cut a frame into longer ones. A stack that wants its segments cut there makes them smaller.
    pub fn segmented_frame_bytes_max(&self) -> Option<u16> {
        let cuts = self.tx_offloads.contains(TxOffloads::TCP_TSO);
        self.mtu
            .filter(|_| cuts && self.offered.driver == "net_tap")
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![row("capability", "wanted", "offered", "in force")];
        rows.extend(self.size_rows());
        rows.extend(self.offload_rows());
        rows.extend(self.policy_rows());
        rows
    }

    fn size_rows(&self) -> [Row; 5] {
        let Self {
            wanted, offered, ..
        } = self;
        let range = |(least, most): (u16, u16)| format!("{least}..{most}");
        let mtu = |mtu: Option<u16>, none: &str| mtu.map_or(none.to_owned(), |mtu| mtu.to_string());
        let (rx, tx) = (wanted.rx_queues, wanted.tx_queues);
        let (rx_desc, tx_desc) = (wanted.rx_descriptors, wanted.tx_descriptors);
        [
            row("rx queues", rx, range((1, offered.rx_queues_max)), rx),
            row("tx queues", tx, range((1, offered.tx_queues_max)), tx),
            row(
                "rx descriptors",
                rx_desc,
                range(offered.rx_descriptors),
                self.rx_descriptors,
            ),
            row(
                "tx descriptors",
                tx_desc,
                range(offered.tx_descriptors),
                self.tx_descriptors,
            ),
            row(
                "mtu",
                mtu(wanted.mtu, "-"),
                range(offered.mtu),
                mtu(self.mtu, "the link's"),
            ),
        ]
    }

    fn offload_rows(&self) -> Vec<Row> {
        let Self {
            wanted, offered, ..
        } = self;
        let mut rows = Vec::new();
        for one in wanted.rx_offloads.iter() {
            let has = |set: RxOffloads| yes_no(set.contains(one));
            let (wanted, offered) = (has(wanted.rx_offloads), has(offered.rx_offloads));
            rows.push(row(
                &format!("rx {}", one.name()),
                wanted,
                offered,
                has(self.rx_offloads),
            ));
        }
        for one in wanted.tx_offloads.iter() {
            let has = |set: TxOffloads| yes_no(set.contains(one));
            let (wanted, offered) = (has(wanted.tx_offloads), has(offered.tx_offloads));
            rows.push(row(
                &format!("tx {}", one.name()),
                wanted,
                offered,
                has(self.tx_offloads),
            ));
        }
        rows
    }

    fn policy_rows(&self) -> [Row; 3] {
        let Self {
            wanted, offered, ..
        } = self;
        let types = wanted.rss.as_ref().map_or(RssTypes::NONE, |rss| rss.types);
        let rss = format!(
            "{}, key {} bytes, table {}",
            offered.rss_types & RssTypes::TCP,
            offered.rss_key_bytes,
            offered.reta_entries
        );
        let mac = wanted.mac.map_or("-".to_owned(), |mac| mac.to_string());
        [
            row("rss", types, rss, self.rss_types),
            row(
                "promiscuous",
                yes_no(wanted.promiscuous),
                "-",
                yes_no(self.promiscuous),
            ),
            row("mac", mac, "-", self.mac),
        ]
    }
}

/// Name, wanted, offered, in force.
type Row = [String; 4];

fn row(
    name: &str,
    wanted: impl fmt::Display,
    offered: impl fmt::Display,
    in_force: impl fmt::Display,
) -> Row {
    [
        name.to_owned(),
        wanted.to_string(),
        offered.to_string(),
        in_force.to_string(),
    ]
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.name, self.offered.driver)?;
        let rows = self.rows();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        for [name, wanted, offered, in_force] in &rows {
            let [first, second, third] = widths;
            writeln!(
                f,
                "  {name:first$}  {wanted:second$}  {offered:third$}  {in_force}"
            )?;
        }
        Ok(())
    }
}
