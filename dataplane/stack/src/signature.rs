//! Signatures of segments (RFC 2385, `TCP_MD5SIG`): keys, digests, and who has which key.
//!
//! Who has a key for its peer signs every segment to it and takes none from it that is not signed
//! with that key; who has none takes no signed segment. A connection's key is in its `Extra`
//! (`tcp/signing.rs`). Here are those of listeners, which their half-open requests are signed with
//! and their connections begin with, and those of TIME_WAIT records.
//!
//! The digest is of pseudo-header, header without options and with a checksum of 0, payload and key.
//! It says nothing to somebody who can guess MD5 keys: nobody should begin to use it. It is here for
//! sessions that need it, of routing protocols above all. TCP-AO (RFC 5925) is not here.
//!
//! Nobody but the BSD face sets a key: a balancer pays one question for each segment that is not
//! what was expected anyway.

use alloc::vec::Vec;
use core::fmt;

use md5::{Digest as _, Md5};
use millrace_base::{Address, FlowTuple, Instant, ListenerId, PacketBuf, PacketPool, Prefix};
use millrace_wire::tcp::{HEADER_BYTES, HEADER_BYTES_MAX, SIGNATURE_BYTES, Signature};
use millrace_wire::{TcpRepr, protocol};

use crate::dispatch::TcpFrame;
use crate::flow::FlowId;
use crate::limits::{LISTENER_KEYS_MAX, TIME_WAIT_KEYS_MAX};
use crate::stack::Stack;
use crate::stats::{Stats, count};
use crate::table::Slot;
use crate::tcp::{Disposition, Env};
use crate::tcp_input::Arrived;
use crate::verdict::DropReason;

/// The longest key (Linux: `TCP_MD5SIG_MAXKEYLEN`).
pub const SIGNING_KEY_BYTES_MAX: usize = 80;
const _: () = assert!(SIGNING_KEY_BYTES_MAX <= u8::MAX as usize);

/// Where the checksum field is in a TCP header.
const CHECKSUM_AT: core::ops::Range<usize> = 16..18;

/// A digest.
pub(crate) type Digest = [u8; SIGNATURE_BYTES];

/// What both ends of a connection know and nobody else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SigningKey {
    bytes: [u8; SIGNING_KEY_BYTES_MAX],
    len: u8,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays secret.
        write!(f, "SigningKey({} bytes)", self.len)
    }
}

impl SigningKey {
    /// A key of 1 to 80 bytes; `None` for any other number.
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; SIGNING_KEY_BYTES_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        (!key.is_empty()).then_some(Self {
            bytes,
            len: key.len() as u8,
        })
    }

    /// The bytes of the key.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The digest of a TCP segment in one piece, header first, from `source` to `destination`; `None`
    /// when it is shorter than a header. O(bytes of the segment).
    pub fn sign(&self, source: Address, destination: Address, segment: &[u8]) -> Option<Digest> {
        let header = segment.first_chunk::<HEADER_BYTES>()?;
        let words = header.get(12)? >> 4;
        let payload = segment.get(usize::from(words).saturating_mul(4)..)?;
        let parts = Parts {
            source,
            destination,
            header,
            len: segment.len(),
        };
        Some(self.digest(&parts, core::iter::once(payload)))
    }

    /// The digest of a segment without payload that has no frame yet.
    pub(crate) fn sign_bare(&self, tuple: &FlowTuple, header: &TcpRepr) -> Digest {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let len = header.header_len();
        // One that is too long has no frame either.
        let _ = bytes.get_mut(..len).and_then(|room| header.emit(room));
        let bytes = bytes.get(..len).unwrap_or(&bytes);
        let (source, destination) = (tuple.local.address, tuple.remote.address);
        self.sign(source, destination, bytes).unwrap_or_default()
    }

    /// The digest of the segment in a frame whose TCP header begins at `tcp_at` and whose payload at
    /// `payload_at`, `len` bytes of both together.
    pub(crate) fn sign_frame<B: PacketBuf>(
        &self,
        (source, destination): (Address, Address),
        frame: &B,
        (tcp_at, payload_at): (usize, usize),
        len: usize,
    ) -> Option<Digest> {
        let header = frame.bytes().get(tcp_at..)?.first_chunk()?;
        let parts = Parts {
            source,
            destination,
            header,
            len,
        };
        let mut rest = len.checked_sub(payload_at.checked_sub(tcp_at)?)?;
        let mut skipped = payload_at;
        let pieces = frame.segments().map(|piece| {
            let piece = piece
                .get(core::mem::take(&mut skipped)..)
                .unwrap_or_default();
            // What lies behind is padding of the link.
            let piece = piece.get(..rest).unwrap_or(piece);
            rest = rest.saturating_sub(piece.len());
            piece
        });
        Some(self.digest(&parts, pieces))
    }

    //= https://www.rfc-editor.org/rfc/rfc2385#section-2.0
    //# 1. the TCP pseudo-header (in the order: source IP address, destination IP address,
    //# zero-padded protocol number, and segment length)
    //# 2. the TCP header, excluding options, and assuming a checksum of zero
    //# 3. the TCP segment data (if any)
    //# 4. an independently-specified key or password
    fn digest<'a>(&self, parts: &Parts<'_>, payload: impl Iterator<Item = &'a [u8]>) -> Digest {
        let mut hash = Md5::new();
        match (parts.source.as_v4(), parts.destination.as_v4()) {
            (Some(source), Some(destination)) => {
                hash.update(source);
                hash.update(destination);
                hash.update([0, protocol::TCP]);
                hash.update((parts.len as u16).to_be_bytes());
            }
            _ => {
                // That of RFC 8200 section 8.1.
                hash.update(parts.source.octets());
                hash.update(parts.destination.octets());
                hash.update((parts.len as u32).to_be_bytes());
                hash.update(u32::from(protocol::TCP).to_be_bytes());
            }
        }
        let mut header = *parts.header;
        if let Some(checksum) = header.get_mut(CHECKSUM_AT) {
            checksum.fill(0);
        }
        hash.update(header);
        payload.for_each(|piece| hash.update(piece));
        hash.update(self.as_slice());
        hash.finalize().into()
    }
}

/// What is signed beside payload and key.
struct Parts<'a> {
    source: Address,
    destination: Address,
    header: &'a [u8; HEADER_BYTES],
    /// Bytes of header, options and payload.
    len: usize,
}

/// A key of a listener and whom it is for.
#[derive(Clone, Copy, Debug)]
struct ListenerKey {
    listener: ListenerId,
    peers: Prefix,
    key: SigningKey,
}

/// Keys of those that are no connections. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Of listeners, those of one listener from the oldest to the newest.
    listeners: Vec<ListenerKey>,
    /// Of TIME_WAIT records, the oldest first.
    resting: Vec<(FlowTuple, SigningKey)>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            listeners: Vec::with_capacity(LISTENER_KEYS_MAX),
            resting: Vec::with_capacity(TIME_WAIT_KEYS_MAX),
        }
    }

    /// Whether no listener has one.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// The key of a listener for a peer: that of the longest prefix, and of equal ones the newest
    /// (Linux: `__tcp_md5_do_lookup`). O(keys of all listeners).
    #[inline]
    pub(crate) fn of_listener(&self, listener: ListenerId, peer: Address) -> Option<&SigningKey> {
        if self.listeners.is_empty() {
            return None;
        }
        let fitting = self
            .listeners
            .iter()
            .filter(|row| row.listener == listener && row.peers.contains(peer));
        let best = fitting.max_by_key(|row| row.peers.length());
        best.map(|row| &row.key)
    }

    /// The key of a TIME_WAIT record. O(records with keys).
    #[inline]
    pub(crate) fn of_resting(&self, tuple: &FlowTuple) -> Option<&SigningKey> {
        let found = self.resting.iter().find(|(whose, _)| whose == tuple);
        found.map(|(_, key)| key)
    }

    /// A connection is a TIME_WAIT record now. When too many have keys, the oldest goes without
    /// from now on: its peer repeats its FIN for a while.
    pub(crate) fn rest(&mut self, tuple: &FlowTuple, key: Option<&SigningKey>) {
        self.forget(tuple);
        let Some(key) = key else { return };
        if self.resting.len() >= TIME_WAIT_KEYS_MAX {
            self.resting.remove(0);
        }
        self.resting.push((*tuple, *key));
    }

    /// A TIME_WAIT record is gone.
    #[inline]
    pub(crate) fn forget(&mut self, tuple: &FlowTuple) {
        if !self.resting.is_empty() {
            self.resting.retain(|(whose, _)| whose != tuple);
        }
    }
}

impl<P: PacketPool> Stack<P> {
    /// Replaces the keys of a listener; of each the peers that it is for, from the oldest to the
    /// newest. Half-open requests are checked against the new ones at once; connections keep theirs.
    /// `false`, nothing changed, when all listeners together would have too many.
    pub fn set_listener_keys(
        &mut self,
        listener: ListenerId,
        keys: &[(Prefix, SigningKey)],
    ) -> bool {
        let rows = &mut self.keys.listeners;
        let others = rows.iter().filter(|row| row.listener != listener).count();
        if others.saturating_add(keys.len()) > LISTENER_KEYS_MAX {
            return false;
        }
        rows.retain(|row| row.listener != listener);
        rows.extend(keys.iter().map(|(peers, key)| ListenerKey {
            listener,
            peers: *peers,
            key: *key,
        }));
        true
    }

    /// Gives a connection a key for its peer, another one, or none. `false`, nothing changed, when the
    /// connection is gone or too many have one.
    pub fn set_signing_key(
        &mut self,
        now: Instant,
        flow: FlowId,
        key: Option<&SigningKey>,
    ) -> bool {
        let own = self.own_tunables.get(&flow.index());
        let mut env = Env {
            now,
            pool: &mut Self::no_pool(),
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: own.unwrap_or(&self.tunables),
        };
        let slot = self.connections.get_mut(flow.key());
        let Some(slot) = slot.filter(|slot| !slot.meta.orphan) else {
            return false;
        };
        if !slot.connection.set_signing_key(key, &mut env) {
            return false;
        }
        self.settle(now, flow.key(), Disposition::Continue);
        true
    }

    /// The key of a connection.
    pub fn signing_key(&self, flow: FlowId) -> Option<SigningKey> {
        let look = |slot: &Slot| slot.connection.signing_key(&self.chunks).copied();
        self.connections.view(flow.key(), look)?
    }

    /// The key that a reset is signed with; an error when there must not be one. A listener or
    /// connection signs with its own key. What belongs to nobody is answered only if it is signed
    /// with the key of whoever listens at the *peer's* port here: a peer of ours that has lost its
    /// connection shall know (Linux: `tcp_v4_send_reset`).
    pub(crate) fn key_of_reset(
        &self,
        arrived: &Arrived<'_, P::Buf>,
        listener: Option<ListenerId>,
    ) -> Result<Option<SigningKey>, DropReason> {
        let header = arrived.header;
        let peer = header.tuple.remote;
        let claims = header.options(&arrived.frame).md5;
        if let Some(listener) = listener {
            let key = self.keys.of_listener(listener, peer.address);
            return Ok(key.copied());
        }
        if !claims {
            return Ok(None);
        }
        let digest = match signature_of(header, &arrived.frame) {
            Signature::Absent => return Ok(None),
            Signature::Malformed => return Err(DropReason::TcpAuthHeader),
            Signature::Present(digest) => digest,
        };
        let mut place = header.tuple.local;
        place.port = peer.port;
        let listener = self.listeners.lookup(place, arrived.hash);
        let key = listener.and_then(|row| self.keys.of_listener(row.id, peer.address));
        let key = key.filter(|key| key.signed(header, &arrived.frame, digest));
        key.copied().map(Some).ok_or(DropReason::NoConnection)
    }
}

impl SigningKey {
    /// Whether a received segment is signed with this key.
    fn signed<B: PacketBuf>(&self, header: &TcpFrame, frame: &B, digest: &Digest) -> bool {
        let (source, destination) = (header.tuple.remote.address, header.tuple.local.address);
        let tcp_at = usize::from(header.options_at).saturating_sub(HEADER_BYTES);
        let payload_at = usize::from(header.payload_at);
        let len = payload_at
            .saturating_sub(tcp_at)
            .saturating_add(header.payload_len as usize);
        let places = (tcp_at, payload_at);
        let expected = self.sign_frame((source, destination), frame, places, len);
        // In the same time wherever they differ.
        expected.is_some_and(|expected| {
            let pairs = expected.iter().zip(digest);
            pairs.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
        })
    }
}

/// Checks a segment against the key for its peer, before it changes anything (Linux:
/// `tcp_inbound_hash`). `header` is what came, its payload included.
#[cold]
pub(crate) fn check<B: PacketBuf>(
    key: Option<&SigningKey>,
    header: &TcpFrame,
    frame: &B,
    stats: &mut Stats,
) -> Result<(), DropReason> {
    match (signature_of(header, frame), key) {
        (Signature::Malformed, _) => Err(DropReason::TcpAuthHeader),
        (Signature::Absent, None) => Ok(()),
        (Signature::Absent, Some(_)) => {
            count!(stats.tcp_md5_not_found);
            Err(DropReason::TcpMd5NotFound)
        }
        (Signature::Present(_), None) => {
            count!(stats.tcp_md5_unexpected);
            Err(DropReason::TcpMd5Unexpected)
        }
        (Signature::Present(digest), Some(key)) if key.signed(header, frame, digest) => Ok(()),
        (Signature::Present(_), Some(_)) => {
            count!(stats.tcp_md5_failure);
            Err(DropReason::TcpMd5Failure)
        }
    }
}

fn signature_of<'a, B: PacketBuf>(header: &TcpFrame, frame: &'a B) -> Signature<'a> {
    let at = usize::from(header.options_at)..usize::from(header.payload_at);
    Signature::find(frame.bytes().get(at).unwrap_or_default())
}

#[cfg(test)]
mod tests;
