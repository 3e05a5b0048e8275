//! The real binary against a real region: the test plays the lcores.

mod harness;

use std::io::Write as _;
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use harness::{Control, Dataplane, MAC, Place};
use millrace_abi::{
    BackendState, Command, ConnectionRow, Event, NeighborState, PortState, TcpState,
};
use millrace_api::{Answer, FailureKind, Outcome, Request, Topic};
use millrace_base::{
    Address, BackendId, CongestionControl, Endpoint, ListenerId, MacAddress, PortId,
};

const PORT: PortId = PortId::new(0);
const PEER: [u8; 6] = [2, 0, 0, 0, 0xbb, 2];

fn ip(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("address"))
}

fn backend(last: u8) -> Endpoint {
    Endpoint::new(Address::v4([10, 8, 0, last]), 80)
}

/// An ARP packet from the peer: operation, its address, whom it is about, and to which Ethernet
/// address it goes.
fn arp(operation: u8, sender: [u8; 4], target: [u8; 4], to: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to);
    frame.extend(PEER);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(PEER);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

fn is_arp_request_for(frame: &[u8], target: [u8; 4]) -> bool {
    frame.len() >= 42 && frame[12..14] == [8, 6] && frame[21] == 1 && frame[38..42] == target
}

fn states(dataplane: &Dataplane) -> Vec<Option<BackendState>> {
    dataplane
        .tables()
        .backends()
        .iter()
        .map(|it| it.state())
        .collect()
}

fn told(dataplane: &Dataplane, wanted: Address) -> Vec<(usize, NeighborState)> {
    let mut told = Vec::new();
    for (lcore, command) in &dataplane.commands {
        if let Command::NeighborSet { address, state, .. } = command
            && *address == wanted
        {
            told.push((*lcore, *state));
        }
    }
    told
}

/// A place with a running control that has published once.
fn running(name: &str, lcores: u16) -> (Place, Dataplane, Control) {
    let place = Place::new(name);
    let mut dataplane = Dataplane::start(&place.directory, lcores);
    let control = place.control();
    dataplane.until("tables", |it| !it.adopted.is_empty());
    (place, dataplane, control)
}

#[test]
fn a_listener_of_every_address_is_published_and_is_no_address_of_ours() {
    let place = Place::new("any");
    place.configure(|text| {
        text.replace(
            "address = \"10.8.0.100\"\nports = \"80\"",
            "address = \"0.0.0.0\"\nports = \"80-90\"",
        )
    });
    let mut dataplane = Dataplane::start(&place.directory, 1);
    let control = place.control();
    dataplane.until("tables", |it| !it.adopted.is_empty());
    let tables = dataplane.tables();
    let listener = &tables.listeners()[0];
    assert_eq!(listener.address(), Address::UNSPECIFIED_V4);
    assert_eq!((listener.port_first, listener.port_last), (80, 90));
    assert_eq!(tables.addresses().len(), 3, "two of the port, one source");
    let Answer::Listeners(rows) = control.answer(Request::Show(Topic::Listeners)) else {
        panic!("not about listeners");
    };
    assert_eq!(rows[0].address, "0.0.0.0");
    assert_eq!(rows[0].ports, "80-90");
}

// A control of another build waited in silence, and every question was answered with "does not run".
#[test]
fn a_dataplane_of_another_build_is_named_as_the_reason_until_it_is_replaced() {
    /// Behind the magic number.
    const VERSION_AT: u64 = 8;
    let place = Place::new("build");
    let mut dataplane = Dataplane::start(&place.directory, 1);
    let region = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(place.directory.join("region"))
        .expect("the region");
    let mut ours = [0; 4];
    region
        .read_exact_at(&mut ours, VERSION_AT)
        .expect("a header");
    region
        .write_all_at(&4_711u32.to_ne_bytes(), VERSION_AT)
        .expect("written");
    let control = place.control();
    let mut message = String::new();
    dataplane.until("a refusal", |_| {
        let Outcome::Error(failure) = control.ask(Request::Show(Topic::Backends)) else {
            panic!("attached to another build");
        };
        assert_eq!(failure.kind, FailureKind::NoDataplane);
        message = failure.message;
        message.contains("another build")
    });
    assert!(message.contains("version 4711"), "{message}");
    assert!(
        message.contains("run dataplane and control of one build"),
        "{message}"
    );
    let (status, body) = place.get("/healthz");
    assert!(
        status.contains("503") && body.contains("another build"),
        "{status} {body}"
    );
    region.write_all_at(&ours, VERSION_AT).expect("written");
    dataplane.until("tables", |it| !it.adopted.is_empty());
}

#[test]
fn tables_are_published_and_our_addresses_announced_and_answered_for() {
    let (_place, mut dataplane, _control) = running("publish", 2);
    let tables = dataplane.tables();
    assert_eq!(tables.listeners()[0].name.as_str(), "web");
    assert_eq!(tables.listeners()[0].address(), ip("10.8.0.100"));
    assert_eq!(tables.backends().len(), 2);
    assert_eq!(tables.interfaces()[0].mac, MAC);
    assert_eq!(
        tables.addresses().len(),
        4,
        "two interface addresses, one virtual, one source"
    );

    dataplane.until("gratuitous ARP for the virtual address", |it| {
        it.sent.iter().any(|(_, frame)| {
            is_arp_request_for(frame, [10, 8, 0, 100]) && frame[28..32] == [10, 8, 0, 100]
        })
    });
    dataplane.sent.clear();
    let question = arp(1, [10, 8, 0, 77], [10, 8, 0, 100], [0xff; 6]);
    dataplane.lcores[1]
        .punt
        .push(PORT, 0, &question)
        .expect("room");
    dataplane.until("ARP reply", |it| {
        it.sent.iter().any(|(_, frame)| frame[21] == 2)
    });
    let (port, reply) = dataplane
        .sent
        .iter()
        .find(|(_, frame)| frame[21] == 2)
        .expect("reply")
        .clone();
    assert_eq!(port, PORT);
    assert_eq!((&reply[..6], &reply[6..12]), (&PEER[..], &MAC[..]));
    assert_eq!(
        (&reply[22..28], &reply[28..32]),
        (&MAC[..], &[10, 8, 0, 100][..])
    );
    // The asker is about to talk to us: every lcore learns its address.
    dataplane.until("neighbour told", |it| told(it, ip("10.8.0.77")).len() == 2);
    let expected = NeighborState::Reachable(MacAddress::new(PEER));
    assert_eq!(
        told(&dataplane, ip("10.8.0.77")),
        [(0, expected), (1, expected)]
    );
}

#[test]
fn a_needed_neighbour_is_resolved_for_all_lcores_and_a_silent_one_fails() {
    let (place, mut dataplane, control) = running("resolve", 2);
    let needed = Event::NeighborNeeded {
        port: PORT,
        address: ip("10.8.0.50"),
    };
    dataplane.lcores[0].events.push(&needed).expect("room");
    dataplane.until("ARP request", |it| {
        it.sent
            .iter()
            .any(|(_, frame)| is_arp_request_for(frame, [10, 8, 0, 50]))
    });
    let reply = arp(2, [10, 8, 0, 50], [10, 8, 0, 10], MAC);
    dataplane.lcores[1]
        .punt
        .push(PORT, 0, &reply)
        .expect("room");
    dataplane.until("neighbour told", |it| told(it, ip("10.8.0.50")).len() == 2);
    let Answer::Neighbors(rows) = control.answer(Request::Show(Topic::Neighbors)) else {
        panic!()
    };
    let row = rows
        .iter()
        .find(|row| row.address == "10.8.0.50")
        .expect("row");
    assert_eq!(
        (row.state.as_str(), row.mac.as_str(), row.port.as_str()),
        ("REACHABLE", "02:00:00:00:bb:02", "front")
    );

    // Nobody answers for this one: three requests, then the lcores are told. The timing is made
    // short for the test.
    place.configure(|text| text + "[neighbor]\nretrans_time_ms = 100\n");
    control.answer(Request::Reload);
    let needed = Event::NeighborNeeded {
        port: PORT,
        address: ip("fd00:8::51"),
    };
    dataplane.lcores[1].events.push(&needed).expect("room");
    dataplane.sent.clear();
    dataplane.until("failure told", |it| told(it, ip("fd00:8::51")).len() == 2);
    assert_eq!(
        told(&dataplane, ip("fd00:8::51"))[0].1,
        NeighborState::Failed
    );
    let solicitations = dataplane
        .sent
        .iter()
        .filter(|(_, frame)| frame[54..55] == [135] && frame[..2] == [0x33, 0x33]);
    assert_eq!(solicitations.count(), 3);
    // An address on no link of ours is not asked for.
    let foreign = Event::NeighborNeeded {
        port: PORT,
        address: ip("192.0.2.9"),
    };
    dataplane.lcores[0].events.push(&foreign).expect("room");
    dataplane.run_for(Duration::from_millis(50));
    let Answer::Neighbors(rows) = control.answer(Request::Show(Topic::Neighbors)) else {
        panic!()
    };
    assert!(rows.iter().all(|row| row.address != "192.0.2.9"));
}

#[test]
fn a_backend_that_refuses_is_taken_out_and_comes_back() {
    let (_place, mut dataplane, control) = running("health", 2);
    assert_eq!(states(&dataplane), [Some(BackendState::Up); 2]);
    dataplane.broken.push(backend(21));
    dataplane.until("down", |it| {
        states(it) == [Some(BackendState::Up), Some(BackendState::Down)]
    });
    let Answer::Backends(rows) = control.answer(Request::Show(Topic::Backends)) else {
        panic!()
    };
    assert_eq!(
        (rows[1].state.as_str(), rows[1].last_check.as_str()),
        ("down", "refused")
    );
    assert_eq!((rows[0].state.as_str(), rows[0].check_rtt_us), ("up", 120));
    dataplane.broken.clear();
    dataplane.until("up again", |it| states(it) == [Some(BackendState::Up); 2]);
    let probed = |lcore| {
        dataplane
            .commands
            .iter()
            .any(|(it, command)| *it == lcore && matches!(command, Command::Probe { .. }))
    };
    assert!(probed(0) && probed(1), "probes go to the lcores in turn");
}

#[test]
fn a_reload_changes_what_is_right_and_nothing_when_it_is_wrong() {
    let (place, mut dataplane, control) = running("reload", 1);
    let before = dataplane.tables().generation();
    let web = dataplane.tables().listeners()[0].id;

    place.configure(|text| text.replace("pool = \"web\"\n[[pool]]", "pool = \"wbe\"\n[[pool]]"));
    let Outcome::Error(failure) = control.ask(Request::Reload) else {
        panic!("accepted")
    };
    assert_eq!(failure.kind, FailureKind::Config);
    assert!(
        failure
            .message
            .contains("millrace.toml:15: there is no pool \"wbe\""),
        "{}",
        failure.message
    );
    dataplane.run_for(Duration::from_millis(100));
    assert_eq!(dataplane.tables().generation(), before);

    let second = "[[listener]]\nname = \"alt\"\naddress = \"10.8.0.101\"\nports = \"81-90\"\npool = \"web\"\n[[listener]]\nname = \"web\"";
    place.configure(|text| text.replace("[[listener]]\nname = \"web\"", second));
    control.signal("HUP");
    dataplane.until("second listener", |it| it.tables().listeners().len() == 2);
    let tables = dataplane.tables();
    let id = |name: &str| {
        tables
            .listeners()
            .iter()
            .find(|it| it.name.as_str() == name)
            .expect("there")
            .id
    };
    assert_eq!(
        id("web"),
        web,
        "a name keeps its number wherever it stands in the file"
    );
    assert_ne!(id("alt"), web);

    let restart = |text: String| {
        text.replace(second, "[[listener]]\nname = \"web\"")
            .replace("[[port]]", "[dataplane]\nmbufs = 4096\n[[port]]")
    };
    place.configure(restart);
    let Answer::Reloaded(reloaded) = control.answer(Request::Reload) else {
        panic!()
    };
    assert_eq!(reloaded.changes.len(), 2, "{reloaded:?}");
    assert_eq!(
        reloaded.pending,
        ["dataplane: mbufs 65536 -> 4096 (needs a restart of the dataplane)"]
    );
    let Answer::Status(status) = control.answer(Request::Status) else {
        panic!()
    };
    assert_eq!(status.pending, reloaded.pending);
}

#[test]
fn each_leg_is_told_its_congestion_control_and_a_reload_changes_it() {
    let (place, mut dataplane, control) = running("congestion", 1);
    let told = |dataplane: &Dataplane| {
        let tables = dataplane.tables();
        [tables.listeners()[0].leg, tables.pools()[0].leg].map(|leg| leg.congestion_control())
    };
    let (reno, cubic) = (CongestionControl::Reno, CongestionControl::Cubic);
    assert_eq!(told(&dataplane), [Some(CongestionControl::default()); 2]);
    place.configure(|text| {
        let pool = "pool = \"web\"\n";
        text.replace(pool, &format!("{pool}congestion_control = \"reno\"\n"))
    });
    control.answer(Request::Reload);
    dataplane.until("reno for clients", |it| {
        told(it) == [Some(reno), Some(cubic)]
    });
    let Answer::Listeners(listeners) = control.answer(Request::Show(Topic::Listeners)) else {
        panic!()
    };
    assert_eq!(listeners[0].congestion_control, "reno");
    let Answer::Backends(backends) = control.answer(Request::Show(Topic::Backends)) else {
        panic!()
    };
    assert!(backends.iter().all(|row| row.congestion_control == "cubic"));
    place.configure(|text| {
        let text = text.replace("[[pool]]\n", "[[pool]]\ncongestion_control = \"cubic\"\n");
        text + "[tcp]\ncongestion_control = \"reno\"\n"
    });
    control.signal("HUP");
    dataplane.until("reno for all but the pool", |it| {
        it.tables().pools()[0].leg.congestion_control() == Some(cubic) && told(it)[0] == Some(reno)
    });
    place.configure(|text| text.replace("[[pool]]\n", "[[pool]]\ncongestion_control = \"bic\"\n"));
    let Outcome::Error(failure) = control.ask(Request::Reload) else {
        panic!("accepted")
    };
    assert_eq!(failure.kind, FailureKind::Config);
    let names = CongestionControl::NAMES.map(|name| format!("\"{name}\""));
    let hint = format!("use one of {}", names.join(", "));
    assert!(failure.message.contains(&hint), "{}", failure.message);
}

#[test]
fn a_killed_control_leaves_everything_and_its_successor_takes_over() {
    let (place, mut dataplane, control) = running("kill", 1);
    dataplane.broken.push(backend(20));
    dataplane.until("down", |it| states(it)[0] == Some(BackendState::Down));
    let before = Box::new(*dataplane.tables());
    control.kill();
    dataplane.commands.clear();
    dataplane.run_for(Duration::from_millis(100));
    assert_eq!(dataplane.tables().generation(), before.generation());

    // The file lists things in another order now, and the sick backend would be judged anew.
    place.configure(|text| {
        let a = "[[pool.backend]]\nname = \"a\"\naddress = \"10.8.0.20:80\"\n";
        text.replace(a, "")
            .replace("[metrics]", &format!("{a}[metrics]"))
    });
    let published = dataplane.adopted.len();
    let control = place.control();
    dataplane.until("published again", |it| it.adopted.len() > published);
    let first = &dataplane.adopted[published];
    assert!(first.generation() > before.generation());
    let by_name = |tables: &millrace_abi::Tables, name: &str| {
        let found = tables
            .backends()
            .iter()
            .find(|it| it.name.as_str() == name)
            .copied();
        found.map(|it| (it.id, it.state()))
    };
    for name in ["a", "b"] {
        assert_eq!(by_name(first, name), by_name(&before, name), "{name}");
    }
    assert_eq!(first.listeners()[0].id, before.listeners()[0].id);
    assert!(matches!(control.answer(Request::Status), Answer::Status(status) if status.attached));
    let removed = dataplane.commands.iter().any(|(_, command)| {
        matches!(
            command,
            Command::NeighborSet {
                state: NeighborState::Remove | NeighborState::Failed,
                ..
            }
        )
    });
    assert!(!removed, "what the lcores know about neighbours stays");
    // A neighbour that only the lcores know is resolved when TCP shows that it is in use.
    dataplane.sent.clear();
    let used = Event::NeighborConfirmed {
        port: PORT,
        address: ip("10.8.0.60"),
    };
    dataplane.lcores[0].events.push(&used).expect("room");
    dataplane.until("asked for", |it| {
        it.sent
            .iter()
            .any(|(_, frame)| is_arp_request_for(frame, [10, 8, 0, 60]))
    });
}

#[test]
fn a_restarted_dataplane_gets_everything_again() {
    let (place, mut dataplane, control) = running("restart", 1);
    dataplane.until("router asked for", |it| {
        it.sent
            .iter()
            .any(|(_, frame)| is_arp_request_for(frame, [10, 8, 0, 1]))
    });
    let reply = arp(2, [10, 8, 0, 1], [10, 8, 0, 10], MAC);
    dataplane.lcores[0]
        .punt
        .push(PORT, 0, &reply)
        .expect("room");
    dataplane.until("router known", |it| !told(it, ip("10.8.0.1")).is_empty());
    let boot = dataplane.region.boot_id();
    drop(dataplane);

    let mut dataplane = Dataplane::start(&place.directory, 2);
    assert_ne!(dataplane.region.boot_id(), boot);
    dataplane.until("tables", |it| !it.adopted.is_empty());
    assert_eq!(dataplane.tables().generation(), 1);
    dataplane.until("router told to both lcores", |it| {
        told(it, ip("10.8.0.1")).len() == 2
    });
    dataplane.until("announced", |it| {
        it.sent
            .iter()
            .any(|(_, frame)| is_arp_request_for(frame, [10, 8, 0, 100]))
    });
    let Answer::Status(status) = control.answer(Request::Status) else {
        panic!()
    };
    assert_eq!(
        status.boot_id,
        format!("{:016x}", dataplane.region.boot_id())
    );
}

#[test]
fn control_waits_for_a_dataplane_and_says_so() {
    let place = Place::new("absent");
    let control = place.control();
    let Outcome::Error(failure) = control.ask(Request::Show(Topic::Ports)) else {
        panic!()
    };
    assert_eq!(failure.kind, FailureKind::NoDataplane);
    assert_eq!(place.get("/healthz").0, "HTTP/1.1 503 Service Unavailable");
    let mut dataplane = Dataplane::start(&place.directory, 1);
    dataplane.until("tables", |it| !it.adopted.is_empty());
    let Answer::Ports(rows) = control.answer(Request::Show(Topic::Ports)) else {
        panic!()
    };
    assert_eq!(
        (rows[0].name.as_str(), rows[0].mac.as_str()),
        ("front", "02:00:00:00:aa:01")
    );
}

// A card begins without a link, of no speed; what its driver says later is shown.
// behaviour: NIC-2, NIC-24, QDS-3
#[test]
fn a_port_is_shown_with_its_driver_and_the_state_of_its_link() {
    let (_place, dataplane, control) = running("link", 2);
    let mut states = dataplane.region.port_states().expect("the only writer");
    for told in [None, Some((1, 10_000)), Some((0, 0))] {
        let (link_up, link_mbps) = told.unwrap_or_default();
        let state = PortState {
            link_up,
            link_mbps,
            ..PortState::default()
        };
        if told.is_some() {
            states.set(PORT, &state);
        }
        let Answer::Ports(rows) = control.answer(Request::Show(Topic::Ports)) else {
            panic!()
        };
        let row = &rows[0];
        assert_eq!(
            (row.driver.as_str(), row.mtu, row.queues),
            ("net_null", 1_500, 2)
        );
        assert_eq!(
            (u64::from(row.link_up), row.link_mbps),
            (link_up, link_mbps)
        );
        assert!(!row.addresses.is_empty(), "as configured");
    }
}

// behaviour: CNT-10
#[test]
fn metrics_carry_the_regions_counters_and_our_own() {
    let (place, mut dataplane, control) = running("metrics", 2);
    dataplane.lcores[0].counters.add(0, 40);
    dataplane.lcores[1].counters.add(0, 2);
    dataplane.lcores[1].counters.add(1, 5);
    dataplane.until("probes", |it| {
        it.commands
            .iter()
            .filter(|(_, command)| matches!(command, Command::Probe { .. }))
            .count()
            > 4
    });
    let (status, page) = place.get("/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "# HELP millrace_tcp_in_segs_total Segments received.",
        "# TYPE millrace_tcp_in_segs_total counter",
        "millrace_tcp_in_segs_total 42",
        "millrace_lcore_tcp_in_segs_total{lcore=\"1\"} 2",
        "millrace_drops_total{reason=\"tcp_checksum\"} 5",
        "millrace_attached 1",
        "millrace_backend_up{backend=\"a\",pool=\"web\"} 1",
        "millrace_port_link_up{port=\"front\"} 0",
        // The router and both backends: the configuration names them.
        "millrace_neighbor_allocs_total 3",
        "# TYPE millrace_health_probe_seconds histogram",
        "millrace_control_publications_total 1",
    ] {
        assert!(
            page.lines().any(|it| it == line),
            "{line} is not in:\n{page}"
        );
    }
    assert_eq!(
        place.get("/healthz"),
        ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned())
    );
    assert_eq!(place.get("/other").0, "HTTP/1.1 404 Not Found");
    let Answer::Drops(rows) = control.answer(Request::Show(Topic::Drops)) else {
        panic!()
    };
    assert_eq!(
        (rows.len(), rows[0].name.as_str(), rows[0].total),
        (1, "tcp_checksum", 5)
    );
    let Answer::Counters(rows) = control.answer(Request::Show(Topic::Counters)) else {
        panic!()
    };
    assert_eq!((rows[0].total, rows[0].lcores.clone()), (42, vec![40, 2]));
    // Lcores that stop are noticed.
    std::thread::sleep(Duration::from_millis(2_600));
    let (status, complaints) = place.get("/healthz");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(
        complaints.contains("lcore 0 shows no sign of life"),
        "{complaints}"
    );
}

// Sixteen clients that asked on and on and read nothing once held every place until they left.
#[test]
fn clients_that_never_read_do_not_keep_scrapers_out() {
    let (place, _dataplane, _control) = running("hogs", 1);
    let requests = "GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n".repeat(20_000);
    let hogs: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut hog = TcpStream::connect(("127.0.0.1", place.metrics_port)).expect("connect");
            hog.set_write_timeout(Some(Duration::from_millis(300)))
                .expect("timeout");
            // Nobody takes all of it: it ends by the timeout or by a reset.
            let _ = hog.write_all(requests.as_bytes());
            hog
        })
        .collect();
    let (status, _) = place.get("/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    drop(hogs);
}

#[test]
fn connections_are_listed_over_all_lcores_page_by_page() {
    let (_place, mut dataplane, control) = running("listing", 2);
    let listener = ListenerId::new(dataplane.tables().listeners()[0].id);
    let asked = std::thread::scope(|scope| {
        let answer = scope.spawn(|| control.answer(Request::Connections { limit: 5 }));
        while !answer.is_finished() {
            dataplane.pump();
            let commands = std::mem::take(&mut dataplane.commands);
            for (lcore, command) in commands {
                let Command::ListConnections { token, cursor, .. } = command else {
                    continue;
                };
                // Each lcore has two pages of two sessions.
                for row in 0..2u16 {
                    let client =
                        Endpoint::new(ip("198.51.100.7"), 1_000 + row + 10 * cursor as u16);
                    let row = ConnectionRow {
                        token,
                        client,
                        vip: Endpoint::new(ip("10.8.0.100"), 80),
                        snat: Endpoint::new(ip("10.8.0.11"), 2_000),
                        backend: backend(20),
                        client_state: TcpState::Established,
                        backend_state: TcpState::SynSent,
                        client_congestion: Some(CongestionControl::Reno),
                        backend_congestion: None,
                        bytes_in: 1,
                        bytes_out: 2,
                        age_ms: 3,
                        retransmissions: 4,
                        listener_id: listener,
                        backend_id: BackendId::new(0),
                    };
                    dataplane.lcores[lcore]
                        .events
                        .push(&Event::ConnectionRow(row))
                        .expect("room");
                }
                let next_cursor = if cursor == 0 { 7 } else { 0 };
                let end = Event::ConnectionsEnd {
                    token,
                    next_cursor,
                    count: 2,
                };
                dataplane.lcores[lcore].events.push(&end).expect("room");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        answer.join().expect("answer")
    });
    let Answer::Connections(connections) = asked else {
        panic!()
    };
    assert_eq!((connections.rows.len(), connections.truncated), (5, true));
    let row = &connections.rows[0];
    assert_eq!(
        (row.client.as_str(), row.listener.as_str()),
        ("198.51.100.7:1000", "web")
    );
    assert_eq!(
        (row.client_state.as_str(), row.backend_state.as_str()),
        ("ESTABLISHED", "SYN-SENT")
    );
    assert_eq!(
        (
            row.client_congestion.as_str(),
            row.backend_congestion.as_str()
        ),
        ("reno", "")
    );
    assert!(connections.rows.iter().any(|row| row.lcore == 1));
}

#[test]
fn a_wrong_configuration_ends_with_code_2_and_changes_nothing() {
    let place = Place::new("wrong");
    place.configure(|text| text.replace("ports = \"80\"", "ports = \"eighty\""));
    let dataplane = Dataplane::start(&place.directory, 1);
    let mut control = place.control();
    assert_eq!(control.child.wait().expect("ends").code(), Some(2));
    assert!(!place.directory.join("control.sock").exists());
    assert_eq!(dataplane.region.control_state().pid, 0);
}

#[test]
fn the_socket_survives_nonsense_and_a_second_control_is_refused() {
    let (place, _dataplane, control) = running("socket", 1);
    assert!(control.say("not json\n").contains("\"kind\":\"request\""));
    assert!(
        control
            .say("{\"version\":1,\"request\":\"dance\"}\n")
            .contains("unknown variant")
    );
    let long = "x".repeat(10_000);
    assert!(control.say(&long).contains("at most 4096 bytes"));
    let mut second = place.control();
    assert_eq!(second.child.wait().expect("ends").code(), Some(1));
    assert!(matches!(control.answer(Request::Status), Answer::Status(_)));
    // A clean stop removes the socket and leaves the region.
    let mut control = control;
    control.signal("TERM");
    assert_eq!(control.child.wait().expect("ends").code(), Some(0));
    assert!(!place.directory.join("control.sock").exists());
    assert!(place.directory.join("region").exists());
}

#[test]
fn an_idle_control_costs_less_than_two_percent_of_a_cpu() {
    let (_place, mut dataplane, control) = running("idle", 2);
    let ticks = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", control.child.id())).expect("stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        // utime and stime in ticks of 10 ms (proc_pid_stat(5)).
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    };
    let before = ticks();
    dataplane.run_for(Duration::from_secs(3));
    let used_ms = (ticks() - before) * 10;
    assert!(used_ms <= 60, "{used_ms} ms of CPU in 3 s");
}
