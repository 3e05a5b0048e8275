//! ICMP about a connection that stands: nothing ends it, and only the path MTU changes.

use millrace_base::{Address, Nanos, PortId};
use millrace_stack::FlowId;
use millrace_wire::icmpv4::Icmpv4Message;

use crate::peer::icmp_frame;
use crate::wire::{World, address, listener, mac, tuple};

/// Who complains.
const ROUTER: Address = Address::v4([10, 0, 0, 77]);

/// A client with a segment in flight that nobody answers, and that segment.
fn in_flight() -> (World, FlowId, Vec<u8>) {
    let mut world = World::chain(1, 2);
    let server = address(false, 0, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, server, 80)]);
    let flow = tuple(address(false, 0, 1), 40_000, server, 80);
    let client = world.nodes[0].stack.connect(world.now, flow, 0);
    let client = client.expect("connects");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    world.run_for(100);
    world.faults.loss_percent = 100;
    world.recorded = Some(Vec::new());
    world.send(0, client, &[7; 1_448], &mut 0);
    world.transmit();
    let sent = world.recorded.replace(Vec::new()).expect("recording");
    (world, client, sent[0].clone())
}

/// A message of a router to the client.
fn deliver(world: &mut World, icmp: &[u8]) {
    let ends = (ROUTER, address(false, 0, 1));
    let frame = icmp_frame(ends, (mac(1, 0), mac(0, 1)), icmp);
    world.deliver(0, PortId::new(1), &frame);
}

fn emit(message: &Icmpv4Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 1_600];
    let len = message.emit(&mut bytes).expect("fits");
    bytes.truncate(len);
    bytes
}

// RFC 9293 section 3.9.2.2, MUST-56; RFC 5927 for the hard ones, as Linux. behaviour: LAY-19
#[test]
fn no_icmp_error_ends_an_established_connection() {
    let (mut world, client, segment) = in_flight();
    let quoted = &segment[14..42];
    let unreachable = |code| Icmpv4Message::DestinationUnreachable {
        code,
        mtu: 0,
        quoted,
    };
    let mut messages: Vec<Vec<u8>> = [0, 1, 2, 3, 5, 9, 13]
        .into_iter()
        .map(|code| emit(&unreachable(code)))
        .collect();
    for code in [0, 1] {
        messages.push(emit(&Icmpv4Message::TimeExceeded { code, quoted }));
    }
    let (code, pointer) = (0, 20);
    messages.push(emit(&Icmpv4Message::ParameterProblem {
        code,
        pointer,
        quoted,
    }));
    for message in &messages {
        deliver(&mut world, message);
    }
    let stats = world.nodes[0].stack.stats();
    assert_eq!(stats.icmp_in_dest_unreachs, messages.len() as u64);
    assert_eq!(stats.out_of_window_icmps, 0, "they were about it");
    let info = world.nodes[0].stack.info(client).expect("alive");
    assert_eq!(info.state.name(), "ESTAB");
    world.faults.loss_percent = 0;
    world.run_for(2_000);
    let info = world.nodes[0].stack.info(client).expect("alive");
    assert_eq!(info.in_flight_bytes, 0, "it goes on");
}

// RFC 6633; RFC 9293 section 3.9.2.1. behaviour: MUST-55
#[test]
fn a_source_quench_changes_nothing() {
    let (mut world, client, segment) = in_flight();
    let before = world.nodes[0].stack.info(client).expect("alive");
    let mut quench = vec![4, 0, 0, 0, 0, 0, 0, 0];
    quench.extend_from_slice(&segment[14..42]);
    let mut sum = millrace_wire::Checksum::new();
    sum.add_bytes(&quench);
    quench[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    deliver(&mut world, &quench);
    assert_eq!(world.nodes[0].stack.stats().icmp_in_csum_errors, 0);
    assert_eq!(world.nodes[0].stack.info(client), Some(before));
    world.transmit();
    assert!(world.recorded.as_ref().is_some_and(Vec::is_empty));
}

// RFC 1191, RFC 5927 section 7. behaviour: LAY-19, RTE-19
#[test]
fn fragmentation_needed_makes_the_segments_smaller_at_once() {
    let (mut world, client, segment) = in_flight();
    let quoted = &segment[14..42];
    let code = 4;
    let needed = |mtu, quoted| Icmpv4Message::DestinationUnreachable { code, mtu, quoted };
    let mut forged = quoted.to_vec();
    forged[24] ^= 0x80;
    deliver(&mut world, &emit(&needed(1_000, &forged)));
    let mtu = |world: &World| {
        let info = world.nodes[0].stack.info(client).expect("alive");
        (info.path_mtu, info.mss)
    };
    assert_eq!(mtu(&world), (1_500, 1_448));
    assert_eq!(world.nodes[0].stack.stats().out_of_window_icmps, 1);
    deliver(&mut world, &emit(&needed(1_000, quoted)));
    world.transmit();
    assert_eq!(mtu(&world), (1_000, 948));
    let again = world.recorded.replace(Vec::new()).expect("recording");
    assert!(!again.is_empty() && again.iter().all(|frame| frame.len() <= 1_014));
    deliver(&mut world, &emit(&needed(20, quoted)));
    assert!(mtu(&world).0 >= 552, "nobody makes us send dust");
    world.now = world.now.after(Nanos::from_millis(1));
}

// A redirect is a router's advice to go another way, which anybody on the link could give. Linux's
// hosts take it from a gateway that they know; here routes are decided by control alone.
// behaviour: RTE-10
#[test]
fn a_redirect_changes_no_route_and_a_smaller_mtu_does_its_work() {
    let (mut world, client, segment) = in_flight();
    let quoted = &segment[14..42];
    let before = world.nodes[0].stack.info(client).expect("alive");
    let lookups = world.nodes[0].stack.route_lookups();
    for code in 0..4 {
        let redirect = Icmpv4Message::Redirect {
            code,
            gateway: address(false, 0, 99),
            quoted,
        };
        deliver(&mut world, &emit(&redirect));
    }
    assert_eq!(world.nodes[0].stack.info(client), Some(before));
    world.run_for(2_000);
    let again = world.recorded.replace(Vec::new()).expect("recording");
    let to_same = |frame: &Vec<u8>| frame[..6] == *mac(1, 0).octets();
    assert!(!again.is_empty() && again.iter().all(to_same));
    assert_eq!(world.nodes[0].stack.route_lookups(), lookups);
    let (code, mtu) = (4, 1_000);
    let needed = Icmpv4Message::DestinationUnreachable { code, mtu, quoted };
    deliver(&mut world, &emit(&needed));
    let info = world.nodes[0].stack.info(client).expect("alive");
    assert_eq!(info.path_mtu, 1_000);
}

// RFC 6069: a router without a way for what was retransmitted takes a doubling back.
#[test]
fn a_missing_route_is_no_reason_to_wait_twice_as_long() {
    let waits = |reverts: bool| {
        let (mut world, client, segment) = in_flight();
        world.run_for(1_500);
        let rto = |world: &World| {
            world.nodes[0]
                .stack
                .info(client)
                .expect("alive")
                .rto
                .as_millis()
        };
        let doubled = rto(&world);
        world.recorded = Some(Vec::new());
        if reverts {
            let message = Icmpv4Message::DestinationUnreachable {
                code: 1,
                mtu: 0,
                quoted: &segment[14..42],
            };
            deliver(&mut world, &emit(&message));
            assert_eq!(rto(&world) * 2, doubled);
        }
        let start = world.now;
        while world.recorded.as_ref().is_some_and(Vec::is_empty) {
            world.run_for(10);
        }
        world.now.since(start).as_millis()
    };
    let (with, without) = (waits(true), waits(false));
    assert!(with < without, "{with} {without}");
}

/// A server with a request of a client, and the SYN-ACK that it sent.
fn half_open() -> (crate::peer::Peer, Vec<u8>) {
    let mut peer = crate::peer::Peer::new(10);
    let syn = peer.frame(crate::peer::SYN, 100, 0, b"");
    peer.world.deliver(1, crate::peer::PORT, &syn);
    let syn_ack = peer.frames().remove(0);
    (peer, syn_ack)
}

// Linux: `tcp_req_err` with what `tcp_v4_err` makes of it.
#[test]
fn a_request_ends_when_its_answer_cannot_have_come_and_not_when_it_was_refused() {
    for (kind, code, ends) in [
        (3, 0, true),
        (3, 1, true),
        (11, 0, true),
        (12, 0, true),
        (3, 3, false),
    ] {
        let (mut peer, syn_ack) = half_open();
        let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
        icmp.extend(&syn_ack[14..42]);
        let mut sum = millrace_wire::Checksum::new();
        sum.add_bytes(&icmp);
        icmp[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        peer.deliver_icmp(ROUTER, address(false, 0, 2), &icmp);
        let left = peer.world.nodes[1].stack.occupancy().half_open;
        assert_eq!(left, usize::from(!ends), "type {kind} code {code}");
        assert_eq!(peer.stats().listen_drops, u64::from(ends));
    }
}
