//! Packet buffers on the heap: the same contract as an mbuf, for tests, scripts and simulation.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::buf::{HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool, RxMeta, TxOffload};

/// One segment of reference-counted heap memory, and the rest of its chain.
#[derive(Debug)]
pub struct HeapBuf {
    memory: Rc<Memory>,
    offset: usize,
    len: usize,
    next: Option<Box<HeapBuf>>,
    /// What the receiving device said; settable by tests.
    pub meta: RxMeta,
    /// What the sender asked of the device; readable by tests.
    pub offload: TxOffload,
}

#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    home: Option<Rc<Home>>,
}

/// What a pool and its buffers share.
#[derive(Debug)]
struct Home(RefCell<Account>);

#[derive(Debug)]
struct Account {
    live: usize,
    /// Memory that came back, to be handed out again as it is.
    free: Vec<Vec<u8>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let mut account = home.0.borrow_mut();
            account.live = account.live.saturating_sub(1);
            account.free.push(core::mem::take(&mut self.bytes));
        }
    }
}

/// A pool of heap buffers with a fixed number of them, so that tests can run out and can count leaks.
///
/// Memory is used again, last in first out, with the bytes of its previous life in it, as a mempool's is: what a
/// measurement sees is not the allocator, and what a test sees is not all zeroes.
#[derive(Debug)]
pub struct HeapPool {
    capacity: usize,
    buffer_bytes: usize,
    home: Rc<Home>,
}

impl HeapBuf {
    /// A received frame: the given bytes behind the default headroom, with room behind for nothing.
    pub fn from_frame(frame: &[u8]) -> Self {
        let mut bytes = vec![0; HEADROOM_BYTES_DEFAULT];
        bytes.extend_from_slice(frame);
        Self::over(
            Memory { bytes, home: None },
            HEADROOM_BYTES_DEFAULT,
            frame.len(),
        )
    }

    /// All bytes of the chain in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().flatten().copied().collect()
    }

    fn over(memory: Memory, offset: usize, len: usize) -> Self {
        Self {
            memory: Rc::new(memory),
            offset,
            len,
            next: None,
            meta: RxMeta::default(),
            offload: TxOffload::default(),
        }
    }

    fn end(&self) -> usize {
        self.offset.saturating_add(self.len)
    }
}

impl PacketBuf for HeapBuf {
    fn bytes(&self) -> &[u8] {
        self.memory
            .bytes
            .get(self.offset..self.end())
            .unwrap_or(&[])
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let span = self.offset..self.end();
        Rc::get_mut(&mut self.memory)?.bytes.get_mut(span)
    }

    fn offset(&self) -> usize {
        self.offset
    }

    fn capacity(&self) -> usize {
        self.memory.bytes.len()
    }

    fn set_span(&mut self, offset: usize, len: usize) -> bool {
        let fits = offset
            .checked_add(len)
            .is_some_and(|end| end <= self.capacity());
        if !fits || !self.is_unique() {
            return false;
        }
        self.offset = offset;
        self.len = len;
        true
    }

    fn frame_len(&self) -> usize {
        match &self.next {
            None => self.len,
            Some(_) => self.segments().map(<[u8]>::len).sum(),
        }
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::successors(Some(self), |segment| segment.next.as_deref()).map(Self::bytes)
    }

    fn detach_next(&mut self) -> Option<Self> {
        if !self.is_unique() {
            return None;
        }
        self.next.take().map(|next| *next)
    }

    fn append(&mut self, tail: Self) -> Result<(), Self> {
        let segments = self
            .segments()
            .count()
            .saturating_add(tail.segments().count());
        if !self.is_unique() || segments > usize::from(u8::MAX) {
            return Err(tail);
        }
        let mut last = self;
        while let Some(ref mut next) = last.next {
            last = next;
        }
        last.next = Some(Box::new(tail));
        Ok(())
    }

    fn is_unique(&self) -> bool {
        Rc::strong_count(&self.memory) == 1
    }

    fn share(&self) -> Option<Self> {
        let next = match &self.next {
            Some(next) => Some(Box::new(next.share()?)),
            None => None,
        };
        Some(Self {
            memory: Rc::clone(&self.memory),
            offset: self.offset,
            len: self.len,
            next,
            meta: self.meta,
            offload: self.offload,
        })
    }

    fn rx_meta(&self) -> RxMeta {
        self.meta
    }

    fn set_tx_offload(&mut self, offload: TxOffload) -> bool {
        let unique = self.is_unique();
        if unique {
            self.offload = offload;
        }
        unique
    }
}

impl HeapPool {
    /// A pool of `capacity` buffers of `buffer_bytes` each, headroom included.
    pub fn new(capacity: usize, buffer_bytes: usize) -> Self {
        Self {
            capacity,
            buffer_bytes,
            home: Rc::new(Home(RefCell::new(Account {
                live: 0,
                // Giving memory back must not allocate.
                free: Vec::with_capacity(capacity),
            }))),
        }
    }

    /// A received frame in a buffer of this pool; `None` when the pool is empty or the frame does not fit.
    pub fn receive(&mut self, frame: &[u8]) -> Option<HeapBuf> {
        let mut buf = self.alloc()?;
        if !buf.set_span(HEADROOM_BYTES_DEFAULT, frame.len()) {
            return None;
        }
        buf.bytes_mut()?.copy_from_slice(frame);
        Some(buf)
    }

    /// Buffers handed out and not yet dropped: 0 when nothing leaks.
    pub fn live(&self) -> usize {
        self.home.0.borrow().live
    }
}

impl PacketPool for HeapPool {
    type Buf = HeapBuf;

    fn alloc(&mut self) -> Option<HeapBuf> {
        let mut account = self.home.0.borrow_mut();
        if account.live >= self.capacity {
            return None;
        }
        account.live = account.live.saturating_add(1);
        let bytes = account.free.pop();
        drop(account);
        let memory = Memory {
            bytes: bytes.unwrap_or_else(|| vec![0; self.buffer_bytes]),
            home: Some(Rc::clone(&self.home)),
        };
        Some(HeapBuf::over(
            memory,
            HEADROOM_BYTES_DEFAULT.min(self.buffer_bytes),
            0,
        ))
    }

    fn view(&mut self, of: &HeapBuf, offset: usize, len: usize) -> Option<HeapBuf> {
        let end = offset.checked_add(len)?;
        if end > of.capacity() {
            return None;
        }
        Some(HeapBuf {
            memory: Rc::clone(&of.memory),
            offset,
            len,
            next: None,
            meta: RxMeta::default(),
            offload: TxOffload::default(),
        })
    }

    fn available(&self) -> usize {
        self.capacity.saturating_sub(self.live())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_segment_refuses_every_change() {
        let mut buf = HeapBuf::from_frame(b"payload");
        let other = buf.share().expect("shares");
        assert!(buf.bytes_mut().is_none());
        assert!(!buf.set_span(0, 3));
        assert!(!buf.set_tx_offload(TxOffload::default()));
        assert!(buf.append(HeapBuf::from_frame(b"x")).is_err());
        drop(other);
        assert!(buf.is_unique() && buf.set_span(HEADROOM_BYTES_DEFAULT - 4, 11));
        assert_eq!(buf.bytes(), b"\0\0\0\0payload");
        assert!(!buf.set_span(HEADROOM_BYTES_DEFAULT, 8));
    }

    #[test]
    fn memory_that_came_back_is_handed_out_again_as_it_is() {
        let mut pool = HeapPool::new(1, 256);
        drop(pool.receive(b"before").expect("room"));
        let mut buf = pool.alloc().expect("room");
        assert!(buf.bytes().is_empty() && pool.alloc().is_none());
        assert!(buf.set_span(HEADROOM_BYTES_DEFAULT, 6));
        assert_eq!((buf.bytes(), buf.capacity()), (&b"before"[..], 256));
    }

    #[test]
    fn a_view_chained_behind_a_header_shares_the_payload() {
        let mut pool = HeapPool::new(2, 2_048);
        let payload = pool.receive(b"0123456789").expect("room");
        let mut header = pool.alloc().expect("room");
        assert!(pool.alloc().is_none());
        assert!(header.set_span(100, 3));
        header.bytes_mut().expect("unique").copy_from_slice(b"hdr");
        let view = pool.view(&payload, payload.offset() + 2, 5).expect("fits");
        header.append(view).expect("unique");
        assert!(!payload.is_unique());
        assert_eq!(header.to_vec(), b"hdr23456");
        assert_eq!(header.frame_len(), 8);
        let tail = header.detach_next().expect("chained");
        assert_eq!(tail.to_vec(), b"23456");
        drop(tail);
        assert!(payload.is_unique());
        drop((payload, header));
        assert_eq!(pool.live(), 0);
    }
}
