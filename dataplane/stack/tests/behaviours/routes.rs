//! Routes as connections use them: asked for once, doubted after a while of silence, and what they say
//! of the device that frames leave by.

use millrace_base::{Address, MacAddress, Nanos, PortId};
use millrace_stack::{ConnectError, FlowId, NeighborUpdate, Offloads};
use millrace_wire::icmpv4::Icmpv4Message;
use millrace_wire::{EtherType, EthernetView, IpView, TcpFlags, TcpView};
use millrace_wire::{protocol, tcp::checksum};

use crate::peer::Peer;
use crate::wire::{World, address, config, default_route, interface, listener, mac, node, tuple};

/// A client (node 0) with a connection to a server, both idle.
fn connected(v6: bool, setting: impl Fn(&mut millrace_stack::StackConfig)) -> (World, FlowId) {
    let mut world = World::chain(1, 2);
    let server = address(v6, 0, 2);
    let mut own = config(1);
    setting(&mut own);
    world.nodes[0] = node(own);
    let addresses = [address(false, 0, 1), address(true, 0, 1)];
    let interfaces = [interface(1, mac(0, 1), &addresses)];
    world.nodes[0].stack.set_interfaces(world.now, &interfaces);
    world.resolve_all();
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, server, 80)]);
    let flow = tuple(address(v6, 0, 1), 40_000, server, 80);
    world.recorded = Some(Vec::new());
    let client = world.nodes[0].stack.connect(world.now, flow, 0);
    let client = client.expect("connects");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    world.run_for(100);
    (world, client)
}

fn recorded(world: &mut World) -> Vec<Vec<u8>> {
    world.recorded.replace(Vec::new()).expect("recording")
}

// Linux: sk_dst_cache; the first packet finds the route, all others have it.
// behaviour: SOK-22
#[test]
fn a_connection_has_the_routes_searched_once() {
    let (mut world, client) = connected(false, |_| {});
    let server = world.accepted(1).expect("accepted");
    let lookups = |world: &World| [0, 1].map(|node| world.nodes[node].stack.route_lookups());
    assert_eq!(lookups(&world), [1, 1]);
    for _ in 0..20 {
        world.send(0, client, &[7; 5_000], &mut 0);
        world.run_for(100);
        world.receive(1, server, &mut Vec::new());
        world.run_for(100);
    }
    assert!(recorded(&mut world).len() > 100);
    assert_eq!(lookups(&world), [1, 1]);
    // Another connection to the same place has it as well; a change of the table makes each ask once.
    let flow = tuple(address(false, 0, 1), 40_001, address(false, 0, 2), 80);
    world.nodes[0]
        .stack
        .connect(world.now, flow, 0)
        .expect("connects");
    world.run_for(100);
    assert_eq!(lookups(&world), [1, 1]);
    world.nodes[0].stack.set_routes(&[]);
    world.send(0, client, &[7; 5_000], &mut 0);
    world.run_for(100);
    assert_eq!(lookups(&world), [2, 1]);
}

// Linux: tcp_retransmit_timer, __sk_dst_reset after more than tcp_retries1 timeouts, which are 6.2 s for
// the smallest round trips.
// behaviour: TMR-16, RTE-16
#[test]
fn a_route_is_asked_for_again_when_nothing_was_heard_for_long() {
    let (mut world, client) = connected(false, |_| {});
    let before = world.nodes[0].stack.route_lookups();
    world.faults.loss_percent = 100;
    world.send(0, client, &[7; 1_000], &mut 0);
    world.run_for(6_000);
    assert!(recorded(&mut world).len() >= 4, "it was sent again");
    assert_eq!(world.nodes[0].stack.route_lookups(), before);
    world.run_for(10_000);
    let doubted = world.nodes[0].stack.route_lookups();
    assert!(doubted > before, "{doubted}");
    assert!(doubted - before <= 3, "once for a timeout: {doubted}");
    // Less patience, earlier doubt.
    let (mut world, client) = connected(false, |config| config.tcp.tcp_retries1 = 0);
    let before = world.nodes[0].stack.route_lookups();
    world.faults.loss_percent = 100;
    world.send(0, client, &[7; 1_000], &mut 0);
    world.run_for(3_000);
    assert!(world.nodes[0].stack.route_lookups() > before);
}

// The other gateway takes over while the connection is silent: the next retransmission goes there, and
// what was learned of the path's MTU stays.
// behaviour: TMR-16
#[test]
fn a_path_that_changes_in_an_outage_is_picked_up() {
    let mut world = World::chain(1, 2);
    let (near, other) = (address(false, 0, 2), address(false, 0, 9));
    let far = Address::v4([192, 0, 2, 1]);
    let second = MacAddress::new([2, 9, 9, 9, 9, 9]);
    let update = NeighborUpdate::Reachable(second);
    let client = &mut world.nodes[0].stack;
    client.set_neighbor(world.now, PortId::new(1), other, update);
    client.set_routes(&[default_route(1, near)]);
    let server = &mut world.nodes[1].stack;
    server.set_local_addresses(&[far]);
    server.set_listeners(&[listener(1, far, 80)]);
    let flow = tuple(address(false, 0, 1), 40_000, far, 80);
    let client = world.nodes[0].stack.connect(world.now, flow, 0);
    let client = client.expect("routed");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    world.faults.loss_percent = 100;
    world.recorded = Some(Vec::new());
    world.send(0, client, &[7; 1_000], &mut 0);
    world.run_for(8_000);
    let hops = |frames: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
        frames.iter().map(|frame| frame[..6].to_vec()).collect()
    };
    let before = hops(recorded(&mut world));
    assert!(before.len() >= 4 && before.iter().all(|to| *to == mac(1, 0).octets()));
    world.nodes[0].stack.set_routes(&[default_route(1, other)]);
    world.run_for(20_000);
    let after = hops(recorded(&mut world));
    assert!(!after.is_empty() && after.iter().all(|to| *to == second.octets()));
}

// Linux: RTCF_LOCAL and ip_local_deliver. What is ours is delivered here, whatever the routes say of it;
// what is not, is not.
// behaviour: RTE-9
#[test]
fn a_ping_to_an_address_of_ours_is_answered_here_whatever_the_routes_say() {
    let mut peer = Peer::new(10);
    let stack = &mut peer.world.nodes[1].stack;
    let virtual_address = Address::v4([203, 0, 113, 7]);
    stack.set_local_addresses(&[virtual_address]);
    // All of the world, our addresses too, is said to lie behind the gateway.
    stack.set_routes(&[default_route(0, address(false, 0, 1))]);
    let mut ping = |destination: Address| {
        let echo = Icmpv4Message::EchoRequest {
            ident: 7,
            sequence: 1,
            data: &[9; 32],
        };
        let mut icmp = vec![0; 64];
        let len = echo.emit(&mut icmp).expect("fits");
        icmp.truncate(len);
        peer.deliver_icmp(address(false, 0, 1), destination, &icmp);
        peer.frames()
    };
    for ours in [address(false, 0, 2), virtual_address] {
        let answers = ping(ours);
        assert_eq!(answers.len(), 1, "{ours}");
        let ours = ours.as_v4().expect("IPv4");
        assert_eq!(answers[0][26..30], ours, "from the address that was asked");
        assert_eq!(answers[0][..6], *mac(0, 1).octets());
    }
    assert!(ping(Address::v4([203, 0, 113, 8])).is_empty());
}

// Linux: the family's queue_xmit, and dst->output: a neighbour on the link, a gateway, or not at all.
// behaviour: A4-25, IPO-13
#[test]
fn a_frame_leaves_by_its_family_to_the_next_hop_and_to_ourselves_never() {
    for v6 in [false, true] {
        let (mut world, _) = connected(v6, |_| {});
        let frames = recorded(&mut world);
        assert!(frames.len() >= 3);
        for frame in &frames {
            let (kind, version) = if v6 { ([0x86, 0xdd], 6) } else { ([8, 0], 4) };
            assert_eq!(
                (frame[12..14].to_vec(), frame[14] >> 4),
                (kind.to_vec(), version)
            );
        }
        assert_eq!(frames[0][..6], *mac(1, 0).octets(), "on the link");
        // Far away: the gateway's link address, the peer's own IP address.
        let mut octets = *address(v6, 0, 2).octets();
        octets[3] ^= 0x55;
        let far = if v6 {
            Address::v6(octets)
        } else {
            Address::v4([10, 0x55, 0, 2])
        };
        let gateway = address(v6, 0, 2);
        world.nodes[0]
            .stack
            .set_routes(&[default_route(1, gateway)]);
        let own = address(v6, 0, 1);
        let flow = tuple(own, 40_002, far, 80);
        world.nodes[0]
            .stack
            .connect(world.now, flow, 0)
            .expect("routed");
        world.transmit();
        let frames = recorded(&mut world);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0][..6], *mac(1, 0).octets(), "the gateway");
        let ethernet = EthernetView::parse(&frames[0]).expect("Ethernet");
        let payload = ethernet.payload();
        let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
        assert_eq!(ip.expect("IP").expect("good").destination(), far);
        // Ourselves: no route leads out.
        let flow = tuple(own, 40_003, own, 80);
        let refused = world.nodes[0].stack.connect(world.now, flow, 0);
        assert_eq!(refused, Err(ConnectError::BadAddress));
        world.transmit();
        assert!(recorded(&mut world).is_empty());
    }
}

// Linux: sk_setup_caps, sk_route_caps. Here the way carries what its device can do, and a change of the
// device holds for the next frame.
// behaviour: RTE-17, A12-13, TUN-17
#[test]
fn what_the_device_can_do_is_used_from_the_next_frame_on() {
    let (mut world, client) = connected(false, |_| {});
    let server = world.accepted(1).expect("accepted");
    let cutting = Offloads {
        tcp_checksum: true,
        tso: true,
        tso_bytes_max: 60_000,
        segments_max: 32,
        ..Offloads::default()
    };
    let plain = Offloads {
        segments_max: 8,
        ..Offloads::default()
    };
    for (offloads, cuts) in [(plain, false), (cutting, true), (plain, false)] {
        let addresses = [address(false, 0, 1), address(true, 0, 1)];
        let mut own = interface(1, mac(0, 1), &addresses);
        own.offloads = offloads;
        world.nodes[0].stack.set_interfaces(world.now, &[own]);
        world.resolve_all();
        world.send(0, client, &[7; 8_000], &mut 0);
        let node = &mut world.nodes[0];
        let mut frames = Vec::new();
        while let Some(sent) = node.stack.poll_transmit(world.now, &mut node.pool) {
            frames.push(sent.frame.to_vec());
        }
        let longest = frames.iter().map(Vec::len).max().expect("sent");
        assert_eq!(longest > 1_514, cuts, "{longest}");
        let sums = frames.iter().map(|frame| is_sum_good(frame));
        assert!(sums.clone().all(|good| good != cuts), "a seed or a sum");
        // The link takes what is whole; the rest is sent again, whole.
        let mut own = interface(1, mac(0, 1), &addresses);
        own.offloads = plain;
        world.nodes[0].stack.set_interfaces(world.now, &[own]);
        world.resolve_all();
        world.run_for(5_000);
        world.receive(1, server, &mut Vec::new());
        world.run_for(5_000);
        recorded(&mut world);
    }
}

/// Whether the TCP checksum of a frame is that of its bytes.
fn is_sum_good(frame: &[u8]) -> bool {
    let ethernet = EthernetView::parse(frame).expect("Ethernet");
    let payload = ethernet.payload();
    let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
    let ip = ip.expect("IP").expect("good");
    let segment = ip.payload();
    let (from, to, len) = (ip.source(), ip.destination(), segment.len() as u32);
    checksum::verify(from, to, len, core::iter::once(segment))
}

/// What a frame of the client is.
fn kind_of(frame: &[u8]) -> (TcpFlags, u32, usize) {
    let ip = IpView::parse(EtherType::IPV4, &frame[14..], frame.len() - 14);
    let ip = ip.expect("IP").expect("good");
    assert_eq!((frame[22], ip.protocol()), (64, protocol::TCP), "TTL");
    assert!(is_sum_good(frame));
    let view = TcpView::parse(ip.payload()).expect("TCP");
    assert_eq!((view.source_port(), view.destination_port()), (40_000, 80));
    let len = ip.payload().len() - view.header_len();
    (view.flags(), view.seq().value(), len)
}

// Linux: everything leaves by tcp_transmit_skb. All kinds of segments of one connection have the same
// ports, the same TTL and a good checksum, and each was really sent.
// behaviour: LAY-21
#[test]
fn every_kind_of_segment_leaves_with_the_same_headers() {
    let (mut world, client) = connected(false, |config| config.tcp.tcp_mtu_probing = 2);
    let server = world.accepted(1).expect("accepted");
    let mine = |frames: Vec<Vec<u8>>| -> Vec<(TcpFlags, u32, usize)> {
        let of_client = frames
            .iter()
            .filter(|frame| frame[6..12] == *mac(0, 1).octets());
        of_client.map(|frame| kind_of(frame)).collect()
    };
    let syn = mine(recorded(&mut world));
    assert_eq!(syn[0].0, TcpFlags::SYN);
    // Data, and a probe that is longer than what is believed to fit.
    for _ in 0..40 {
        world.send(0, client, &[7; 30_000], &mut 0);
        world.run_for(20);
        world.receive(1, server, &mut Vec::new());
    }
    world.run_for(100);
    let data = mine(recorded(&mut world));
    let first = data[0].2;
    assert!(
        data.iter().any(|(_, _, len)| *len > first + 100),
        "an MTU probe"
    );
    // A pure ACK.
    world.send(1, server, &[8; 3_000], &mut 0);
    world.run_for(100);
    let acks = mine(recorded(&mut world));
    assert!(
        acks.iter()
            .any(|(flags, _, len)| *flags == TcpFlags::ACK && *len == 0)
    );
    // A retransmission.
    world.faults.loss_percent = 100;
    world.send(0, client, &[7; 500], &mut 0);
    world.run_for(1_000);
    let again = mine(recorded(&mut world));
    assert!(
        again.len() >= 2
            && again
                .iter()
                .all(|sent| (sent.1, sent.2) == (again[0].1, 500))
    );
    world.faults.loss_percent = 0;
    world.run_for(10_000);
    // A probe of a window that is closed: nobody reads.
    let mut queued = 0;
    for _ in 0..400 {
        world.send(0, client, &[7; 400_000], &mut queued);
        world.run_for(10);
    }
    recorded(&mut world);
    world.run_for(20_000);
    let probes = mine(recorded(&mut world));
    assert!(world.nodes[0].stack.stats().tcp_win_probe > 0);
    assert!(
        !probes.is_empty() && probes.iter().all(|(_, _, len)| *len <= 1),
        "{probes:?}"
    );
    world.nodes[0].stack.abort(world.now, client);
    world.transmit();
    let reset = mine(recorded(&mut world));
    assert_eq!(reset.len(), 1);
    assert!(reset[0].0.rst());
    world.now = world.now.after(Nanos::from_millis(1));
}
