//! Whole sessions through real stacks: who serves, what arrives, and how each end of a session
//! ends.

mod world;

use millrace_abi::{Algorithm, BackendState, Event, ProbeOutcome};
use millrace_base::{Address, BackendId, Instant, Nanos};
use world::{BALANCER, Faults, Outcome, Reply, Request, VIP, World, WorldOptions, address};

const SECOND: Nanos = Nanos::from_secs(1);

fn secs(count: u64) -> Nanos {
    Nanos::from_secs(count)
}

/// How many sessions each server had.
fn shares(world: &World) -> Vec<usize> {
    world
        .servers
        .iter()
        .map(|server| server.sessions.len())
        .collect()
}

#[test]
fn two_hundred_sessions_alternate_over_two_backends_and_every_byte_arrives() {
    let mut world = World::new(&WorldOptions::default());
    for _ in 0..200 {
        let request = Request {
            body_bytes: 3_000,
            reply_bytes: 5_000,
            ..Request::default()
        };
        world.request(request);
    }
    world.finish_requests(secs(20));
    assert_eq!(world.client.count(Outcome::Complete), 200);
    assert_eq!(shares(&world), [100, 100]);
    for session in world.servers.iter().flat_map(|server| &server.sessions) {
        session.assert_request_is(3_000);
    }
    world.assert_nothing_leaks();
    let counters = world.balancer.counters();
    assert_eq!(counters.sessions_accepted, 200);
    assert_eq!(counters.sessions_established, 200);
    assert_eq!(counters.sessions_completed, 200);
    assert_eq!(counters.bytes_in, 200 * 3_009);
    assert_eq!(counters.bytes_out, 200 * 5_000);
    assert_eq!(world.lb.stack.stats().payload_spliced_bytes, 200 * 8_009);
}

// behaviour: A7-6
#[test]
fn a_listener_of_any_address_and_a_range_of_ports_takes_what_no_other_is_nearer_to() {
    let mut world = World::new(&WorldOptions::default());
    let any = [Address::UNSPECIFIED_V4, Address::UNSPECIFIED_V6];
    let vip = address(VIP, false);
    world.listen(&[(any[0], 80, 90), (any[1], 80, 90), (vip, 85, 85)]);
    for (host, v6, port) in [
        (VIP, false, 80),
        (BALANCER, false, 90),
        (BALANCER, true, 84),
        (VIP, false, 85),
    ] {
        world.request_at(host, v6, port, Request::default());
    }
    world.finish_requests(secs(20));
    assert_eq!(world.client.count(Outcome::Complete), 4);
    // Nobody listens beyond the range.
    world.request_at(VIP, false, 91, Request::default());
    world.finish_requests(secs(20));
    assert_eq!(world.client.count(Outcome::Complete), 4);
    assert_eq!(world.sessions_by_listener(), [(7, 2), (8, 1), (9, 1)]);
    world.assert_nothing_leaks();
}

#[test]
fn an_ipv4_client_is_served_by_an_ipv6_backend() {
    let mut world = World::new(&WorldOptions {
        v6_backends: true,
        ..WorldOptions::default()
    });
    for _ in 0..10 {
        world.request(Request {
            reply_bytes: 20_000,
            ..Request::default()
        });
    }
    world.finish_requests(secs(20));
    assert_eq!(world.client.count(Outcome::Complete), 10);
    assert!(
        world
            .servers
            .iter()
            .all(|s| s.sessions.iter().all(|s| !s.peer.address.is_v4()))
    );
    world.assert_nothing_leaks();
}

// RFC 9293 section 3.6: a half-closed connection goes on carrying data the other way.
#[test]
fn a_reply_of_megabytes_follows_a_half_close() {
    let mut world = World::new(&WorldOptions::default());
    let request = world.request(Request {
        reply: Reply::AtEnd,
        reply_bytes: 3_000_000,
        half_close: true,
        ..Request::default()
    });
    world.finish_requests(secs(60));
    assert_eq!(world.client.outcome(request), Some(Outcome::Complete));
    world.assert_nothing_leaks();
}

#[test]
fn a_server_that_closes_first_still_gets_the_rest_of_the_request() {
    let mut world = World::new(&WorldOptions::default());
    let request = world.request(Request {
        body_bytes: 1_000_000,
        reply: Reply::AtHeaderThenClose,
        reply_bytes: 100,
        ..Request::default()
    });
    world.run_until(secs(30), |world| {
        world
            .servers
            .iter()
            .flat_map(|server| &server.sessions)
            .any(|session| session.ended)
    });
    let session = world
        .servers
        .iter()
        .flat_map(|server| &server.sessions)
        .next();
    session.expect("a session").assert_request_is(1_000_000);
    world.finish_requests(secs(30));
    assert_eq!(world.client.outcome(request), Some(Outcome::Complete));
    world.assert_nothing_leaks();
}

#[test]
fn a_client_that_does_not_read_stops_the_server_not_the_balancer() {
    let mut world = World::new(&WorldOptions::default());
    let request = world.request(Request {
        reply_bytes: 30_000_000,
        read_from: Instant::from_millis(3_000),
        ..Request::default()
    });
    world.run_for(secs(2));
    let moved = world.balancer.counters().bytes_out;
    assert!(moved > 0, "nothing was moved");
    assert!(
        moved < 20_000_000,
        "{moved} bytes were taken from the server for nobody"
    );
    world.run_for(Nanos::from_millis(500));
    assert_eq!(
        world.balancer.counters().bytes_out,
        moved,
        "the session is at rest"
    );
    world.finish_requests(secs(300));
    assert_eq!(world.client.outcome(request), Some(Outcome::Complete));
    world.assert_nothing_leaks();
}

#[test]
fn a_reset_by_the_client_resets_the_backend() {
    let mut world = World::new(&WorldOptions::default());
    world.request(Request {
        reply_bytes: 5_000_000,
        abort_after_bytes: Some(20_000),
        ..Request::default()
    });
    world.finish_requests(secs(20));
    world.run_for(SECOND);
    let sessions: Vec<_> = world
        .servers
        .iter()
        .flat_map(|server| &server.sessions)
        .collect();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0].reset, "the backend never learned it");
    assert_eq!(world.balancer.counters().sessions_reset_by_client, 1);
    world.assert_nothing_leaks();
}

// The backend's stream has ended, the client's has not: a RST must not turn into a FIN.
#[test]
fn a_reset_by_the_client_after_the_backends_fin_is_still_a_reset() {
    let mut world = World::new(&WorldOptions::default());
    world.request(Request {
        body_bytes: 30_000_000,
        reply: Reply::AtHeaderThenClose,
        reply_bytes: 1_000,
        abort_after_bytes: Some(1_000),
        ..Request::default()
    });
    world.finish_requests(secs(20));
    world.run_for(SECOND);
    let session = world
        .servers
        .iter()
        .flat_map(|server| &server.sessions)
        .next();
    assert!(session.is_some_and(|session| session.reset && !session.ended));
    let counters = world.balancer.counters();
    assert_eq!(counters.sessions_reset_by_client, 1);
    assert_eq!(counters.sessions_completed, 0);
    world.assert_nothing_leaks();
}

#[test]
fn a_reset_by_the_backend_resets_the_client() {
    let mut world = World::new(&WorldOptions::default());
    let request = world.request(Request {
        reply: Reply::Reset,
        ..Request::default()
    });
    world.finish_requests(secs(20));
    assert_eq!(world.client.outcome(request), Some(Outcome::Reset));
    assert_eq!(world.balancer.counters().sessions_reset_by_backend, 1);
    world.assert_nothing_leaks();
}

#[test]
fn a_backend_that_refuses_is_replaced_by_another_before_the_client_notices() {
    let mut world = World::new(&WorldOptions::default());
    world.servers[0].stop_listening();
    for _ in 0..20 {
        world.request(Request::default());
    }
    world.finish_requests(secs(20));
    assert_eq!(world.client.count(Outcome::Complete), 20);
    assert_eq!(shares(&world), [0, 20]);
    let counters = world.balancer.counters();
    assert_eq!(counters.connects_refused, 10);
    assert_eq!(counters.retries, 10);
    let told = Event::BackendFailed {
        backend: BackendId::new(40),
        reason: ProbeOutcome::Refused,
    };
    assert!(world.reports.contains(&told), "control was not told");
    world.assert_nothing_leaks();
}

#[test]
fn a_backend_that_says_nothing_is_replaced_after_the_connect_timeout() {
    let mut world = World::new(&WorldOptions::default());
    world.servers[0].silent = true;
    for _ in 0..4 {
        world.request(Request::default());
    }
    world.finish_requests(secs(20));
    assert_eq!(world.client.count(Outcome::Complete), 4);
    assert_eq!(world.balancer.counters().connects_timed_out, 2);
    world.assert_nothing_leaks();
}

#[test]
fn when_every_backend_refuses_the_client_is_reset() {
    let mut world = World::new(&WorldOptions::default());
    for server in &mut world.servers {
        server.stop_listening();
    }
    let request = world.request(Request::default());
    world.finish_requests(secs(20));
    assert_eq!(world.client.outcome(request), Some(Outcome::Reset));
    assert_eq!(world.balancer.counters().connects, 2);
    assert_eq!(world.balancer.counters().sessions_unserved, 1);
    world.assert_nothing_leaks();
}

#[test]
fn when_control_calls_every_backend_down_the_client_is_reset_at_once() {
    let mut world = World::new(&WorldOptions::default());
    world.change_backends(|_, record| record.state = BackendState::Down as u8);
    let request = world.request(Request::default());
    world.finish_requests(secs(1));
    assert_eq!(world.client.outcome(request), Some(Outcome::Reset));
    assert_eq!(world.balancer.counters().refused_no_backend, 1);
    assert_eq!(world.balancer.counters().connects, 0);
    world.assert_nothing_leaks();
}

#[test]
fn attempts_are_bounded_however_many_backends_refuse() {
    let mut world = World::new(&WorldOptions {
        servers: 8,
        ..WorldOptions::default()
    });
    for server in &mut world.servers {
        server.stop_listening();
    }
    world.request(Request::default());
    world.finish_requests(secs(20));
    assert_eq!(world.balancer.counters().connects, 4);
    world.assert_nothing_leaks();
}

#[test]
fn least_connections_leaves_the_busy_backend_alone() {
    let mut world = World::new(&WorldOptions {
        algorithm: Algorithm::LeastConnections,
        ..WorldOptions::default()
    });
    let hold = Request {
        reply: Reply::Nothing,
        ..Request::default()
    };
    world.set_backend_state(1, BackendState::Down);
    for _ in 0..10 {
        world.request(hold);
    }
    world.run_for(SECOND);
    world.set_backend_state(1, BackendState::Up);
    for _ in 0..10 {
        world.request(hold);
    }
    world.run_for(SECOND);
    assert_eq!(shares(&world), [10, 10]);
}

#[test]
fn a_client_beyond_the_session_table_is_reset_and_the_others_go_on() {
    let mut world = World::new(&WorldOptions {
        sessions_max: 3,
        ..WorldOptions::default()
    });
    for _ in 0..5 {
        world.request(Request {
            reply_bytes: 500_000,
            ..Request::default()
        });
    }
    world.finish_requests(secs(20));
    assert_eq!(world.client.count(Outcome::Complete), 3);
    assert_eq!(world.client.count(Outcome::Reset), 2);
    assert_eq!(world.balancer.counters().refused_sessions_max, 2);
    world.assert_nothing_leaks();
}

#[test]
fn without_a_free_source_port_the_client_is_reset_and_the_reason_counted() {
    let mut world = World::new(&WorldOptions {
        snat_ports: (5_000, 5_001),
        ..WorldOptions::default()
    });
    for _ in 0..5 {
        world.request(Request {
            reply: Reply::Nothing,
            ..Request::default()
        });
    }
    world.run_for(SECOND);
    // Two ports towards each of two backends.
    assert_eq!(shares(&world), [2, 2]);
    assert_eq!(world.client.count(Outcome::Reset), 1);
    assert!(world.balancer.counters().snat_exhausted >= 2);
}

// RFC 9293 section 3.6.1: whoever closes first keeps the tuple for a while; so it is not free.
#[test]
fn a_source_port_in_time_wait_is_not_taken_again_before_its_time() {
    let mut world = World::new(&WorldOptions {
        servers: 1,
        snat_ports: (5_000, 5_009),
        ..WorldOptions::default()
    });
    let one_by_one = |world: &mut World, count: usize| {
        for _ in 0..count {
            // The client closes first, and so does the balancer towards the backend.
            world.request(Request::default());
            world.finish_requests(SECOND);
        }
    };
    one_by_one(&mut world, 10);
    let mut ports: Vec<_> = world.servers[0]
        .sessions
        .iter()
        .map(|s| s.peer.port)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (5_000..5_010).collect::<Vec<_>>());
    one_by_one(&mut world, 1);
    assert_eq!(world.client.outcome(10), Some(Outcome::Reset));
    assert_eq!(world.balancer.counters().snat_exhausted, 1);
    world.run_for(secs(61));
    one_by_one(&mut world, 10);
    assert_eq!(world.client.count(Outcome::Complete), 20);
    world.assert_nothing_leaks();
}

#[test]
fn an_idle_session_is_reset_after_the_idle_timeout_and_not_before() {
    let mut world = World::new(&WorldOptions::default());
    let request = world.request(Request {
        reply: Reply::Nothing,
        ..Request::default()
    });
    world.run_for(secs(3_590));
    assert_eq!(world.client.outcome(request), None);
    world.run_for(secs(90));
    assert_eq!(world.client.outcome(request), Some(Outcome::Reset));
    assert_eq!(world.balancer.counters().sessions_idle, 1);
    world.assert_nothing_leaks();
}

#[test]
fn bytes_survive_loss_duplication_and_reordering() {
    for seed in 0..12 {
        let mut world = World::new(&WorldOptions {
            seed,
            ..WorldOptions::default()
        });
        world.faults = Faults {
            lost: 20,
            doubled: 20,
            late: 200,
        };
        for number in 0..8 {
            world.request(Request {
                body_bytes: 30_000,
                reply: if number % 2 == 0 {
                    Reply::AtEnd
                } else {
                    Reply::AtHeaderThenClose
                },
                reply_bytes: 60_000,
                half_close: number % 2 == 0,
                ..Request::default()
            });
        }
        world.finish_requests(secs(600));
        assert_eq!(world.client.count(Outcome::Complete), 8, "seed {seed}");
        world.faults = Faults::default();
        world.assert_nothing_leaks();
    }
}

// Linux: tcp_tw_reuse. The balancer closes first towards the backend, so that every session leaves
// its port in TIME_WAIT.
#[test]
fn clients_that_close_first_do_not_use_up_the_source_ports() {
    let mut world = World::new(&WorldOptions {
        servers: 1,
        snat_ports: (2_000, 2_029),
        ..WorldOptions::default()
    });
    for _ in 0..10 {
        for _ in 0..30 {
            world.request(Request {
                reply_bytes: 3_000,
                ..Request::default()
            });
        }
        world.finish_requests(SECOND);
        world.run_for(Nanos::from_millis(1_100));
    }
    assert_eq!(world.client.count(Outcome::Complete), 300);
    assert_eq!(world.balancer.counters().snat_exhausted, 0);
    let stats = world.lb.stack.stats();
    assert_eq!((stats.tw_recycled, stats.tcp_syn_retrans), (270, 0));
    world.assert_nothing_leaks();
}
