//! Packet buffers that are taken once and used again, as a mempool's are: what the stack costs is
//! not hidden behind the allocator.
//!
//! They have the shape of an mbuf: a handle is one word, a span belongs to the buffer and not to
//! the handle, and a view is a buffer of its own on another one's memory.

use std::cell::RefCell;
use std::rc::Rc;

use millrace_base::{
    ChecksumStatus, HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool, RxMeta, TxOffload,
};

const BUFFER_BYTES: usize = 2_176;

/// Buffers and views that nobody holds.
#[derive(Debug, Default)]
struct Free {
    buffers: RefCell<Vec<Rc<Segment>>>,
    views: RefCell<Vec<Rc<Segment>>>,
}

#[derive(Debug)]
enum Memory {
    Own(Box<[u8; BUFFER_BYTES]>),
    /// `None` only while the view is free.
    Of(Option<Buf>),
}

#[derive(Debug)]
struct Segment {
    memory: Memory,
    offset: u32,
    len: u32,
    next: Option<Buf>,
    meta: RxMeta,
    free: Rc<Free>,
}

/// A pool of recycled buffers.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Rc<Free>,
    meta: RxMeta,
}

/// A handle to one buffer, and the rest of its chain. Empty only while it is dropped.
#[derive(Debug)]
pub(crate) struct Buf(Option<Rc<Segment>>);

impl Pool {
    /// `verified`: received frames come with checksums that the device has checked.
    pub(crate) fn new(buffers: usize, verified: bool) -> Self {
        let status = if verified {
            ChecksumStatus::Good
        } else {
            ChecksumStatus::Unknown
        };
        let free = Rc::new(Free::default());
        let fill = |memory: fn() -> Memory| -> Vec<Rc<Segment>> {
            (0..buffers)
                .map(|_| Rc::new(Segment::new(memory(), &free)))
                .collect()
        };
        let own = || Memory::Own(Box::new([0; BUFFER_BYTES]));
        free.buffers.borrow_mut().extend(fill(own));
        free.views.borrow_mut().extend(fill(|| Memory::Of(None)));
        Self {
            free,
            meta: RxMeta {
                ip_checksum: status,
                l4_checksum: status,
                rss_hash: None,
                stripped_vlan: None,
                segment_bytes: 0,
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
        buf.alone().expect("a fresh buffer").meta = self.meta;
        buf
    }
}

impl PacketPool for Pool {
    type Buf = Buf;

    fn alloc(&mut self) -> Option<Buf> {
        let mut buf = Buf(Some(self.free.buffers.borrow_mut().pop()?));
        let segment = buf.alone()?;
        (segment.offset, segment.len) = (HEADROOM_BYTES_DEFAULT as u32, 0);
        segment.meta = RxMeta::default();
        Some(buf)
    }

    fn view(&mut self, of: &Buf, offset: usize, len: usize) -> Option<Buf> {
        let parent = of.share()?;
        let mut view = Buf(Some(self.free.views.borrow_mut().pop()?));
        let segment = view.alone()?;
        (segment.offset, segment.len) = (offset as u32, len as u32);
        segment.memory = Memory::Of(Some(parent));
        (offset + len <= BUFFER_BYTES).then_some(view)
    }

    fn available(&self) -> usize {
        self.free.buffers.borrow().len()
    }
}

impl Segment {
    fn new(memory: Memory, free: &Rc<Free>) -> Self {
        Self {
            memory,
            offset: 0,
            len: 0,
            next: None,
            meta: RxMeta::default(),
            free: Rc::clone(free),
        }
    }

    fn memory(&self) -> &[u8] {
        match &self.memory {
            Memory::Own(bytes) => &bytes[..],
            Memory::Of(parent) => parent.as_ref().map_or(&[], |buf| buf.segment().memory()),
        }
    }
}

impl Buf {
    fn segment(&self) -> &Segment {
        self.0.as_ref().expect("not being dropped")
    }

    fn alone(&mut self) -> Option<&mut Segment> {
        Rc::get_mut(self.0.as_mut()?)
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let Some(segment) = self.alone() else {
            return;
        };
        drop(segment.next.take());
        let is_view = match &mut segment.memory {
            Memory::Own(_) => false,
            Memory::Of(parent) => {
                drop(parent.take());
                true
            }
        };
        if let Some(segment) = self.0.take() {
            let free = &segment.free;
            let list = if is_view { &free.views } else { &free.buffers };
            list.borrow_mut().push(Rc::clone(&segment));
        }
    }
}

impl PacketBuf for Buf {
    fn bytes(&self) -> &[u8] {
        let segment = self.segment();
        let start = segment.offset as usize;
        &segment.memory()[start..start + segment.len as usize]
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let segment = self.alone()?;
        let start = segment.offset as usize;
        match &mut segment.memory {
            Memory::Own(bytes) => bytes.get_mut(start..start + segment.len as usize),
            Memory::Of(_) => None,
        }
    }

    fn offset(&self) -> usize {
        self.segment().offset as usize
    }

    fn capacity(&self) -> usize {
        BUFFER_BYTES
    }

    fn set_span(&mut self, offset: usize, len: usize) -> bool {
        let Some(segment) = self.alone().filter(|_| offset + len <= BUFFER_BYTES) else {
            return false;
        };
        (segment.offset, segment.len) = (offset as u32, len as u32);
        true
    }

    fn frame_len(&self) -> usize {
        let segment = self.segment();
        let rest = segment.next.as_ref().map_or(0, Self::frame_len);
        segment.len as usize + rest
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::successors(Some(self), |buf| buf.segment().next.as_ref()).map(Self::bytes)
    }

    fn detach_next(&mut self) -> Option<Self> {
        self.alone()?.next.take()
    }

    fn append(&mut self, tail: Self) -> Result<(), Self> {
        let Some(segment) = self.alone() else {
            return Err(tail);
        };
        match &mut segment.next {
            Some(next) => next.append(tail),
            None => {
                segment.next = Some(tail);
                Ok(())
            }
        }
    }

    fn is_unique(&self) -> bool {
        let segment = self.0.as_ref();
        segment.is_some_and(|segment| Rc::strong_count(segment) == 1)
    }

    fn share(&self) -> Option<Self> {
        Some(Self(self.0.clone()))
    }

    fn rx_meta(&self) -> RxMeta {
        self.segment().meta
    }

    fn set_tx_offload(&mut self, _offload: TxOffload) -> bool {
        self.is_unique()
    }
}
