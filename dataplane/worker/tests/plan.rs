//! What `millrace plan` says against what a dataplane takes.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_abi::Region;
use millrace_abi::heap::{SealableHeap, large_bytes_held};
use millrace_abi::plan::{
    CHUNK_BYTES, CONNECTION_BYTES, DESK_BYTES, FIXED_BYTES, LINK_BYTES, LcoreSizes, REQUEST_BYTES,
    SESSION_BYTES, SNAT_PAIR_BYTES, TIME_WAIT_BYTES, TIMER_BYTES, TUPLE_BYTES, desks_for,
};
use millrace_base::LcoreIndex;
use millrace_base::rss::RssMap;
use millrace_dpdk::MbufPool;
use millrace_lb::{Balancer, BalancerConfig};
use millrace_stack::{Stack, StackConfig, TcpTunables};

#[global_allocator]
static HEAP: SealableHeap = SealableHeap;

/// One test at a time: what the heap holds is the process's.
static ONE: Mutex<()> = Mutex::new(());

/// So many of each thing that every table of them is large enough to be counted.
const MANY: usize = 300_000;
/// What the measured and the planned size of a record may differ by: mappings are whole pages, and a few bytes of a
/// record are no reason to plan again. The sum is held to 5 % by the test of a whole dataplane.
const TOLERANCE_PERMILLE: u64 = 20;

/// Sizes of the tables that are measured.
#[derive(Clone, Copy)]
struct Sizes {
    connections: usize,
    requests: usize,
    time_waits: usize,
    chunks: usize,
    sessions: usize,
    snat_pairs: usize,
}

const BASE: Sizes = Sizes {
    connections: MANY,
    requests: MANY,
    time_waits: MANY,
    chunks: MANY,
    sessions: MANY,
    snat_pairs: 4_096,
};

/// Bytes that tables of these sizes take.
fn held(sizes: Sizes) -> u64 {
    let before = large_bytes_held();
    let stack = Stack::<MbufPool>::new(StackConfig {
        connections_max: sizes.connections,
        syn_queue_max: sizes.requests,
        time_wait_max: sizes.time_waits,
        chunks_max: sizes.chunks,
        neighbors_max: 1,
        secret: [0; 32],
        tcp: TcpTunables::default(),
    });
    let config = BalancerConfig {
        lcore: LcoreIndex::new(0),
        sessions_max: sizes.sessions,
        probes_max: 1,
        snat_pairs_max: sizes.snat_pairs,
        seed: 1,
    };
    let balancer = Balancer::new(config, map());
    let after = large_bytes_held();
    drop((stack, balancer));
    (after - before) as u64
}

/// What is wrong about a planned size, if anything is: `larger` has `more` of one thing than `BASE`.
fn difference(what: &str, larger: Sizes, more: usize, planned: u64) -> Option<String> {
    let measured = (held(larger) - held(BASE)) / more as u64;
    let is_off = measured.abs_diff(planned) * 1_000 > planned * TOLERANCE_PERMILLE + 1_000;
    is_off.then(|| format!("{what}: millrace_abi::plan says {planned} bytes, it takes {measured}"))
}

#[test]
fn each_record_costs_what_the_plan_says() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let base = BASE;
    let connections = Sizes {
        connections: 2 * MANY,
        ..base
    };
    let requests = Sizes {
        requests: 2 * MANY,
        ..base
    };
    let time_waits = Sizes {
        time_waits: 2 * MANY,
        ..base
    };
    let chunks = Sizes {
        chunks: 2 * MANY,
        ..base
    };
    let sessions = Sizes {
        sessions: 2 * MANY,
        ..base
    };
    let snat_pairs = Sizes {
        snat_pairs: 8_192,
        ..base
    };
    let desks = desks_for(2 * MANY as u64) - desks_for(MANY as u64);
    let connection = CONNECTION_BYTES
        + TUPLE_BYTES
        + TIMER_BYTES
        + 2 * LINK_BYTES
        + desks * DESK_BYTES / MANY as u64;
    let request = REQUEST_BYTES + TUPLE_BYTES + TIMER_BYTES;
    let time_wait = TIME_WAIT_BYTES + TUPLE_BYTES + LINK_BYTES;
    let wrong: Vec<String> = [
        ("a connection", connections, MANY, connection),
        ("a half-open request", requests, MANY, request),
        ("a TIME_WAIT record", time_waits, MANY, time_wait),
        ("a queued buffer", chunks, MANY, CHUNK_BYTES),
        ("a session", sessions, MANY, SESSION_BYTES),
        ("a SNAT account", snat_pairs, 4_096, SNAT_PAIR_BYTES),
    ]
    .into_iter()
    .filter_map(|(what, larger, more, planned)| difference(what, larger, more, planned))
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// Shelves for rare state, BBR's models among them, grow with no demand.
#[test]
fn what_is_fixed_costs_no_more_than_the_plan_says() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let many = MANY as u64;
    let tuples = 3 * many;
    let records = [
        many * (CONNECTION_BYTES + TIMER_BYTES + 2 * LINK_BYTES),
        desks_for(many) * DESK_BYTES,
        many * (REQUEST_BYTES + TIMER_BYTES),
        many * (TIME_WAIT_BYTES + LINK_BYTES),
        tuples * TUPLE_BYTES,
        many * CHUNK_BYTES,
        many * SESSION_BYTES,
        BASE.snat_pairs as u64 * SNAT_PAIR_BYTES,
    ];
    let fixed = held(BASE) - records.iter().sum::<u64>();
    assert!(
        (FIXED_BYTES / 4 * 3..=FIXED_BYTES).contains(&fixed),
        "millrace_abi::plan says {FIXED_BYTES} bytes, it takes {fixed}"
    );
}

/// A dataplane that ends with the test.
struct Dataplane(Child);

impl Drop for Dataplane {
    fn drop(&mut self) {
        // It may have ended by itself; what is left of it is waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The value of a counter, summed over the lcores.
fn counter(region: &Region, name: &str) -> u64 {
    let counters = region.counters();
    let index = counters.iter().position(|row| row.name.as_str() == name);
    let index = index.expect("the counter is there");
    (0..region.lcore_count())
        .map(|lcore| region.counter(lcore, index))
        .sum()
}

/// Two lcores on one port that leads nowhere; `None` while they are not up yet.
fn table_bytes(folder: &std::path::Path) -> Option<u64> {
    let region = Region::open(&folder.join("region")).ok()?;
    let bytes = counter(&region, "millrace_table_bytes");
    (bytes > 0).then_some(bytes)
}

#[test]
fn a_dataplane_takes_what_was_planned() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    const CONNECTIONS: u64 = 400_000;
    const MBUFS: u64 = 16_384;
    let name = format!("millrace-plan-{}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let lcores = cpus.min(2);
    let list = if lcores == 2 { "0,1" } else { "0" };
    let dataplane = Command::new(env!("CARGO_BIN_EXE_millrace-dataplane"))
        .args([
            "--lcores",
            list,
            "--memory",
            "no-huge",
            "--log-level",
            "warn",
        ])
        .args([
            "--port",
            "name=p;device=net_null0,no-rx=1",
            "--idle",
            "sleep",
        ])
        .args(["--file-prefix", &name])
        .arg(format!("--runtime-dir={}", folder.display()))
        .arg(format!("--connections-max={CONNECTIONS}"))
        .arg(format!("--mbufs={MBUFS}"))
        .stdin(Stdio::null())
        .spawn()
        .expect("the dataplane starts");
    let mut dataplane = Dataplane(dataplane);
    let begun = Instant::now();
    let taken = loop {
        if let Some(bytes) = table_bytes(&folder) {
            break bytes;
        }
        let ended = dataplane.0.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "the dataplane ended: {ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(120), "not up");
        std::thread::sleep(Duration::from_millis(50));
    };
    drop(dataplane);
    std::fs::remove_dir_all(&folder).expect("removes what it made");
    let sizes = LcoreSizes::new(CONNECTIONS, MBUFS, 1, lcores as u64);
    let planned: u64 = sizes.bytes().iter().map(|(_, bytes)| bytes).sum();
    let planned = planned * lcores as u64;
    assert!(
        taken.abs_diff(planned) * 20 <= taken,
        "planned {planned} bytes, taken {taken}"
    );
}

fn map() -> Arc<RssMap> {
    Arc::new(RssMap::single())
}
