//! More than there is room for: what is established must not notice.
//!
//! Established sessions go on asking while somebody else floods. They must get every answer; the newcomers are refused in
//! one of the ways that are counted, and what they hear is not an error.

use anyhow::Result;
use millrace_base::Rng;
use millrace_load::light::Client;

use super::sessions::{Bench, Others, open_script};
use crate::args::Args;
use crate::plan::{OTHERS, SERVICE};
use crate::report::Outcome;
use crate::world::World;

/// SYNs in a second of the flood.
const FLOOD_PER_SECOND: u64 = 1_000_000;
/// SYNs of one round at most: what fits a receive burst of each lcore beside the others' frames.
const FLOOD_PER_ROUND_MAX: u64 = 64;
/// Sessions asked for per session there is room for.
const NEWCOMERS: u32 = 4;

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

/// Sessions beyond what the tables hold.
pub(super) fn shed(args: &Args) -> Result<Outcome> {
    let mut setup = args.setup();
    setup.connections_max = args.connections * 4;
    let room = setup.connections_max / 2 * u32::from(setup.lcores);
    let newcomers = room * NEWCOMERS;
    let mut bench = Bench::with(args, setup, open_script(args))?;
    let mut ready = bench.establish(args.connections)?;
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
    while answered < args.operations || opened < newcomers {
        for _ in 0..(newcomers - opened).min(8) {
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
    let (established, reset) = match &bench.others {
        Others::Newcomers { client, reset } => (client.counts().established, *reset),
        Others::None | Others::Silent { .. } => (0, 0),
    };
    let health = bench.world.health().since(&bench.begun.0);
    let name = args.named("shed, slots");
    let outcome = Outcome::new(name, "request of an old session", bench.world.meter.cost())
        .stages(bench.world.by_stage())
        .value("sessions that fit", f64::from(room))
        .value("newcomers", f64::from(newcomers))
        .value("newcomers let in by TCP", established as f64)
        .value("newcomers reset", reset as f64)
        .value(
            "refused: sessions",
            health.counter("millrace_refused_sessions_max_total") as f64,
        )
        .value("requests answered", f64::from(answered))
        .at_least("requests answered", f64::from(args.operations));
    Ok(bench.finish(outcome, SHED))
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
