//! More than there is room for: new work is turned away, what is established goes on.

mod world;

use millrace_base::Nanos;
use millrace_stack::{DropReason, Shortage, Watermarks};
use world::{Outcome, Reply, Request, World, WorldOptions};

/// Transfers that are under way when the flood comes.
const ESTABLISHED: usize = 20;
/// Connections that are tried on top.
const FLOOD: usize = 1_500;

fn drops(world: &World, reason: DropReason) -> u64 {
    world.lb.stack.stats().drops[reason.index()]
}

/// Long transfers, all of them past their handshakes.
fn establish(world: &mut World, reply_bytes: usize, read_after: Nanos) {
    for _ in 0..ESTABLISHED {
        world.request(Request {
            reply_bytes,
            read_from: world.now.after(read_after),
            ..Request::default()
        });
    }
    let connected = world.run_until(Nanos::from_secs(5), |world| {
        world.balancer.counters().sessions_established == ESTABLISHED as u64
    });
    assert!(connected, "transfers under way");
}

/// A client that connects, says nothing and gives up after two seconds.
fn flood(world: &mut World) {
    world.request(Request {
        reply: Reply::Nothing,
        give_up_at: world.now.after(Nanos::from_secs(2)),
        ..Request::default()
    });
}

/// Waits until every client has an outcome, in steps so small that not all of them give up at once: the RSTs that one
/// turn owes are bounded.
fn finish(world: &mut World) {
    for _ in 0..6_000 {
        if world.run_until(Nanos::from_millis(5), |world| world.client.all_done()) {
            return;
        }
    }
    panic!("unfinished: {:?}", world.client.unfinished());
}

fn assert_transfers_complete(world: &World) {
    for number in 0..ESTABLISHED {
        let outcome = world.client.outcome(number);
        assert_eq!(outcome, Some(Outcome::Complete), "transfer {number}");
    }
}

// DESIGN decision 9: overload sheds new work first. Before, a client was let in, its backend leg
// found no connection, and it was reset after having been accepted.
#[test]
fn a_full_connection_table_sheds_syns_and_no_established_session_notices() {
    const SESSIONS: usize = 60;
    let mut world = World::new(&WorldOptions::default());
    // Clients may have connections until the sessions' 120 are taken; the rest is for backends.
    world.lb.stack.reserve_connections(4_096 - 2 * SESSIONS + 1);
    establish(&mut world, 2_000_000, Nanos::ZERO);
    for _ in ESTABLISHED..SESSIONS {
        world.request(Request {
            reply: Reply::Nothing,
            give_up_at: world.now.after(Nanos::from_secs(20)),
            ..Request::default()
        });
    }
    let full = world.run_until(Nanos::from_secs(5), |world| {
        world.balancer.counters().sessions_established == SESSIONS as u64
    });
    assert!(full, "every connection is taken");
    for _ in 0..FLOOD {
        flood(&mut world);
        world.run_for(Nanos::from_millis(1));
    }
    finish(&mut world);
    assert_transfers_complete(&world);
    let shed = drops(&world, DropReason::SynShedConnections);
    assert!(shed >= FLOOD as u64, "{shed} SYNs were shed");
    let counters = world.balancer.counters();
    assert_eq!(
        counters.connects_no_resources, 0,
        "every session has its backend"
    );
    assert_eq!(counters.refused_sessions_max, 0);
    world.assert_the_balancer_is_empty();
}

/// Runs 20 transfers to clients that read nothing for three seconds, which makes the balancer hold 3,301 buffers of
/// what their backends send, beside a flood, on a pool of `buffers`. Tells how many steps each shortage was in force.
fn run_short_of(world: &mut World, buffers: usize) -> [u32; 3] {
    let marks = Watermarks::of(buffers);
    establish(world, 600_000, Nanos::from_secs(3));
    let mut seen = [0u32; 3];
    for step in 0..40_000 {
        if step % 40 == 0 {
            flood(world);
        }
        let free = buffers.saturating_sub(world.lb.pool.live());
        let shortage = marks.judge(free);
        seen[shortage as usize] += 1;
        world.lb.stack.set_shortage(shortage);
        world.run_for(Nanos::from_micros(100));
    }
    world.lb.stack.set_shortage(Shortage::None);
    finish(world);
    assert_transfers_complete(world);
    world.assert_the_balancer_is_empty();
    seen
}

#[test]
fn short_buffers_shed_syns_and_no_byte_of_what_is_established() {
    let mut world = World::new(&WorldOptions::default());
    let [_, new_work, payload] = run_short_of(&mut world, 3_600);
    assert!(new_work > 1_000 && payload == 0, "{new_work}, {payload}");
    assert!(drops(&world, DropReason::SynShedBuffers) >= u64::from(new_work / 40));
    assert_eq!(drops(&world, DropReason::PayloadShed), 0);
}

// What is shed comes again: the transfers are late and complete.
// behaviour: NIC-16
#[test]
fn nearly_no_buffers_shed_payload_too_and_every_byte_comes_again() {
    let mut world = World::new(&WorldOptions::default());
    let [_, _, payload] = run_short_of(&mut world, 1_200);
    assert!(payload > 1_000, "{payload}");
    assert!(drops(&world, DropReason::SynShedBuffers) >= u64::from(payload / 40));
    assert!(drops(&world, DropReason::PayloadShed) > 0);
}
