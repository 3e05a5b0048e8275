//! Anything at any time: sessions of every kind over bad wires while backends come and go.
//!
//! Each seed draws its own world. The claims are few and strong: every request has an outcome, a
//! complete reply is the right one (the client checks every byte), and afterwards nothing is left.

mod world;

use millrace_abi::{Algorithm, BackendState, Command};
use millrace_base::{Nanos, Rng};
use world::{Faults, Outcome, Reply, Request, World, WorldOptions};

const REPLIES: [Reply; 5] = [
    Reply::AtHeader,
    Reply::AtEnd,
    Reply::AtHeaderThenClose,
    Reply::Reset,
    Reply::Nothing,
];

fn draw_world(rng: &mut Rng, seed: u64) -> World {
    let algorithms = [Algorithm::RoundRobin, Algorithm::LeastConnections];
    let mut world = World::new(&WorldOptions {
        seed,
        servers: 1 + rng.below(4) as u8,
        sessions_max: 4 + rng.below(60) as usize,
        algorithm: algorithms[rng.below(2) as usize],
        v6_backends: rng.below(2) == 0,
        snat_ports: (2_000, 2_000 + rng.below(200) as u16),
    });
    // Half of the worlds have perfect wires.
    if rng.below(2) == 0 {
        world.faults = Faults {
            lost: rng.below(50),
            doubled: rng.below(50),
            late: rng.below(500),
        };
    }
    world
}

fn draw_request(rng: &mut Rng, world: &World) -> Request {
    let reply = REPLIES[rng.below(5) as usize];
    let later = |rng: &mut Rng, millis: u32| {
        world
            .now
            .after(Nanos::from_millis(u64::from(rng.below(millis))))
    };
    Request {
        body_bytes: rng.below(60_000) as usize,
        reply,
        reply_bytes: 1 + rng.below(200_000) as usize,
        // A server that says nothing ends its stream after the client's: that is no early end.
        half_close: reply == Reply::AtEnd || (reply != Reply::Nothing && rng.below(2) == 0),
        abort_after_bytes: (rng.below(6) == 0).then_some(rng.below(100_000) as usize),
        read_from: later(rng, 1_000),
        give_up_at: world
            .now
            .after(Nanos::from_secs(120 + u64::from(rng.below(60)))),
    }
}

fn disturb(rng: &mut Rng, world: &mut World) {
    let which = rng.below(world.servers.len() as u32) as usize;
    match rng.below(8) {
        0 => world.servers[which].stop_listening(),
        1 => world.servers[which].listen(),
        2 => world.servers[which].silent = !world.servers[which].silent,
        3 => world.set_backend_state(which as u16, BackendState::Down),
        4 => world.set_backend_state(which as u16, BackendState::Draining),
        5 => world.set_backend_state(which as u16, BackendState::Up),
        6 => world.command(Command::Probe {
            token: 1,
            target: world.backend_endpoint(which as u8),
            timeout_ms: 1 + rng.below(2_000),
        }),
        _ => world.command(Command::ListConnections {
            token: 2,
            cursor: u64::from(rng.below(80)),
            limit: rng.below(80),
        }),
    }
}

fn one_world(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut world = draw_world(&mut rng, seed);
    for _ in 0..40 {
        if rng.below(3) == 0 {
            disturb(&mut rng, &mut world);
        }
        let request = draw_request(&mut rng, &world);
        world.request(request);
        world.run_for(Nanos::from_micros(u64::from(rng.below(20_000))));
    }
    world.run_until(Nanos::from_secs(400), |world| world.client.all_done());
    assert!(
        world.client.all_done(),
        "unfinished: {:?}",
        world.client.unfinished()
    );
    let short = world.client.count(Outcome::Short);
    assert_eq!(short, 0, "a stream ended early instead of being reset");
    world.faults = Faults::default();
    for server in &mut world.servers {
        server.silent = false;
    }
    // A client whose RST was lost looks idle.
    world.run_for(Nanos::from_secs(3_700));
    world.assert_the_balancer_is_empty();
}

#[test]
fn whatever_happens_every_request_ends_and_nothing_is_left() {
    for seed in 0..40 {
        one_world(seed);
    }
}
