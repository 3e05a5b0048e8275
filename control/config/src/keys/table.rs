//! The rows of the key table: what the file may say.
//!
//! Data only; what a row means is in the parent.

use millrace_base::CongestionControl;

use super::{Key, Kind, Section, key};

/// Every table, in the order of `conf/full.toml`.
pub const SECTIONS: &[Section] = &[
    Section { path: "", doc: "" },
    Section {
        path: "dataplane",
        doc: "How the dataplane process is started. It reads none of this itself: `millrace dataplane-args` turns \
              it into arguments.",
    },
    Section {
        path: "port[]",
        doc: "A network card the dataplane owns, in port order. Repeat the table for each card.",
    },
    Section {
        path: "route[]",
        doc: "A route. The networks of the ports' own addresses need none.",
    },
    Section {
        path: "snat",
        doc: "Where connections to backends come from.",
    },
    Section {
        path: "tcp",
        doc: "TCP towards clients and backends, unless a listener or a pool says otherwise; names and defaults are \
              those of Linux's sysctl net.ipv4.tcp_*. A change holds for connections that begin after it.",
    },
    Section {
        path: "listener[]",
        doc: "An address and port clients connect to.",
    },
    Section {
        path: "pool[]",
        doc: "A set of backends that serve the same thing.",
    },
    Section {
        path: "pool[].health",
        doc: "How the pool's backends are probed: a TCP connection from the dataplane, closed at once. A backend \
              counts as `initial` says until `rise` or `fall` probes in a row say otherwise.",
    },
    Section {
        path: "pool[].backend[]",
        doc: "One server of the pool.",
    },
    Section {
        path: "neighbor",
        doc: "ARP and neighbour discovery; names and defaults are those of Linux's sysctl net.ipv4.neigh.",
    },
    Section {
        path: "metrics",
        doc: "Prometheus metrics over HTTP: /metrics and /healthz.",
    },
    Section {
        path: "log",
        doc: "What control and the dataplane write to standard error.",
    },
];

/// The names of congestion control.
const CONGESTION: Kind = Kind::Choice(&CongestionControl::NAMES);

const NAME: &str = "1 to 31 letters, digits, '-', '_' or '.'.";

/// Every key, in the order of `conf/full.toml`.
pub const KEYS: &[Key] = &[
    key(
        "",
        "runtime_dir",
        Kind::Text,
        "Directory of the shared region and the control socket; a tmpfs. Both processes \
        and the command line must agree on it.",
    )
    .default("\"/run/millrace\"")
    .dataplane_restart(),
    // [dataplane]
    key(
        "dataplane",
        "lcores",
        Kind::Integers { min: 0, max: 1023 },
        "CPUs that forward, one lcore each; at most 64.",
    )
    .unit("CPU number")
    .default("[1]")
    .dataplane_restart(),
    key(
        "dataplane",
        "mbufs",
        Kind::Integer {
            min: 1_024,
            max: 16_777_216,
        },
        "Packet buffers, shared by all lcores; the connections of each may queue an equal part of what rings \
        and caches leave. `millrace plan` says how many are needed.",
    )
    .default("65536")
    .dataplane_restart(),
    key(
        "dataplane",
        "mbuf_bytes",
        Kind::Integer {
            min: 1_792,
            max: 65_535,
        },
        "Size of one packet buffer, 128 bytes of \
        headroom included.",
    )
    .unit("bytes")
    .default("2176")
    .dataplane_restart(),
    key(
        "dataplane",
        "memory",
        Kind::Choice(&["auto", "hugepages", "no-huge"]),
        "Where DPDK takes its memory from; auto \
        uses huge pages when there are enough.",
    )
    .default("\"auto\"")
    .dataplane_restart(),
    key(
        "dataplane",
        "memory_mb",
        Kind::Integer {
            min: 0,
            max: 1_048_576,
        },
        "How much memory DPDK takes; 0 lets the number of packet buffers decide.",
    )
    .unit("MiB")
    .default("0")
    .dataplane_restart(),
    key(
        "dataplane",
        "connections_max",
        Kind::Integer {
            min: 64,
            max: 33_554_432,
        },
        "TCP connections of one lcore, both \
        legs counted; memory for all of them is taken at start.",
    )
    .default("65536")
    .dataplane_restart(),
    key(
        "dataplane",
        "idle",
        Kind::Choice(&["poll", "pause", "monitor", "interrupt", "sleep"]),
        "What an lcore without work does: poll on; poll with ever longer pauses; let the CPU watch \
        the receive ring (umwait, one port only; else pause); sleep until a device interrupts, a \
        millisecond at most (net_tap, most cards; else sleep); sleep for 50 us at a time. \
        `millrace show lcores` tells what is in force.",
    )
    .default("\"sleep\"")
    .dataplane_restart(),
    key(
        "dataplane",
        "rss",
        Kind::Choice(&["auto", "device", "software"]),
        "Who brings a frame to the lcore that owns its flow: the card where it proves at start that it can, \
        the card in any case, or software.",
    )
    .default("\"auto\"")
    .dataplane_restart(),
    key(
        "dataplane",
        "rss_selftest_ms",
        Kind::Integer {
            min: 10,
            max: 60_000,
        },
        "How long the proof may take for each card that offers receive-side scaling.",
    )
    .unit("ms")
    .default("500")
    .dataplane_restart(),
    key(
        "dataplane",
        "rss_key",
        Kind::Text,
        "The key of the RSS hash, 40 to 52 bytes in hexadecimal; empty draws one at every start.",
    )
    .default("\"\"")
    .dataplane_restart(),
    key(
        "dataplane",
        "capture",
        Kind::Boolean,
        "Let dpdk-dumpcap attach. Packet memory then lies in files, which a kill -9 leaves behind.",
    )
    .default("false")
    .dataplane_restart(),
    key(
        "dataplane",
        "file_prefix",
        Kind::Text,
        "DPDK's --file-prefix; differs between instances on one machine.",
    )
    .default("\"millrace\"")
    .dataplane_restart(),
    key(
        "dataplane",
        "eal_args",
        Kind::Texts,
        "Further arguments for DPDK's environment layer.",
    )
    .default("[]")
    .dataplane_restart(),
    // [[port]]
    key("port[]", "name", Kind::Text, NAME)
        .required("\"front\"")
        .dataplane_restart(),
    key(
        "port[]",
        "device",
        Kind::Text,
        "A PCI address (\"0000:01:00.0\") or a DPDK virtual device with its arguments.",
    )
    .required("\"net_af_packet0,iface=d0,qdisc_bypass=1\"")
    .dataplane_restart(),
    key(
        "port[]",
        "mac",
        Kind::Text,
        "The card's address; its own when left out.",
    )
    .example("\"02:00:00:00:aa:01\"")
    .dataplane_restart(),
    key(
        "port[]",
        "mtu",
        Kind::Integer {
            min: 1_280,
            max: 9_600,
        },
        "Largest IP packet; IPv6 needs 1280 (RFC 8200 section 5).",
    )
    .unit("bytes")
    .default("1500")
    .dataplane_restart(),
    key(
        "port[]",
        "vlan",
        Kind::Integer {
            min: 1,
            max: 4_094,
        },
        "The VLAN of the port (IEEE 802.1Q): every frame it sends carries this tag, and frames with \
        another or none are dropped and counted (`drop_wrong_vlan`). Without it frames carry no tag. \
        The card inserts and strips the tag where it can. A port has one VLAN.",
    )
    .example("100")
    .dataplane_restart(),
    key(
        "port[]",
        "queues",
        Kind::Integer { min: 1, max: 64 },
        "Receive and transmit queue pairs. Each lcore polls one of each port, so this can only \
        repeat the number of lcores.",
    )
    .example("1")
    .dataplane_restart(),
    key(
        "port[]",
        "addresses",
        Kind::Texts,
        "Our addresses on this card with their prefix length; 1 to 16.",
    )
    .required("[\"10.8.0.10/24\", \"fd00:8::10/64\"]"),
    // [[route]]
    key(
        "route[]",
        "to",
        Kind::Text,
        "The destination network; \"0.0.0.0/0\" or \"::/0\" is the default route.",
    )
    .required("\"0.0.0.0/0\""),
    key(
        "route[]",
        "via",
        Kind::Text,
        "The router, in a network of one of the ports. Without it the network is taken as \
        directly attached to `port`.",
    )
    .example("\"10.8.0.1\""),
    key(
        "route[]",
        "port",
        Kind::Text,
        "The port to send from; may be left out when `via` tells it.",
    )
    .example("\"front\""),
    key(
        "route[]",
        "mtu",
        Kind::Integer {
            min: 576,
            max: 9_600,
        },
        "Largest IP packet on this route; the port's when left \
        out.",
    )
    .unit("bytes")
    .example("1400"),
    // [snat]
    key(
        "snat",
        "addresses",
        Kind::Texts,
        "Source addresses: the port's own or others inside a port's network; at most \
        64. At least one of each family the backends have.",
    )
    .default("[]")
    .example("[\"10.8.0.11\"]"),
    key("snat", "ports", Kind::Ports, "Source ports.").default("\"1024-65535\""),
    // [tcp]
    key(
        "tcp",
        "congestion_control",
        CONGESTION,
        "Which algorithm decides how much may be in flight; dataplane/docs/congestion.md says what each is for.",
    )
    .default("\"cubic\""),
    // [[listener]]
    key("listener[]", "name", Kind::Text, NAME).required("\"web\""),
    key(
        "listener[]",
        "address",
        Kind::Text,
        "The virtual address. Inside a port's network it is answered for by ARP or \
        neighbour discovery; otherwise a router must send it here. \"0.0.0.0\" or \"::\" is every \
        address of ours of that family: the ports', the virtual and the source addresses. The most \
        specific listener gets the client: its address before any, a single port before a range.",
    )
    .required("\"10.8.0.100\""),
    key("listener[]", "ports", Kind::Ports, "TCP ports.").required("\"80\""),
    key(
        "listener[]",
        "pool",
        Kind::Text,
        "Name of the pool that serves it.",
    )
    .required("\"web\""),
    key(
        "listener[]",
        "congestion_control",
        CONGESTION,
        "Congestion control towards its clients; that of [tcp] when left out.",
    )
    .example("\"cubic\""),
    // [[pool]]
    key("pool[]", "name", Kind::Text, NAME).required("\"web\""),
    key(
        "pool[]",
        "balance",
        Kind::Choice(&["round-robin", "least-connections"]),
        "How a backend is picked; both honour \
        weights.",
    )
    .default("\"round-robin\""),
    key(
        "pool[]",
        "congestion_control",
        CONGESTION,
        "Congestion control towards its backends; that of [tcp] when left out.",
    )
    .example("\"cubic\""),
    key(
        "pool[].health",
        "enabled",
        Kind::Boolean,
        "Without probes a backend is always up.",
    )
    .default("true"),
    key(
        "pool[].health",
        "interval_ms",
        Kind::Integer {
            min: 50,
            max: 3_600_000,
        },
        "Time between probes of one backend, \
        jittered by a tenth.",
    )
    .unit("ms")
    .default("1000"),
    key(
        "pool[].health",
        "timeout_ms",
        Kind::Integer {
            min: 10,
            max: 60_000,
        },
        "How long a probe may take; at most the \
        interval.",
    )
    .unit("ms")
    .default("500"),
    key(
        "pool[].health",
        "rise",
        Kind::Integer { min: 1, max: 100 },
        "Good probes in a row that bring a backend up.",
    )
    .unit("probes")
    .default("2"),
    key(
        "pool[].health",
        "fall",
        Kind::Integer { min: 1, max: 100 },
        "Failed probes in a row that take a backend down.",
    )
    .unit("probes")
    .default("3"),
    key(
        "pool[].health",
        "initial",
        Kind::Choice(&["up", "down"]),
        "What a backend counts as before it was probed.",
    )
    .default("\"up\""),
    key("pool[].backend[]", "name", Kind::Text, NAME).required("\"a\""),
    key(
        "pool[].backend[]",
        "address",
        Kind::Text,
        "Address and port: \"10.8.0.20:80\" or \"[fd00:8::20]:80\".",
    )
    .required("\"10.8.0.20:80\""),
    key(
        "pool[].backend[]",
        "weight",
        Kind::Integer { min: 0, max: 256 },
        "Share of new connections; 0 gets none.",
    )
    .default("1"),
    key(
        "pool[].backend[]",
        "drain",
        Kind::Boolean,
        "Keep its connections, give it no new ones.",
    )
    .default("false"),
    // [neighbor]
    key(
        "neighbor",
        "base_reachable_time_ms",
        Kind::Integer {
            min: 1_000,
            max: 3_600_000,
        },
        "A confirmed neighbour \
        counts as reachable for a random 0.5 to 1.5 times this.",
    )
    .unit("ms")
    .default("30000"),
    key(
        "neighbor",
        "delay_first_probe_time_ms",
        Kind::Integer {
            min: 100,
            max: 60_000,
        },
        "How long a stale neighbour \
        is used before it is probed.",
    )
    .unit("ms")
    .default("5000"),
    key(
        "neighbor",
        "retrans_time_ms",
        Kind::Integer {
            min: 100,
            max: 60_000,
        },
        "Time between two requests.",
    )
    .unit("ms")
    .default("1000"),
    key(
        "neighbor",
        "ucast_solicit",
        Kind::Integer { min: 1, max: 100 },
        "Requests sent to the old address before it is \
        given up.",
    )
    .unit("requests")
    .default("3"),
    key(
        "neighbor",
        "mcast_solicit",
        Kind::Integer { min: 1, max: 100 },
        "Requests sent to everybody before a neighbour \
        counts as failed.",
    )
    .unit("requests")
    .default("3"),
    // [metrics]
    key(
        "metrics",
        "listen",
        Kind::Text,
        "Address and port of the HTTP server, or \"off\".",
    )
    .default("\"127.0.0.1:9464\"")
    .control_restart(),
    // [log]
    key(
        "log",
        "level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "Least severe level written.",
    )
    .default("\"info\"")
    .control_restart(),
    key(
        "log",
        "format",
        Kind::Choice(&["text", "json"]),
        "A line of text or a JSON object for each event.",
    )
    .default("\"text\"")
    .control_restart(),
];
