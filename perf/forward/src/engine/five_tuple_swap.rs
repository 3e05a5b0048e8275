//! `5tswap`: exchanges source and destination on every layer it finds (Ethernet addresses, IPv4 or
//! IPv6 addresses, TCP or UDP ports) and sends the packet, so that it looks like the answer to
//! itself. No checksum changes. What is not IP only has its Ethernet addresses exchanged; ports of
//! a fragment are exchanged where they are, in the first.

use millrace_base::PacketBuf;
use millrace_dpdk::Mbuf;

use crate::engine::Engine;
use crate::engine::headers::{
    Headers, for_each_prefetched, swap_addresses, swap_macs, swap_neighbours,
};
use crate::settings::Settings;
use crate::stream::Stream;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct FiveTupleSwap;

impl Engine for FiveTupleSwap {
    fn begin(_: &Stream, _: &Settings) -> Self {
        Self
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        if stream.receive() == 0 {
            return false;
        }
        for_each_prefetched(stream.frames_mut().frames_mut(), swap::<Mbuf>);
        stream.transmit();
        true
    }
}

#[inline]
fn swap<B: PacketBuf>(frame: &mut B) {
    let headers = Headers::find(frame.bytes(), frame.frame_len());
    let Some(bytes) = frame.bytes_mut() else {
        return;
    };
    swap_macs(bytes);
    let Some(headers) = headers else {
        return;
    };
    swap_addresses(bytes, headers.network, headers.is_v4);
    if headers.has_ports() {
        swap_neighbours(bytes, headers.transport, 2);
    }
}
