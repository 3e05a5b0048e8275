//! Connections at rest: nobody can tell that they are, and what happens when all others are busy.

mod wire;

use millrace_base::{Instant, Nanos};
use millrace_stack::{ConnectionOptions, DropReason, FlowId, Occupancy, Ready, State};
use wire::{Faults, World, address, listener, pattern, tuple};

const PORT: u16 = 80;
const BASE_PORT: u16 = 40_000;

/// Two nodes whose stacks have so many desks; the second one listens.
fn world(seed: u64, desks: usize) -> World {
    let mut world = World::chain_with_desks(seed, 2, desks);
    let server = address(false, 0, 2);
    world.nodes[1]
        .stack
        .set_listeners(&[listener(7, server, PORT)]);
    world
}

/// A further connection: both ends of it.
fn open(world: &mut World, number: u16) -> (FlowId, FlowId) {
    let tuple = tuple(
        address(false, 0, 1),
        BASE_PORT + number,
        address(false, 0, 2),
        PORT,
    );
    let stack = &mut world.nodes[0].stack;
    let flow = stack
        .connect(world.now, tuple, u64::from(number))
        .expect("room");
    let accepted = |world: &World| {
        let known = world.nodes[1].events.iter();
        let mut known = known.filter(|event| event.ready.contains(Ready::ACCEPTED));
        known.nth(number.into()).map(|event| event.flow)
    };
    world.run_until(10_000, |world| accepted(world).is_some());
    // The last ACKs that are delayed have left.
    world.run_for(300);
    (flow, accepted(world).expect("accepted"))
}

/// Moves `data` from one end to the other.
fn pass(world: &mut World, from: (usize, FlowId), to: (usize, FlowId), data: &[u8]) {
    let (mut sent, mut got) = (0, Vec::new());
    world.run_until(600_000, |world| {
        world.send(from.0, from.1, data, &mut sent);
        world.receive(to.0, to.1, &mut got);
        got.len() >= data.len()
    });
    assert!(got == data, "the bytes differ");
}

/// Ends a connection from both ends, and forgets it.
fn end(world: &mut World, (client, server): (FlowId, FlowId)) {
    world.nodes[0].stack.shutdown(world.now, client);
    world.run_for(100);
    world.nodes[1].stack.close(world.now, server);
    world.run_for(100);
    world.nodes[0].stack.close(world.now, client);
    world.run_for(100);
}

fn assert_empty(world: &mut World) {
    world.run_for(200_000);
    for node in &world.nodes {
        assert_eq!(node.stack.occupancy(), Occupancy::default());
        assert_eq!(node.stack.stats().tcp_curr_estab, 0);
        assert_eq!(node.pool.live(), 0);
    }
}

#[test]
fn thirty_connections_talk_in_turn_over_four_desks() {
    let mut world = world(1, 4);
    let flows: Vec<_> = (0..30).map(|number| open(&mut world, number)).collect();
    for round in 0..3 {
        for (number, (client, server)) in flows.iter().enumerate() {
            let data = pattern(100 + 700 * number);
            pass(&mut world, (0, *client), (1, *server), &data);
            pass(&mut world, (1, *server), (0, *client), &data[..50 + round]);
            // Delayed ACKs.
            world.run_for(50);
        }
    }
    for (number, (client, _)) in flows.iter().enumerate() {
        let info = world.nodes[0].stack.info(*client).expect("alive");
        assert_eq!(info.state, State::Established);
        assert_eq!(info.bytes_received, 150 + 3, "of {number}");
    }
    for node in &world.nodes {
        assert!(node.stack.desks_cleared() >= 29 * 3, "they took turns");
        assert_eq!(node.stack.stats().dropped(DropReason::NoDesk), 0);
        assert_eq!(node.stack.stats().tcp_curr_estab, 30);
    }
    for flow in flows {
        end(&mut world, flow);
    }
    assert_empty(&mut world);
}

// Everything that leaves is the same, byte for byte and at the same time, whether connections rest
// whenever they can or never.
#[test]
fn nobody_can_tell_whether_a_connection_rests() {
    for seed in 0..8 {
        println!("seed {seed}");
        let talk = |rests: bool| {
            let mut world = world(seed, 0);
            world.faults = Faults {
                loss_percent: 4,
                duplicate_percent: 3,
                reorder_percent: 10,
            };
            world.rests = rests;
            world.recorded = Some(Vec::new());
            let (client, server) = open(&mut world, 0);
            for round in 0..6u64 {
                let data = pattern(200 + 20_000 * round as usize);
                pass(&mut world, (0, client), (1, server), &data);
                world.run_for(round * round * 300);
                pass(&mut world, (1, server), (0, client), &data);
                world.run_for(round * 700);
            }
            // What may turn out not to have been lost is remembered until more was sent.
            world.faults = Faults::default();
            world.nodes[0].stack.shutdown(world.now, client);
            world.run_for(3_000);
            pass(&mut world, (1, server), (0, client), &pattern(9_000));
            world.run_for(3_000);
            let resting = world.nodes[1].stack.rest_all();
            let info = world.nodes[1].stack.info(server);
            world.nodes[1].stack.close(world.now, server);
            world.run_for(1_000);
            world.nodes[0].stack.close(world.now, client);
            assert_empty(&mut world);
            (
                world.recorded,
                resting,
                info.map(|info| (info.state, info.bytes_acked)),
            )
        };
        let (rested, worked) = (talk(true), talk(false));
        assert_eq!(rested.1, 1, "closed by its peer, it rests");
        assert_eq!(rested, worked);
    }
}

// A segment that finds no desk is one that the network has lost.
#[test]
fn a_segment_without_a_desk_is_dropped_and_comes_again() {
    let mut world = world(3, 2);
    let flows: Vec<_> = (0..3).map(|number| open(&mut world, number)).collect();
    // What is unread keeps two at work.
    for (client, _) in &flows[..2] {
        world.send(0, *client, b"unread", &mut 0);
        world.run_for(100);
    }
    assert_eq!(world.nodes[1].stack.rest_all(), 1);
    world.send(0, flows[2].0, b"late", &mut 0);
    world.run_for(100);
    let drops = world.nodes[1].stack.stats().dropped(DropReason::NoDesk);
    assert!(drops > 0, "there is no desk for it");
    assert!(!world.ready(1, flows[2].1).contains(Ready::READABLE));
    let mut got = Vec::new();
    world.receive(1, flows[0].1, &mut got);
    world.run_until(5_000, |world| {
        world.ready(1, flows[2].1).contains(Ready::READABLE)
    });
    world.receive(1, flows[2].1, &mut got);
    assert_eq!(got, b"unreadlate");
}

#[test]
fn a_connection_is_refused_while_there_is_no_desk_for_it() {
    let mut world = world(4, 2);
    let flows: Vec<_> = (0..2).map(|number| open(&mut world, number)).collect();
    for (client, _) in &flows {
        world.send(0, *client, b"unread", &mut 0);
    }
    world.run_for(100);
    let tuple = tuple(address(false, 0, 1), 50_000, address(false, 0, 2), PORT);
    let late = world.nodes[0]
        .stack
        .connect(world.now, tuple, 9)
        .expect("room");
    world.run_for(500);
    assert_eq!(world.nodes[1].stack.connection_count(), 2);
    let mut got = Vec::new();
    world.receive(1, flows[0].1, &mut got);
    // The SYN-ACK or the client's first words come again.
    world.send(0, late, b"hello", &mut 0);
    world.run_until(10_000, |world| world.nodes[1].stack.connection_count() == 3);
    assert!(world.ready(0, late).contains(Ready::CONNECTED));
}

/// Three connections of which two are kept at work by what is unread, so that there is no desk for
/// the third.
fn two_busy_and_one_resting() -> (World, Vec<(FlowId, FlowId)>) {
    let mut world = world(5, 2);
    let flows: Vec<_> = (0..3).map(|number| open(&mut world, number)).collect();
    for (client, _) in &flows[..2] {
        world.send(0, *client, b"unread", &mut 0);
        world.run_for(100);
    }
    world.nodes[1].events.clear();
    (world, flows)
}

// Linux: tcp_check_oom. A session whose other half is gone must be able to end this one.
#[test]
fn a_verb_without_a_desk_resets_the_connection_and_tells_both_ends() {
    let (mut world, flows) = two_busy_and_one_resting();
    let (client, server) = flows[2];
    world.nodes[1].stack.set_user(server, 77);
    world.nodes[1].stack.shutdown(world.now, server);
    assert!(
        world.nodes[1].stack.info(server).is_some(),
        "its last event waits"
    );
    world.run_for(100);
    assert!(world.ready(0, client).contains(Ready::RESET));
    let told: Vec<_> = world.nodes[1]
        .events
        .iter()
        .map(|event| (event.flow, event.user, event.ready))
        .collect();
    assert_eq!(told, [(server, 77, Ready::RESET | Ready::CLOSED)]);
    assert_eq!(world.nodes[1].stack.stats().tcp_abort_on_memory, 1);
    assert!(
        world.nodes[1].stack.info(server).is_none(),
        "the id is dead"
    );
    let mut got = Vec::new();
    for flow in &flows[..2] {
        world.receive(1, flow.1, &mut got);
        end(&mut world, *flow);
    }
    assert_empty(&mut world);
}

#[test]
fn a_connection_closed_without_a_desk_is_reset_and_forgotten() {
    let (mut world, flows) = two_busy_and_one_resting();
    let (client, server) = flows[2];
    world.nodes[1].stack.close(world.now, server);
    assert_eq!(world.nodes[1].stack.connection_count(), 2);
    world.run_for(100);
    assert!(world.ready(0, client).contains(Ready::RESET));
    assert!(
        world.nodes[1].events.is_empty(),
        "who let go is told nothing"
    );
    let mut got = Vec::new();
    for flow in &flows[..2] {
        world.receive(1, flow.1, &mut got);
        end(&mut world, *flow);
    }
    assert_empty(&mut world);
}

#[test]
fn a_connection_at_rest_is_asked_whether_its_peer_is_there() {
    let mut world = world(6, 0);
    let (client, server) = open(&mut world, 0);
    let options = ConnectionOptions {
        keepalive: true,
        ..ConnectionOptions::default()
    };
    world.nodes[1].stack.set_options(world.now, server, options);
    world.rests = true;
    world.run_for(7_100_000);
    let probes = |world: &World| world.nodes[1].stack.stats().tcp_keep_alive;
    assert_eq!(probes(&world), 0);
    world.run_for(200_000);
    assert_eq!(probes(&world), 1);
    // Nobody answers any more: nine probes, and that was all.
    world.faults.loss_percent = 100;
    let limit: Instant = world.now.after(Nanos::from_secs(10_000));
    while world.step(limit) {}
    assert!(world.ready(1, server).contains(Ready::TIMED_OUT));
    assert!(world.nodes[0].stack.info(client).is_some());
}

// The desk for the sink is that of the source, which is at rest too: closed by its peer and read to its
// end, it has only that to tell.
#[test]
fn a_splice_puts_both_to_work() {
    for seed in 0..6 {
        let mut world = world(seed, 2);
        let flows: Vec<_> = (0..4).map(|number| open(&mut world, number)).collect();
        world.nodes[0].stack.shutdown(world.now, flows[1].0);
        world.run_for(300);
        let (source, sink) = (flows[1].1, flows[0].1);
        let stack = &mut world.nodes[1].stack;
        // The hand stands anywhere, and the source is at work.
        for other in [flows[2].1, flows[3].1]
            .into_iter()
            .cycle()
            .take(seed as usize)
        {
            stack.peek(other, 0, &mut []);
        }
        stack.peek(source, 0, &mut []);
        let spliced = world.nodes[1].stack.splice(world.now, source, sink);
        assert!(spliced.end_of_stream, "seed {seed}");
    }
}
