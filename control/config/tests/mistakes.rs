//! Every mistake an operator can make, with the line it is reported at, its message and its hint.

use millrace_base::CongestionControl;
use millrace_config::{Problem, parse};

/// A valid file; each case changes it. Lines are counted from here, the first is empty.
const VALID: &str = r#"
[dataplane]
lcores = [1, 2]
mbufs = 65536
[[port]]
name = "front"
device = "net_af_packet0,iface=d0"
mac = "02:00:00:00:aa:01"
mtu = 1500
addresses = ["10.8.0.10/24", "fd00:8::10/64"]
[[port]]
name = "back"
device = "0000:01:00.0"
addresses = ["10.9.0.1/24"]
[[route]]
to = "0.0.0.0/0"
via = "10.8.0.1"
port = "front"
[snat]
addresses = ["10.9.0.10"]
ports = "1024-65535"
[[listener]]
name = "web"
address = "10.8.0.100"
ports = "80"
pool = "web"
[[listener]]
name = "alt"
address = "10.8.0.100"
ports = "8000-8010"
pool = "web"
[[pool]]
name = "web"
balance = "round-robin"
health = { interval_ms = 1000, timeout_ms = 500, rise = 2, fall = 3 }
[[pool.backend]]
name = "a"
address = "10.9.0.2:80"
weight = 1
[[pool.backend]]
name = "b"
address = "10.9.0.3:80"
[metrics]
listen = "127.0.0.1:9464"
"#;

fn problems(text: &str) -> Vec<Problem> {
    match parse("f", text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0,
    }
}

/// Replaces `from` by `to` in the valid file and expects exactly this one problem.
#[track_caller]
fn expect(from: &str, to: &str, expected: &str) {
    assert_eq!(
        VALID.matches(from).count(),
        1,
        "{from:?} must be there once"
    );
    let found = problems(&VALID.replace(from, to));
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [expected], "after {from:?} -> {to:?}");
}

// IEEE 802.1Q: 0 is a priority without a VLAN, 4095 is reserved.
#[test]
fn a_vlan_has_a_number_that_a_vlan_can_have() {
    for number in [0, 4_095] {
        expect(
            "mtu = 1500",
            &format!("mtu = 1500\nvlan = {number}"),
            &format!(
                "f:10: \"port.vlan\" is {number}, outside 1 to 4094\n  \
                 hint: use a number from 1 to 4094"
            ),
        );
    }
    assert_eq!(
        problems(&VALID.replace("mtu = 1500", "mtu = 1500\nvlan = 4094")),
        []
    );
}

// The stack looks for a listener of any address when none of the address itself is there.
#[test]
fn a_listener_may_be_on_every_address_but_not_on_a_source_port() {
    let with = |address: &str, ports: &str| {
        let listener = format!(
            "[[listener]]\nname = \"any\"\naddress = \"{address}\"\nports = \"{ports}\"\npool = \"web\"\n[[pool]]"
        );
        problems(&VALID.replacen("[[pool]]", &listener, 1))
    };
    assert_eq!(with("0.0.0.0", "80"), [], "the exact one is nearer");
    assert_eq!(with("0.0.0.0", "1-1023"), []);
    assert_eq!(with("::", "1-65535"), [], "no source address of the family");
    let shown = |found: Vec<Problem>| found.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        shown(with("0.0.0.0", "1000-1100")),
        [
            "f:35: listener \"any\" and [snat] both use port 1024 of 10.9.0.10\n  \
          hint: use another source address, or source ports without the listener's"
        ]
    );
    let twice = VALID.replace("address = \"10.8.0.100\"", "address = \"0.0.0.0\"");
    let twice = twice.replace("8000-8010", "70-80");
    assert_eq!(problems(&twice).len(), 1, "two of any address overlap");
}

#[test]
fn the_base_of_these_cases_is_valid() {
    assert_eq!(problems(VALID), []);
}

#[test]
fn shape_is_checked_against_the_key_table() {
    expect(
        "address = \"10.8.0.100\"\nports = \"80\"",
        "adress = \"10.8.0.100\"\naddress = \"10.8.0.100\"\nports = \"80\"",
        "f:24: unknown key \"adress\" in [[listener]]\n  hint: did you mean \"address\"?",
    );
    expect(
        "[metrics]",
        "[metric]",
        "f:43: unknown key \"metric\" in the top level\n  hint: did you mean \"metrics\"?",
    );
    expect(
        "lcores = [1, 2]",
        "lcores = [1, 2]\nrise = 3",
        "f:4: unknown key \"rise\" in [dataplane]\n  hint: \"rise\" belongs in [pool.health]",
    );
    expect(
        "listen = ",
        "quux = 1\nlisten = ",
        "f:44: unknown key \"quux\" in [metrics]\n  hint: known here: listen",
    );
    expect(
        "mbufs = 65536",
        "mbufs = \"many\"",
        "f:4: \"dataplane.mbufs\" must be a whole number, not a string",
    );
    expect(
        "lcores = [1, 2]",
        "lcores = 1",
        "f:3: \"dataplane.lcores\" must be a list of whole numbers, not a whole number\n  \
         hint: write lists in brackets: [1, 2]",
    );
    expect(
        "name = \"back\"",
        "name = 7",
        "f:12: \"port.name\" must be a string, not a whole number\n  \
         hint: write strings in double quotes",
    );
    expect(
        "mtu = 1500",
        "mtu = 1279",
        "f:9: \"port.mtu\" is 1279, outside 1280 to 9600\n  \
         hint: use a number from 1280 to 9600",
    );
    expect(
        "mbufs = 65536",
        "mbufs = 12",
        "f:4: \"dataplane.mbufs\" is 12, outside 1024 to 16777216\n  \
         hint: use a number from 1024 to 16777216",
    );
    expect(
        "balance = \"round-robin\"",
        "balance = \"random\"",
        "f:34: \"pool.balance\" cannot be \"random\"\n  \
         hint: use one of \"round-robin\", \"least-connections\"",
    );
    expect(
        "[snat]\naddresses = [\"10.9.0.10\"]\nports = \"1024-65535\"",
        "[[snat]]\naddresses = [\"10.9.0.10\"]",
        "f:19: \"snat\" must be a table, not a list",
    );
    expect(
        "device = \"0000:01:00.0\"\n",
        "",
        "f:11: [[port]] has no \"device\"\n  \
         hint: add a line like: device = \"net_af_packet0,iface=d0,qdisc_bypass=1\"",
    );
}

// The words are those of `CongestionControl::ALL`, wherever the key stands.
#[test]
fn an_unknown_congestion_control_is_answered_with_those_there_are() {
    let words = CongestionControl::NAMES.map(|name| format!("\"{name}\""));
    let words = words.join(", ");
    for (line, key, from, to) in [
        (
            27,
            "listener.congestion_control",
            "ports = \"80\"\npool = \"web\"",
            "ports = \"80\"\npool = \"web\"\ncongestion_control = \"vegas\"",
        ),
        (
            35,
            "pool.congestion_control",
            "balance = \"round-robin\"",
            "balance = \"round-robin\"\ncongestion_control = \"vegas\"",
        ),
        (
            44,
            "tcp.congestion_control",
            "[metrics]",
            "[tcp]\ncongestion_control = \"vegas\"\n[metrics]",
        ),
    ] {
        expect(
            from,
            to,
            &format!("f:{line}: \"{key}\" cannot be \"vegas\"\n  hint: use one of {words}"),
        );
    }
    expect(
        "balance = \"round-robin\"",
        "balance = \"round-robin\"\ncongestion_control = 2",
        "f:35: \"pool.congestion_control\" must be a string, not a whole number\n  \
         hint: write strings in double quotes",
    );
}

#[test]
fn a_file_that_is_not_toml_reports_only_that() {
    let found = problems(&VALID.replace("mtu = 1500", "mtu = = 1500"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].to_string().starts_with("f:9: "), "{}", found[0]);
}

#[test]
fn texts_must_parse_as_what_they_hold() {
    expect(
        "02:00:00:00:aa:01",
        "03:00:00:00:aa:01",
        "f:8: \"03:00:00:00:aa:01\" is not the MAC address of one card\n  \
         hint: write six bytes like \"02:00:00:00:aa:01\", the first one even",
    );
    expect(
        "\"10.9.0.1/24\"",
        "\"10.9.0.1/33\"",
        "f:14: \"10.9.0.1/33\" is not an address with a prefix length\n  \
         hint: write \"10.8.0.10/24\" or \"fd00:8::10/64\"",
    );
    expect(
        "ports = \"8000-8010\"",
        "ports = \"8010-8000\"",
        "f:30: \"8010-8000\" is not a port or a range of ports\n  \
         hint: write 80 or \"8000-8010\", ports from 1 to 65535",
    );
    expect(
        "ports = \"80\"",
        "ports = 0",
        "f:25: \"0\" is not a port or a range of ports\n  \
         hint: write 80 or \"8000-8010\", ports from 1 to 65535",
    );
    expect(
        "address = \"10.9.0.3:80\"",
        "address = \"10.9.0.3\"",
        "f:42: \"10.9.0.3\" is not an address and a port\n  \
         hint: write \"10.8.0.20:80\" or \"[fd00:8::20]:80\"",
    );
    expect(
        "to = \"0.0.0.0/0\"",
        "to = \"10.8.0.5/16\"",
        "f:16: \"10.8.0.5/16\" is not a network: bits right of the prefix are set\n  \
         hint: did you mean \"10.8.0.0/16\"?",
    );
    expect(
        "name = \"alt\"",
        "name = \"alt port\"",
        "f:28: \"alt port\" is not a name\n  hint: 1 to 31 letters, digits, '-', '_' or '.'",
    );
    expect(
        "listen = \"127.0.0.1:9464\"",
        "listen = \"9464\"",
        "f:44: \"9464\" is not an address and a port\n  \
         hint: write \"127.0.0.1:9464\", \"[::1]:9464\" or \"off\"",
    );
    expect(
        "\"10.9.0.1/24\"",
        "\"10.9.0.255/24\"",
        "f:14: 10.9.0.255/24 cannot be used as a port address: it is the broadcast address of its \
         network\n  hint: use a unicast address",
    );
    expect(
        "name = \"web\"\naddress = \"10.8.0.100\"",
        "name = \"web\"\naddress = \"224.0.0.9\"",
        "f:24: 224.0.0.9 cannot be used as a listener's address: it is a multicast address\n  \
         hint: use a unicast address",
    );
    // Clients in that network would have to broadcast their SYNs, which no TCP does.
    expect(
        "name = \"web\"\naddress = \"10.8.0.100\"",
        "name = \"web\"\naddress = \"10.8.0.255\"",
        "f:24: 10.8.0.255 cannot be used as a listener's address: it is the broadcast address of \
         its network\n  hint: use a unicast address",
    );
}

#[test]
fn names_are_unique_and_refer_to_something() {
    expect(
        "name = \"alt\"",
        "name = \"web\"",
        "f:28: listener \"web\" is there twice; the first is at f:23\n  \
         hint: give each listener a name of its own",
    );
    expect(
        "name = \"b\"",
        "name = \"a\"",
        "f:41: backend \"a\" is there twice; the first is at f:37\n  \
         hint: give each backend of a pool a name of its own",
    );
    expect(
        "10.9.0.3:80",
        "10.9.0.2:80",
        "f:42: backend \"10.9.0.2:80\" is there twice; the first is at f:38\n  \
         hint: use \"weight\" to give a server a larger share",
    );
    expect(
        "lcores = [1, 2]",
        "lcores = [2,\n2]",
        "f:4: lcore \"2\" is there twice; the first is at f:3\n  hint: name each CPU once",
    );
    expect(
        "ports = \"80\"\npool = \"web\"",
        "ports = \"80\"\npool = \"wbe\"",
        "f:26: there is no pool \"wbe\"\n  hint: did you mean \"web\"?",
    );
    expect(
        "port = \"front\"",
        "port = \"side\"",
        "f:18: there is no port \"side\"\n  hint: there is \"front\", \"back\"",
    );
}

#[test]
fn listeners_may_share_an_address_but_not_a_port() {
    expect(
        "ports = \"8000-8010\"",
        "ports = \"70-90\"",
        "f:30: listener \"alt\" overlaps listener \"web\" at f:22: both have 10.8.0.100:80\n  \
         hint: give one of them another address or other ports",
    );
}

#[test]
fn networks_routes_and_source_addresses_must_fit_together() {
    expect(
        "via = \"10.8.0.1\"",
        "via = \"10.7.0.1\"",
        "f:17: router 10.7.0.1 is in no network of port \"front\"\n  \
         hint: the networks are 10.8.0.0/24",
    );
    expect(
        "via = \"10.8.0.1\"",
        "via = \"fd00:8::1\"",
        "f:17: route to 0.0.0.0/0 goes via fd00:8::1, an address of another family\n  \
         hint: use a router of the route's family",
    );
    expect(
        "via = \"10.8.0.1\"\nport = \"front\"\n",
        "",
        "f:15: the route to 0.0.0.0/0 leads nowhere\n  \
         hint: name the router with \"via\" or the port with \"port\"",
    );
    expect(
        "addresses = [\"10.9.0.10\"]",
        "addresses = [\"10.9.0.10\", \"10.7.0.10\"]",
        "f:20: source address 10.7.0.10 is in no network of any port\n  \
         hint: the networks are 10.8.0.0/24, 10.9.0.0/24",
    );
    expect(
        "10.9.0.3:80",
        "[fd00:8::3]:80",
        "f:42: backend fd00:8::3 needs an IPv6 source address, and [snat] has none\n  \
         hint: add an IPv6 address to \"addresses\" in [snat]",
    );
    expect(
        "to = \"0.0.0.0/0\"\nvia = \"10.8.0.1\"\nport = \"front\"\n[snat]\naddresses = [\"10.9.0.10\"]\n\
         ports = \"1024-65535\"\n",
        "to = \"10.0.0.0/8\"\nvia = \"10.8.0.1\"\nport = \"front\"\n[snat]\naddresses = [\"10.8.0.100\"]\n\
         ports = \"8000\"\n",
        "f:30: listener \"alt\" and [snat] both use port 8000 of 10.8.0.100\n  \
         hint: use another source address, or source ports without the listener's",
    );
    expect(
        "\"10.9.0.1/24\"",
        "\"10.8.0.200/8\"",
        "f:14: network 10.0.0.0/8 overlaps 10.8.0.0/24 of port[0]\n  \
         hint: one network can be on one port only",
    );
    expect(
        "mtu = 1500",
        "mtu = 1500\nqueues = 1",
        "f:10: 1 queues for 2 lcores\n  \
         hint: leave \"queues\" out: each lcore polls one queue of each port",
    );
    expect(
        "timeout_ms = 500",
        "timeout_ms = 5000",
        "f:35: timeout_ms 5000 is longer than interval_ms 1000\n  \
         hint: a probe must end before the next one starts",
    );
}

#[test]
fn a_backend_without_a_route_is_found() {
    let text = VALID.replace("to = \"0.0.0.0/0\"", "to = \"10.0.0.0/8\"");
    let text = text.replace("10.9.0.3:80", "172.16.0.3:80");
    let shown: Vec<String> = problems(&text).iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["f:42: there is no route to backend 172.16.0.3\n  \
          hint: add a [[route]] to its network, or a port address in it"]
    );
}

// A connection to an address of ours is refused by the stack, so such a backend could never be up.
#[test]
fn no_address_of_ours_is_a_backend() {
    for ours in ["10.8.0.10", "10.8.0.100", "10.9.0.10"] {
        let text = VALID.replace("10.9.0.3:80", &format!("{ours}:80"));
        let shown: Vec<String> = problems(&text).iter().map(ToString::to_string).collect();
        let expected =
            format!("f:42: backend {ours} is our own address\n  hint: name the server's address");
        assert_eq!(shown, [expected]);
    }
}

#[test]
fn all_mistakes_are_reported_in_file_order() {
    let text = VALID
        .replace("mbufs = 65536", "mbufs = 1\nnothing = 2")
        .replace("mtu = 1500", "mtu = \"big\"")
        .replace("pool = \"web\"\n[[pool]]", "pool = \"none\"\n[[pool]]")
        .replace("10.9.0.3:80", "10.9.0.2:80");
    let lines: Vec<String> = problems(&text)
        .iter()
        .map(|problem| problem.place.to_string())
        .collect();
    assert_eq!(lines, ["f:4", "f:5", "f:10", "f:32", "f:43"]);
}

#[test]
fn an_empty_file_says_what_is_needed_first() {
    let shown: Vec<String> = problems("").iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["f: there is no [[port]]\n  hint: add a [[port]] with name, device and addresses"]
    );
}
