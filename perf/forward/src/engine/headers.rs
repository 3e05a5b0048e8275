//! Finding and exchanging header fields: what several engines do to a packet's bytes.

use millrace_base::{Address, MacAddress};
use millrace_dpdk::Mbuf;
use millrace_wire::{EtherType, EthernetView, IpView, protocol};

/// Bytes of both Ethernet addresses.
pub(super) const MACS_BYTES: usize = 12;

/// Where the parts of an IP packet are in its frame, and what they are. Offsets count from the start
/// of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Headers {
    /// The start of the IP header.
    pub(super) network: usize,
    /// The start of the upper layer's header.
    pub(super) transport: usize,
    /// Bytes of the upper layer, header included.
    pub(super) transport_len: usize,
    /// The upper layer's protocol number.
    pub(super) protocol: u8,
    /// Whether the network layer is IPv4; otherwise it is IPv6.
    pub(super) is_v4: bool,
    /// Whether this is a piece of a larger packet; its upper layer is not whole.
    pub(super) is_fragment: bool,
    /// Whether the upper layer's header begins here: not so in all fragments but the first.
    pub(super) has_transport_header: bool,
    pub(super) source: Address,
    pub(super) destination: Address,
}

impl Headers {
    /// Finds them in the first segment of a frame that is `frame_len` bytes long in all. `None` for
    /// what is not IP or not well formed.
    #[inline]
    pub(super) fn find(bytes: &[u8], frame_len: usize) -> Option<Self> {
        let ethernet = EthernetView::parse(bytes).ok()?;
        let network = ethernet.header_len();
        let available = frame_len.saturating_sub(network);
        let ip = IpView::parse(ethernet.ether_type(), ethernet.payload(), available)?.ok()?;
        Some(Self {
            network,
            transport: network.saturating_add(ip.header_len()),
            transport_len: ip.payload_len(),
            protocol: ip.protocol(),
            is_v4: ip.is_v4(),
            is_fragment: ip.fragment().is_some(),
            has_transport_header: ip.fragment().is_none_or(|fragment| fragment.offset == 0),
            source: ip.source(),
            destination: ip.destination(),
        })
    }

    /// Whether the upper layer has ports, in its first four bytes.
    pub(super) fn has_ports(&self) -> bool {
        self.has_transport_header && matches!(self.protocol, protocol::TCP | protocol::UDP)
    }
}

/// Calls `work` for each frame; the bytes of the next one are on their way meanwhile.
///
/// For work of a hundred instructions and more. With less, the CPU itself is already several frames
/// ahead and the prefetch is only one more thing to do (a quarter of `macswap`'s time).
#[inline]
pub(super) fn for_each_prefetched(frames: &mut [Mbuf], mut work: impl FnMut(&mut Mbuf)) {
    let mut rest = frames;
    while let Some((frame, behind)) = rest.split_first_mut() {
        if let Some(next) = behind.first() {
            next.prefetch();
        }
        work(frame);
        rest = behind;
    }
}

/// Exchanges the Ethernet addresses; leaves a frame without both alone.
#[inline]
pub(super) fn swap_macs(frame: &mut [u8]) {
    let Some(macs) = frame.first_chunk_mut::<MACS_BYTES>() else {
        core::hint::cold_path();
        return;
    };
    // In words that overlap. Memory accesses are what this loop is made of: these are five, and
    // swapping the addresses as slices makes eight. Four are possible, but the compiler makes them
    // with a double shift, which is slow on AMD.
    let first = macs
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word));
    let last = macs
        .last_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word));
    if let Some(source) = macs.first_chunk_mut() {
        *source = (last >> 16).to_le_bytes();
    }
    if let Some(destination) = macs.last_chunk_mut() {
        *destination = ((first >> 16) as u32).to_le_bytes();
    }
    if let Some(destination) = macs.get_mut(6..8) {
        destination.copy_from_slice(&(first as u16).to_le_bytes());
    }
}

/// Both Ethernet addresses as they stand in a frame. Made once, so that writing them is two stores.
pub(super) fn macs(destination: MacAddress, source: MacAddress) -> [u8; MACS_BYTES] {
    let [a, b, c, d, e, f] = *destination.octets();
    let [g, h, i, j, k, l] = *source.octets();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// Writes the Ethernet addresses; leaves a frame without room for both alone.
#[inline]
pub(super) fn set_macs(frame: &mut [u8], macs: &[u8; MACS_BYTES]) {
    if let Some(field) = frame.first_chunk_mut() {
        *field = *macs;
    }
}

/// Exchanges the `width` bytes at `first` with the `width` bytes behind them; leaves a frame that
/// ends before them alone.
#[inline]
pub(super) fn swap_neighbours(frame: &mut [u8], first: usize, width: usize) {
    let pair = frame
        .get_mut(first..)
        .and_then(|tail| tail.get_mut(..width.saturating_mul(2)));
    if let Some(pair) = pair {
        let (left, right) = pair.split_at_mut(width);
        left.swap_with_slice(right);
    }
}

/// Exchanges source and destination of the IP header at `network`. No checksum changes: a sum does
/// not know the order of its terms.
#[inline]
pub(super) fn swap_addresses(frame: &mut [u8], network: usize, is_v4: bool) {
    let (offset, width) = if is_v4 { (12, 4) } else { (8, 16) };
    swap_neighbours(frame, network.saturating_add(offset), width);
}

/// The type of what a frame carries, or `None` when its Ethernet header is cut off.
pub(super) fn ether_type(frame: &[u8]) -> Option<(EtherType, usize)> {
    let view = EthernetView::parse(frame).ok()?;
    Some((view.ether_type(), view.header_len()))
}
