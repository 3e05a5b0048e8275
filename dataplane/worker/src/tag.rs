//! The VLAN tag of a port, for frames that control sends and receives.
//!
//! Control knows nothing of VLANs: what it gets carries no tag, what it sends gets the port's here. Frames of connections
//! do not come this way: the stack writes the tag itself, or asks the device to (`stack/src/path.rs`), and checks the one
//! that arrives (`stack/src/dispatch.rs`).

use millrace_base::{PacketBuf, PacketPool, TxOffload, VlanId};
use millrace_dpdk::{PortConfig, RxOffloads, TxOffloads};
use millrace_stack::Offloads;
use millrace_wire::EthernetView;
use millrace_wire::ethernet::{HEADER_BYTES, TAG_BYTES};

/// The two addresses of an Ethernet header; a tag comes behind them.
const ADDRESSES_BYTES: usize = 12;

/// What to ask of the device of a port in this VLAN. Without one, a tag stays in the frame, where the stack sees it.
pub(crate) fn wishes(vlan: Option<VlanId>) -> PortConfig {
    let mut config = PortConfig::default();
    if vlan.is_some() {
        config.rx_offloads = config.rx_offloads.with(RxOffloads::VLAN_STRIP);
        config.tx_offloads = config.tx_offloads.with(TxOffloads::VLAN_INSERT);
    }
    config
}

/// Bytes that the tag adds to a frame at most.
pub(crate) fn bytes_in_frame(vlan: Option<VlanId>) -> u16 {
    if vlan.is_some() { TAG_BYTES as u16 } else { 0 }
}

/// A buffer with a frame of control's, tagged as the port wants it. `None`: no buffer, or it does not fit one.
pub(crate) fn to_mbuf<P: PacketPool>(
    pool: &mut P,
    bytes: &[u8],
    offloads: &Offloads,
) -> Option<P::Buf> {
    let mut frame = pool.alloc()?;
    let offset = frame.offset();
    let in_frame = offloads.vlan.filter(|_| !offloads.vlan_insert);
    let Some(vlan) = in_frame else {
        if !frame.set_span(offset, bytes.len()) {
            return None;
        }
        frame.bytes_mut()?.copy_from_slice(bytes);
        let request = TxOffload {
            l2_len: HEADER_BYTES as u8,
            vlan: offloads.vlan,
            ..TxOffload::default()
        };
        return frame.set_tx_offload(request).then_some(frame);
    };
    if !frame.set_span(offset, bytes.len().checked_add(TAG_BYTES)?) {
        return None;
    }
    let (addresses, rest) = bytes.split_at_checked(ADDRESSES_BYTES)?;
    let (to_addresses, to_rest) = frame.bytes_mut()?.split_at_mut_checked(ADDRESSES_BYTES)?;
    to_addresses.copy_from_slice(addresses);
    let (to_tag, to_rest) = to_rest.split_at_mut_checked(TAG_BYTES)?;
    let [a, b] = vlan.number().to_be_bytes();
    to_tag.copy_from_slice(&[0x81, 0x00, a, b]);
    to_rest.copy_from_slice(rest);
    Some(frame)
}

/// Takes the customer tag off a received frame, if it has one; a frame that somebody else holds stays as it is.
pub(crate) fn take_off(frame: &mut impl PacketBuf) {
    let is_tagged =
        EthernetView::parse(frame.bytes()).is_ok_and(|ethernet| ethernet.customer_vlan().is_some());
    if !is_tagged || !frame.is_unique() {
        return;
    }
    let (offset, len) = (frame.offset(), frame.bytes().len());
    if let Some(bytes) = frame.bytes_mut() {
        bytes.copy_within(..ADDRESSES_BYTES, TAG_BYTES);
    }
    // The bytes are there: the header was just read.
    let _ = frame.set_span(
        offset.saturating_add(TAG_BYTES),
        len.saturating_sub(TAG_BYTES),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::HeapPool;

    fn frame() -> Vec<u8> {
        let mut frame: Vec<u8> = (0..64).collect();
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        frame
    }

    fn port(vlan_insert: bool) -> Offloads {
        Offloads {
            vlan: VlanId::new(100),
            vlan_insert,
            ..Offloads::default()
        }
    }

    #[test]
    fn a_frame_of_control_is_tagged_and_comes_back_without() {
        let mut pool = HeapPool::new(4, 2_048);
        let mut tagged = to_mbuf(&mut pool, &frame(), &port(false)).expect("fits");
        assert_eq!(tagged.bytes().len(), 68);
        let view = EthernetView::parse(tagged.bytes()).expect("a frame");
        assert_eq!(view.customer_vlan(), Some(100));
        take_off(&mut tagged);
        assert_eq!(tagged.bytes(), frame());
        take_off(&mut tagged);
        assert_eq!(tagged.bytes(), frame(), "there was no second tag");
    }

    #[test]
    fn a_device_that_inserts_the_tag_gets_the_frame_as_it_is() {
        let mut pool = HeapPool::new(4, 2_048);
        let asked = to_mbuf(&mut pool, &frame(), &port(true)).expect("fits");
        assert_eq!(asked.bytes(), frame());
        assert_eq!(asked.offload.vlan, VlanId::new(100));
        let plain = to_mbuf(&mut pool, &frame(), &Offloads::default()).expect("fits");
        assert_eq!((plain.bytes(), plain.offload.vlan), (&frame()[..], None));
    }

    // Too short for a header: control would not, but nothing may panic.
    #[test]
    fn a_stub_of_a_frame_cannot_be_tagged() {
        let mut pool = HeapPool::new(4, 2_048);
        assert!(to_mbuf(&mut pool, &[0; 11], &port(false)).is_none());
    }
}
