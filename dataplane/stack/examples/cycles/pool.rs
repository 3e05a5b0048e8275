//! Packet buffers that are taken once and used again, as a mempool's are: what the stack costs is
//! not hidden behind the allocator.

use std::cell::RefCell;
use std::rc::Rc;

use millrace_base::{
    ChecksumStatus, HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool, RxMeta, TxOffload,
};

const BUFFER_BYTES: usize = 2_176;

type Memory = Rc<Box<[u8]>>;
type Free = Rc<RefCell<Vec<Memory>>>;

/// A pool of recycled buffers.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Free,
    meta: RxMeta,
}

/// A handle to one buffer, and the rest of its chain.
#[derive(Debug)]
pub(crate) struct Buf {
    /// Empty only while it is dropped.
    memory: Option<Memory>,
    free: Free,
    offset: usize,
    len: usize,
    next: Option<Box<Buf>>,
    meta: RxMeta,
}

impl Pool {
    /// `verified`: received frames come with checksums that the device has checked.
    pub(crate) fn new(buffers: usize, verified: bool) -> Self {
        let status = if verified {
            ChecksumStatus::Good
        } else {
            ChecksumStatus::Unknown
        };
        let memory = || Rc::new(vec![0; BUFFER_BYTES].into_boxed_slice());
        Self {
            free: Rc::new(RefCell::new((0..buffers).map(|_| memory()).collect())),
            meta: RxMeta {
                ip_checksum: status,
                l4_checksum: status,
                rss_hash: None,
            },
        }
    }

    /// A received frame with the bytes of `frame`, in one piece.
    pub(crate) fn receive(&mut self, frame: &Buf) -> Buf {
        let mut buf = self.alloc().expect("a buffer");
        assert!(buf.set_span(HEADROOM_BYTES_DEFAULT, frame.frame_len()));
        let mut to = buf.bytes_mut().expect("a fresh buffer");
        for piece in frame.segments() {
            let (here, rest) = to.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            to = rest;
        }
        buf.meta = self.meta;
        buf
    }
}

impl PacketPool for Pool {
    type Buf = Buf;

    fn alloc(&mut self) -> Option<Buf> {
        Some(Buf {
            memory: Some(self.free.borrow_mut().pop()?),
            free: Rc::clone(&self.free),
            offset: HEADROOM_BYTES_DEFAULT,
            len: 0,
            next: None,
            meta: RxMeta::default(),
        })
    }

    fn view(&mut self, of: &Buf, offset: usize, len: usize) -> Option<Buf> {
        (offset + len <= of.capacity()).then(|| Buf {
            memory: of.memory.clone(),
            free: Rc::clone(&of.free),
            offset,
            len,
            next: None,
            meta: RxMeta::default(),
        })
    }

    fn available(&self) -> usize {
        self.free.borrow().len()
    }
}

impl Buf {
    fn memory(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| memory)
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take()
            && Rc::strong_count(&memory) == 1
        {
            self.free.borrow_mut().push(memory);
        }
    }
}

impl PacketBuf for Buf {
    fn bytes(&self) -> &[u8] {
        &self.memory()[self.offset..self.offset + self.len]
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let memory = Rc::get_mut(self.memory.as_mut()?)?;
        Some(&mut memory[self.offset..self.offset + self.len])
    }

    fn offset(&self) -> usize {
        self.offset
    }

    fn capacity(&self) -> usize {
        BUFFER_BYTES
    }

    fn set_span(&mut self, offset: usize, len: usize) -> bool {
        let may = offset + len <= BUFFER_BYTES && self.is_unique();
        if may {
            (self.offset, self.len) = (offset, len);
        }
        may
    }

    fn frame_len(&self) -> usize {
        self.segments().map(<[u8]>::len).sum()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::successors(Some(self), |segment| segment.next.as_deref()).map(Self::bytes)
    }

    fn detach_next(&mut self) -> Option<Self> {
        self.next.take().map(|next| *next)
    }

    fn append(&mut self, tail: Self) -> Result<(), Self> {
        let mut last = self;
        while let Some(ref mut next) = last.next {
            last = next;
        }
        last.next = Some(Box::new(tail));
        Ok(())
    }

    fn is_unique(&self) -> bool {
        self.memory
            .as_ref()
            .is_some_and(|memory| Rc::strong_count(memory) == 1)
    }

    fn share(&self) -> Option<Self> {
        let next = match &self.next {
            Some(next) => Some(Box::new(next.share()?)),
            None => None,
        };
        Some(Self {
            memory: self.memory.clone(),
            free: Rc::clone(&self.free),
            next,
            ..*self
        })
    }

    fn rx_meta(&self) -> RxMeta {
        self.meta
    }

    fn set_tx_offload(&mut self, _offload: TxOffload) -> bool {
        self.is_unique()
    }
}
