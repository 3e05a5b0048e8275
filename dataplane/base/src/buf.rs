//! What the stack needs of a packet buffer, whoever owns the memory.
//!
//! A buffer handle owns one reference to one segment of memory, and the rest of its chain. Handles are counted: the
//! send queue keeps one while the device holds another, so a payload is never copied to be retransmitted. Bytes and
//! metadata change only through a handle that is alone (`is_unique`); that is what makes sharing safe.
//!
//! ```text
//!   0          offset()            offset()+bytes().len()        capacity()
//!   |-- headroom --|------------ bytes() ------------|---- tailroom ----|   -> next segment
//! ```
//!
//! `dpdk::Mbuf` implements this over `rte_mbuf`, `HeapBuf` over reference-counted heap memory for tests.

use crate::id::VlanId;

/// Bytes that a fresh buffer keeps free in front: room for tagged Ethernet, IPv6 and a full TCP header (118 bytes).
/// The same as DPDK's `RTE_PKTMBUF_HEADROOM`.
pub const HEADROOM_BYTES_DEFAULT: usize = 128;

/// What the device says about a checksum of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ChecksumStatus {
    /// The device did not look; software must.
    #[default]
    Unknown,
    /// The device verified it.
    Good,
    /// The device found it wrong.
    Bad,
}

/// What the device tells with a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxMeta {
    /// The IPv4 header checksum.
    pub ip_checksum: ChecksumStatus,
    /// The TCP or UDP checksum.
    pub l4_checksum: ChecksumStatus,
    /// The RSS hash, when the device computed one.
    pub rss_hash: Option<u32>,
    /// The VLAN identifier (0..=4095) of a tag that the device took off the frame.
    pub stripped_vlan: Option<u16>,
    /// Payload bytes of each segment that was merged into this frame (LRO, GRO); 0 when it is as the
    /// wire had it, or nobody says.
    pub segment_bytes: u16,
}

/// What the device shall do to a frame before it leaves. All lengths are bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxOffload {
    /// Ethernet header length, with a VLAN tag when the frame itself holds one.
    pub l2_len: u8,
    /// IP header length, options included.
    pub l3_len: u8,
    /// TCP header length, options included.
    pub l4_len: u8,
    /// Whether the network header is IPv6.
    pub is_ipv6: bool,
    /// Fill in the IPv4 header checksum (the field must be zero).
    pub ip_checksum: bool,
    /// Fill in the TCP checksum (the field must hold the pseudo-header sum, without the length when segmenting).
    pub tcp_checksum: bool,
    /// Cut the payload into segments of this many bytes; 0 sends the frame as it is.
    pub segment_bytes: u16,
    /// Put this VLAN's tag into the frame, which is written without one (`l2_len` does not count it).
    pub vlan: Option<VlanId>,
}

/// A handle to a chain of packet-buffer segments.
pub trait PacketBuf: Sized {
    /// The bytes of the first segment.
    fn bytes(&self) -> &[u8];

    /// The bytes of the first segment, writable; `None` while anybody else (a queue, the device) holds the segment.
    fn bytes_mut(&mut self) -> Option<&mut [u8]>;

    /// Where `bytes` starts, counted from the start of the segment's memory.
    fn offset(&self) -> usize;

    /// The size of the first segment's memory.
    fn capacity(&self) -> usize;

    /// Moves the first segment's view to `offset .. offset + len`. Refuses (returns `false`, nothing changed) when the
    /// segment is shared or the span does not fit the memory. The rest of the chain stays.
    #[must_use = "a refused span leaves the old one"]
    fn set_span(&mut self, offset: usize, len: usize) -> bool;

    /// Bytes in the whole chain.
    fn frame_len(&self) -> usize;

    /// The bytes of each segment of the chain, in order.
    fn segments(&self) -> impl Iterator<Item = &[u8]>;

    /// Takes the second and following segments off the chain; refuses (returns `None`) when there are none or the first
    /// segment is shared.
    fn detach_next(&mut self) -> Option<Self>;

    /// Puts `tail` at the end of the chain. Gives it back when the first segment is shared or the device limit on
    /// segments (255) is reached. O(segments of both chains).
    fn append(&mut self, tail: Self) -> Result<(), Self>;

    /// Whether this handle is the only holder of the first segment's memory.
    fn is_unique(&self) -> bool;

    /// Another handle to the first segment (and, for a chain, to the segments behind it), at the same span. `None` when
    /// the reference count is exhausted.
    fn share(&self) -> Option<Self>;

    /// What the device said when the frame was received.
    fn rx_meta(&self) -> RxMeta;

    /// Tells the device what to do to the frame. Refuses (returns `false`) when the first segment is shared.
    #[must_use = "a refused offload means a wrong checksum on the wire"]
    fn set_tx_offload(&mut self, offload: TxOffload) -> bool;
}

/// Where buffers come from. Never blocks, never grows: `None` is a normal answer.
pub trait PacketPool {
    /// The handles this pool makes.
    type Buf: PacketBuf;

    /// An empty buffer (`bytes` is empty) whose view starts `HEADROOM_BYTES_DEFAULT` into its memory.
    fn alloc(&mut self) -> Option<Self::Buf>;

    /// A view of `len` bytes at `offset` of the memory of `of`'s first segment, sharing that memory without copying it.
    /// The new handle is its own segment: it may be chained behind a header, but its bytes are shared. `None` when the
    /// pool is empty or the span does not fit.
    fn view(&mut self, of: &Self::Buf, offset: usize, len: usize) -> Option<Self::Buf>;

    /// Buffers that `alloc` could still hand out; a lower bound.
    fn available(&self) -> usize;

    /// Says that `value` will be read soon, so that its cache lines can be fetched meanwhile. It is here because whoever
    /// owns packet memory knows the CPU, and the crates that want it forbid `unsafe`. Does nothing where there is no such
    /// instruction.
    #[inline]
    fn prefetch<T>(value: &T) {
        let _ = value;
    }
}
