//! The bytes of a message slot, written and read field by field. Nothing here can fail: a slot is
//! larger than any message, and any bytes are readable.

use millrace_base::{Address, Endpoint};

use crate::limits::{MESSAGE_BYTES, MESSAGE_WORDS};

/// Writes fields one after the other.
pub(crate) struct Encoder {
    bytes: [u8; MESSAGE_BYTES],
    position: usize,
}

/// Reads fields one after the other.
pub(crate) struct Decoder {
    bytes: [u8; MESSAGE_BYTES],
    position: usize,
}

impl Encoder {
    pub(crate) fn new(tag: u8) -> Self {
        let mut encoder = Self {
            bytes: [0; MESSAGE_BYTES],
            position: 0,
        };
        encoder.u8(tag);
        encoder
    }

    pub(crate) fn finish(self) -> [u64; MESSAGE_WORDS] {
        let (chunks, _) = self.bytes.as_chunks::<8>();
        core::array::from_fn(|index| u64::from_ne_bytes(chunks[index]))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.position..self.position + bytes.len()].copy_from_slice(bytes);
        self.position += bytes.len();
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn address(&mut self, address: Address) -> &mut Self {
        self.bytes(address.octets())
    }

    pub(crate) fn endpoint(&mut self, endpoint: Endpoint) -> &mut Self {
        self.address(endpoint.address).u16(endpoint.port)
    }
}

impl Decoder {
    pub(crate) fn new(words: &[u64; MESSAGE_WORDS]) -> Self {
        let mut bytes = [0; MESSAGE_BYTES];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *chunk = word.to_ne_bytes();
        }
        Self { bytes, position: 0 }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[self.position..self.position + N]);
        self.position += N;
        out
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_ne_bytes(self.bytes())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.bytes())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.bytes())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.bytes())
    }

    pub(crate) fn address(&mut self) -> Address {
        Address::v6(self.bytes())
    }

    pub(crate) fn endpoint(&mut self) -> Endpoint {
        Endpoint::new(self.address(), self.u16())
    }
}
