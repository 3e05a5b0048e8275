//! Frames of a connection as they are on the wire, and what is counted of them.

use millrace_stack::{DropReason, Ready};
use millrace_wire::TcpFlags;

use crate::peer::{ACK, Peer, SYN};
use crate::wire::{World, address, default_route, listener, mac, tuple};

/// The options of a TCP frame over IPv4 without IP options, kind by kind; padding is 0.
fn kinds(frame: &[u8]) -> Vec<u8> {
    let end = 34 + usize::from(frame[46] >> 4) * 4;
    let mut kinds = Vec::new();
    let mut at = 54;
    while at < end {
        kinds.push(frame[at]);
        if frame[at] == 0 {
            assert!(frame[at..end].iter().all(|byte| *byte == 0), "padding");
            break;
        }
        at += if frame[at] == 1 {
            1
        } else {
            frame[at + 1].into()
        };
    }
    kinds
}

/// A connection from node 0 to node 1, every frame of it recorded.
fn recorded() -> (World, Vec<Vec<u8>>) {
    let mut world = World::chain(1, 2);
    let server = address(false, 0, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, server, 80)]);
    world.recorded = Some(Vec::new());
    let flow = tuple(address(false, 0, 1), 40_000, server, 80);
    let client = world.nodes[0].stack.connect(world.now, flow, 0);
    let client = client.expect("connects");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    let peer = world.accepted(1).expect("accepted");
    world.send(0, client, &[7; 5_000], &mut 0);
    world.run_for(100);
    world.receive(1, peer, &mut Vec::new());
    world.nodes[0].stack.close(world.now, client);
    world.run_for(100);
    world.nodes[1].stack.close(world.now, peer);
    world.run_for(100);
    let frames = world.recorded.take().expect("recording");
    (world, frames)
}

// RFC 9293 section 3.7.1 and 3.1; Linux: tcp_established_options. behaviour: MUST-65, MUST-69, A4-6
#[test]
fn only_a_syn_says_mss_scale_and_sack_permitted() {
    let (_, frames) = recorded();
    assert!(frames.len() >= 9);
    for frame in frames {
        let is_syn = frame[47] & 2 != 0;
        let expected: &[u8] = if is_syn { &[2, 4, 8, 1, 3] } else { &[1, 1, 8] };
        assert_eq!(kinds(&frame), expected);
    }
}

// behaviour: IPO-1, IPO-6, IPO-7, IPO-16
#[test]
fn every_segment_leaves_with_ttl_64_and_may_not_be_fragmented() {
    let (_, frames) = recorded();
    for frame in frames {
        assert_eq!((frame[20] & 0x40, frame[22]), (0x40, 64));
        assert_eq!(frame[20] & 0x20, 0, "no fragment");
    }
}

// behaviour: LAY-5, LAY-6, CNT-1, RCV-3, X1-1, X1-2
#[test]
fn one_segment_is_counted_once_by_every_layer_that_it_passes() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    let read = |peer: &Peer| {
        let stats = peer.stats();
        let incoming = [
            stats.frames_in,
            stats.ip_in_receives,
            stats.ip_in_delivers,
            stats.tcp_in_segs,
        ];
        let outgoing = [stats.frames_out, stats.ip_out_requests, stats.tcp_out_segs];
        (incoming, outgoing)
    };
    let (before_in, before_out) = read(&peer);
    assert_eq!(peer.send(ACK, 101, nxt, b"hello").len(), 1, "its ACK");
    let (now_in, now_out) = read(&peer);
    assert_eq!(now_in, before_in.map(|count| count + 1));
    assert_eq!(now_out, before_out.map(|count| count + 1));
    let node = &mut peer.world.nodes[1];
    node.stack
        .send(peer.world.now, flow, b"answer", &mut node.pool);
    assert_eq!(peer.answers().len(), 1);
    let (same_in, then_out) = read(&peer);
    assert_eq!(same_in, now_in);
    assert_eq!(then_out, now_out.map(|count| count + 1));
    let mut names = Vec::new();
    peer.stats().for_each(|name, _, value| {
        if ["TcpInSegs", "TcpOutSegs", "TcpInErrs", "TcpRetransSegs"].contains(&name) {
            names.push((name, value));
        }
    });
    assert_eq!(names.len(), 4, "under Linux's names: {names:?}");
}

// behaviour: A6-8, A6-9, A6-10, A8-5, A9-8, LAY-3, RCV-3, RCV-4, RCV-5, X1-1, X1-3, X1-4
// behaviour: A9-15, A31-2
#[test]
fn a_damaged_segment_is_counted_and_answered_by_nothing() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    let before = peer.stats().tcp_in_segs;
    let good = peer.frame(ACK, 101, nxt, b"hello");
    let mut damaged = good.clone();
    damaged[55] ^= 1;
    assert!(peer.put(&damaged).is_empty());
    let stats = peer.stats();
    assert_eq!((stats.tcp_in_csum_errors, stats.tcp_in_errs), (1, 1));
    assert_eq!(stats.dropped(DropReason::TcpChecksum), 1);
    let mut short_header = good.clone();
    short_header[46] = 4 << 4;
    let mut long_header = good.clone();
    long_header[46] = 15 << 4;
    for frame in [&short_header, &long_header] {
        assert!(peer.put(frame).is_empty());
    }
    let mut runt = good[..50].to_vec();
    runt[16..18].copy_from_slice(&36u16.to_be_bytes());
    assert!(peer.put_verified(&runt).is_empty());
    let stats = peer.stats();
    assert_eq!(stats.tcp_in_errs, 4);
    assert_eq!(stats.tcp_in_segs - before, 4, "bad ones count");
    assert_eq!(
        peer.world.nodes[1]
            .stack
            .info(flow)
            .map(|info| info.unread_bytes),
        Some(0)
    );
    assert_eq!(peer.put(&good)[0].ack.value(), 106, "the copy that is good");
}

// RFC 6864 section 4.1: an atomic datagram needs no number; so it is the same in a retransmission.
// behaviour: MAY-4
#[test]
fn a_retransmission_has_the_identification_of_the_first() {
    let mut peer = Peer::new(10);
    let (flow, _) = peer.open();
    let node = &mut peer.world.nodes[1];
    node.stack
        .send(peer.world.now, flow, b"answer", &mut node.pool);
    let first = peer.frames();
    let mut again = Vec::new();
    for _ in 0..200 {
        peer.world.now = peer.world.now.after(millrace_base::Nanos::from_millis(10));
        let node = &mut peer.world.nodes[1];
        node.stack.advance(peer.world.now, &mut node.pool);
        again.extend(peer.frames());
    }
    assert!(first.len() == 1 && !again.is_empty());
    assert_eq!(first[0][18..20], again[0][18..20]);
    assert_eq!(first[0][54..], again[0][54..]);
}

// Two gateways for one destination: the route that holds when a frame leaves counts.
// behaviour: A12-4, CON-5, CON-12, IPO-2, IPO-3, RTE-8, X1-8
#[test]
fn a_changed_route_holds_for_the_next_frame_of_every_connection() {
    let mut world = World::chain(1, 2);
    let (near, other) = (address(false, 0, 2), address(false, 0, 9));
    let far = millrace_base::Address::v4([192, 0, 2, 1]);
    let port = millrace_base::PortId::new(1);
    let second = millrace_base::MacAddress::new([2, 9, 9, 9, 9, 9]);
    let client = &mut world.nodes[0].stack;
    let update = millrace_stack::NeighborUpdate::Reachable(second);
    client.set_neighbor(world.now, port, other, update);
    let flow = tuple(address(false, 0, 1), 40_000, far, 80);
    assert_eq!(
        client.connect(world.now, flow, 0),
        Err(millrace_stack::ConnectError::NoRoute)
    );
    assert_eq!(client.stats().ip_out_no_routes, 1);
    client.set_routes(&[default_route(1, near)]);
    client.connect(world.now, flow, 0).expect("routed");
    world.recorded = Some(Vec::new());
    world.transmit();
    world.nodes[0].stack.set_routes(&[default_route(1, other)]);
    world.run_for(1_500);
    let frames = world.recorded.replace(Vec::new()).expect("recording");
    let to: Vec<&[u8]> = frames.iter().map(|frame| &frame[..6]).collect();
    assert_eq!(to, [mac(1, 0).octets(), second.octets()]);
    world.nodes[0].stack.set_routes(&[]);
    let before = world.nodes[0].stack.stats().ip_out_no_routes;
    world.run_for(1_000);
    assert!(world.recorded.as_ref().is_some_and(Vec::is_empty));
    assert!(world.nodes[0].stack.stats().ip_out_no_routes > before);
}

// RFC 9293 section 3.9.2.3. behaviour: MUST-46
#[test]
fn nobody_opens_a_connection_to_everybody() {
    let mut world = World::chain(1, 2);
    for address in [
        [224, 0, 0, 1],
        [255, 255, 255, 255],
        [10, 0, 0, 255],
        [0, 0, 0, 0],
    ] {
        let remote = millrace_base::Address::v4(address);
        let flow = tuple(crate::wire::address(false, 0, 1), 40_000, remote, 80);
        let refused = world.nodes[0].stack.connect(world.now, flow, 0);
        assert_eq!(refused, Err(millrace_stack::ConnectError::BadAddress));
    }
}

// behaviour: IPI-9
#[test]
fn a_burst_of_mixed_frames_ends_like_its_frames_one_by_one() {
    let mut frames = Vec::new();
    let mut peer = Peer::new(3);
    for port in 0..40u16 {
        peer.tuple.local.port = 1_000 + port / 2;
        peer.tuple.remote.port = 80 + u16::from(port % 7 == 0);
        let flags = [SYN, ACK, TcpFlags::RST, SYN | TcpFlags::FIN][usize::from(port % 4)];
        frames.push(peer.frame(flags, 100, 7, b"abc"));
        if port % 5 == 0 {
            let mut damaged = frames[usize::from(port / 2)].clone();
            damaged[40] ^= 1;
            frames.push(damaged);
        }
    }
    let (mut one, mut all) = (Peer::new(3), Peer::new(3));
    for frame in &frames {
        one.world.deliver(1, crate::peer::PORT, frame);
    }
    let node = &mut all.world.nodes[1];
    let burst: Vec<_> = frames
        .iter()
        .filter_map(|frame| node.pool.receive(frame))
        .collect();
    let port = crate::peer::PORT;
    node.stack
        .handle_burst(all.world.now, port, burst, &mut node.pool, |_| {});
    assert_eq!(format!("{:?}", one.stats()), format!("{:?}", all.stats()));
    assert_eq!(one.answers(), all.answers());
    assert_eq!(format!("{:?}", one.stats()), format!("{:?}", all.stats()));
}

// behaviour: X3-9
#[test]
fn who_has_closed_hears_nothing_more() {
    let mut peer = Peer::new(10);
    let (flow, nxt) = peer.open();
    peer.world.nodes[1].stack.close(peer.world.now, flow);
    assert!(peer.answers()[0].flags.fin());
    let before = peer.world.nodes[1].events.len();
    peer.send(ACK, 101, nxt.wrapping_add(1), b"");
    peer.send(ACK | TcpFlags::FIN, 101, nxt.wrapping_add(1), b"");
    assert_eq!(peer.world.nodes[1].events.len(), before);
    assert_eq!(peer.world.nodes[1].stack.info(flow), None);
    assert!(peer.world.ready(1, flow).contains(Ready::ACCEPTED));
}

// A stamp that was damaged must not be remembered: PAWS would refuse everything that follows.
// behaviour: A9-6
#[test]
fn the_stamp_of_a_damaged_segment_is_not_remembered() {
    let mut peer = Peer::new(10);
    peer.timestamp = Some(1_000);
    let (_, nxt) = peer.open();
    peer.timestamp = Some(900_000);
    let mut damaged = peer.frame(ACK, 101, nxt, b"hello");
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert!(peer.put(&damaged).is_empty());
    peer.timestamp = Some(1_001);
    assert_eq!(peer.send(ACK, 101, nxt, b"hello")[0].ack.value(), 106);
}

// behaviour: IPI-8
#[test]
fn a_packet_goes_to_the_protocol_that_its_header_names() {
    let mut peer = Peer::new(10);
    for (protocol, delivered) in [(6, true), (17, false), (132, false), (200, false)] {
        let mut frame = peer.frame(SYN, 100, 0, b"");
        frame[23] = protocol;
        let mut buf = millrace_base::HeapBuf::from_frame(&frame);
        buf.meta.ip_checksum = millrace_base::ChecksumStatus::Good;
        let node = &mut peer.world.nodes[1];
        let port = crate::peer::PORT;
        let punt = node.stack.handle(peer.world.now, port, buf, &mut node.pool);
        assert_eq!(punt.is_none(), delivered, "{protocol}");
        assert_eq!(peer.answers().len(), usize::from(delivered));
    }
    assert_eq!(peer.stats().ip_in_unknown_protos, 3);
}

// behaviour: TMR-5, TMR-6
#[test]
fn who_listens_or_has_ended_has_no_timer() {
    let mut world = World::chain(1, 2);
    let server = address(false, 0, 2);
    let client = &mut world.nodes[0].stack;
    client.set_listeners(&[listener(1, address(false, 0, 1), 80)]);
    let flow = tuple(address(false, 0, 1), 40_000, server, 80);
    let id = client.connect(world.now, flow, 0).expect("routed");
    world.transmit();
    let client = &mut world.nodes[0].stack;
    assert!(client.next_deadline() > world.now && client.occupancy().timers == 1);
    client.abort(world.now, id);
    assert_eq!(client.next_deadline(), millrace_base::Instant::NEVER);
    assert_eq!(client.occupancy(), millrace_stack::Occupancy::default());
}

// Linux: IPSTATS_MIB_INMCAST, INBCAST. behaviour: RTE-14, CNT-2
#[test]
fn packets_to_many_are_counted_by_kind() {
    let mut peer = Peer::new(10);
    for (to, group) in [
        ([224, 0, 0, 1], true),
        ([10, 0, 0, 255], true),
        ([255, 255, 255, 255], true),
        ([10, 0, 0, 2], false),
    ] {
        peer.tuple.remote.address = millrace_base::Address::v4(to);
        let mut frame = peer.frame(SYN, 100, 0, b"");
        if group {
            frame[..6].fill(0xff);
        }
        assert_eq!(peer.put(&frame).is_empty(), group);
    }
    let stats = peer.stats();
    assert_eq!((stats.ip_in_mcast_pkts, stats.ip_in_bcast_pkts), (1, 2));
    assert_eq!(
        (stats.ip_in_mcast_octets, stats.ip_in_bcast_octets),
        (44, 88)
    );
    assert_eq!(stats.dropped(DropReason::TcpNotUnicast), 3);
}

/// An echo request from the peer to node 1 in a frame to everybody.
fn echo_to_everybody(peer: &Peer) -> Vec<u8> {
    let mut frame = peer.frame(SYN, 100, 0, b"");
    frame[..6].fill(0xff);
    frame[23] = 1;
    // The protocol is less by 5, so the header's checksum is more.
    let checksum = u16::from_be_bytes([frame[24], frame[25]]);
    let checksum = checksum.checked_add(5).unwrap_or(5);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    // Type 8, code 0, identifier 0, sequence number 0; what TCP had there is the data, all zero.
    frame[34..].fill(0);
    frame[34] = 8;
    frame[36] = 0xf7;
    frame[37] = 0xff;
    frame
}

// Linux: SKB_DROP_REASON_UNICAST_IN_L2_MULTICAST. behaviour: IPI-5, TUN-14
#[test]
fn a_packet_to_us_in_a_frame_to_all_is_dropped_when_that_is_asked_for() {
    let mut peer = Peer::new(10);
    let frame = echo_to_everybody(&peer);
    let answers_to = |peer: &mut Peer, frame: &[u8]| {
        peer.world.deliver(1, crate::peer::PORT, frame);
        peer.frames().len()
    };
    for (families, answers) in [([false; 2], 1), ([false, true], 1), ([true, false], 0)] {
        let stack = &mut peer.world.nodes[1].stack;
        stack.set_drop_unicast_in_l2_multicast(families);
        assert_eq!(answers_to(&mut peer, &frame), answers, "{families:?}");
    }
    let mut alone = frame;
    alone[..6].copy_from_slice(&peer.frame(SYN, 100, 0, b"")[..6]);
    assert_eq!(answers_to(&mut peer, &alone), 1, "a frame to us alone");
    let stats = peer.stats();
    assert_eq!(stats.dropped(DropReason::UnicastInL2Multicast), 1);
    assert_eq!((stats.ip_in_mcast_pkts, stats.ip_in_bcast_pkts), (0, 0));
}
