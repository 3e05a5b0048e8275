//! `mac`: gives each packet the sending port's address as its Ethernet source and the address of
//! that port's peer (`--eth-peer`) as its destination, and sends it. What a router does to the
//! Ethernet header.

use millrace_base::PacketBuf;

use crate::engine::Engine;
use crate::engine::headers::{MACS_BYTES, macs, set_macs};
use crate::settings::Settings;
use crate::stream::Stream;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Mac {
    macs: [u8; MACS_BYTES],
}

impl Engine for Mac {
    fn begin(stream: &Stream, _: &Settings) -> Self {
        Self {
            macs: macs(stream.place().peer_mac, stream.place().tx_mac),
        }
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        if stream.receive() == 0 {
            return false;
        }
        for frame in stream.frames_mut().frames_mut() {
            if let Some(bytes) = frame.bytes_mut() {
                set_macs(bytes, &self.macs);
            }
        }
        stream.transmit();
        true
    }
}
