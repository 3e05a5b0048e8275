//! Lookups in the stack's flow table beside `hashbrown` and DPDK's `rte_hash`, in one run.
//!
//! Tuples are drawn at random, 32 at a time as a receive burst brings them. A lookup ends when the record of the flow (64
//! bytes that stand for the connection) has been compared or read: the flow table keeps no tuples and compares there, the
//! others keep a copy of the key and read the record afterwards, as a stack on top of them would.

use std::hint::black_box;

use anyhow::{Context, Result, anyhow};
use hashbrown::HashMap;
use millrace_base::{Address, Endpoint, FlowTuple, Rng};
use millrace_dpdk::{Eal, HashTable, cycles};
use millrace_stack::bench::Flows;

use crate::args::Args;
use crate::meter::{Meter, Stages};
use crate::report::Outcome;
use crate::world::start_eal;

const BURST: usize = 32;
/// Bytes of a tuple as a key: two addresses, two ports.
const KEY_BYTES: usize = 36;
/// Memory of `rte_hash` per entry: the key with its value, and its share of a bucket at half load. Measured, doubled.
const HASH_BYTES_PER_ENTRY: u64 = 256;

type Key = [u8; KEY_BYTES];

/// As large as the first cache line of a connection.
#[repr(align(64))]
struct Record {
    tuple: FlowTuple,
    number: u32,
}

/// Cycles per lookup of one table: one at a time, and a burst in passes.
#[derive(Clone, Copy, Debug)]
struct Speed {
    single: f64,
    burst: f64,
}

/// Runs it.
pub(super) fn run(args: &Args) -> Result<Outcome> {
    let count = args.connections.max(1);
    let mut setup = args.setup();
    let mebibytes = (u64::from(count) * HASH_BYTES_PER_ENTRY) >> 20;
    setup.extra_mebibytes = u32::try_from(mebibytes).context("too many entries")?;
    let eal = start_eal(&setup)?;
    let records: Vec<Record> = (0..count)
        .map(|number| Record {
            tuple: tuple(number),
            number,
        })
        .collect();
    let (flows, cost) = flow_table(args, &records);
    let brown = hashbrown(args, &records);
    let rte = rte_hash(&eal, args, &records)?;
    let name = format!("tables, {count} flows");
    Ok(Outcome::new(name, "lookup in a burst", cost)
        .value("flow table, one", flows.single)
        .value("flow table, burst", flows.burst)
        .value("hashbrown, one", brown.single)
        .value("hashbrown, burst", brown.burst)
        .value("rte_hash, one", rte.single)
        .value("rte_hash, burst", rte.burst))
}

fn flow_table(args: &Args, records: &[Record]) -> (Speed, crate::meter::Cost) {
    let mut table = Flows::new(records.len() + 1, [7; 16]);
    for record in records {
        table.insert(table.hash(&record.tuple), record.number);
    }
    let is = |owner: u32, tuple: &FlowTuple| records[owner as usize].tuple == *tuple;
    let single = measure(args, records, |tuples| {
        for tuple in tuples {
            black_box(table.find(table.hash(tuple), |owner| is(owner, tuple)));
        }
    });
    let burst = measure(args, records, |tuples| {
        let hashes = tuples.each_ref().map(|tuple| table.hash(tuple));
        let guesses = hashes.map(|hash| table.guess(hash));
        for ((tuple, guess), hash) in tuples.iter().zip(guesses).zip(hashes) {
            let sure = guess.filter(|owner| is(*owner, tuple));
            black_box(sure.or_else(|| table.find(hash, |owner| is(owner, tuple))));
        }
    });
    let speed = Speed {
        single: single.p50,
        burst: burst.p50,
    };
    (speed, burst)
}

fn hashbrown(args: &Args, records: &[Record]) -> Speed {
    let mut table: HashMap<FlowTuple, u32> = HashMap::with_capacity(records.len() + 1);
    table.extend(records.iter().map(|record| (record.tuple, record.number)));
    let read = |number: &u32| records[*number as usize].number;
    let single = measure(args, records, |tuples| {
        for tuple in tuples {
            black_box(table.get(tuple).map(read));
        }
    });
    let burst = measure(args, records, |tuples| {
        let found = tuples.each_ref().map(|tuple| table.get(tuple));
        black_box(found.map(|number| number.map(read)));
    });
    Speed {
        single: single.p50,
        burst: burst.p50,
    }
}

fn rte_hash(eal: &Eal, args: &Args, records: &[Record]) -> Result<Speed> {
    // DPDK promises room for all entries only with some to spare.
    let entries = u32::try_from(records.len() + records.len() / 8 + 64)?;
    let mut table = HashTable::<KEY_BYTES>::new(eal, "flows", entries)
        .map_err(|errno| anyhow!("rte_hash: {errno}"))?;
    for record in records {
        table
            .insert(&key(&record.tuple), u64::from(record.number))
            .map_err(|errno| anyhow!("rte_hash is full: {errno}"))?;
    }
    let read = |number: u64| records[number as usize].number;
    let single = measure(args, records, |tuples| {
        for tuple in tuples {
            black_box(table.get(&key(tuple)).map(read));
        }
    });
    let burst = measure(args, records, |tuples| {
        let keys = tuples.each_ref().map(key);
        let mut found = [0; BURST];
        let hits = table.get_bulk(&keys.each_ref(), &mut found);
        black_box((hits, found.map(read)));
    });
    Ok(Speed {
        single: single.p50,
        burst: burst.p50,
    })
}

/// Cycles per lookup of tuples that are all there.
fn measure(
    args: &Args,
    records: &[Record],
    mut look_up: impl FnMut(&[FlowTuple; BURST]),
) -> crate::meter::Cost {
    let mut meter = Meter::new(args.chunk.max(BURST as u64), Stages::default());
    let mut rng = Rng::new(args.key);
    for _ in 0..args.operations as usize / BURST {
        let tuples = core::array::from_fn(|_| tuple(rng.below(records.len() as u32)));
        let start = cycles();
        look_up(&tuples);
        meter.add(cycles().wrapping_sub(start), BURST as u64, Stages::default);
    }
    meter.cost()
}

/// A client's tuple, from its number alone.
fn tuple(number: u32) -> FlowTuple {
    let client = number.wrapping_mul(0x9e37_79b1);
    FlowTuple {
        local: Endpoint::new(Address::v4([10, 0, 0, 100]), 443),
        remote: Endpoint::new(Address::v4(client.to_be_bytes()), number as u16 | 1),
    }
}

fn key(tuple: &FlowTuple) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(tuple.local.address.octets());
    key[16..32].copy_from_slice(tuple.remote.address.octets());
    key[32..34].copy_from_slice(&tuple.local.port.to_be_bytes());
    key[34..].copy_from_slice(&tuple.remote.port.to_be_bytes());
    key
}
