//! Client and sink as they run, on lcores of their own, over two ends of shared memory.
//!
//! EAL starts once per process; ordinary pages, no PCI, no root. Nothing here asserts a speed.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use millrace_base::{Address, Endpoint, ListenerId, MacAddress, Nanos};
use millrace_dpdk::{Eal, EalArgs, LcoreCpu, LogLevel, Memory, Vdev};
use millrace_load::counters::Tally;
use millrace_load::engine::{Client, ClientConfig, Ending, Pace, Protocol, Sink, SinkConfig, Unit};
use millrace_load::exchange::Role;
use millrace_load::generator::{Generator, Setup};
use millrace_load::host::HostConfig;
use millrace_load::lcore::Idle;
use millrace_load::light::{Closer, Payload, Script, Sources};
use millrace_load::message::Message;
use millrace_load::station::{Station, StationConfig, StationRole};
use millrace_load::tuples::TupleSpace;
use millrace_stack::{ListenOptions, Listener, Offloads, Prefixed, StackConfig, TcpTunables};

const CLIENT: Address = Address::v4([192, 0, 2, 1]);
const SINK: Address = Address::v4([192, 0, 2, 2]);
/// Long enough for a machine with other work.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tests share lcores and pool names.
static ALONE: Mutex<()> = Mutex::new(());

fn eal() -> (Eal, MutexGuard<'static, ()>) {
    static EAL: OnceLock<Eal> = OnceLock::new();
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let eal = EAL.get_or_init(|| {
        let lcore = |lcore| LcoreCpu { lcore, cpu: 0 };
        let args = EalArgs {
            // Two for the client, two for the sink.
            lcores: (0..5).map(lcore).collect(),
            memory: Memory::Ordinary { mebibytes: 256 },
            file_prefix: Some(format!("millrace-load-test-{}", std::process::id())),
            log_level: LogLevel::Error,
            extra: vec!["--no-telemetry".to_owned()],
            ..EalArgs::default()
        };
        // A thread of its own: EAL pins its caller to a CPU.
        std::thread::spawn(move || Eal::start(&args))
            .join()
            .expect("no panic")
            .expect("EAL starts")
    });
    (*eal, guard)
}

fn setup(device: &str, role: Role, address: Address, number: u8) -> Setup {
    let listener = |id, address| Listener {
        id: ListenerId::new(id),
        address,
        port_first: 80,
        port_last: 80,
        options: ListenOptions::default(),
    };
    Setup {
        device: device.to_owned(),
        rx_descriptors: 256,
        tx_descriptors: 256,
        buffers: 8_191,
        buffer_bytes: 2_176,
        mac: Some(MacAddress::new([2, 0, 0, 0, 0, number])),
        // All lcores share one CPU here.
        idle: Idle::Sleep,
        offloads: false,
        role,
        host: HostConfig {
            mac: MacAddress::ZERO,
            mtu: 1_500,
            offloads: Offloads::default(),
            addresses: vec![Prefixed {
                address,
                prefix_len: 24,
            }],
            more_addresses: Vec::new(),
            gateways: Vec::new(),
            peer_mac: None,
            listeners: match role {
                Role::Client => Vec::new(),
                Role::Sink => vec![listener(0, Address::UNSPECIFIED_V4)],
            },
            stack: StackConfig {
                connections_max: 1_024,
                syn_queue_max: 256,
                time_wait_max: 16_384,
                chunks_max: 0,
                neighbors_max: 16,
                secret: [0; 32],
                tcp: TcpTunables::default(),
            },
        },
    }
}

fn sum(generator: &Generator) -> Tally {
    let tallies = generator.counters().into_iter().map(|it| it.tally());
    tallies.fold(Tally::default(), |sum, one| sum.plus(&one))
}

// Two lcores each, and a wire that keeps queue i with queue i: connections whose port is owned by the
// other lcore at either end must be handed over, or nothing would be answered.
#[test]
fn lcores_share_a_device_and_both_ends_count_the_same() {
    let (eal, _alone) = eal();
    // Two ends of one shared memory; the driver copies, as a wire would. (A net_ring would hand over
    // the very buffers that the sender keeps for retransmission.)
    let socket = std::env::temp_dir().join(format!("millrace-load-{}", std::process::id()));
    let socket = socket.to_str().expect("UTF-8").to_owned();
    let (near, far) = ("net_memif0", "net_memif1");
    eal.plug(&Vdev::memif(far, &socket, true)).expect("plugs");
    eal.plug(&Vdev::memif(near, &socket, false)).expect("plugs");
    let lcores = eal.worker_lcores();
    let (ours, theirs) = lcores.split_at(2);
    let sink_setup = setup(far, Role::Sink, SINK, 2);
    let mut sink = Generator::start(eal, theirs, &sink_setup, |_, counters| {
        let config = SinkConfig {
            connections: 256,
            protocol: Protocol::Http,
            response_bytes: 2_000,
        };
        Sink::new(config, counters)
    })
    .expect("the sink starts");
    let client_setup = setup(near, Role::Client, CLIENT, 1);
    let mut client = Generator::start(eal, ours, &client_setup, |lcore, counters| {
        let head = b"GET / HTTP/1.1\r\nHost: sink\r\n\r\n";
        let config = ClientConfig {
            connections: 8,
            unit: Unit::Connection,
            requests_per_connection: 2,
            pipeline: 2,
            pace: Pace::Closed,
            open_rate: 1_000.0,
            ending: Ending::Client,
            protocol: Protocol::Http,
            request: Message::new(head, 0),
            last_request: Message::new(head, 0),
            timeout: Nanos::from_secs(30),
            late: Nanos::from_secs(1),
            tuples: TupleSpace {
                sources: vec![CLIENT],
                // An odd first port: the shares begin at different ones.
                ports: (20_001, 60_000),
                targets: vec![Endpoint::new(SINK, 80)],
                lcore,
            },
        };
        Client::new(config, counters)
    })
    .expect("the client starts");
    let began = Instant::now();
    let busy = |generator: &Generator| {
        let counters = generator.counters();
        counters.iter().all(|lcore| lcore.operations.value() >= 200)
    };
    while !(busy(&client) && busy(&sink)) && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(busy(&client), "{:?}", sum(&client));
    assert!(busy(&sink), "{:?}", sum(&sink));
    client.wind_down();
    while client.in_flight() + sink.in_flight() > 0 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    client.stop().expect("no lcore panicked");
    drop(std::fs::remove_file(&socket));
    sink.stop().expect("no lcore panicked");
    let (client, sink) = (sum(&client), sum(&sink));
    assert_eq!(client.errors() + client.misses(), 0, "{client:?}");
    assert_eq!(sink.errors() + sink.misses(), 0, "{sink:?}");
    assert_eq!(client.opened, sink.opened);
    assert_eq!(client.requests, client.operations * 2);
    assert_eq!(client.responses, sink.responses);
    assert_eq!(client.bytes_in, sink.bytes_out);
    assert_eq!(client.bytes_out, sink.bytes_in);
}

// The light mode over a shared memory that copies, both ends on one CPU.
#[test]
fn light_stations_open_and_close_connections_without_an_error() {
    let (eal, _alone) = eal();
    let socket = std::env::temp_dir().join(format!("millrace-light-{}", std::process::id()));
    let socket = socket.to_str().expect("UTF-8").to_owned();
    let (near, far) = ("net_memif2", "net_memif3");
    eal.plug(&Vdev::memif(far, &socket, true)).expect("plugs");
    eal.plug(&Vdev::memif(near, &socket, false)).expect("plugs");
    let mac = |number| MacAddress::new([2, 0, 0, 0, 0, number]);
    let station = |device: &str, number: u8, role: StationRole| StationConfig {
        device: device.to_owned(),
        rx_descriptors: 256,
        tx_descriptors: 256,
        buffers: 4_095,
        buffer_bytes: 2_176,
        mac: Some(mac(number)),
        peer_mac: mac(3 - number),
        mtu: 1_500,
        offloads: false,
        addresses: Vec::new(),
        script: Script {
            request: Payload::http_request(100),
            response: Payload::http_response(200),
            requests: 3,
            asks_at_once: true,
            closer: Closer::Server,
        },
        role,
    };
    let role = StationRole::Client {
        sources: Sources {
            first_address: 0xc000_0201,
            first_port: 1_024,
            ports: 60_000,
        },
        endpoints: 60_000,
        service: (0xc000_0202, 80),
        concurrency: 16,
    };
    let lcores = eal.worker_lcores();
    let server = Station::start(eal, lcores[0], &station(far, 2, StationRole::Server));
    let server = server.expect("the server starts");
    let client = Station::start(eal, lcores[1], &station(near, 1, role));
    let client = client.expect("the client starts");
    let began = Instant::now();
    while client.done().closed < 500 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    client.wind_down();
    while client.done().under_way > 0 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (client, server) = (client.stop(), server.stop());
    drop(std::fs::remove_file(&socket));
    let (client, server) = (client.expect("no panic"), server.expect("no panic"));
    assert!(client.closed >= 500, "{client:?} {server:?}");
    assert_eq!((client.errors, server.errors), (0, 0));
    assert_eq!((client.under_way, client.closed), (0, server.closed));
    assert_eq!(client.responses, 3 * client.closed);
    assert_eq!(server.responses, client.responses);
}
