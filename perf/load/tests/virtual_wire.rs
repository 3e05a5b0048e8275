//! Client engine against sink engine, each on a stack of its own, over a wire in virtual time.
//!
//! Deterministic: time is a number, delays are fixed, frames are lost when a test says so.

use std::collections::VecDeque;
use std::sync::Arc;

use millrace_base::{
    Address, Endpoint, HeapBuf, HeapPool, Instant, ListenerId, MacAddress, Nanos, PacketBuf,
    PacketPool,
};
use millrace_load::counters::Counters;
use millrace_load::engine::{
    Client, ClientConfig, Ending, Engine, Pace, Protocol, Sink, SinkConfig, Unit,
};
use millrace_load::host::{Host, HostConfig};
use millrace_load::message::Message;
use millrace_load::observer::{Interval, Observer};
use millrace_load::schedule::Arrivals;
use millrace_load::tuples::TupleSpace;
use millrace_stack::{ListenOptions, Listener, Offloads, Prefixed, StackConfig, TcpTunables};

const CLIENT: Address = Address::v4([10, 0, 0, 1]);
const SINK: Address = Address::v4([10, 0, 0, 2]);
const DELAY: Nanos = Nanos::from_micros(50);
const STEP: Nanos = Nanos::from_micros(10);
/// Frames that a wire takes in one step: about 10 Gbit/s.
const FRAMES_PER_STEP: usize = 8;
/// A frame without data is not longer than this.
const ACK_BYTES_MAX: usize = 80;

fn host_config(address: Address, number: u8, listeners: Vec<Listener>) -> HostConfig {
    HostConfig {
        mac: MacAddress::new([2, 0, 0, 0, 0, number]),
        mtu: 1_500,
        offloads: Offloads {
            segments_max: 8,
            ..Offloads::default()
        },
        addresses: vec![Prefixed {
            address,
            prefix_len: 24,
        }],
        more_addresses: Vec::new(),
        gateways: Vec::new(),
        peer_mac: None,
        listeners,
        stack: StackConfig {
            connections_max: 512,
            syn_queue_max: 256,
            time_wait_max: 65_536,
            chunks_max: 16_384,
            neighbors_max: 16,
            secret: [number; 32],
            tcp: TcpTunables::default(),
        },
    }
}

fn client_config(unit: Unit, pace: Pace) -> ClientConfig {
    let head = |closes: &str| format!("GET / HTTP/1.1\r\nHost: sink\r\n{closes}\r\n");
    ClientConfig {
        connections: 64,
        unit,
        requests_per_connection: 0,
        pipeline: 1,
        pace,
        open_rate: 10_000.0,
        ending: Ending::Client,
        protocol: Protocol::Http,
        request: Message::new(head("").as_bytes(), 0),
        last_request: Message::new(head("Connection: close\r\n").as_bytes(), 0),
        timeout: Nanos::from_secs(10),
        late: Nanos::from_millis(10),
        tuples: TupleSpace {
            sources: vec![CLIENT],
            ports: (10_000, 60_000),
            targets: vec![Endpoint::new(SINK, 80)],
            lcore: (0, 1),
        },
    }
}

fn sink_config() -> SinkConfig {
    SinkConfig {
        connections: 512,
        protocol: Protocol::Http,
        response_bytes: 100,
    }
}

fn open(rate: f64) -> Pace {
    Pace::Open {
        arrivals: Arrivals::Constant,
        rate,
        seed: 1,
    }
}

/// One end and what is on its way to it.
struct End<E> {
    host: Host<HeapPool, E>,
    pool: HeapPool,
    counters: Arc<Counters>,
    incoming: VecDeque<(Instant, HeapBuf)>,
}

impl<E: Engine> End<E> {
    fn new(now: Instant, config: &HostConfig, engine: impl FnOnce(Arc<Counters>) -> E) -> Self {
        let counters = Arc::new(Counters::default());
        let engine = engine(Arc::clone(&counters));
        Self {
            host: Host::new(now, config, engine, Arc::clone(&counters)),
            pool: HeapPool::new(65_536, 2_176),
            counters,
            incoming: VecDeque::new(),
        }
    }

    fn turn(&mut self, now: Instant) {
        let is_due = |(at, _): &mut (Instant, HeapBuf)| at.is_due(now);
        let incoming = &mut self.incoming;
        let arrived = core::iter::from_fn(|| Some(incoming.pop_front_if(is_due)?.1));
        self.host.handle_burst(now, arrived, &mut self.pool);
        self.host.turn(now, &mut self.pool);
    }
}

struct World {
    now: Instant,
    client: End<Client>,
    sink: End<Sink>,
    /// The sink's host does nothing until then.
    stalled_until: Instant,
    /// Frames with data to the sink are lost while this is above 0.
    lose: u32,
    observer: Observer,
    millis: u32,
}

impl World {
    fn new(client: ClientConfig, sink: SinkConfig) -> Self {
        let now = Instant::from_millis(1_000);
        let listener = Listener {
            id: ListenerId::new(0),
            address: SINK,
            port_first: 80,
            port_last: 80,
            options: ListenOptions::default(),
        };
        let client = End::new(now, &host_config(CLIENT, 1, Vec::new()), |counters| {
            Client::new(client, counters)
        });
        let sink = End::new(now, &host_config(SINK, 2, vec![listener]), |counters| {
            Sink::new(sink, counters)
        });
        let observer =
            Observer::new(vec![Arc::clone(&client.counters)], 0).expect("bounds are good");
        Self {
            now,
            client,
            sink,
            stalled_until: Instant::ZERO,
            lose: 0,
            observer,
            millis: 0,
        }
    }

    fn run_until(&mut self, end: Instant) {
        while !end.is_due(self.now) {
            self.now = self.now.after(STEP);
            self.client.turn(self.now);
            let (now, End { host, pool, .. }) = (self.now, &mut self.client);
            let (lose, incoming) = (&mut self.lose, &mut self.sink.incoming);
            host.transmit(now, pool, |frame| {
                if *lose > 0 && frame.frame_len() > ACK_BYTES_MAX {
                    *lose -= 1;
                    return true;
                }
                let frame = HeapBuf::from_frame(&frame.to_vec());
                incoming.push_back((now.after(DELAY), frame));
                true
            });
            if !self.stalled_until.is_due(self.now) {
                continue;
            }
            self.sink.turn(self.now);
            let (End { host, pool, .. }, incoming) = (&mut self.sink, &mut self.client.incoming);
            let mut left = FRAMES_PER_STEP;
            host.transmit(now, pool, |frame| {
                let frame = HeapBuf::from_frame(&frame.to_vec());
                incoming.push_back((now.after(DELAY), frame));
                left -= 1;
                left > 0
            });
        }
    }

    /// One second, and what the observer says of it.
    fn second(&mut self) -> Interval {
        self.interval(1_000)
    }

    fn interval(&mut self, millis: u32) -> Interval {
        let end = self.now.after(Nanos::from_millis(millis.into()));
        self.run_until(end);
        self.millis += millis;
        self.observer.tick(f64::from(self.millis) / 1e3, true, 0)
    }

    /// Lets everything under way end; both ends must then agree.
    fn wind_down(&mut self) {
        self.client.host.engine_mut().wind_down();
        for _ in 0..40 {
            let end = self.now.after(Nanos::from_millis(5));
            self.run_until(end);
            if self.client.host.engine_mut().is_quiet() {
                break;
            }
        }
        // The last FINs are still on their way.
        self.run_until(self.now.after(Nanos::from_millis(5)));
        assert!(self.client.host.engine_mut().is_quiet());
    }
}

fn assert_ends_agree(world: &World) {
    let (client, sink) = (world.client.counters.tally(), world.sink.counters.tally());
    assert!(client.is_clean(), "{client:?}");
    assert!(sink.is_clean(), "{sink:?}");
    assert_eq!(client.requests, sink.requests);
    assert_eq!(client.responses, sink.responses);
    assert_eq!(client.requests, client.responses);
    assert_eq!(client.opened, sink.opened);
    assert_eq!(client.bytes_out, sink.bytes_in);
    assert_eq!(client.bytes_in, sink.bytes_out);
}

#[test]
fn connections_come_at_their_rate_and_both_ends_count_the_same() {
    for ending in [Ending::Client, Ending::Peer] {
        let config = ClientConfig {
            requests_per_connection: 3,
            ending,
            ..client_config(Unit::Connection, open(2_000.0))
        };
        let mut world = World::new(config, sink_config());
        world.second();
        for _ in 0..2 {
            let second = world.second();
            assert!(second.counts, "{second:?}");
            assert!(second.tally.operations.abs_diff(2_000) <= 2, "{second:?}");
            // Two round trips of 100 us for three requests one after the other, and the handshake.
            let latency = second.latency;
            assert!((390.0..600.0).contains(&latency.p50_us), "{latency:?}");
        }
        world.wind_down();
        assert_ends_agree(&world);
        let tally = world.client.counters.tally();
        assert_eq!(tally.requests, tally.operations * 3);
        assert_eq!(tally.closed, tally.opened);
        assert_eq!(tally.closed, world.sink.counters.closed.value());
    }
}

#[test]
fn requests_on_held_connections_come_at_their_rate() {
    let mut world = World::new(client_config(Unit::Request, open(5_000.0)), sink_config());
    world.second();
    let second = world.second();
    assert!(second.counts, "{second:?}");
    assert!(second.tally.operations.abs_diff(5_000) <= 2, "{second:?}");
    assert_eq!(second.tally.connections, 64);
    assert!(
        (100.0..130.0).contains(&second.latency.p99_us),
        "{second:?}"
    );
    world.wind_down();
    assert_ends_agree(&world);
}

#[test]
fn a_closed_loop_keeps_every_pipeline_full() {
    for requests_per_connection in [0, 10] {
        let config = ClientConfig {
            connections: 8,
            pipeline: 4,
            requests_per_connection,
            ..client_config(Unit::Request, Pace::Closed)
        };
        let mut world = World::new(config, sink_config());
        world.interval(10);
        let interval = world.interval(50);
        assert!(interval.counts, "{interval:?}");
        if requests_per_connection == 0 {
            assert_eq!(interval.tally.in_flight, 8 * 4);
        }
        world.wind_down();
        assert_ends_agree(&world);
    }
}

// Coordinated omission: a client that waits for the stalled answers would see 64 slow requests and
// none of the thousand that should have come meanwhile.
#[test]
fn a_server_that_stalls_for_a_second_shows_in_every_request_of_that_second() {
    let mut world = World::new(client_config(Unit::Request, open(1_000.0)), sink_config());
    world.second();
    world.second();
    world.stalled_until = world.now.after(Nanos::from_secs(1));
    world.second();
    let after = world.second();
    let summary = world.observer.summary();
    // A thousand arrivals waited for between 0 and 1 s, evenly.
    let waited = after.latency;
    assert!((1_900..=2_100).contains(&waited.count), "{waited:?}");
    assert!(
        (950_000.0..1_300_000.0).contains(&waited.max_us),
        "{waited:?}"
    );
    assert!(waited.p90_us > 700_000.0, "{waited:?}");
    assert!(waited.p50_us > 500.0, "{waited:?}");
    assert!(summary.latency.p50_us < 200.0, "{:?}", summary.latency);
    // What was begun late for want of a free connection is a miss: the rate does not count.
    assert!(summary.misses > 800, "{summary:?}");
    assert!(!after.counts);
}

#[test]
fn one_lost_frame_is_a_second_that_does_not_count() {
    let mut world = World::new(client_config(Unit::Request, open(1_000.0)), sink_config());
    world.second();
    assert!(world.second().counts);
    world.lose = 1;
    let spoilt = world.second();
    assert!(!spoilt.counts, "{spoilt:?}");
    assert!(spoilt.tally.retransmitted >= 1, "{spoilt:?}");
    assert_eq!(spoilt.tally.errors(), 0);
    assert!(world.second().counts);
    let summary = world.observer.summary();
    assert_eq!(summary.measured_secs - summary.counted_secs, 1.0);
    assert!(summary.counted_rate.is_some());
}

#[test]
fn bodies_arrive_whole_in_both_directions() {
    let body = 1_000_000;
    let head =
        format!("POST /bytes/{body} HTTP/1.1\r\nHost: sink\r\nContent-Length: {body}\r\n\r\n");
    let message = Message::new(head.as_bytes(), body);
    let config = ClientConfig {
        connections: 2,
        pipeline: 2,
        request: message.clone(),
        last_request: message,
        ..client_config(Unit::Request, Pace::Closed)
    };
    let mut world = World::new(config, sink_config());
    world.interval(5);
    world.wind_down();
    assert_ends_agree(&world);
    let tally = world.client.counters.tally();
    assert!(tally.operations >= 4, "{tally:?}");
    assert!(tally.bytes_in > tally.operations * body);
}

#[test]
fn raw_requests_are_answered_by_size() {
    let protocol = Protocol::Raw {
        request_bytes: 64,
        response_bytes: 5_000,
    };
    let config = ClientConfig {
        pipeline: 3,
        protocol: protocol.clone(),
        request: Message::new(b"", 64),
        last_request: Message::new(b"", 64),
        ..client_config(Unit::Request, open(2_000.0))
    };
    let sink = SinkConfig {
        protocol,
        ..sink_config()
    };
    let mut world = World::new(config, sink);
    world.second();
    assert!(world.second().counts);
    world.wind_down();
    assert_ends_agree(&world);
    let tally = world.client.counters.tally();
    assert_eq!(tally.bytes_in, tally.operations * 5_000);
}

#[test]
fn held_connections_stay_and_wake_one_after_the_other() {
    let config = ClientConfig {
        connections: 400,
        open_rate: 500.0,
        ..client_config(Unit::Request, open(100.0))
    };
    let mut world = World::new(config, sink_config());
    let opening = world.second();
    assert_eq!(opening.tally.opened, 400);
    for _ in 0..4 {
        let second = world.second();
        assert_eq!(second.tally.connections, 400);
        assert!(second.tally.operations.abs_diff(100) <= 1, "{second:?}");
    }
    assert!(world.client.counters.tally().is_clean());
}

#[test]
fn nobody_there_is_an_error_and_never_a_rate() {
    let mut config = client_config(Unit::Connection, open(100.0));
    config.tuples.targets = vec![Endpoint::new(SINK, 81)];
    let mut world = World::new(config, sink_config());
    world.second();
    let second = world.second();
    assert!(second.tally.refused.abs_diff(100) <= 2, "{second:?}");
    assert_eq!((second.tally.operations, second.counts), (0, false));
}

#[test]
fn a_sink_that_says_nothing_is_given_up_after_the_time_limit() {
    let config = ClientConfig {
        timeout: Nanos::from_millis(500),
        ..client_config(Unit::Connection, open(100.0))
    };
    let mut world = World::new(config, sink_config());
    world.second();
    world.stalled_until = world.now.after(Nanos::from_secs(60));
    world.second();
    world.second();
    let tally = world.client.counters.tally();
    assert!(tally.timeouts >= 64, "{tally:?}");
    assert!(world.client.pool.available() > 60_000, "buffers came back");
}
