//! What control does while sessions run: reloads, drains, probes, listings.

mod world;

use millrace_abi::{BackendState, Command, ConnectionRow, Event, ProbeOutcome};
use millrace_base::{BackendId, CongestionControl, ListenerId, Nanos};
use world::{Outcome, Reply, Request, SNAT, VIP, World, WorldOptions, address};

fn secs(count: u64) -> Nanos {
    Nanos::from_secs(count)
}

fn transfer(reply_bytes: usize) -> Request {
    Request {
        reply_bytes,
        ..Request::default()
    }
}

#[test]
fn a_reload_in_the_middle_of_a_transfer_disturbs_nothing() {
    let mut world = World::new(&WorldOptions::default());
    let requests = [0; 4].map(|_| world.request(transfer(2_000_000)));
    world.run_until(secs(10), |world| {
        world.balancer.counters().bytes_out > 500_000
    });
    world.change_backends(|_, record| record.weight = 7);
    world.run_until(secs(10), |world| {
        world.balancer.counters().bytes_out > 1_000_000
    });
    // Not even the removal of the listener and all backends cuts anybody off; it only keeps
    // newcomers out.
    world.remove_services();
    let late = world.request(transfer(1_000));
    world.finish_requests(secs(60));
    assert_eq!(world.client.outcome(late), Some(Outcome::Reset));
    for request in requests {
        assert_eq!(world.client.outcome(request), Some(Outcome::Complete));
    }
    world.assert_nothing_leaks();
}

#[test]
fn a_draining_backend_keeps_its_sessions_and_gets_no_new_ones() {
    let mut world = World::new(&WorldOptions::default());
    let old = [0; 2].map(|_| world.request(transfer(2_000_000)));
    world.run_until(secs(10), |world| {
        world.balancer.counters().bytes_out > 100_000
    });
    world.set_backend_state(0, BackendState::Draining);
    for _ in 0..6 {
        world.request(transfer(1_000));
    }
    world.finish_requests(secs(60));
    assert_eq!(world.client.count(Outcome::Complete), old.len() + 6);
    assert_eq!(world.servers[0].sessions.len(), 1);
    assert_eq!(world.servers[1].sessions.len(), 7);
    world.assert_nothing_leaks();
}

#[test]
fn a_drain_lets_sessions_finish_and_refuses_newcomers() {
    let mut world = World::new(&WorldOptions::default());
    let old = world.request(transfer(8_000_000));
    world.run_until(secs(10), |world| {
        world.balancer.counters().bytes_out > 100_000
    });
    world.command(Command::Drain);
    assert!(!world.balancer.is_drained());
    let new = world.request(transfer(1_000));
    world.run_for(Nanos::from_millis(1));
    assert_eq!(world.client.outcome(new), Some(Outcome::Reset));
    assert_eq!(world.client.outcome(old), None, "the old session goes on");
    // A reload does not bring the listeners back.
    world.change_backends(|_, _| ());
    let late = world.request(transfer(1_000));
    world.finish_requests(secs(60));
    assert_eq!(world.client.outcome(late), Some(Outcome::Reset));
    assert_eq!(world.client.outcome(old), Some(Outcome::Complete));
    assert!(world.run_until(secs(1), |world| world.balancer.is_drained()));
    world.assert_nothing_leaks();
}

#[test]
fn the_end_of_patience_resets_every_session() {
    let mut world = World::new(&WorldOptions::default());
    for _ in 0..150 {
        world.request(Request {
            reply: Reply::Nothing,
            ..Request::default()
        });
    }
    world.run_for(secs(1));
    world.command(Command::Drain);
    while world.reset_sessions() {
        world.run_for(Nanos::from_millis(1));
    }
    world.finish_requests(secs(1));
    assert_eq!(world.client.count(Outcome::Reset), 150);
    assert!(
        world
            .servers
            .iter()
            .all(|server| server.sessions.iter().all(|s| s.reset))
    );
    assert!(world.balancer.is_drained());
    assert_eq!(world.balancer.counters().sessions_drained, 150);
    world.assert_nothing_leaks();
}

fn probe(world: &mut World, token: u64, which: u8) -> (ProbeOutcome, u32) {
    let target = world.backend_endpoint(which);
    world.command(Command::Probe {
        token,
        target,
        timeout_ms: 500,
    });
    let answered = world.run_until(secs(2), |world| !world.reports.is_empty());
    assert!(answered, "no answer");
    let report = world.reports.remove(0);
    let Event::ProbeResult {
        token: answered,
        outcome,
        rtt_us,
    } = report
    else {
        panic!("not a probe's result: {report:?}");
    };
    assert_eq!(answered, token);
    (outcome, rtt_us)
}

#[test]
fn probes_tell_an_open_a_closed_and_a_silent_backend_apart() {
    let mut world = World::new(&WorldOptions {
        servers: 3,
        ..WorldOptions::default()
    });
    world.servers[1].stop_listening();
    world.servers[2].silent = true;
    let (outcome, rtt_us) = probe(&mut world, 71, 0);
    assert_eq!(outcome, ProbeOutcome::Connected);
    assert!(
        (100..1_000).contains(&rtt_us),
        "{rtt_us} us for one round trip of 100 us"
    );
    assert_eq!(probe(&mut world, 72, 1).0, ProbeOutcome::Refused);
    let (outcome, rtt_us) = probe(&mut world, 73, 2);
    assert_eq!(outcome, ProbeOutcome::TimedOut);
    assert!(
        (500_000..510_000).contains(&rtt_us),
        "{rtt_us} us for a timeout of 500 ms"
    );
    assert!(
        world.servers[0].sessions.is_empty(),
        "an application saw a probe"
    );
    world.assert_nothing_leaks();
}

#[test]
fn probes_beyond_the_table_are_refused_and_counted() {
    let mut world = World::new(&WorldOptions::default());
    world.servers[0].silent = true;
    let target = world.backend_endpoint(0);
    for token in 0..20 {
        world.command(Command::Probe {
            token,
            target,
            timeout_ms: 100,
        });
    }
    assert_eq!(world.balancer.counters().probes_started, 16);
    assert_eq!(world.balancer.counters().commands_refused, 4);
    world.run_for(secs(1));
    assert_eq!(world.reports.len(), 16);
    world.assert_nothing_leaks();
}

#[test]
fn a_probe_to_a_family_without_a_route_is_answered_at_once() {
    let mut world = World::new(&WorldOptions::default());
    world.publish_nothing();
    let (outcome, _) = probe(&mut world, 5, 0);
    assert_eq!(outcome, ProbeOutcome::NoResources);
}

/// Lists everything in pages; the rows in order.
fn list(world: &mut World, limit: u32) -> Vec<ConnectionRow> {
    let mut rows = Vec::new();
    let mut cursor = 0;
    for page in 0..100 {
        world.reports.clear();
        let token = 1_000 + page;
        world.command(Command::ListConnections {
            token,
            cursor,
            limit,
        });
        let is_end = |event: &Event| matches!(event, Event::ConnectionsEnd { .. });
        assert!(
            world.run_until(secs(1), |world| world.reports.iter().any(is_end)),
            "no end"
        );
        let before = rows.len();
        for report in &world.reports {
            match report {
                Event::ConnectionRow(row) => {
                    assert_eq!(row.token, token);
                    rows.push(*row);
                }
                Event::ConnectionsEnd {
                    token: ended,
                    next_cursor,
                    count,
                } => {
                    assert_eq!(*ended, token);
                    assert_eq!(*count as usize, rows.len() - before);
                    assert!(*count <= limit);
                    cursor = *next_cursor;
                }
                Event::NeighborConfirmed { .. } => {}
                Event::NeighborNeeded { .. }
                | Event::ProbeResult { .. }
                | Event::BackendFailed { .. } => panic!("not of a listing: {report:?}"),
            }
        }
        if cursor == 0 {
            return rows;
        }
    }
    panic!("a listing without an end");
}

#[test]
fn a_listing_in_pages_shows_every_session_once() {
    let mut world = World::new(&WorldOptions::default());
    for _ in 0..25 {
        world.request(Request {
            reply: Reply::Nothing,
            ..Request::default()
        });
    }
    world.run_for(secs(1));
    for limit in [1, 7, 25, 1_000] {
        let rows = list(&mut world, limit);
        let mut clients: Vec<_> = rows.iter().map(|row| row.client.port).collect();
        clients.sort_unstable();
        assert_eq!(
            clients,
            (10_000..10_025).collect::<Vec<_>>(),
            "pages of {limit}"
        );
    }
    let row = list(&mut world, 1)[0];
    assert_eq!(row.vip.address, address(VIP, false));
    assert_eq!(row.snat.address, address(SNAT, false));
    assert_eq!(row.listener_id, ListenerId::new(3));
    let which = 40 - row.backend_id.number();
    assert_eq!(row.backend, world.backend_endpoint(which as u8));
    assert_eq!(row.bytes_in, 109);
    assert_eq!(row.client_state.name(), "ESTABLISHED");
    assert_eq!(row.backend_state.name(), "ESTABLISHED");
    assert!((900..5_000).contains(&row.age_ms), "{} ms", row.age_ms);
}

/// What the legs of the session of a client's port run.
fn legs(world: &mut World, port: u16) -> [Option<CongestionControl>; 2] {
    let rows = list(world, 100);
    let mut rows = rows.iter().filter(|row| row.client.port == port);
    let row = rows.next().expect("listed");
    [row.client_congestion, row.backend_congestion]
}

// The client leg has what its listener says, the backend leg what its pool says, both from the first
// segment on; a reload is for those that come later.
#[test]
fn each_leg_runs_the_congestion_control_that_was_chosen_when_it_began() {
    let (reno, cubic) = (CongestionControl::Reno, CongestionControl::Cubic);
    let mut world = World::new(&WorldOptions::default());
    let mut expected = Vec::new();
    for (clients, backends, runs) in [
        (None, None, [CongestionControl::default(); 2]),
        (Some(reno), Some(cubic), [reno, cubic]),
        (Some(cubic), Some(reno), [cubic, reno]),
        (Some(reno), None, [reno, CongestionControl::default()]),
        (None, Some(reno), [CongestionControl::default(), reno]),
    ] {
        world.choose(clients, backends);
        world.request(Request {
            reply: Reply::Nothing,
            ..Request::default()
        });
        world.run_for(secs(1));
        expected.push(runs.map(Some));
        for (port, expected) in (10_000..).zip(&expected) {
            assert_eq!(legs(&mut world, port), *expected, "client {port}");
        }
    }
    for control in CongestionControl::ALL {
        world.choose(Some(control), Some(control));
        let done = world.request(transfer(300_000));
        assert!(world.run_until(secs(20), |world| world.client.outcome(done).is_some()));
        assert_eq!(world.client.outcome(done), Some(Outcome::Complete));
    }
}

// While a backend refuses, the client waits: the leg to the next one is a new connection, of the pool
// as it is then.
#[test]
fn a_second_attempt_begins_as_the_pool_says_too() {
    let mut world = World::new(&WorldOptions::default());
    let reno = CongestionControl::Reno;
    world.choose(None, Some(reno));
    world.servers[0].stop_listening();
    for _ in 0..2 {
        world.request(Request {
            reply: Reply::Nothing,
            ..Request::default()
        });
    }
    world.run_for(secs(1));
    assert!(world.balancer.counters().retries > 0);
    for port in [10_000, 10_001] {
        let default = CongestionControl::default();
        assert_eq!(legs(&mut world, port), [Some(default), Some(reno)]);
    }
}

#[test]
fn a_listing_of_nothing_ends_at_once() {
    let mut world = World::new(&WorldOptions::default());
    assert!(list(&mut world, 10).is_empty());
}

#[test]
fn accounts_are_kept_by_listener_and_backend() {
    let mut world = World::new(&WorldOptions::default());
    for _ in 0..4 {
        world.request(transfer(10_000));
    }
    world.finish_requests(secs(10));
    world.run_for(secs(1));
    let mut backends = Vec::new();
    let mut listeners = Vec::new();
    world.balancer.write_counters(
        |id, counters| backends.push((id, counters)),
        |id, counters| listeners.push((id, counters)),
    );
    assert_eq!(backends.len(), 2);
    for (id, counters) in backends {
        assert!(id == BackendId::new(39) || id == BackendId::new(40));
        assert_eq!(counters.sessions_total, 2);
        assert_eq!(counters.bytes_in, 218);
        assert_eq!(counters.bytes_out, 20_000);
    }
    let [(id, counters)] = listeners[..] else {
        panic!("one listener: {listeners:?}");
    };
    assert_eq!(id, ListenerId::new(3));
    assert_eq!(counters.sessions_total, 4);
    assert_eq!(counters.bytes_out, 40_000);
    world.assert_nothing_leaks();
}
