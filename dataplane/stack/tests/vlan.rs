//! Ports with a VLAN: what of a wire is theirs, and what they send (IEEE 802.1Q-2022 section 6.9).

mod wire;

use millrace_base::{HeapBuf, PacketBuf, PortId, RxMeta, VlanId};
use millrace_stack::{DropReason, Offloads, PuntReason, Ready};
use millrace_wire::{EtherType, EthernetView, ethernet};
use wire::{World, address, interface, listener, mac, pattern, tuple};

const PORT: PortId = PortId::new(0);
const VLAN: u16 = 100;

/// A chain of two nodes whose link is in a VLAN; the devices insert the tag or leave it to the stack.
fn tagged_link(vlan_insert: bool) -> World {
    let mut world = World::chain(1, 2);
    for (index, port, last) in [(0, 1, 1), (1, 0, 2)] {
        let addresses = [address(false, 0, last), address(true, 0, last)];
        let mut interface = interface(port, mac(index, port), &addresses);
        interface.offloads = Offloads {
            vlan: VlanId::new(VLAN),
            vlan_insert,
            ..interface.offloads
        };
        world.nodes[index]
            .stack
            .set_interfaces(world.now, &[interface]);
    }
    world.resolve_all();
    let listeners = [false, true].map(|v6| listener(1 + u16::from(v6), address(v6, 0, 2), 80));
    world.nodes[1].stack.set_listeners(&listeners);
    world
}

fn arp(tag: Option<(EtherType, u16)>) -> Vec<u8> {
    let mut frame = vec![0; 60];
    let (to, from) = (mac(1, 0), mac(0, 1));
    ethernet::emit(&mut frame, to, from, EtherType::ARP).expect("room");
    if let Some((kind, id)) = tag {
        let [a, b] = kind.0.to_be_bytes();
        let [c, d] = id.to_be_bytes();
        frame.splice(12..12, [a, b, c, d]);
    }
    frame
}

// behaviour: NIC-21
#[test]
fn a_connection_lives_in_the_vlan_of_its_ports_in_both_families() {
    for v6 in [false, true] {
        let mut world = tagged_link(false);
        world.recorded = Some(Vec::new());
        let flow = world.nodes[0]
            .stack
            .connect(
                world.now,
                tuple(address(v6, 0, 1), 40_000, address(v6, 0, 2), 80),
                0,
            )
            .expect("connects");
        world.run_until(2_000, |world| {
            world.ready(0, flow).contains(Ready::CONNECTED) && world.accepted(1).is_some()
        });
        let server = world.accepted(1).expect("accepted");
        let (data, mut sent, mut received) = (pattern(20_000), 0, Vec::new());
        world.run_until(10_000, |world| {
            world.send(0, flow, &data, &mut sent);
            world.receive(1, server, &mut received);
            received.len() == data.len()
        });
        assert_eq!(received, data);
        for frame in world.recorded.take().expect("recorded") {
            let view = EthernetView::parse(&frame).expect("a frame");
            assert_eq!(view.customer_vlan(), Some(VLAN));
            assert!(frame.len() <= 18 + 1_500);
        }
    }
}

#[test]
fn a_device_that_inserts_tags_is_asked_for_every_frame() {
    let mut world = tagged_link(true);
    let ports = tuple(address(false, 0, 1), 40_000, address(false, 0, 2), 80);
    let node = &mut world.nodes[0];
    node.stack.connect(world.now, ports, 0).expect("connects");
    let syn = node
        .stack
        .poll_transmit(world.now, &mut node.pool)
        .expect("a SYN")
        .frame;
    assert_eq!(
        EthernetView::parse(syn.bytes())
            .expect("a frame")
            .header_len(),
        14
    );
    assert_eq!(
        (syn.offload.vlan, syn.offload.l2_len),
        (VlanId::new(VLAN), 14)
    );
}

/// How many frames were dropped as of another VLAN, and how many ARP frames were handed on.
fn outcome(world: &World) -> (u64, usize) {
    let node = &world.nodes[1];
    let punts = node.punts.iter();
    let arps = punts.filter(|punt| punt.reason == PuntReason::Arp).count();
    (
        node.stack.stats().drops[DropReason::WrongVlan.index()],
        arps,
    )
}

#[test]
fn a_port_takes_the_frames_of_its_vlan_and_counts_the_others() {
    let mut tagged = tagged_link(false);
    let others = [
        None,
        Some((EtherType::VLAN, 0)),
        Some((EtherType::VLAN, VLAN + 1)),
        Some((EtherType::SERVICE_VLAN, VLAN)),
    ];
    for tag in others {
        tagged.deliver(1, PORT, &arp(tag));
    }
    assert_eq!(outcome(&tagged), (4, 0));
    // Priority and drop eligibility are not part of the identifier.
    tagged.deliver(1, PORT, &arp(Some((EtherType::VLAN, 0xf000 | VLAN))));
    assert_eq!(outcome(&tagged), (4, 1));
}

#[test]
fn a_port_without_a_vlan_takes_priority_tagged_frames_and_no_others() {
    let mut untagged = World::chain(1, 2);
    untagged.deliver(1, PORT, &arp(None));
    untagged.deliver(1, PORT, &arp(Some((EtherType::VLAN, 0x6000))));
    assert_eq!(outcome(&untagged), (0, 2));
    untagged.deliver(1, PORT, &arp(Some((EtherType::VLAN, VLAN))));
    untagged.deliver(1, PORT, &arp(Some((EtherType::SERVICE_VLAN, 0))));
    assert_eq!(outcome(&untagged), (2, 2));
}

// A device that strips the tag hands it over beside the frame; a second tag is still inside.
#[test]
fn a_stripped_tag_counts_as_a_tag() {
    let mut world = tagged_link(false);
    let mut deliver = |stripped, tag| {
        let node = &mut world.nodes[1];
        let mut frame: HeapBuf = node.pool.receive(&arp(tag)).expect("room");
        frame.meta = RxMeta {
            stripped_vlan: Some(stripped),
            ..RxMeta::default()
        };
        let punt = node.stack.handle(world.now, PORT, frame, &mut node.pool);
        punt.is_some()
    };
    assert!(deliver(VLAN, None));
    assert!(!deliver(VLAN + 1, None));
    assert!(!deliver(0, None));
    assert!(!deliver(VLAN, Some((EtherType::VLAN, VLAN))));
    assert_eq!(outcome(&world).0, 3);
}
