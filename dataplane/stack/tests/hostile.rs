//! Frames that nobody should send: none panics, every one is accounted for, and none takes what
//! does not come back.

mod wire;

use millrace_base::{
    Address, ChecksumStatus, FlowTuple, HeapBuf, HeapPool, Instant, MacAddress, Nanos, PortId, Rng,
    RxMeta, SeqNumber,
};
use millrace_stack::{
    DropReason, FrameOptions, ListenOptions, Listener, Path, PuntReason, Ready, Stage, Stats,
    write_headers,
};
use millrace_wire::icmpv4::Icmpv4Message;
use millrace_wire::icmpv6::Icmpv6Message;
use millrace_wire::{
    EtherType, EthernetView, IpRepr, IpView, TcpFlags, TcpOptions, TcpRepr, TcpView, ethernet,
    protocol,
};
use wire::{World, address, listener, mac, tuple};

const PORT: PortId = PortId::new(0);

/// A server alone: node 1 of a chain of two whose node 0 is played by the test.
fn server(v6: bool) -> World {
    let mut world = World::chain(1, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, address(v6, 0, 2), 80)]);
    world
}

fn stats(world: &World) -> &Stats {
    world.nodes[1].stack.stats()
}

/// Every frame ended in exactly one way.
fn assert_accounted(world: &World) {
    let stats = stats(world);
    let explained = stats.frames_punted + stats.frames_delivered + stats.dropped_in(Stage::Frame);
    assert_eq!(stats.frames_in, explained);
}

fn client_tuple(v6: bool) -> FlowTuple {
    tuple(address(v6, 0, 1), 40_000, address(v6, 0, 2), 80)
}

/// A TCP frame from node 0 to node 1.
fn tcp_frame(tuple: &FlowTuple, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let header = TcpRepr {
        source_port: tuple.local.port,
        destination_port: tuple.remote.port,
        seq: SeqNumber::new(seq),
        ack: SeqNumber::new(ack),
        flags,
        window: 60_000,
        urgent: 0,
        options: TcpOptions {
            mss: Some(1_460).filter(|_| flags.syn()),
            ..TcpOptions::default()
        },
    };
    let path = Path {
        source: mac(0, 1),
        destination: mac(1, 0),
        ..Path::default()
    };
    let mut pool = HeapPool::new(1, 2_176);
    let mut frame = pool.receive(payload).expect("room");
    assert!(write_headers(
        &mut frame,
        &path,
        tuple,
        &header,
        FrameOptions::default()
    ));
    frame.to_vec()
}

/// What the server answered, parsed.
fn answers(world: &mut World) -> Vec<TcpRepr> {
    let node = &mut world.nodes[1];
    let mut answers = Vec::new();
    while let Some(transmit) = node.stack.poll_transmit(world.now, &mut node.pool) {
        let bytes = transmit.frame.to_vec();
        let ethernet = EthernetView::parse(&bytes).expect("Ethernet");
        let payload = ethernet.payload();
        let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
        let ip = ip.expect("IP").expect("well formed");
        assert!(ip.header_checksum_ok());
        answers.push(TcpRepr::parse(&TcpView::parse(ip.payload()).expect("TCP")));
    }
    answers
}

fn icmp_frame(v6: bool, source: Address, destination: Address, message: &[u8]) -> Vec<u8> {
    let ip = IpRepr {
        source,
        destination,
        protocol: if v6 {
            protocol::ICMPV6
        } else {
            protocol::ICMPV4
        },
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: false,
        identification: 9,
        payload_len: message.len() as u16,
    };
    let mut frame = vec![0; 14 + ip.header_len() + message.len()];
    let ether_type = if v6 { EtherType::IPV6 } else { EtherType::IPV4 };
    ethernet::emit(&mut frame, mac(1, 0), mac(0, 1), ether_type).expect("fits");
    ip.emit(&mut frame[14..], false).expect("fits");
    let at = 14 + ip.header_len();
    frame[at..].copy_from_slice(message);
    frame
}

fn icmpv4(message: &Icmpv4Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 1_400];
    let len = message.emit(&mut bytes).expect("fits");
    bytes.truncate(len);
    icmp_frame(false, address(false, 0, 1), address(false, 0, 2), &bytes)
}

fn icmpv6(message: &Icmpv6Message<'_>) -> Vec<u8> {
    let (source, destination) = (address(true, 0, 1), address(true, 0, 2));
    let mut bytes = vec![0; 1_400];
    let len = message.emit(source, destination, &mut bytes).expect("fits");
    bytes.truncate(len);
    icmp_frame(true, source, destination, &bytes)
}

/// Valid frames of every kind the stack knows.
fn corpus() -> Vec<Vec<u8>> {
    let mut world = World::chain(5, 2);
    world.recorded = Some(Vec::new());
    for v6 in [false, true] {
        let server = address(v6, 0, 2);
        world.nodes[1]
            .stack
            .set_listeners(&[listener(1, server, 80)]);
        world.nodes[1].events.clear();
        let flow = world.nodes[0]
            .stack
            .connect(world.now, client_tuple(v6), 0)
            .expect("connects");
        world.run_until(10_000, |world| world.accepted(1).is_some());
        let mut sent = 0;
        world.send(0, flow, b"GET / HTTP/1.1", &mut sent);
        world.run_for(100);
        world.nodes[0].stack.close(world.now, flow);
        world.run_for(100);
    }
    let mut frames = world.recorded.take().expect("recording");
    assert!(frames.len() > 10);
    let echo = Icmpv4Message::EchoRequest {
        ident: 1,
        sequence: 2,
        data: b"data",
    };
    frames.push(icmpv4(&echo));
    let echo = Icmpv6Message::EchoRequest {
        ident: 1,
        sequence: 2,
        data: b"data",
    };
    frames.push(icmpv6(&echo));
    let quoted = frames[0][14..].to_vec();
    let (code, mtu) = (4, 1_400);
    frames.push(icmpv4(&Icmpv4Message::DestinationUnreachable {
        code,
        mtu,
        quoted: &quoted,
    }));
    frames
}

#[test]
fn no_truncation_and_no_mutation_of_a_valid_frame_does_harm() {
    let corpus = corpus();
    let seed = 11;
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut world = server(false);
    for frame in &corpus {
        for len in 0..frame.len() {
            world.deliver(1, PORT, &frame[..len]);
            world.transmit();
        }
        for _ in 0..300 {
            let mut mutated = frame.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(mutated.len() as u32) as usize;
                mutated[at] = rng.next_u64() as u8;
            }
            // Half of them pass the checksums, as if the device had verified them.
            let node = &mut world.nodes[1];
            let mut buf = node.pool.receive(&mutated).expect("room");
            if rng.below(2) == 0 {
                buf.meta = RxMeta {
                    ip_checksum: ChecksumStatus::Good,
                    l4_checksum: ChecksumStatus::Good,
                    rss_hash: None,
                    stripped_vlan: None,
                    segment_bytes: 0,
                };
            }
            node.stack.handle(world.now, PORT, buf, &mut node.pool);
            world.now = world.now.after(Nanos::from_micros(50));
            world.transmit();
        }
    }
    assert_accounted(&world);
    world.run_for(2_000_000);
    assert_eq!(world.nodes[1].stack.stats().dropped(DropReason::Bug), 0);
    let wire::Node {
        stack, pool, punts, ..
    } = world.nodes.pop().expect("server");
    drop((stack, punts));
    assert_eq!(pool.live(), 0);
}

#[test]
fn random_bytes_are_dropped_and_counted() {
    let seed = 3;
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut world = server(false);
    for _ in 0..20_000 {
        let len = rng.below(200) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        // Get past the Ethernet checks most of the time.
        if len >= 15 && rng.below(8) > 0 {
            bytes[..6].copy_from_slice(mac(1, 0).octets());
            bytes[6] &= 0xfe;
            let v6 = rng.below(2) == 0;
            bytes[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
            bytes[14] = if v6 { 0x60 } else { 0x45 };
        }
        world.deliver(1, PORT, &bytes);
    }
    assert_eq!(stats(&world).frames_in, 20_000);
    assert_accounted(&world);
    world.nodes[1].punts.clear();
    assert_eq!(world.nodes[1].pool.live(), 0);
}

// behaviour: MUST-57, MUST-63, A6-7, A8-3, IPI-3, IPI-4, IPI-6, NIC-15, RCV-2, RTE-13, SKB-14
// behaviour: X9-4
#[test]
fn each_broken_frame_is_counted_for_its_own_reason() {
    let syn = tcp_frame(&client_tuple(false), TcpFlags::SYN, 1, 0, b"");
    let changed = |at: usize, byte: u8| {
        let mut frame = syn.clone();
        frame[at] = byte;
        frame
    };
    let from = |source: [u8; 4]| {
        let mut tuple = client_tuple(false);
        tuple.local.address = Address::v4(source);
        tcp_frame(&tuple, TcpFlags::SYN, 1, 0, b"")
    };
    let to = |destination: [u8; 4]| {
        let mut tuple = client_tuple(false);
        tuple.remote.address = Address::v4(destination);
        tcp_frame(&tuple, TcpFlags::SYN, 1, 0, b"")
    };
    let cases = [
        (syn[..10].to_vec(), DropReason::EthernetTruncated),
        (changed(5, 0x77), DropReason::NotOurMac),
        (changed(6, 0x01), DropReason::BadSourceMac),
        (changed(13, 0x99), DropReason::EtherTypeUnknown),
        (changed(14, 0x65), DropReason::IpVersion),
        (changed(14, 0x44), DropReason::IpLength),
        (changed(22, 9), DropReason::IpChecksum),
        (syn[..40].to_vec(), DropReason::IpTruncated),
        (changed(50, 0xee), DropReason::TcpChecksum),
        (from([127, 0, 0, 1]), DropReason::MartianSource),
        (from([224, 0, 0, 1]), DropReason::MartianSource),
        (from([10, 0, 0, 255]), DropReason::MartianSource),
        (from([10, 0, 0, 2]), DropReason::OwnSource),
        (to([10, 0, 0, 3]), DropReason::NotOurAddress),
        (to([10, 0, 0, 255]), DropReason::TcpNotUnicast),
        (to([239, 0, 0, 1]), DropReason::TcpNotUnicast),
    ];
    for (frame, reason) in cases {
        let mut world = server(false);
        world.deliver(1, PORT, &frame);
        assert_eq!(stats(&world).dropped(reason), 1, "{}", reason.name());
        assert_accounted(&world);
        assert!(answers(&mut world).is_empty());
    }
    let mut fragment = syn.clone();
    fragment[20] = 0x20;
    let mut world = server(false);
    let mut buf = HeapBuf::from_frame(&fragment);
    buf.meta.ip_checksum = ChecksumStatus::Good;
    let node = &mut world.nodes[1];
    node.stack.handle(world.now, PORT, buf, &mut node.pool);
    assert_eq!(stats(&world).ip_reasm_reqds, 1, "it waits for the rest");
    assert_accounted(&world);
}

// MUST-3: what the device says about the checksum is believed, either way.
// behaviour: NIC-14, RCV-6, X1-4
#[test]
fn the_device_may_verify_the_checksum() {
    let mut frame = tcp_frame(&client_tuple(false), TcpFlags::SYN, 1, 0, b"");
    for (status, corrupt, reason) in [
        (ChecksumStatus::Bad, false, Some(DropReason::TcpChecksum)),
        (ChecksumStatus::Good, true, None),
    ] {
        let mut world = server(false);
        frame[51] ^= u8::from(corrupt);
        let mut buf = HeapBuf::from_frame(&frame);
        buf.meta.l4_checksum = status;
        let node = &mut world.nodes[1];
        node.stack.handle(world.now, PORT, buf, &mut node.pool);
        let stats = stats(&world);
        assert_eq!(stats.tcp_in_csum_errors, u64::from(reason.is_some()));
        assert_eq!(stats.frames_delivered, u64::from(reason.is_none()));
    }
}

// RFC 9293 section 3.10.7.1. behaviour: A6-23
// behaviour: HSH-20, X4-18
#[test]
fn a_closed_port_resets_everything_but_a_reset() {
    for v6 in [false, true] {
        let mut world = server(v6);
        let mut closed = client_tuple(v6);
        closed.remote.port = 81;
        world.deliver(1, PORT, &tcp_frame(&closed, TcpFlags::SYN, 100, 0, b"abc"));
        let [reset] = answers(&mut world)[..] else {
            panic!("one RST")
        };
        assert_eq!(reset.flags, TcpFlags::RST | TcpFlags::ACK);
        assert_eq!((reset.seq.value(), reset.ack.value()), (0, 104));
        world.deliver(1, PORT, &tcp_frame(&closed, TcpFlags::ACK, 100, 777, b""));
        let [reset] = answers(&mut world)[..] else {
            panic!("one RST")
        };
        assert_eq!((reset.flags, reset.seq.value()), (TcpFlags::RST, 777));
        world.deliver(1, PORT, &tcp_frame(&closed, TcpFlags::RST, 100, 0, b""));
        assert!(answers(&mut world).is_empty());
        assert_eq!(stats(&world).tcp_out_rsts, 2);
        assert_eq!(stats(&world).dropped(DropReason::NoConnection), 3);
        assert_eq!(world.nodes[1].pool.live(), 0);
    }
}

#[test]
fn resets_to_strays_are_limited() {
    let mut world = server(false);
    let mut closed = client_tuple(false);
    for port in 1..=3_000u16 {
        closed.remote.port = 1_000 + port;
        world.deliver(1, PORT, &tcp_frame(&closed, TcpFlags::ACK, 1, 1, b""));
        answers(&mut world);
    }
    let stats = stats(&world);
    assert!(stats.tcp_out_rsts <= 1_100, "{}", stats.tcp_out_rsts);
    assert!(stats.dropped(DropReason::ResetLimited) >= 1_900);
    assert_accounted(&world);
}

// behaviour: A16-3, A16-4, A16-5, A16-6, LSN-33, LSN-34, LSN-35, LSN-36
#[test]
fn a_listener_answers_only_syns_and_refuses_stray_acks() {
    let mut world = server(false);
    let tuple = client_tuple(false);
    for flags in [
        TcpFlags::RST,
        TcpFlags::SYN | TcpFlags::FIN,
        TcpFlags::FIN,
        TcpFlags::NONE,
    ] {
        world.deliver(1, PORT, &tcp_frame(&tuple, flags, 5, 0, b""));
        assert!(answers(&mut world).is_empty(), "{flags:?}");
    }
    assert_eq!(stats(&world).dropped(DropReason::ListenerIgnored), 1);
    assert_eq!(stats(&world).dropped(DropReason::ListenerFlags), 3);
    world.deliver(1, PORT, &tcp_frame(&tuple, TcpFlags::ACK, 5, 9, b""));
    assert!(answers(&mut world)[0].flags.rst());
}

// behaviour: LSN-22. Data in a SYN is not acknowledged.
// behaviour: A10-6
#[test]
fn data_in_a_syn_is_left_to_come_again() {
    let mut world = server(false);
    world.deliver(
        1,
        PORT,
        &tcp_frame(&client_tuple(false), TcpFlags::SYN, 10, 0, b"early"),
    );
    let [syn_ack] = answers(&mut world)[..] else {
        panic!("one SYN-ACK")
    };
    assert_eq!(syn_ack.ack.value(), 11);
}

fn small_backlog(world: &mut World, backlog: u32) {
    let options = ListenOptions {
        backlog,
        ..ListenOptions::default()
    };
    let row = Listener {
        options,
        ..listener(1, address(false, 0, 2), 80)
    };
    world.nodes[1].stack.set_listeners(&[row]);
}

// RFC 4987 section 3.6. behaviour: LSN-8 LSN-11 A17-1 A17-7
// behaviour: A8-3, A18-11, A18-14, LSN-26, X4-12, X6-7, X8-20
#[test]
fn a_syn_flood_fills_the_queue_and_then_cookies_connect() {
    let mut world = server(false);
    small_backlog(&mut world, 10);
    let mut tuple = client_tuple(false);
    for port in 0..500u16 {
        tuple.local.port = 1_000 + port;
        world.deliver(1, PORT, &tcp_frame(&tuple, TcpFlags::SYN, 7, 0, b""));
        let [syn_ack] = answers(&mut world)[..] else {
            panic!("one SYN-ACK each")
        };
        assert!(syn_ack.flags.syn() && syn_ack.flags.ack());
    }
    assert_eq!(stats(&world).syncookies_sent, 489);
    tuple.local.port = 9_999;
    world.deliver(1, PORT, &tcp_frame(&tuple, TcpFlags::SYN, 7, 0, b""));
    let [syn_ack] = answers(&mut world)[..] else {
        panic!("one SYN-ACK")
    };
    let iss = syn_ack.seq.value();
    let wrong = iss.wrapping_add(2);
    world.deliver(1, PORT, &tcp_frame(&tuple, TcpFlags::ACK, 8, wrong, b""));
    assert!(answers(&mut world)[0].flags.rst(), "a guess is refused");
    assert_eq!(stats(&world).syncookies_failed, 1);
    let ack = tcp_frame(&tuple, TcpFlags::ACK, 8, iss.wrapping_add(1), b"hello");
    world.deliver(1, PORT, &ack);
    world.transmit();
    let flow = world.accepted(1).expect("accepted by cookie");
    let mut got = Vec::new();
    world.receive(1, flow, &mut got);
    assert_eq!(got, b"hello");
    assert_eq!(stats(&world).syncookies_recv, 1);
    // The flood's requests go away by themselves.
    world.run_for(100_000);
    let flooder = FlowTuple {
        local: tuple.remote,
        remote: millrace_base::Endpoint::new(tuple.local.address, 1_000),
    };
    assert!(world.nodes[1].stack.tuple_is_free(world.now, &flooder));
    assert_accounted(&world);
}

// behaviour: A10-20, A17-5, A18-15, LSN-10, X1-23, X4-11
#[test]
fn a_full_accept_backlog_drops_syns_until_somebody_accepts() {
    let mut world = server(false);
    small_backlog(&mut world, 2);
    let mut tuple = client_tuple(false);
    let mut open = |world: &mut World, port: u16| {
        tuple.local.port = port;
        world.deliver(1, PORT, &tcp_frame(&tuple, TcpFlags::SYN, 7, 0, b""));
        let node = &mut world.nodes[1];
        let mut iss = None;
        while let Some(sent) = node.stack.poll_transmit(world.now, &mut node.pool) {
            let bytes = sent.frame.to_vec();
            let tcp = TcpView::parse(&bytes[34..]).expect("TCP");
            iss = tcp.flags().syn().then(|| tcp.seq().value());
        }
        if let Some(iss) = iss {
            let ack = tcp_frame(&tuple, TcpFlags::ACK, 8, iss.wrapping_add(1), b"");
            world.deliver(1, PORT, &ack);
        }
        iss.is_some()
    };
    // One more than the backlog may wait (A18-15).
    for port in [1, 2, 3] {
        assert!(open(&mut world, port));
    }
    assert!(!open(&mut world, 4));
    assert_eq!(stats(&world).listen_overflows, 1);
    assert_eq!(stats(&world).dropped(DropReason::AcceptQueueFull), 1);
    assert!(
        world.nodes[1]
            .stack
            .poll_event()
            .expect("accepted")
            .ready
            .contains(Ready::ACCEPTED)
    );
    assert!(open(&mut world, 5));
    assert_accounted(&world);
}

// RFC 1122 section 3.2.2.6, RFC 4443 section 4.2
#[test]
fn echo_requests_are_answered_in_their_own_buffer_until_the_limit() {
    let ping4 = Icmpv4Message::EchoRequest {
        ident: 7,
        sequence: 9,
        data: b"payload",
    };
    let ping6 = Icmpv6Message::EchoRequest {
        ident: 7,
        sequence: 9,
        data: b"payload",
    };
    for (v6, frame) in [(false, icmpv4(&ping4)), (true, icmpv6(&ping6))] {
        let mut world = server(v6);
        // An empty pool: nothing but the received buffer can carry the answer.
        let mut empty = HeapPool::new(0, 0);
        let node = &mut world.nodes[1];
        let mut padded = frame.clone();
        padded.extend_from_slice(&[0xaa; 6]);
        let buf = node.pool.receive(&padded).expect("room");
        assert!(
            node.stack
                .handle(world.now, PORT, buf, &mut empty)
                .is_none()
        );
        let sent = node
            .stack
            .poll_transmit(world.now, &mut empty)
            .expect("reply");
        let bytes = sent.frame.to_vec();
        let ethernet = EthernetView::parse(&bytes).expect("Ethernet");
        assert_eq!(
            (ethernet.destination(), ethernet.source()),
            (mac(0, 1), mac(1, 0))
        );
        let payload = ethernet.payload();
        let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
        let ip = ip.expect("IP").expect("well formed");
        assert!(ip.header_checksum_ok() && ip.total_len() == payload.len());
        assert_eq!(
            (ip.source(), ip.destination()),
            (address(v6, 0, 2), address(v6, 0, 1))
        );
        if v6 {
            let reply = Icmpv6Message::parse(ip.payload(), ip.source(), ip.destination());
            let expected = Icmpv6Message::EchoReply {
                ident: 7,
                sequence: 9,
                data: b"payload",
            };
            assert_eq!(reply, Ok(expected));
        } else {
            let reply = Icmpv4Message::parse(ip.payload());
            let expected = Icmpv4Message::EchoReply {
                ident: 7,
                sequence: 9,
                data: b"payload",
            };
            assert_eq!(reply, Ok(expected));
        }
        for _ in 0..200 {
            world.deliver(1, PORT, &frame);
        }
        assert!(stats(&world).dropped(DropReason::EchoLimited) >= 140);
        assert_accounted(&world);
    }
}

#[test]
fn what_is_not_ours_to_handle_is_handed_over_whole() {
    let mut world = server(false);
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(mac(0, 1).octets());
    arp.extend_from_slice(&[8, 6]);
    arp.extend_from_slice(&[0; 28]);
    world.deliver(1, PORT, &arp);
    let reply = Icmpv4Message::EchoReply {
        ident: 1,
        sequence: 1,
        data: b"",
    };
    world.deliver(1, PORT, &icmpv4(&reply));
    let mut udp = tcp_frame(&client_tuple(false), TcpFlags::NONE, 0, 0, b"");
    udp[23] = protocol::UDP;
    let mut buf = HeapBuf::from_frame(&udp);
    buf.meta.ip_checksum = ChecksumStatus::Good;
    let node = &mut world.nodes[1];
    let punt = node
        .stack
        .handle(world.now, PORT, buf, &mut node.pool)
        .expect("punted");
    assert_eq!(punt.reason, PuntReason::Local);
    assert_eq!(punt.frame.to_vec(), udp);
    let reasons: Vec<PuntReason> = node.punts.iter().map(|punt| punt.reason).collect();
    assert_eq!(reasons, [PuntReason::Arp, PuntReason::Icmp]);
    assert_accounted(&world);
}

/// A client in SYN-SENT: node 0, whose peer does not answer. Returns the SYN it sent.
fn syn_sent() -> (World, millrace_stack::FlowId, Vec<u8>) {
    let mut world = World::chain(1, 2);
    world.faults.loss_percent = 100;
    world.recorded = Some(Vec::new());
    let flow = world.nodes[0]
        .stack
        .connect(world.now, client_tuple(false), 0)
        .expect("connects");
    world.transmit();
    let syn = world.recorded.as_ref().expect("recording")[0].clone();
    (world, flow, syn)
}

fn to_client(message: &Icmpv4Message<'_>) -> Vec<u8> {
    let mut frame = icmpv4(message);
    let (source, destination) = (address(false, 0, 2), address(false, 0, 1));
    let icmp = frame.split_off(34);
    frame = icmp_frame(false, source, destination, &icmp);
    ethernet::emit(&mut frame, mac(0, 1), mac(1, 0), EtherType::IPV4).expect("fits");
    frame
}

// RFC 5461; RFC 5927 section 4.1
// behaviour: MUST-54
#[test]
fn an_unreachable_ends_a_connect_only_when_it_quotes_the_syn() {
    let (mut world, flow, syn) = syn_sent();
    let mut forged = syn[14..].to_vec();
    forged[24] ^= 0x80;
    let (code, mtu) = (3, 0);
    let unreachable = |quoted| Icmpv4Message::DestinationUnreachable { code, mtu, quoted };
    world.deliver(0, PortId::new(1), &to_client(&unreachable(&forged)));
    assert_eq!(world.nodes[0].stack.stats().out_of_window_icmps, 1);
    assert!(world.nodes[0].stack.info(flow).is_some());
    world.deliver(0, PortId::new(1), &to_client(&unreachable(&syn[14..])));
    world.transmit();
    let ready = world.ready(0, flow);
    assert!(ready.contains(Ready::REFUSED | Ready::CLOSED), "{ready:?}");
    assert_eq!(world.nodes[0].stack.occupancy().connections, 0);
}

// behaviour: ARP-1 ARP-19, ARP-7
#[test]
fn a_connect_waits_for_its_neighbour_and_fails_with_it() {
    for answer in [true, false] {
        let mut world = World::chain(1, 2);
        let server = address(false, 0, 2);
        world.nodes[1]
            .stack
            .set_listeners(&[listener(1, server, 80)]);
        let (port, now) = (PortId::new(1), world.now);
        let client = &mut world.nodes[0].stack;
        client.set_neighbor(now, port, server, millrace_stack::NeighborUpdate::Remove);
        let flow = client
            .connect(now, client_tuple(false), 0)
            .expect("connects");
        world.run_for(500);
        let request = world.nodes[0].stack.poll_neighbor_request().expect("asked");
        assert_eq!((request.port, request.address), (port, server));
        if answer {
            world.resolve_all();
            world.run_until(1_000, |world| {
                world.ready(0, flow).contains(Ready::CONNECTED)
            });
        } else {
            // Nobody answers for three requests: the stack gives up by itself.
            world.run_until(4_000, |world| {
                world
                    .ready(0, flow)
                    .contains(Ready::UNREACHABLE | Ready::CLOSED)
            });
        }
    }
}

// behaviour: A4-11, ARP-8, ARP-17, ARP-18, SND-48, X9-9
#[test]
fn progress_confirms_the_neighbour_and_a_new_mac_is_used_at_once() {
    let mut world = World::chain(1, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, address(false, 0, 2), 80)]);
    let flow = world.nodes[0]
        .stack
        .connect(world.now, client_tuple(false), 0)
        .expect("connects");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    let mut sent = 0;
    world.send(0, flow, b"data", &mut sent);
    world.run_for(500);
    let confirmed = world.nodes[0].stack.poll_confirmation();
    assert_eq!(confirmed, Some((PortId::new(1), address(false, 0, 2))));
    assert_eq!(world.nodes[0].stack.poll_confirmation(), None);
    let moved = MacAddress::new([2, 9, 9, 9, 9, 9]);
    let update = millrace_stack::NeighborUpdate::Reachable(moved);
    world.nodes[0]
        .stack
        .set_neighbor(world.now, PortId::new(1), address(false, 0, 2), update);
    world.recorded = Some(Vec::new());
    world.send(0, flow, b"datadata", &mut sent);
    world.transmit();
    let recorded = world.recorded.as_ref().expect("recording");
    assert_eq!(
        EthernetView::parse(&recorded[0])
            .expect("Ethernet")
            .destination(),
        moved
    );
}

// behaviour: TMR-5
#[test]
fn a_stack_that_is_idle_has_no_deadline() {
    let world = server(false);
    assert_eq!(world.nodes[1].stack.next_deadline(), Instant::NEVER);
}
