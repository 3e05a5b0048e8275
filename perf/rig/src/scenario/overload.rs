//! More than there is room for: what is established must not notice.
//!
//! Established sessions go on asking while somebody else floods. They must get every answer; the newcomers are refused in
//! one of the ways that are counted, and what they hear is not an error.

use anyhow::Result;
use millrace_base::{PacketPool, Rng};
use millrace_dpdk::{Mbuf, MbufPool};
use millrace_load::light::Client;

use super::sessions::{Bench, Others, open_script};
use crate::args::{Args, Shortage};
use crate::plan::{OTHERS, SERVICE};
use crate::report::Outcome;
use crate::world::World;

/// SYNs in a second of the flood.
const FLOOD_PER_SECOND: u64 = 1_000_000;
/// SYNs of one round at most: what fits a receive burst of each lcore beside the others' frames.
const FLOOD_PER_ROUND_MAX: u64 = 64;
/// Sessions asked for per session there is room for.
const NEWCOMERS: u32 = 4;
/// The part of the buffers that is left free: below the eighth at which new work is shed, above the thirty-second at which
/// payload is.
const HOARD_LEAVES_SHARE: usize = 16;
/// Newcomers when the shortage is over: a burst.
const LATE_NEWCOMERS: u32 = 32;
/// Rounds after which an lcore has looked at its buffers, and a handshake is over.
const ROUNDS_TO_NOTICE: u32 = 64;

/// A million SYNs a second from random addresses that never answer.
pub(super) fn flood(args: &Args) -> Result<Outcome> {
    let mut bench = Bench::new(args, open_script(args))?;
    let mut ready = bench.establish(args.connections)?;
    bench.begin();
    let mut flood = Client::new(
        bench.world.link(0),
        OTHERS,
        SERVICE,
        bench.script.clone(),
        !args.key,
    );
    bench.others = Others::Silent { frames: 0 };
    let mut rng = Rng::new(args.key);
    let began = bench.world.now;
    let (mut sent, mut asked, mut answered) = (0, 0, 0);
    let mut nanos = 0;
    while answered < args.operations {
        nanos = bench.world.now.since(began).as_nanos();
        let due = nanos / (1_000_000_000 / FLOOD_PER_SECOND);
        // The first is due at the beginning.
        let fresh = (due + 1).saturating_sub(sent).min(FLOOD_PER_ROUND_MAX);
        for _ in 0..fresh {
            // Any address from 80.0.0.1 on, any port.
            syn(&mut bench.world, &mut flood, rng.next_u64() as u32);
        }
        sent += fresh;
        asked += bench.ask_some(&mut ready, answered + args.concurrency - asked);
        let spent = bench.round()?;
        bench.world.measure(spent, fresh);
        answered += bench.take_answers(&mut ready);
        bench.world.listen();
    }
    let seconds = nanos as f64 / 1e9;
    let replies = match bench.others {
        Others::Silent { frames } => frames,
        Others::None | Others::Newcomers { .. } => 0,
    };
    let name = args.named(&format!("flood, {} sessions", args.connections));
    let outcome = Outcome::new(
        name,
        "SYN and what was asked meanwhile",
        bench.world.meter.cost(),
    )
    .stages(bench.world.by_stage())
    .value("SYNs a second", sent as f64 / seconds)
    .value("SYNs", sent as f64)
    .value("SYN-ACKs and other answers to them", replies as f64)
    .value("requests answered", f64::from(answered))
    .at_least("requests answered", f64::from(args.operations))
    .at_least("SYNs a second", FLOOD_PER_SECOND as f64);
    Ok(bench.finish(outcome, SHED))
}

/// Newcomers that find no room, beside established sessions.
pub(super) fn shed(args: &Args) -> Result<Outcome> {
    let mut setup = args.setup();
    let wanted = args.connections * 2 * u32::from(setup.lcores) * NEWCOMERS;
    setup.connections_max = match args.short_of {
        Shortage::Slots => args.connections * 4,
        // Two for each session, and as many again: slots are not what is short.
        Shortage::Buffers => (args.connections + wanted) * 4,
    };
    let mut bench = Bench::with(args, setup, open_script(args))?;
    let mut ready = bench.establish(args.connections)?;
    let hoard = match args.short_of {
        Shortage::Slots => Vec::new(),
        Shortage::Buffers => hoard(&mut bench.world.pool),
    };
    bench.begin();
    let others = Client::new(
        bench.world.link(0),
        OTHERS,
        SERVICE,
        bench.script.clone(),
        !args.key,
    );
    bench.others = Others::Newcomers {
        client: Box::new(others),
        reset: 0,
    };
    let (mut opened, mut asked, mut answered) = (0, 0, 0);
    while answered < args.operations || opened < wanted {
        for _ in 0..(wanted - opened).min(8) {
            bench.open_newcomer(opened);
            opened += 1;
        }
        asked += bench.ask_some(&mut ready, answered + args.concurrency - asked);
        let spent = bench.round()?;
        let fresh = bench.take_answers(&mut ready);
        bench.world.measure(spent, u64::from(fresh));
        answered += fresh;
        bench.world.listen();
    }
    let (cost, stages) = (bench.world.meter.cost(), bench.world.by_stage());
    let (let_in, reset) = newcomers(&bench);
    let health = bench.world.health().since(&bench.begun.0);
    let held = hoard.len();
    drop(hoard);
    let what = match args.short_of {
        Shortage::Slots => "shed, slots",
        Shortage::Buffers => "shed, buffers",
    };
    let mut outcome = Outcome::new(args.named(what), "request of an old session", cost)
        .stages(stages)
        .value("newcomers", f64::from(wanted))
        .value("newcomers let in by TCP", let_in as f64)
        .value("newcomers reset", reset as f64)
        .value("SYNs shed", health.counters_from("drop_syn_shed") as f64)
        .value("requests answered", f64::from(answered))
        .at_least("requests answered", f64::from(args.operations));
    if args.short_of == Shortage::Buffers {
        let later = open_later(&mut bench, wanted)?;
        outcome = outcome
            .value("buffers held", held as f64)
            .value(
                "newcomers let in when buffers were free again",
                later as f64,
            )
            .at_most("newcomers let in by TCP", 0.0)
            .at_least(
                "newcomers let in when buffers were free again",
                f64::from(LATE_NEWCOMERS),
            );
    }
    Ok(bench.finish(outcome, SHED))
}

/// Takes buffers until so few are left that new work is shed, and payload is not.
fn hoard(pool: &mut MbufPool) -> Vec<Mbuf> {
    let rest = pool.available() / HOARD_LEAVES_SHARE;
    let mut held = Vec::with_capacity(pool.available());
    while pool.available() > rest
        && let Some(buffer) = pool.alloc()
    {
        held.push(buffer);
    }
    held
}

/// Newcomers that TCP has let in, and those that were reset.
fn newcomers(bench: &Bench) -> (u64, u64) {
    match &bench.others {
        Others::Newcomers { client, reset } => (client.counts().established, *reset),
        Others::None | Others::Silent { .. } => (0, 0),
    }
}

/// A few more newcomers, from number `first` on, when the shortage is over; tells how many were let in.
fn open_later(bench: &mut Bench, first: u32) -> Result<u64> {
    let (before, _) = newcomers(bench);
    // The lcores look at the pool every few turns.
    for _ in 0..ROUNDS_TO_NOTICE {
        bench.round()?;
    }
    for number in 0..LATE_NEWCOMERS {
        bench.open_newcomer(first + number);
    }
    for _ in 0..ROUNDS_TO_NOTICE {
        bench.round()?;
    }
    Ok(newcomers(bench).0 - before)
}

/// What happens to those who are turned away, and is no fault.
const SHED: &[&str] = &[
    "TcpOutRsts",
    "TcpAttemptFails",
    "TcpEstabResets",
    "TcpRetransSegs",
    "millrace_refused_sessions_max_total",
    "millrace_sessions_unserved_total",
    "drop_accept_queue_full",
    "drop_syn_queue_full",
    "drop_syn_shed",
    "drop_connection_table_full",
    "drop_reply_queue_full",
    "drop_request_overflow",
    "drop_request_syn_again",
    "drop_cookie_invalid",
    "drop_no_connection",
    "drop_listener_ignored",
    "drop_reset_limited",
];

fn syn(world: &mut World, flood: &mut Client, index: u32) {
    let now_ms = world.now_ms();
    let mut pool = world.pool;
    let outbox = &mut world.nics[0].outbox;
    flood.open(index, now_ms, &mut pool, &mut |frame| outbox.push(frame));
}
