//! An owned mbuf chain: the stack's [`PacketBuf`] over `struct rte_mbuf`.
//!
//! ```text
//!   struct rte_mbuf      buf_addr
//!   +---------------+    |<- data_off ->|<----- data_len ----->|          |
//!   | refcnt next   |--->|-- headroom --|------- bytes() -------|-tailroom-|
//!   | pkt_len nb_segs    |<----------------- buf_len = capacity() -------->|
//!   +---------------+
//!        | next: the rest of the chain
//! ```
//!
//! # Who may write
//!
//! A `Mbuf` owns one reference on every segment of its chain, and dropping it gives them back;
//! there is no other way to lose one. Two counts say who else looks on:
//!
//! * `refcnt` of the mbuf itself: handles made by [`share`](PacketBuf::share), and the device while
//!   it transmits. All of them see the same `struct rte_mbuf`, so *nothing* of it may change while
//!   there are two.
//! * for a view (an *indirect* mbuf): `refcnt` of the mbuf that embeds the memory, or the count in
//!   `shinfo` for external memory. The view's own struct belongs to its holder alone, its bytes do
//!   not.
//!
//! Bytes and metadata change only through a `&mut` handle for which both are one. Handles are
//! `Send` but not `Sync`, and counts only rise through a handle, so an observed one stays one: the
//! rule of `Arc::get_mut`.
//!
//! Appending also needs the *last* segment's struct alone (its `next` is what changes): an mbuf
//! that is shared, or has views, may be the end of a chain, but nothing can be put behind it. Chain
//! a [view](millrace_base::PacketPool::view) instead when more must follow. (The heap buffers of
//! the tests have a `next` per handle and take it: the one difference between the two.)
//!
//! # Metadata of a previous life
//!
//! A received mbuf that leaves again carries what the receiving device wrote. Transmit flags are
//! cleared by every [`set_span`](PacketBuf::set_span), because they describe a layout that just
//! moved; the lengths beside them mean nothing without a flag, and stay: they are in the second cache
//! line, which most frames then never need. What the receiver said (checksum verdicts, RSS hash, packet type, stripped
//! VLAN) survives trimming, since whoever strips a header still wants the verdict; it is cleared
//! when the span grows at either end, because the frame is then no longer the one received, and by
//! [`set_tx_offload`](PacketBuf::set_tx_offload).

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use millrace_base::{ChecksumStatus, PacketBuf, RxMeta, TxOffload, VlanId};
use millrace_dpdk_sys as sys;

use crate::{cache, prefetch};

/// Segments a chain may have: what the strictest common devices take, and the contract's number.
pub const SEGMENTS_MAX: u16 = 255;

/// Flags that say where the memory is; everything else in `ol_flags` describes the frame.
const MEMORY_FLAGS: u64 = sys::MR_MBUF_F_INDIRECT | sys::MR_MBUF_F_EXTERNAL;

/// The first transmit flag. DPDK counts receive flags up from bit 0 and transmit flags down from
/// bit 60.
const TX_FLAGS: u64 = !MEMORY_FLAGS & !((1 << 40) - 1);
const _: () = assert!(TX_FLAGS & sys::MR_MBUF_F_TX_TCP_SEG != 0);
const _: () = assert!(TX_FLAGS & sys::MR_MBUF_F_TX_IPV6 != 0);
const _: () = assert!(TX_FLAGS & sys::MR_MBUF_F_TX_VLAN != 0);
const _: () = assert!(TX_FLAGS & sys::MR_MBUF_F_RX_LRO == 0);

/// The identifier in a tag control field; the other bits are priority and drop eligibility.
const VLAN_ID_MASK: u16 = 0x0fff;

/// The widths of the length fields, as `TxOffload`'s types allow them.
const _: () = assert!(sys::MR_MBUF_L2_LEN_BITS >= 7);
const _: () = assert!(sys::MR_MBUF_L3_LEN_BITS >= 8);
const _: () = assert!(sys::MR_MBUF_L4_LEN_BITS >= 8);
const _: () = assert!(sys::MR_MBUF_TSO_SEGSZ_BITS == 16);

/// One reference to each segment of a chain of mbufs.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::mr_mbuf>);

const _: () = assert!(size_of::<Option<Mbuf>>() == 8);

// SAFETY: the handle owns its references; counts are atomic; the pool takes mbufs back from any
// thread. It is not Sync: see "Who may write".
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes ownership of one reference to each segment; `None` for NULL.
    ///
    /// # Safety
    /// `raw` is NULL or heads a well-formed chain from a live pool, and the caller gives its
    /// reference away.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut sys::mr_mbuf) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// Gives the reference away.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut sys::mr_mbuf {
        ManuallyDrop::new(self).0.as_ptr()
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut sys::mr_mbuf {
        self.0.as_ptr()
    }

    /// Whether the device merged several received segments into this one (LRO).
    pub fn is_merged(&self) -> bool {
        self.head().ol_flags & sys::MR_MBUF_F_RX_LRO != 0
    }

    /// What was asked of the transmitting device since the span last moved.
    pub fn tx_offload(&self) -> TxOffload {
        let head = self.head();
        let field = |offset: u32, bits: u32| (head.tx_offload >> offset) & ((1 << bits) - 1);
        let has = |flag: u64| head.ol_flags & flag == flag;
        let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        if head.ol_flags & TX_FLAGS == 0 {
            return TxOffload::default();
        }
        let segment = field(sys::MR_MBUF_TSO_SEGSZ_OFS, sys::MR_MBUF_TSO_SEGSZ_BITS);
        TxOffload {
            l2_len: byte(field(sys::MR_MBUF_L2_LEN_OFS, sys::MR_MBUF_L2_LEN_BITS)),
            l3_len: byte(field(sys::MR_MBUF_L3_LEN_OFS, sys::MR_MBUF_L3_LEN_BITS)),
            l4_len: byte(field(sys::MR_MBUF_L4_LEN_OFS, sys::MR_MBUF_L4_LEN_BITS)),
            is_ipv6: has(sys::MR_MBUF_F_TX_IPV6),
            ip_checksum: has(sys::MR_MBUF_F_TX_IP_CKSUM),
            tcp_checksum: has(sys::MR_MBUF_F_TX_TCP_CKSUM),
            segment_bytes: u16::try_from(segment).unwrap_or(u16::MAX),
            vlan: has(sys::MR_MBUF_F_TX_VLAN)
                .then(|| VlanId::new(head.vlan_tci))
                .flatten(),
        }
    }

    /// Says of the frame what a receiving device would: for whoever plays the device at the far end of a ring pair.
    /// Refuses (returns `false`) when the first segment is shared.
    #[must_use = "a refused verdict leaves the old one"]
    pub fn set_rx_meta(&mut self, meta: RxMeta) -> bool {
        let Some(head) = self.head_mut() else {
            return false;
        };
        forget_received(head);
        head.ol_flags |= match meta.ip_checksum {
            ChecksumStatus::Unknown => 0,
            ChecksumStatus::Good => sys::MR_MBUF_F_RX_IP_CKSUM_GOOD,
            ChecksumStatus::Bad => sys::MR_MBUF_F_RX_IP_CKSUM_BAD,
        };
        head.ol_flags |= match meta.l4_checksum {
            ChecksumStatus::Unknown => 0,
            ChecksumStatus::Good => sys::MR_MBUF_F_RX_L4_CKSUM_GOOD,
            ChecksumStatus::Bad => sys::MR_MBUF_F_RX_L4_CKSUM_BAD,
        };
        if let Some(hash) = meta.rss_hash {
            head.ol_flags |= sys::MR_MBUF_F_RX_RSS_HASH;
            head.hash_rss = hash;
        }
        if let Some(vlan) = meta.stripped_vlan {
            head.ol_flags |= sys::MR_MBUF_F_RX_VLAN_STRIPPED;
            head.vlan_tci = vlan;
        }
        true
    }

    /// Segments in the chain.
    #[inline]
    pub fn segment_count(&self) -> usize {
        usize::from(self.head().nb_segs)
    }

    /// Asks the CPU to fetch the start of the bytes: a burst's worth of frames hides each other's
    /// misses.
    #[inline]
    pub fn prefetch(&self) {
        prefetch::line(self.bytes().as_ptr());
    }

    /// Asks the CPU to fetch what a burst of TCP segments that may be sent on is read and written at: both lines of each
    /// struct (the first says where the bytes are, the second is written when the frame leaves), then two of the bytes (a
    /// segment's timestamps end in the second).
    #[inline]
    pub fn prefetch_segments(frames: &[Self]) {
        let second = prefetch::LINE_BYTES;
        for frame in frames {
            let start = frame.as_ptr().cast::<u8>();
            prefetch::line(start);
            prefetch::line(start.wrapping_add(second));
        }
        for frame in frames {
            let start = frame.bytes().as_ptr();
            prefetch::line(start);
            prefetch::line(start.wrapping_add(second));
        }
    }

    #[inline]
    pub(crate) fn head(&self) -> &sys::mr_mbuf {
        // SAFETY: the handle's reference keeps the struct alive, and its fields change only through
        // a `&mut` of the only handle. The one field that others change meanwhile is `refcnt`,
        // which is an atomic.
        unsafe { self.0.as_ref() }
    }

    /// Whether this handle alone refers to the struct of the first segment.
    #[inline]
    fn owns_struct(&self) -> bool {
        // SAFETY: the struct is live.
        unsafe { count_of(self.as_ptr()) == 1 }
    }

    /// Whether nobody but this struct refers to the memory behind it.
    #[inline]
    fn owns_memory(&self) -> bool {
        // SAFETY: the handle keeps the struct alive.
        self.head().ol_flags & MEMORY_FLAGS == 0 || unsafe { owns_foreign_memory(self.as_ptr()) }
    }

    /// The struct, when both it and its memory are this handle's alone.
    #[inline]
    fn head_mut(&mut self) -> Option<&mut sys::mr_mbuf> {
        if !self.is_unique() {
            core::hint::cold_path();
            return None;
        }
        // SAFETY: nobody else refers to the struct, and `&mut self` is the only borrow of the only
        // handle.
        Some(unsafe { self.0.as_mut() })
    }

    /// Another handle to a chain. Out of line: nearly every frame is in one piece.
    #[cold]
    #[inline(never)]
    fn share_chain(&self) -> Option<Self> {
        for (held, segment) in self.raw_segments().enumerate() {
            // SAFETY: we hold a reference to every segment of the chain.
            if unsafe { try_hold(segment.as_ptr()) } {
                continue;
            }
            for segment in self.raw_segments().take(held) {
                // SAFETY: takes back what was added above; our own reference keeps the count above
                // zero.
                unsafe { (*segment.as_ptr()).refcnt.fetch_sub(1, Ordering::AcqRel) };
            }
            return None;
        }
        Some(Self(self.0))
    }

    fn raw_segments(&self) -> impl Iterator<Item = NonNull<sys::mr_mbuf>> + use<> {
        core::iter::successors(Some(self.0), |segment| {
            // SAFETY: every segment of the chain is alive while the handle is; see the callers'
            // borrows.
            NonNull::new(unsafe { (*segment.as_ptr()).next })
        })
    }
}

/// Whether nobody but this struct refers to the memory behind it, for a view or external memory.
/// Out of line, and by value: every frame that a device received takes the other way, several times.
///
/// # Safety
/// `mbuf` is live, and indirect or external.
#[cold]
#[inline(never)]
unsafe fn owns_foreign_memory(mbuf: *mut sys::mr_mbuf) -> bool {
    // SAFETY: live, by contract.
    let head = unsafe { &*mbuf };
    if head.ol_flags & sys::MR_MBUF_F_EXTERNAL != 0 {
        // SAFETY: external memory has a live `shinfo`, which the struct's reference keeps.
        return unsafe { (*head.shinfo).refcnt.load(Ordering::Acquire) == 1 };
    }
    // SAFETY: the mbuf is indirect, so its memory lies in another mbuf, on which it holds a
    // reference.
    unsafe { count_of(sys::mr_mbuf_from_indirect(mbuf)) == 1 }
}

/// The number of handles on a struct. Acquire: what the others did with it happened before we see
/// them gone (pairs with the release in `rte_mbuf_refcnt_update`).
///
/// # Safety
/// `mbuf` is live.
#[inline]
unsafe fn count_of(mbuf: *mut sys::mr_mbuf) -> u16 {
    // SAFETY: live, by contract.
    unsafe { (*mbuf).refcnt.load(Ordering::Acquire) }
}

/// One more handle on a struct, unless there are 65535.
///
/// # Safety
/// `mbuf` is live and the caller holds a reference to it.
unsafe fn try_hold(mbuf: *mut sys::mr_mbuf) -> bool {
    // SAFETY: live, by contract.
    let count = unsafe { &(*mbuf).refcnt };
    count
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| {
            count.checked_add(1)
        })
        .is_ok()
}

/// The bytes of one segment.
///
/// # Safety
/// The segment is live for `'a` and its span does not change meanwhile.
#[inline]
unsafe fn bytes_of<'a>(segment: NonNull<sys::mr_mbuf>) -> &'a [u8] {
    // SAFETY: live, by contract.
    let head = unsafe { segment.as_ref() };
    debug_assert!(u32::from(head.data_off) + u32::from(head.data_len) <= u32::from(head.buf_len));
    let start = head.buf_addr.cast::<u8>();
    // SAFETY: `data_off + data_len <= buf_len` holds for what drivers deliver and for every span
    // set here, and pool memory is mapped and initialised (by the kernel, to zero) from the start.
    unsafe {
        core::slice::from_raw_parts(
            start.add(usize::from(head.data_off)),
            usize::from(head.data_len),
        )
    }
}

impl PacketBuf for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: live and unchanged while `self` is borrowed.
        unsafe { bytes_of(self.0) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let head = self.head_mut()?;
        let start = head.buf_addr.cast::<u8>();
        // SAFETY: every mbuf of a pool points to its memory, also one without data room. Without
        // the hint each caller tests the pointer, whose zero is how `None` looks.
        unsafe { core::hint::assert_unchecked(!start.is_null()) };
        // SAFETY: in bounds as in `bytes_of`; nobody else refers to this memory, so the borrow of
        // `self` is the only one.
        Some(unsafe {
            core::slice::from_raw_parts_mut(
                start.add(usize::from(head.data_off)),
                usize::from(head.data_len),
            )
        })
    }

    #[inline]
    fn offset(&self) -> usize {
        usize::from(self.head().data_off)
    }

    #[inline]
    fn capacity(&self) -> usize {
        usize::from(self.head().buf_len)
    }

    #[inline]
    fn set_span(&mut self, offset: usize, len: usize) -> bool {
        let Some(head) = self.head_mut() else {
            return false;
        };
        let Some(end) = offset.checked_add(len) else {
            return false;
        };
        let (Ok(new_offset), Ok(new_len)) = (u16::try_from(offset), u16::try_from(len)) else {
            return false;
        };
        if end > usize::from(head.buf_len) {
            return false;
        }
        let old_end = usize::from(head.data_off) + usize::from(head.data_len);
        let is_grown = new_offset < head.data_off || end > old_end;
        head.pkt_len = head.pkt_len - u32::from(head.data_len) + u32::from(new_len);
        head.data_off = new_offset;
        head.data_len = new_len;
        if is_grown {
            forget_received(head);
        } else {
            head.ol_flags &= !TX_FLAGS;
        }
        true
    }

    #[inline]
    fn frame_len(&self) -> usize {
        self.head().pkt_len as usize
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        // SAFETY: the whole chain is live and unchanged while `self` is borrowed: a segment whose
        // struct somebody else holds too is changed by nobody, and ours only through `&mut self`.
        self.raw_segments()
            .map(|segment| unsafe { bytes_of(segment) })
    }

    fn detach_next(&mut self) -> Option<Self> {
        let head = self.head_mut()?;
        let next = NonNull::new(head.next)?;
        let nb_segs = head.nb_segs - 1;
        let pkt_len = head.pkt_len - u32::from(head.data_len);
        head.next = ptr::null_mut();
        head.nb_segs = 1;
        head.pkt_len = u32::from(head.data_len);
        // The totals of a segment inside a chain are undefined for a received frame and right for
        // one that was appended. Only the former is written: a struct that somebody else holds was
        // a head before, so its totals are right.
        // SAFETY: live: we own the chain.
        let tail = unsafe { &*next.as_ptr() };
        if tail.nb_segs != nb_segs || tail.pkt_len != pkt_len {
            // SAFETY: as above, and no reference to it is alive.
            unsafe {
                (*next.as_ptr()).nb_segs = nb_segs;
                (*next.as_ptr()).pkt_len = pkt_len;
            }
        }
        Some(Self(next))
    }

    fn append(&mut self, tail: Self) -> Result<(), Self> {
        let segments = u32::from(self.head().nb_segs) + u32::from(tail.head().nb_segs);
        if segments > u32::from(SEGMENTS_MAX) {
            return Err(tail);
        }
        let last = self.raw_segments().last().unwrap_or(self.0);
        // SAFETY: live: we own the chain.
        let is_last_ours = unsafe { count_of(last.as_ptr()) == 1 };
        let Some(head) = self.head_mut().filter(|_| is_last_ours) else {
            return Err(tail);
        };
        head.nb_segs += tail.head().nb_segs;
        head.pkt_len += tail.head().pkt_len;
        // SAFETY: only this chain refers to the last struct, no reference to it is alive (`head`,
        // which may be the same struct, is not used any more), and it cannot be in `tail`, which
        // would be a second reference.
        unsafe { (*last.as_ptr()).next = tail.into_raw() };
        Ok(())
    }

    #[inline]
    fn is_unique(&self) -> bool {
        self.owns_struct() && self.owns_memory()
    }

    #[inline]
    fn share(&self) -> Option<Self> {
        if self.head().nb_segs == 1 {
            // Nearly every frame: spares the struct's second line, where `next` is.
            // SAFETY: we hold a reference.
            return unsafe { try_hold(self.as_ptr()) }.then_some(Self(self.0));
        }
        self.share_chain()
    }

    #[inline]
    fn rx_meta(&self) -> RxMeta {
        let head = self.head();
        RxMeta {
            ip_checksum: verdict(
                head.ol_flags & sys::MR_MBUF_F_RX_IP_CKSUM_MASK,
                sys::MR_MBUF_F_RX_IP_CKSUM_BAD,
            ),
            l4_checksum: verdict(
                head.ol_flags & sys::MR_MBUF_F_RX_L4_CKSUM_MASK,
                sys::MR_MBUF_F_RX_L4_CKSUM_BAD,
            ),
            rss_hash: (head.ol_flags & sys::MR_MBUF_F_RX_RSS_HASH != 0).then_some(head.hash_rss),
            stripped_vlan: (head.ol_flags & sys::MR_MBUF_F_RX_VLAN_STRIPPED != 0)
                .then_some(head.vlan_tci & VLAN_ID_MASK),
            // The device is never asked to merge segments.
            segment_bytes: 0,
        }
    }

    #[inline]
    fn set_tx_offload(&mut self, offload: TxOffload) -> bool {
        let Some(head) = self.head_mut() else {
            return false;
        };
        forget_received(head);
        if let Some(vlan) = offload.vlan {
            head.ol_flags |= sys::MR_MBUF_F_TX_VLAN;
            head.vlan_tci = vlan.number();
        }
        let is_wanted = offload.ip_checksum || offload.tcp_checksum || offload.segment_bytes != 0;
        if !is_wanted {
            if offload.vlan.is_some() {
                head.tx_offload = 0;
            }
            return true;
        }
        // A device needs the network protocol's name with any of the others.
        let mut flags = if offload.is_ipv6 {
            sys::MR_MBUF_F_TX_IPV6
        } else {
            sys::MR_MBUF_F_TX_IPV4
        };
        if offload.ip_checksum && !offload.is_ipv6 {
            flags |= sys::MR_MBUF_F_TX_IP_CKSUM;
        }
        if offload.tcp_checksum {
            flags |= sys::MR_MBUF_F_TX_TCP_CKSUM;
        }
        if offload.segment_bytes != 0 {
            // Segmenting implies the TCP checksum, and the IPv4 one: every piece gets its own.
            flags |= sys::MR_MBUF_F_TX_TCP_SEG | sys::MR_MBUF_F_TX_TCP_CKSUM;
            if !offload.is_ipv6 {
                flags |= sys::MR_MBUF_F_TX_IP_CKSUM;
            }
        }
        head.ol_flags |= flags;
        head.tx_offload = u64::from(offload.l2_len) << sys::MR_MBUF_L2_LEN_OFS
            | u64::from(offload.l3_len) << sys::MR_MBUF_L3_LEN_OFS
            | u64::from(offload.l4_len) << sys::MR_MBUF_L4_LEN_OFS
            | u64::from(offload.segment_bytes) << sys::MR_MBUF_TSO_SEGSZ_OFS;
        true
    }
}

/// Clears everything that describes the frame the struct held before, and keeps where its memory
/// is.
#[inline]
fn forget_received(head: &mut sys::mr_mbuf) {
    head.ol_flags &= MEMORY_FLAGS;
    head.packet_type = 0;
    head.vlan_tci = 0;
    head.vlan_tci_outer = 0;
}

/// A checksum verdict from its two bits: neither means unknown, both mean that the field is not
/// filled in but the data was verified (a neighbour on the same host), which is as good.
#[inline]
fn verdict(bits: u64, bad: u64) -> ChecksumStatus {
    if bits == 0 {
        ChecksumStatus::Unknown
    } else if bits == bad {
        ChecksumStatus::Bad
    } else {
        ChecksumStatus::Good
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle owned one reference to each segment, and this is the last use of it.
        unsafe { cache::free(self.0) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("offset", &self.offset())
            .field(
                "lens",
                &self.segments().map(<[u8]>::len).collect::<Vec<_>>(),
            )
            .field("capacity", &self.capacity())
            .field("unique", &self.is_unique())
            .field("rx", &self.rx_meta())
            .field("tx", &self.tx_offload())
            .finish()
    }
}
