//! What the BSD face asks of the stack: an accept queue and reading without taking.

mod wire;

use millrace_stack::FlowId;
use wire::{World, address, listener, pattern, tuple};

fn connected(world: &mut World) -> (FlowId, FlowId) {
    let server = address(false, 0, 2);
    let mut row = listener(1, server, 80);
    row.options.backlog = 1;
    world.nodes[1].stack.set_listeners(&[row]);
    let client = connect(world, 40_000);
    world.run_until(100, |world| world.accepted(1).is_some());
    (client, world.accepted(1).expect("accepted"))
}

fn connect(world: &mut World, port: u16) -> FlowId {
    let tuple = tuple(address(false, 0, 1), port, address(false, 0, 2), 80);
    let stack = &mut world.nodes[0].stack;
    stack.connect(world.now, tuple, 0).expect("room")
}

// behaviour: OPT-34
#[test]
fn peeking_shows_what_reading_will_take() {
    let mut world = World::chain(1, 2);
    let (client, server) = connected(&mut world);
    let sent = pattern(5_000);
    world.send(0, client, &sent, &mut 0);
    world.run_for(50);
    let mut seen = [0; 3_000];
    let stack = &mut world.nodes[1].stack;
    for skip in [0, 1, 1_448, 1_999, 4_999, 5_000, 6_000] {
        let bytes = stack.peek(server, skip, &mut seen);
        let rest = sent.get(skip..).unwrap_or_default();
        assert_eq!(bytes, rest.len().min(seen.len()), "from {skip}");
        assert_eq!(seen[..bytes], rest[..bytes], "from {skip}");
    }
    let mut read = Vec::new();
    world.receive(1, server, &mut read);
    assert_eq!(read, sent, "nothing was taken");
}

// behaviour: LSN-6 LSN-10
#[test]
fn a_connection_stays_in_the_backlog_until_it_is_accepted() {
    let mut world = World::chain(2, 2);
    let server = address(false, 0, 2);
    let mut row = listener(1, server, 80);
    row.options.backlog = 1;
    world.nodes[1].stack.set_listeners(&[row]);
    let mut accepted = Vec::new();
    let mut open = |world: &mut World, port| {
        let client = connect(world, port);
        // The node's own loop would take the events, and with them the connections.
        for _ in 0..8 {
            for (from, to) in [(0, 1), (1, 0)] {
                let node = &mut world.nodes[from];
                let mut frames = Vec::new();
                node.stack.transmit(world.now, &mut node.pool, |transmit| {
                    frames.push(transmit.frame.to_vec());
                    true
                });
                for frame in frames {
                    let port = millrace_base::PortId::new(if to == 0 { 1 } else { 0 });
                    world.deliver(to, port, &frame);
                }
            }
            while let Some(event) = world.nodes[1].stack.poll_event_in_backlog() {
                accepted.push(event.flow);
            }
        }
        let info = world.nodes[0].stack.info(client).expect("alive");
        (info.state.name() == "ESTAB", accepted.clone())
    };
    // Strictly greater: a backlog of one lets two wait.
    assert!(open(&mut world, 1_001).0);
    let (opened, waiting) = open(&mut world, 1_002);
    assert!(opened);
    assert_eq!(waiting.len(), 2);
    assert!(!open(&mut world, 1_003).0, "no room for a third");
    world.nodes[1].stack.accept(waiting[0]);
    assert!(open(&mut world, 1_004).0);
}

// behaviour: A26-5
#[test]
fn a_tuple_is_taken_until_its_time_wait_ends() {
    let mut world = World::chain(3, 2);
    let (client, server) = connected(&mut world);
    let own = tuple(address(false, 0, 1), 40_000, address(false, 0, 2), 80);
    world.nodes[0].stack.close(world.now, client);
    world.run_for(50);
    world.nodes[1].stack.close(world.now, server);
    world.run_for(1_000);
    assert!(world.nodes[0].stack.tuple_is_taken(&own));
    world.run_for(61_000);
    assert!(!world.nodes[0].stack.tuple_is_taken(&own));
}
