//! Steps towards a configuration, and none when it is reached.

use millrace_abi::{BackendState, Name, PORT_NONE, PortInfo};
use millrace_base::{Instant, PortId};
use millrace_config::{Config, parse};

use super::*;
use crate::health::Health;
use crate::memo::Memo;
use crate::publish::{Ports, desire};

const TEXT: &str = r#"
[[port]]
name = "front"
device = "net_null0"
addresses = ["10.8.0.10/24", "fd00:8::10/64"]
[[port]]
name = "back"
device = "net_null1"
mtu = 9000
addresses = ["10.9.0.1/24"]
[[route]]
to = "0.0.0.0/0"
via = "10.8.0.1"
[snat]
addresses = ["10.9.0.1", "10.9.0.10"]
ports = "2000-2999"
[[listener]]
name = "web"
address = "10.8.0.100"
ports = "80"
pool = "web"
[[listener]]
name = "tls"
address = "10.8.0.100"
ports = "443"
pool = "web"
[[listener]]
name = "far"
address = "192.0.2.1"
ports = "80"
pool = "web"
[[pool]]
name = "web"
balance = "least-connections"
[[pool.backend]]
name = "a"
address = "10.9.0.2:80"
[[pool.backend]]
name = "b"
address = "10.9.0.3:80"
drain = true
"#;

fn ports() -> Ports {
    let info = |name: &str, last: u8| PortInfo {
        name: Name::new(name),
        mac: [2, 0, 0, 0, 0, last],
        mtu: 1_500,
        ..PortInfo::default()
    };
    // The dataplane may number its ports in another order than the file.
    vec![
        Some((PortId::new(1), info("front", 1))),
        Some((PortId::new(0), info("back", 2))),
    ]
}

fn desired(text: &str, ports: &Ports) -> Desired {
    let config: Config = parse("t", text).expect("valid");
    let mut memo = Memo::default();
    memo.assign(&config);
    let mut health = Health::new(1);
    health.configure(Instant::ZERO, &config, |_| None);
    desire(&config, ports, &memo, &health).expect("fits")
}

fn reached(desired: Desired) -> Actual {
    Actual {
        tables: Some(desired.tables),
        links: desired.links,
        pinned: desired.pinned,
    }
}

#[test]
fn the_tables_say_what_the_file_says() {
    let desired = desired(TEXT, &ports());
    let tables = &desired.tables;
    let interfaces: Vec<(u16, u16)> = tables
        .interfaces()
        .iter()
        .map(|it| (it.port, it.mtu))
        .collect();
    assert_eq!(
        interfaces,
        [(1, 1_500), (0, 1_500)],
        "no MTU above the device's"
    );
    let addresses: Vec<(u8, u16, u8)> = tables
        .addresses()
        .iter()
        .map(|it| (it.kind, it.port, it.prefix_len))
        .collect();
    let expected = [
        (0, 1, 24),
        (0, 1, 64),
        (0, 0, 24),
        (1, 1, 32),
        (1, PORT_NONE, 32),
        (2, 0, 32),
    ];
    assert_eq!(
        addresses, expected,
        "each address once, a virtual one before a source"
    );
    assert_eq!(tables.snat().len(), 2);
    assert_eq!(
        (tables.snat()[1].port_first, tables.snat()[1].port_last),
        (2_000, 2_999)
    );
    assert_eq!(
        (tables.routes()[0].port, tables.routes()[0].has_via),
        (1, 1)
    );
    let backends = tables.backends_of(&tables.pools()[0]);
    let states: Vec<Option<BackendState>> = backends.iter().map(|it| it.state()).collect();
    assert_eq!(
        states,
        [Some(BackendState::Up), Some(BackendState::Draining)]
    );
    assert_eq!(tables.listeners().len(), 3);
    assert_eq!(tables.listeners()[2].pool, 0);
    assert_eq!(desired.pinned.len(), 3, "the router and two backends");
    assert_eq!(
        desired.links.0[0].answers.len(),
        3,
        "two own and one virtual address"
    );
}

#[test]
fn everything_is_done_once_and_then_nothing() {
    let first = desired(TEXT, &ports());
    let steps = reconcile(&first, &Actual::default());
    assert!(
        matches!(&steps[..], [Step::Relink, Step::Publish, Step::Announce(all), Step::Pin] if all.len() == 5),
        "{steps:?}"
    );
    let actual = reached(first);
    assert_eq!(reconcile(&desired(TEXT, &ports()), &actual), []);
}

#[test]
fn only_what_changed_is_done() {
    let actual = reached(desired(TEXT, &ports()));
    let weight = TEXT.replace("drain = true", "weight = 7");
    assert_eq!(
        reconcile(&desired(&weight, &ports()), &actual),
        [Step::Publish]
    );
    let moved = TEXT.replace("192.0.2.1", "10.8.0.101");
    let steps = reconcile(&desired(&moved, &ports()), &actual);
    let new = Address::v4([10, 8, 0, 101]);
    assert_eq!(
        steps,
        [Step::Relink, Step::Publish, Step::Announce(vec![new])]
    );
}

#[test]
fn a_port_the_dataplane_lacks_is_left_out_with_all_that_needs_it() {
    let ports = vec![None, ports()[1]];
    let desired = desired(TEXT, &ports);
    assert_eq!(desired.tables.interfaces().len(), 1);
    assert_eq!(desired.tables.routes().len(), 0);
    assert_eq!(desired.links.0.len(), 1);
    assert_eq!(desired.pinned.len(), 2);
}
