//! Requests and responses through the proxy: a connection each, or many on one.

use std::collections::VecDeque;
use std::ops::Range;

use anyhow::{Result, bail};
use millrace_base::Nanos;
use millrace_dpdk::{Mbuf, MbufPool};
use millrace_load::light::{Client, Closer, Heard, Payload, Script, Server};

use super::{STALL_ROUNDS, finish};
use crate::args::Args;
use crate::health::Health;
use crate::nic::{Delivery, Outbox};
use crate::plan::{self, SERVICE, SOURCES};
use crate::report::Outcome;
use crate::world::{Setup, World};

/// Connections opened in one round: what one burst of a card brings.
const OPENS_PER_ROUND: u32 = 32;
/// Rounds from one absence of the lcores to the next.
const ROUNDS_PER_ABSENCE: u32 = 16;
/// Connections in their handshakes at a time.
const OPENING_MAX: u32 = 512;

/// Clients, the world and backends, in rounds: everybody handles what has arrived.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) script: Script,
    pub(super) client: Client,
    pub(super) server: Server,
    pub(super) others: Others,
    /// What the clients heard in the last round.
    pub(super) heard: Vec<Heard>,
    /// What was counted when the warm-up was over.
    pub(super) begun: (Health, u64),
    delivered: u64,
    is_moving: bool,
    stalled: u32,
    absence: Nanos,
    rounds: u32,
}

/// Connections that wait for nothing: number, number of the next request, what was heard last.
pub(super) type Ready = VecDeque<(u32, u32, u32)>;

/// Clients beside those that are measured, from `plan::OTHERS` on; what happens to them is no error.
pub(super) enum Others {
    /// None.
    None,
    /// Those that never answer; frames for them are counted.
    Silent { frames: u64 },
    /// Those that want to connect, of which some are reset.
    Newcomers { client: Box<Client>, reset: u64 },
}

impl Bench {
    pub(super) fn new(args: &Args, script: Script) -> Result<Self> {
        Self::with(args, args.setup(), script)
    }

    pub(super) fn with(args: &Args, setup: Setup, script: Script) -> Result<Self> {
        let world = World::new(setup)?;
        Ok(Self {
            client: Client::new(world.link(0), SOURCES, SERVICE, script.clone(), args.key),
            server: Server::new(world.link(1), script.clone(), !args.key),
            others: Others::None,
            script,
            begun: (world.health(), 0),
            world,
            heard: Vec::with_capacity(4_096),
            delivered: 0,
            is_moving: false,
            stalled: 0,
            absence: Nanos::from_millis(args.absence_ms),
            rounds: 0,
        })
    }

    /// One round; returns the cycles that the lcores spent. An error: nothing has moved for many rounds.
    pub(super) fn round(&mut self) -> Result<u64> {
        self.deliver();
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(ROUNDS_PER_ABSENCE) {
            self.world.stand_still(self.absence);
        }
        let is_moving = self.is_anything_underway();
        let spent = self.world.turn();
        self.stalled = if is_moving || spent > 0 {
            0
        } else {
            self.stalled + 1
        };
        if self.stalled > STALL_ROUNDS {
            bail!(
                "nothing moves any more: client {:?}, server {:?}, {:?}",
                self.client.counts(),
                self.server.counts(),
                self.world
                    .lcores
                    .first()
                    .map(|lcore| lcore.stack().occupancy())
            );
        }
        Ok(spent)
    }

    /// The peers take what the lcores have sent and answer it; `heard` is what the clients heard.
    pub(super) fn deliver(&mut self) {
        let Self {
            world,
            client,
            server,
            others,
            heard,
            delivered,
            is_moving,
            ..
        } = self;
        heard.clear();
        let now_ms = world.now_ms();
        let [front, back] = &mut world.nics;
        let mut pool = world.pool;
        front.serve(|frame, outbox| {
            if plan::is_for_others(frame) {
                others.handle(frame, now_ms, &mut pool, outbox);
                return;
            }
            let news = client.handle(frame, now_ms, &mut pool, &mut |answer| outbox.push(answer));
            if news != Heard::Nothing {
                heard.push(news);
            }
        });
        back.serve(|frame, outbox| {
            server.handle(frame, now_ms, &mut pool, &mut |answer| outbox.push(answer));
        });
        let frames = front.outbox.frames + back.outbox.frames;
        *is_moving = frames != *delivered;
        *delivered = frames;
    }

    /// Whether the last delivery put anything on the wires.
    pub(super) fn is_anything_underway(&self) -> bool {
        self.is_moving
    }

    /// Opens connection `index` in the coming round.
    pub(super) fn open(&mut self, index: u32) {
        let now_ms = self.world.now_ms();
        let mut pool = self.world.pool;
        let outbox = &mut self.world.nics[0].outbox;
        self.client
            .open(index, now_ms, &mut pool, &mut |frame| outbox.push(frame));
    }

    /// Sends a request in the coming round: connection, number, and what was heard last.
    pub(super) fn ask(&mut self, which: (u32, u32, u32)) {
        let now_ms = self.world.now_ms();
        let mut pool = self.world.pool;
        let outbox = &mut self.world.nics[0].outbox;
        // The peer's timestamp is not remembered; its clock has the same unit as ours, and any value that is not in
        // the future will do.
        let stamps = Some((now_ms, 0));
        self.client
            .ask(which, stamps, &mut pool, &mut |frame| outbox.push(frame));
    }

    /// Has newcomer `index` send its SYN in the coming round.
    pub(super) fn open_newcomer(&mut self, index: u32) {
        let now_ms = self.world.now_ms();
        let mut pool = self.world.pool;
        let outbox = &mut self.world.nics[0].outbox;
        if let Others::Newcomers { client, .. } = &mut self.others {
            client.open(index, now_ms, &mut pool, &mut |frame| outbox.push(frame));
        }
    }

    /// Opens these connections, at most a burst a round, hands over what is heard and measures what it costs.
    pub(super) fn open_range(
        &mut self,
        which: Range<u32>,
        mut on_heard: impl FnMut(Heard),
    ) -> Result<()> {
        let (mut opened, mut established) = (which.start, which.start);
        while established < which.end {
            let most = (established + OPENING_MAX)
                .min(which.end)
                .min(opened + OPENS_PER_ROUND);
            for index in opened..most {
                self.open(index);
            }
            opened = most;
            let spent = self.round()?;
            let mut fresh = 0;
            for heard in &self.heard {
                fresh += u32::from(matches!(heard, Heard::Established { .. }));
                on_heard(*heard);
            }
            established += fresh;
            self.world.measure(spent, u64::from(fresh));
            self.world.listen();
        }
        Ok(())
    }

    /// Opens connections `0..count`.
    pub(super) fn establish(&mut self, count: u32) -> Result<Ready> {
        let mut ready = Ready::with_capacity(count as usize);
        self.open_range(0..count, |heard| {
            if let Heard::Established { index, next } = heard {
                ready.push_back((index, 1, next));
            }
        })?;
        Ok(ready)
    }

    /// Sends `count` requests, `concurrency` at a time, and waits for the answers.
    pub(super) fn ask_and_answer(
        &mut self,
        ready: &mut Ready,
        count: u32,
        concurrency: u32,
    ) -> Result<()> {
        let (mut asked, mut answered) = (0, 0);
        while answered < count {
            asked += self.ask_some(ready, (answered + concurrency).min(count) - asked);
            let spent = self.round()?;
            let fresh = self.take_answers(ready);
            self.world.measure(spent, u64::from(fresh));
            answered += fresh;
            self.world.listen();
        }
        Ok(())
    }

    /// Sends so many requests in the coming round, or as many as there are connections that wait for nothing.
    pub(super) fn ask_some(&mut self, ready: &mut Ready, count: u32) -> u32 {
        for asked in 0..count {
            let Some(which) = ready.pop_front() else {
                return asked;
            };
            self.ask(which);
        }
        count
    }

    /// Notes the answers of the last round and tells how many they were.
    pub(super) fn take_answers(&self, ready: &mut Ready) -> u32 {
        let mut answered = 0;
        for heard in &self.heard {
            if let Heard::Response {
                index,
                number,
                next,
            } = *heard
            {
                ready.push_back((index, number + 1, next));
                answered += 1;
            }
        }
        answered
    }

    /// The warm-up is over: what follows is measured.
    pub(super) fn begin(&mut self) {
        self.world.restart_meter();
        self.begun = (self.world.health(), self.world.busy_turns);
    }

    /// Adds what was counted since `begin`. What begins as one of `expected` is no fault here.
    pub(super) fn finish(&self, outcome: Outcome, expected: &[&str]) -> Outcome {
        let peers = [*self.client.counts(), *self.server.counts()];
        let begun = (&self.begun.0, self.begun.1);
        finish(outcome, &self.world, begun, &peers, expected)
    }
}

impl Others {
    fn handle(&mut self, frame: &Mbuf, now_ms: u32, pool: &mut MbufPool, outbox: &mut Outbox) {
        match self {
            Self::None => {}
            Self::Silent { frames } => *frames += 1,
            Self::Newcomers { client, reset } => {
                let news = client.handle(frame, now_ms, pool, &mut |answer| outbox.push(answer));
                *reset += u64::from(matches!(news, Heard::Reset { .. }));
            }
        }
    }
}

pub(super) fn script(args: &Args, closer: Closer) -> Script {
    Script {
        request: Payload::http_request(args.request_bytes),
        response: Payload::http_response(args.response_bytes),
        requests: 1,
        asks_at_once: true,
        closer,
    }
}

/// A connection for one request and one response.
pub(super) fn short(args: &Args) -> Result<Outcome> {
    let bench = one_request_each(args, args.setup())?;
    let closer = if args.client_closes {
        "client"
    } else {
        "server"
    };
    let name = args.named(&format!("short, {closer} closes"));
    let outcome = Outcome::new(name, "session", bench.world.meter.cost())
        .stages(bench.world.by_stage())
        .at_most("cycles", 8_000.0);
    Ok(bench.finish(outcome, &[]))
}

/// The same with cards that know nothing of who owns a flow. A session whose legs were on different lcores would lose
/// its answers: the lcore they come to would not know them, and reset.
pub(super) fn rss(args: &Args) -> Result<Outcome> {
    let mut setup = args.setup();
    setup.lcores = setup.lcores.max(2);
    setup.delivery = Delivery::Wrong;
    let bench = one_request_each(args, setup)?;
    let health = bench.world.health().since(&bench.begun.0);
    let frames = health.counter("millrace_rx_frames_total").max(1) as f64;
    let per_lcore = bench.world.lcores.iter().map(|lcore| {
        let counters = lcore.balancer().counters();
        counters.sessions_completed
    });
    let least = per_lcore.min().unwrap_or(0) as f64;
    let counts = bench.client.counts();
    // Of a session whose legs are apart the client never hears the answer, or hears a reset.
    let split = counts.established.saturating_sub(counts.closed) + counts.resets;
    let name = format!("rss, {} lcores, delivered to any", setup.lcores);
    let outcome = Outcome::new(name, "session", bench.world.meter.cost())
        .stages(bench.world.by_stage())
        .value("sessions", counts.closed as f64)
        .value("sessions split", split as f64)
        .at_most("sessions split", 0.0)
        .value(
            "frames steered, of all",
            health.counter("millrace_frames_steered_total") as f64 / frames,
        )
        .value("sessions of the least busy lcore", least);
    Ok(bench.finish(outcome, &[]))
}

fn one_request_each(args: &Args, setup: Setup) -> Result<Bench> {
    let closer = if args.client_closes {
        Closer::Client
    } else {
        Closer::Server
    };
    let mut bench = Bench::with(args, setup, script(args, closer))?;
    let warm_up = args.operations / 10;
    let total = args.operations + warm_up;
    let (mut opened, mut closed) = (0, 0);
    while closed < total {
        let most = (closed + args.concurrency)
            .min(total)
            .min(opened + OPENS_PER_ROUND);
        for index in opened..most {
            bench.open(index);
        }
        opened = most;
        let spent = bench.round()?;
        let is_closed = |heard: &&Heard| matches!(heard, Heard::Closed { .. });
        let finished = bench.heard.iter().filter(is_closed).count() as u32;
        bench.world.measure(spent, u64::from(finished));
        if closed < warm_up && closed + finished >= warm_up {
            bench.begin();
        }
        closed += finished;
        bench.world.listen();
    }
    Ok(bench)
}

/// Requests on connections that stay open, in turn over all of them.
pub(super) fn keepalive(args: &Args) -> Result<Outcome> {
    let mut bench = Bench::new(args, open_script(args))?;
    let mut ready = bench.establish(args.connections)?;
    bench.ask_and_answer(&mut ready, args.operations / 10, args.concurrency)?;
    bench.begin();
    bench.ask_and_answer(&mut ready, args.operations, args.concurrency)?;
    let name = args.named(&format!("keepalive, {} connections", args.connections));
    let outcome = Outcome::new(name, "request", bench.world.meter.cost())
        .stages(bench.world.by_stage())
        .at_most("cycles", 2_500.0);
    Ok(bench.finish(outcome, &[]))
}

/// Connections that stay open; requests are sent when the scenario says so.
pub(super) fn open_script(args: &Args) -> Script {
    Script {
        requests: u32::MAX,
        asks_at_once: false,
        ..script(args, Closer::Nobody)
    }
}
