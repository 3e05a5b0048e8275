//! Two and three stacks in a row move bytes over links that lose, duplicate and reorder.

mod wire;

use millrace_base::{FlowTuple, Instant, PacketPool as _};
use millrace_stack::limits::TRANSMIT_QUOTA_FRAMES;
use millrace_stack::{ConnectError, FlowId, Occupancy, Offloads, Ready, State};
use wire::{Faults, World, address, interface, listener, mac, pattern, tuple};

const PORT: u16 = 80;

/// A client (node 0) connected to a server (node 1) that has accepted.
fn connected(seed: u64, v6: bool, faults: Faults) -> (World, FlowId, FlowId) {
    let mut world = World::chain(seed, 2);
    world.faults = faults;
    let server = address(v6, 0, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(7, server, PORT)]);
    let client = tuple(address(v6, 0, 1), 40_000, server, PORT);
    let flow = world.nodes[0]
        .stack
        .connect(world.now, client, 1)
        .expect("connects");
    world.run_until(60_000, |world| {
        world.ready(0, flow).contains(Ready::CONNECTED) && world.accepted(1).is_some()
    });
    let accepted = world.accepted(1).expect("accepted");
    (world, flow, accepted)
}

/// Sends `data` one way, closes, and reads it at the other end.
fn transfer(world: &mut World, from: (usize, FlowId), to: (usize, FlowId), data: &[u8]) {
    let (mut sent, mut got, mut shut) = (0, Vec::new(), false);
    world.run_until(600_000, |world| {
        world.send(from.0, from.1, data, &mut sent);
        if sent == data.len() && !shut {
            shut = true;
            let now = world.now;
            world.nodes[from.0].stack.shutdown(now, from.1);
        }
        world.receive(to.0, to.1, &mut got)
    });
    assert_eq!(got.len(), data.len());
    assert!(got == data, "the bytes differ");
}

/// All buffers are back and no connection is left.
fn assert_nothing_leaks(world: World) {
    for node in world.nodes {
        let wire::Node { stack, pool, .. } = node;
        drop(stack);
        assert_eq!(pool.live(), 0);
    }
}

// behaviour: A12-27, A20-1, CCW-8, LSN-7, LSN-18, LSN-23, LSN-25, X1-5, X6-5, X6-6, X9-7
#[test]
fn a_client_connects_and_the_listener_is_named_once() {
    for v6 in [false, true] {
        let (world, flow, accepted) = connected(1, v6, Faults::default());
        let event = world.nodes[1].events[0];
        assert_eq!(event.listener.map(|id| id.number()), Some(7));
        assert_eq!(event.flow, accepted);
        assert_eq!(world.nodes[0].events[0].user, 1);
        let info = world.nodes[0].stack.info(flow).expect("alive");
        assert_eq!(info.state, State::Established);
        assert_eq!(
            info.mss,
            if v6 { 1_428 } else { 1_448 },
            "MTU 1500 less headers and timestamps"
        );
        let stats = (world.nodes[0].stack.stats(), world.nodes[1].stack.stats());
        assert_eq!(
            (stats.0.tcp_active_opens, stats.1.tcp_passive_opens),
            (1, 1)
        );
        assert_nothing_leaks(world);
    }
}

// behaviour: LAY-1, SKB-16
#[test]
fn bytes_arrive_in_order_over_bad_links_in_both_families() {
    for seed in 0..6 {
        for v6 in [false, true] {
            println!("seed {seed} v6 {v6}");
            let faults = Faults {
                loss_percent: 3,
                duplicate_percent: 2,
                reorder_percent: 5,
            };
            let (mut world, client, server) = connected(seed, v6, faults);
            let data = pattern(300_000);
            transfer(&mut world, (0, client), (1, server), &data);
            let answer = pattern(50_000);
            transfer(&mut world, (1, server), (0, client), &answer);
            world.run_for(200_000);
            assert!(world.ready(0, client).contains(Ready::CLOSED));
            assert!(world.ready(1, server).contains(Ready::CLOSED));
            for node in &world.nodes {
                assert_eq!(node.stack.occupancy(), Occupancy::default());
                assert_eq!(node.stack.stats().tcp_curr_estab, 0);
                assert_eq!(node.pool.live(), 0, "idle stacks hold no buffers");
            }
            assert_nothing_leaks(world);
        }
    }
}

// behaviour: MUST-13, A26-1, A26-4, A26-27, STA-38, TMR-6
#[test]
fn who_closes_first_keeps_the_tuple_for_a_minute() {
    let (mut world, client, server) = connected(3, false, Faults::default());
    let used: FlowTuple = world.nodes[0].stack.info(client).expect("alive").tuple;
    world.nodes[0].stack.close(world.now, client);
    world.run_until(1_000, |world| {
        world.ready(1, server).contains(Ready::PEER_CLOSED)
    });
    world.nodes[1].stack.close(world.now, server);
    world.run_for(1_000);
    let is_free = |world: &World, node: usize, tuple: &FlowTuple| {
        world.nodes[node].stack.tuple_is_free(world.now, tuple)
    };
    assert!(!is_free(&world, 0, &used));
    assert!(is_free(&world, 1, &used.reversed()));
    let refused = world.nodes[0].stack.connect(world.now, used, 0);
    assert_eq!(refused, Err(ConnectError::AddressInUse));
    assert_eq!(world.nodes[0].stack.occupancy().time_wait, 1);
    world.run_for(60_000);
    assert!(is_free(&world, 0, &used));
    assert_eq!(world.nodes[0].stack.stats().tw, 1);
    assert_eq!(
        world.nodes[0].stack.next_deadline(),
        Instant::NEVER,
        "nothing left to wait for"
    );
}

// RFC 6191, Linux: tcp_tw_reuse.
// behaviour: SHLD-4, A30-18, A30-19
#[test]
fn a_tuple_is_connected_again_after_a_second_in_time_wait() {
    let (mut world, client, server) = connected(3, false, Faults::default());
    let used: FlowTuple = world.nodes[0].stack.info(client).expect("alive").tuple;
    transfer(&mut world, (0, client), (1, server), &pattern(300_000));
    world.nodes[0].stack.close(world.now, client);
    world.nodes[1].stack.close(world.now, server);
    world.run_for(1_100);
    assert_eq!(world.nodes[0].stack.occupancy().time_wait, 1);
    assert!(world.nodes[0].stack.tuple_is_free(world.now, &used));
    world.nodes[1].events.clear();
    let again = world.nodes[0].stack.connect(world.now, used, 5);
    let again = again.expect("the record gives way");
    world.run_until(1_000, |world| world.accepted(1).is_some());
    let accepted = world.accepted(1).expect("accepted");
    transfer(&mut world, (0, again), (1, accepted), &pattern(50_000));
    let stats = world.nodes[0].stack.stats();
    assert_eq!((stats.tw_recycled, stats.tcp_syn_retrans), (1, 0));
    assert_nothing_leaks(world);
}

/// A balancer (node 1) between a client (node 0) and a server (node 2): accepts, connects on,
/// splices both ways.
struct Spliced {
    world: World,
    client: FlowId,
    front: Option<FlowId>,
    back: Option<FlowId>,
    server: Option<FlowId>,
    front_shut: bool,
    back_shut: bool,
}

fn spliced(seed: u64, v6: bool, faults: Faults) -> Spliced {
    let mut world = World::chain(seed, 3);
    world.faults = faults;
    let vip = address(v6, 0, 2);
    let backend = address(v6, 1, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(1, vip, PORT)]);
    world.nodes[2]
        .stack
        .set_listeners(&[listener(2, backend, 8_080)]);
    let client = tuple(address(v6, 0, 1), 40_000, vip, PORT);
    let client = world.nodes[0]
        .stack
        .connect(world.now, client, 0)
        .expect("connects");
    Spliced {
        world,
        client,
        front: None,
        back: None,
        server: None,
        front_shut: false,
        back_shut: false,
    }
}

impl Spliced {
    /// The state of all four ends, for a failure's message.
    fn describe(&self) -> String {
        let ends = [
            (0, Some(self.client)),
            (1, self.front),
            (1, self.back),
            (2, self.server),
        ];
        let mut text = format!("at {:?}", self.world.now);
        for (node, flow) in ends {
            let info = flow.and_then(|flow| self.world.nodes[node].stack.info(flow));
            text.push_str(&format!("\n  node {node}: {info:?}"));
        }
        text
    }

    /// What a balancer does whenever anything happened.
    fn balance(&mut self, v6: bool) {
        let now = self.world.now;
        if self.front.is_none() {
            self.front = self.world.accepted(1);
            if self.front.is_some() {
                let back = tuple(address(v6, 1, 1), 50_000, address(v6, 1, 2), 8_080);
                let back = self.world.nodes[1]
                    .stack
                    .connect(now, back, 1)
                    .expect("connects");
                self.back = Some(back);
            }
        }
        self.server = self.world.accepted(2);
        let (Some(front), Some(back)) = (self.front, self.back) else {
            return;
        };
        let stack = &mut self.world.nodes[1].stack;
        if stack.splice(now, front, back).end_of_stream && !self.back_shut {
            stack.shutdown(now, back);
            self.back_shut = true;
        }
        if stack.splice(now, back, front).end_of_stream && !self.front_shut {
            stack.shutdown(now, front);
            self.front_shut = true;
        }
    }
}

#[test]
fn a_balancer_splices_both_ways_and_copies_nothing() {
    for seed in 0..4 {
        for v6 in [false, true] {
            println!("seed {seed} v6 {v6}");
            let faults = Faults {
                loss_percent: 2,
                duplicate_percent: 1,
                reorder_percent: 5,
            };
            let faults = if seed == 0 { Faults::default() } else { faults };
            let mut chain = spliced(seed, v6, faults);
            let (request, answer) = (pattern(200_000), pattern(400_000));
            let (mut asked, mut answered) = (0, 0);
            let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
            let (mut client_shut, mut server_shut) = (false, false);
            let limit = Instant::from_millis(900_000);
            loop {
                chain.balance(v6);
                let (client, now) = (chain.client, chain.world.now);
                if chain.world.ready(0, client).contains(Ready::CONNECTED) {
                    chain.world.send(0, client, &request, &mut asked);
                }
                if asked == request.len() && !client_shut {
                    client_shut = true;
                    chain.world.nodes[0].stack.shutdown(now, client);
                }
                if let Some(server) = chain.server {
                    let ended = chain.world.receive(2, server, &mut at_server);
                    chain.world.send(2, server, &answer, &mut answered);
                    if ended && answered == answer.len() && !server_shut {
                        server_shut = true;
                        chain.world.nodes[2].stack.shutdown(now, server);
                    }
                }
                if chain.world.receive(0, client, &mut at_client) {
                    break;
                }
                if !chain.world.step(limit) {
                    panic!("stuck: {}", chain.describe());
                }
            }
            assert!(at_server == request && at_client == answer);
            let stats = chain.world.nodes[1].stack.stats();
            assert_eq!(stats.payload_copied_bytes, 0);
            assert_eq!(stats.payload_spliced_bytes, 600_000);
            chain.world.run_for(200_000);
            for node in &chain.world.nodes {
                assert_eq!(node.stack.occupancy().connections, 0);
                assert_eq!(node.pool.live(), 0);
            }
            assert_nothing_leaks(chain.world);
        }
    }
}

// A device that merges received segments (LRO) delivers up to 64 KB behind one header, in a chain of
// buffers whose ends have nothing to do with those of segments. The backend takes 1,460 bytes.
// behaviour: NIC-18
#[test]
fn what_a_device_has_merged_is_spliced_and_cut_to_the_backends_segments() {
    const FRAME_BYTES_MAX: usize = 14 + 1_500;
    for (v6, buffer_bytes) in [(false, 2_048), (false, 1_000), (true, 2_048), (true, 333)] {
        println!("v6 {v6} buffers of {buffer_bytes}");
        let mut chain = spliced(11, v6, Faults::default());
        chain.world.merges = Some((1, buffer_bytes));
        chain.world.recorded = Some(Vec::new());
        // The client sends such frames itself: no device cuts them on this link.
        let mut uncut = interface(1, mac(0, 1), &[address(false, 0, 1), address(true, 0, 1)]);
        uncut.offloads = Offloads {
            tcp_checksum: true,
            tso: true,
            tso_bytes_max: 24_000,
            segments_max: 32,
            ..Offloads::default()
        };
        let now = chain.world.now;
        chain.world.nodes[0].stack.set_interfaces(now, &[uncut]);
        let data = pattern(600_000);
        let (mut sent, mut got, mut shut) = (0, Vec::new(), false);
        loop {
            chain.balance(v6);
            let (client, now) = (chain.client, chain.world.now);
            if chain.world.ready(0, client).contains(Ready::CONNECTED) {
                chain.world.send(0, client, &data, &mut sent);
            }
            if sent == data.len() && !shut {
                shut = true;
                chain.world.nodes[0].stack.shutdown(now, client);
            }
            let server = chain.server;
            if server.is_some_and(|server| chain.world.receive(2, server, &mut got)) {
                break;
            }
            let limit = Instant::from_millis(60_000);
            assert!(chain.world.step(limit), "stuck: {}", chain.describe());
        }
        assert!(got == data, "the bytes differ");
        let frames = chain.world.recorded.take().expect("recording");
        let longest = frames.iter().map(Vec::len).max();
        assert!(
            longest > Some(20_000),
            "{longest:?}: nothing large was received"
        );
        let to_server = |frame: &&Vec<u8>| frame.starts_with(mac(2, 0).octets());
        let cut = frames.iter().filter(to_server).map(Vec::len).max();
        assert_eq!(
            cut,
            Some(FRAME_BYTES_MAX),
            "full segments, and no longer ones"
        );
        let stats = chain.world.nodes[1].stack.stats();
        assert_eq!(stats.payload_copied_bytes, 0);
        assert_eq!(stats.tcp_retrans_segs, 0);
        assert_nothing_leaks(chain.world);
    }
}

// Backpressure: a server that reads nothing stops the client through both connections.
#[test]
fn a_reader_that_stops_stops_the_sender_through_the_balancer() {
    let mut chain = spliced(9, false, Faults::default());
    let data = pattern(30_000_000);
    let mut sent = 0;
    let limit = Instant::from_millis(60_000);
    loop {
        chain.balance(false);
        let client = chain.client;
        if chain.world.ready(0, client).contains(Ready::CONNECTED) {
            chain.world.send(0, client, &data, &mut sent);
        }
        if !chain.world.step(limit) || chain.world.now >= limit {
            break;
        }
    }
    assert!(
        sent < 20_000_000,
        "{sent} bytes were taken though nobody read them"
    );
    let now = chain.world.now;
    let client = chain.client;
    chain.world.nodes[0].stack.abort(now, client);
    chain.world.run_for(1_000);
    let front = chain.front.expect("accepted");
    assert!(
        chain
            .world
            .ready(1, front)
            .contains(Ready::RESET | Ready::CLOSED)
    );
    let back = chain.back.expect("connected");
    let now = chain.world.now;
    chain.world.nodes[1].stack.abort(now, back);
    chain.world.run_for(1_000);
    assert!(
        chain
            .world
            .ready(2, chain.server.expect("accepted"))
            .contains(Ready::RESET)
    );
    assert_nothing_leaks(chain.world);
}

// A pool that runs empty stalls connections but loses nothing: they go on when buffers return.
// behaviour: SKB-5
#[test]
fn an_empty_pool_delays_data_and_loses_none() {
    let (mut world, client, server) = connected(4, false, Faults::default());
    let data = pattern(25_000);
    let mut sent = 0;
    world.send(0, client, &data, &mut sent);
    assert_eq!(sent, data.len());
    let pool = &mut world.nodes[1].pool;
    let mut taken = Vec::new();
    while let Some(buf) = pool.alloc() {
        taken.push(buf);
    }
    // The server can neither receive nor acknowledge.
    world.run_for(700);
    taken.clear();
    let mut got = Vec::new();
    world.run_until(30_000, |world| {
        world.receive(1, server, &mut got);
        got.len() == data.len()
    });
    assert!(got == data);
    world.nodes[0].stack.abort(world.now, client);
    world.nodes[1].stack.abort(world.now, server);
    assert_nothing_leaks(world);
}

// `TRANSMIT_QUOTA_FRAMES`: a connection with much to send lets the others have their turn.
// behaviour: QDS-5
#[test]
fn one_busy_connection_does_not_keep_others_waiting() {
    let (mut world, busy, _) = connected(5, false, Faults::default());
    let server = address(false, 0, 2);
    let quiet = tuple(address(false, 0, 1), 41_000, server, PORT);
    let quiet = world.nodes[0]
        .stack
        .connect(world.now, quiet, 2)
        .expect("connects");
    world.run_until(1_000, |world| {
        world.ready(0, quiet).contains(Ready::CONNECTED)
    });
    // Open the busy connection's congestion window.
    let peer = world.nodes[1].events[0].flow;
    opened_up(&mut world, busy, peer);
    let data = pattern(600_000);
    let mut sent = 0;
    world.send(0, busy, &data, &mut sent);
    let mut little = 0;
    world.send(0, quiet, b"small", &mut little);
    world.recorded = Some(Vec::new());
    world.transmit();
    let frames = world.recorded.take().expect("recording");
    let port = |frame: &[u8]| u16::from_be_bytes([frame[34], frame[35]]);
    let position = frames
        .iter()
        .position(|frame| port(frame) == 41_000)
        .expect("sent");
    assert!(
        frames.len() > 40,
        "{} frames: the window is too small to tell",
        frames.len()
    );
    assert!(
        position <= TRANSMIT_QUOTA_FRAMES as usize,
        "{position} frames went first"
    );
}

/// A connection whose congestion window is some hundred segments, and its peer.
fn opened_up(world: &mut World, from: FlowId, to: FlowId) {
    let data = pattern(4_000_000);
    let (mut sent, mut got) = (0, Vec::new());
    world.run_until(60_000, |world| {
        world.send(0, from, &data, &mut sent);
        world.receive(1, to, &mut got);
        got.len() == data.len()
    });
    world.run_for(100);
}

/// Bytes of the frames that leave in one call.
fn handed_over(world: &mut World) -> u64 {
    let (now, node) = (world.now, &mut world.nodes[0]);
    let mut bytes = 0;
    node.stack.transmit(now, &mut node.pool, |transmit| {
        bytes += transmit.frame.to_vec().len() as u64;
        true
    });
    bytes
}

// Linux: tcp_small_queue_check, tcp_tsq_handler. A device that has not sent yet what it was given gets
// no more than a millisecond of a connection's rate; with the next call that is gone.
// behaviour: A3-45, A4-10, SND-47, X3-13, X8-11
#[test]
fn one_call_hands_over_no_more_of_a_connection_than_may_lie_below_tcp() {
    const QUOTA_BYTES: u64 = TRANSMIT_QUOTA_FRAMES as u64 * 1_514;
    let (mut world, busy, peer) = connected(5, false, Faults::default());
    opened_up(&mut world, busy, peer);
    let info = world.nodes[0].stack.info(busy).expect("alive");
    let srtt_us = u64::from(info.srtt.expect("measured").as_micros());
    let rate = u64::from(info.cwnd_bytes) * 2 * 1_000_000 / srtt_us;
    let limit = rate >> 10;
    assert!(limit > 2 * QUOTA_BYTES, "{limit} is too little to tell");
    let data = pattern(2_000_000);
    let mut sent = 0;
    world.send(0, busy, &data, &mut sent);
    assert!(u64::from(info.cwnd_bytes) > 2 * limit + 2 * QUOTA_BYTES);
    for call in 0..2 {
        let bytes = handed_over(&mut world);
        assert!(
            bytes >= limit && bytes < limit + QUOTA_BYTES,
            "{bytes} of {limit} in call {call}"
        );
        let stack = &world.nodes[0].stack;
        assert!(stack.is_throttled());
        assert!(stack.next_deadline() <= world.now, "it goes on at once");
    }
    let mut tunables = *world.nodes[0].stack.tunables();
    tunables.tcp_limit_output_bytes = 1;
    world.nodes[0].stack.set_tunables(tunables);
    let bytes = handed_over(&mut world);
    assert!(
        bytes > 0 && bytes <= QUOTA_BYTES,
        "{bytes}: one quota at least"
    );
    // An ACK that is due does not wait for the device.
    let mut little = 0;
    world.send(1, peer, b"hello", &mut little);
    world.run_until(1_000, |world| !world.nodes[0].stack.is_throttled());
}

// Linux: a device without checksums has no TSO. behaviour: SND-7
#[test]
fn without_checksums_in_the_device_a_frame_is_one_segment() {
    for tcp_checksum in [false, true] {
        let (mut world, client, server) = connected(5, false, Faults::default());
        opened_up(&mut world, client, server);
        let mut port = interface(1, mac(0, 1), &[address(false, 0, 1), address(true, 0, 1)]);
        port.offloads = Offloads {
            tcp_checksum,
            tso: true,
            tso_bytes_max: 24_000,
            segments_max: 32,
            ..Offloads::default()
        };
        let now = world.now;
        world.nodes[0].stack.set_interfaces(now, &[port]);
        world.resolve_all();
        let mut sent = 0;
        world.send(0, client, &pattern(50_000), &mut sent);
        let node = &mut world.nodes[0];
        let mut longest = 0;
        node.stack.transmit(now, &mut node.pool, |transmit| {
            longest = longest.max(transmit.frame.to_vec().len());
            true
        });
        assert_eq!(longest > 1_514, tcp_checksum, "{longest} bytes");
    }
}

/// Milliseconds that a transfer takes over a link that loses, and the sender's timeouts.
fn lossy_transfer(seed: u64, loss_percent: u32, send_queue: Option<u32>) -> (u64, u64) {
    let (mut world, client, server) = connected(seed, false, Faults::default());
    world.delay = millrace_base::Nanos::from_millis(10);
    if let Some(bytes) = send_queue {
        let mut tunables = *world.nodes[0].stack.tunables();
        tunables.tcp_wmem = [bytes, bytes];
        world.nodes[0].stack.set_tunables(tunables);
    }
    world.faults.loss_percent = loss_percent;
    let begin = world.now;
    transfer(&mut world, (0, client), (1, server), &pattern(2_000_000));
    let took = world.now.since(begin).as_millis();
    let stats = world.nodes[0].stack.stats();
    eprintln!(
        "seed {seed}, {loss_percent} %, {send_queue:?}: {took} ms, {} again, {} timeouts, {} lost again",
        stats.tcp_retrans_segs, stats.tcp_timeouts, stats.tcp_lost_retransmit
    );
    (took, stats.tcp_timeouts)
}

// Linux: `sk_sndbuf` is never in the way of recovery. What lies behind a hole fills the send queue, and
// the window goes down: were the queue held to it, there would be nothing to send for a part of each
// recovery, and nothing that would show that a retransmission was lost as well.
#[test]
fn a_send_queue_that_follows_the_window_costs_nothing_where_segments_are_lost() {
    for loss_percent in [1, 3] {
        let mut sums = [(0, 0); 2];
        for seed in 1..9 {
            for (sum, queue) in sums.iter_mut().zip([None, Some(1 << 30)]) {
                let (took, timeouts) = lossy_transfer(seed, loss_percent, queue);
                *sum = (sum.0 + took, sum.1 + timeouts);
            }
        }
        let [(held, _), (free, _)] = sums;
        assert!(held * 100 <= free * 102, "{loss_percent} %: {sums:?}");
    }
}
