//! Rings with a meaning: commands and events as typed values, frames with their port and reason.
//!
//! A slot that cannot be understood is skipped and counted. Frames are copied: they are the few
//! that are control's business, and their buffers must not be held hostage by another process.

use core::marker::PhantomData;

use millrace_base::PortId;

use crate::command::Command;
use crate::event::Event;
use crate::limits::{
    COMMANDS_MAX, EVENTS_MAX, FRAME_BYTES_MAX, FRAME_WORDS, FRAMES_MAX, MESSAGE_WORDS,
};
use crate::mapping::Projection;
use crate::ring::{Consumer, Full, Producer, Ring};
use crate::words::Words;

/// A value that travels in one message slot.
pub trait Message: Sized {
    /// The slot that carries it.
    fn encode(&self) -> [u64; MESSAGE_WORDS];
    /// What a slot carries; `None` when nothing this version knows.
    fn decode(words: &[u64; MESSAGE_WORDS]) -> Option<Self>;
}

impl Message for Command {
    fn encode(&self) -> [u64; MESSAGE_WORDS] {
        Self::encode(self)
    }

    fn decode(words: &[u64; MESSAGE_WORDS]) -> Option<Self> {
        Self::decode(words)
    }
}

impl Message for Event {
    fn encode(&self) -> [u64; MESSAGE_WORDS] {
        Self::encode(self)
    }

    fn decode(words: &[u64; MESSAGE_WORDS]) -> Option<Self> {
        Self::decode(words)
    }
}

pub(crate) type MessageRing<const CAPACITY: usize> = Ring<MESSAGE_WORDS, CAPACITY>;
pub(crate) type FrameRing = Ring<FRAME_WORDS, FRAMES_MAX>;

/// Sends messages.
#[derive(Debug)]
pub struct Sender<M, const CAPACITY: usize> {
    ring: Producer<Projection<MessageRing<CAPACITY>>, MESSAGE_WORDS, CAPACITY>,
    message: PhantomData<fn(M)>,
}

/// Receives messages.
#[derive(Debug)]
pub struct Receiver<M, const CAPACITY: usize> {
    ring: Consumer<Projection<MessageRing<CAPACITY>>, MESSAGE_WORDS, CAPACITY>,
    undecodable: u64,
    message: PhantomData<fn() -> M>,
}

/// Control's end of a command ring.
pub type CommandSender = Sender<Command, COMMANDS_MAX>;
/// The lcore's end of a command ring.
pub type CommandReceiver = Receiver<Command, COMMANDS_MAX>;
/// The lcore's end of an event ring.
pub type EventSender = Sender<Event, EVENTS_MAX>;
/// Control's end of an event ring.
pub type EventReceiver = Receiver<Event, EVENTS_MAX>;

impl<M: Message, const CAPACITY: usize> Sender<M, CAPACITY> {
    pub(crate) fn new(ring: Projection<MessageRing<CAPACITY>>) -> Self {
        Self {
            ring: Producer::attach(ring),
            message: PhantomData,
        }
    }

    /// Sends one message.
    pub fn push(&mut self, message: &M) -> Result<(), Full> {
        self.ring.push(&message.encode())
    }

    /// Sends messages in order until the ring is full, publishing once; tells how many went.
    pub fn push_batch(&mut self, messages: &[M]) -> usize {
        let mut count = 0;
        for message in messages {
            if self
                .ring
                .stage(|slot| slot.write(0, &message.encode()))
                .is_err()
            {
                break;
            }
            count += 1;
        }
        self.ring.publish();
        count
    }

    /// How often the receiver's index made no sense.
    pub fn corrupted(&self) -> u64 {
        self.ring.corrupted()
    }
}

impl<M: Message, const CAPACITY: usize> Receiver<M, CAPACITY> {
    pub(crate) fn new(ring: Projection<MessageRing<CAPACITY>>) -> Self {
        Self {
            ring: Consumer::attach(ring),
            undecodable: 0,
            message: PhantomData,
        }
    }

    /// Receives one message. Slots that carry none are skipped, at most a ringful of them.
    pub fn pop(&mut self) -> Option<M> {
        for _ in 0..CAPACITY {
            let words = self.ring.pop()?;
            match M::decode(&words) {
                Some(message) => return Some(message),
                None => self.undecodable = self.undecodable.wrapping_add(1),
            }
        }
        None
    }

    /// Receives at most `limit` slots' messages, releasing the slots once; tells how many messages
    /// there were.
    pub fn pop_batch(&mut self, limit: usize, mut receive: impl FnMut(M)) -> usize {
        let (mut taken, mut count) = (0, 0);
        while taken < limit {
            let mut words = [0; MESSAGE_WORDS];
            if self.ring.take(|slot| slot.read(0, &mut words)).is_none() {
                break;
            }
            taken += 1;
            match M::decode(&words) {
                Some(message) => {
                    count += 1;
                    receive(message);
                }
                None => self.undecodable = self.undecodable.wrapping_add(1),
            }
        }
        if taken > 0 {
            self.ring.release();
        }
        count
    }

    /// Slots that carried no message this version knows.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// How often the sender's index made no sense.
    pub fn corrupted(&self) -> u64 {
        self.ring.corrupted()
    }
}

/// Why a frame did not go into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRefused {
    /// No free slot.
    Full,
    /// More than `FRAME_BYTES_MAX` bytes.
    TooLong,
}

impl core::fmt::Display for FrameRefused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "the ring is full",
            Self::TooLong => "the frame is longer than a slot",
        })
    }
}

impl core::error::Error for FrameRefused {}

/// Sends frames. Word 0 of a slot is length, port, reason and zero, 16 bits each; the frame's bytes
/// follow.
#[derive(Debug)]
pub struct FrameSender {
    ring: Producer<Projection<FrameRing>, FRAME_WORDS, FRAMES_MAX>,
}

/// Receives frames.
#[derive(Debug)]
pub struct FrameReceiver {
    ring: Consumer<Projection<FrameRing>, FRAME_WORDS, FRAMES_MAX>,
    scratch: Box<[u8; FRAME_BYTES_MAX]>,
    malformed: u64,
}

impl FrameSender {
    pub(crate) fn new(ring: Projection<FrameRing>) -> Self {
        Self {
            ring: Producer::attach(ring),
        }
    }

    /// Sends a frame that came from, or shall leave by, `port`; `reason` means what the two ends
    /// agree on.
    pub fn push(&mut self, port: PortId, reason: u16, frame: &[u8]) -> Result<(), FrameRefused> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(FrameRefused::TooLong);
        }
        let staged = self
            .ring
            .stage(|slot| write_frame(slot, port, reason, frame));
        staged.map_err(|Full| FrameRefused::Full)?;
        self.ring.publish();
        Ok(())
    }

    /// How often the receiver's index made no sense.
    pub fn corrupted(&self) -> u64 {
        self.ring.corrupted()
    }
}

impl FrameReceiver {
    pub(crate) fn new(ring: Projection<FrameRing>) -> Self {
        let scratch = Box::new([0; FRAME_BYTES_MAX]);
        Self {
            ring: Consumer::attach(ring),
            scratch,
            malformed: 0,
        }
    }

    /// Receives one frame: port, reason, bytes. Slots with an impossible length are skipped, at
    /// most a ringful of them.
    pub fn pop<T>(&mut self, receive: impl FnOnce(PortId, u16, &[u8]) -> T) -> Option<T> {
        for _ in 0..FRAMES_MAX {
            let scratch = &mut self.scratch;
            let header = self.ring.take(|slot| read_frame(slot, scratch))?;
            self.ring.release();
            if let Some((port, reason, length)) = header {
                return Some(receive(port, reason, &self.scratch[..length]));
            }
            self.malformed = self.malformed.wrapping_add(1);
        }
        None
    }

    /// Slots whose length was impossible.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// How often the sender's index made no sense.
    pub fn corrupted(&self) -> u64 {
        self.ring.corrupted()
    }
}

fn write_frame(slot: &Words<FRAME_WORDS>, port: PortId, reason: u16, frame: &[u8]) {
    // The caller checked the length against `FRAME_BYTES_MAX`, which fits 16 bits.
    let header = frame.len() as u64 | u64::from(port.number()) << 16 | u64::from(reason) << 32;
    slot.store(0, header);
    let (chunks, rest) = frame.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        slot.store(1 + index, u64::from_ne_bytes(*chunk));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        slot.store(1 + chunks.len(), u64::from_ne_bytes(last));
    }
}

fn read_frame(
    slot: &Words<FRAME_WORDS>,
    scratch: &mut [u8; FRAME_BYTES_MAX],
) -> Option<(PortId, u16, usize)> {
    let header = slot.load(0);
    let length = usize::from(header as u16);
    if length > FRAME_BYTES_MAX {
        return None;
    }
    let (chunks, _) = scratch.as_chunks_mut::<8>();
    for (index, chunk) in chunks.iter_mut().take(length.div_ceil(8)).enumerate() {
        *chunk = slot.load(1 + index).to_ne_bytes();
    }
    Some((
        PortId::new((header >> 16) as u16),
        (header >> 32) as u16,
        length,
    ))
}

const _: () = assert!(FRAME_BYTES_MAX <= u16::MAX as usize && FRAME_BYTES_MAX.is_multiple_of(8));
