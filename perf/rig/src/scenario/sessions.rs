//! Requests and responses through the proxy: a connection each, or many on one.

use std::collections::VecDeque;
use std::ops::Range;

use anyhow::{Result, bail};
use millrace_dpdk::{Mbuf, MbufPool};
use millrace_load::light::{Client, Closer, Counts, Heard, Payload, Script, Server};

use super::{STALL_ROUNDS, finish};
use crate::args::Args;
use crate::nic::Outbox;
use crate::plan::{self, SERVICE, SOURCES};
use crate::report::Outcome;
use crate::world::{Setup, World};

/// Connections opened in one round: what one burst of a card brings.
const OPENS_PER_ROUND: u32 = 32;
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
    stalled: u32,
}

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
            world,
            heard: Vec::with_capacity(4_096),
            stalled: 0,
        })
    }

    /// One round; returns the cycles that the lcores spent. An error: nothing has moved for many rounds.
    pub(super) fn round(&mut self) -> Result<u64> {
        let Self {
            world,
            client,
            server,
            others,
            heard,
            stalled,
            ..
        } = self;
        heard.clear();
        let now_ms = world.now_ms();
        let [front, back] = &mut world.nics;
        let before = front.outbox.frames + back.outbox.frames;
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
        let moved = front.outbox.frames + back.outbox.frames != before;
        let spent = world.turn();
        *stalled = if moved || spent > 0 { 0 } else { *stalled + 1 };
        if *stalled > STALL_ROUNDS {
            bail!(
                "nothing moves any more: client {:?}, server {:?}, {:?}",
                client.counts(),
                server.counts(),
                world.lcores.first().map(|lcore| lcore.stack().occupancy())
            );
        }
        Ok(spent)
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
            self.world.meter.add(spent, u64::from(fresh));
            self.world.listen();
        }
        Ok(())
    }

    pub(super) fn peers(&self) -> [Counts; 2] {
        [*self.client.counts(), *self.server.counts()]
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
    let closer = if args.client_closes {
        Closer::Client
    } else {
        Closer::Server
    };
    let mut bench = Bench::new(args, script(args, closer))?;
    let warm_up = args.operations / 10;
    let total = args.operations + warm_up;
    let (mut opened, mut closed) = (0, 0);
    let mut before = (bench.world.health(), bench.world.busy_turns);
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
        bench.world.meter.add(spent, u64::from(finished));
        if closed < warm_up && closed + finished >= warm_up {
            bench.world.meter.restart();
            before = (bench.world.health(), bench.world.busy_turns);
        }
        closed += finished;
        bench.world.listen();
    }
    let name = format!(
        "short: a connection for {} + {} bytes, the {} closes",
        args.request_bytes,
        args.response_bytes,
        if args.client_closes {
            "client"
        } else {
            "server"
        }
    );
    let outcome =
        Outcome::new(name, "session", bench.world.meter.cost()).at_most("cycles", 8_000.0);
    let peers = bench.peers();
    Ok(finish(
        outcome,
        &bench.world,
        (&before.0, before.1),
        &peers,
        &[],
    ))
}

/// Requests on connections that stay open, in turn over all of them.
pub(super) fn keepalive(args: &Args) -> Result<Outcome> {
    let script = Script {
        requests: u32::MAX,
        asks_at_once: false,
        ..script(args, Closer::Nobody)
    };
    let mut bench = Bench::new(args, script)?;
    let mut ready = VecDeque::with_capacity(args.connections as usize);
    bench.open_range(0..args.connections, |heard| {
        if let Heard::Established { index, next } = heard {
            ready.push_back((index, 1, next));
        }
    })?;
    bench.world.meter.restart();
    let warm_up = args.operations / 10;
    let total = args.operations + warm_up;
    let (mut asked, mut answered) = (0, 0);
    let mut before = (bench.world.health(), bench.world.busy_turns);
    while answered < total {
        while asked < (answered + args.concurrency).min(total) {
            let Some(which) = ready.pop_front() else {
                break;
            };
            bench.ask(which);
            asked += 1;
        }
        let spent = bench.round()?;
        let mut finished = 0;
        for heard in &bench.heard {
            if let Heard::Response {
                index,
                number,
                next,
            } = *heard
            {
                ready.push_back((index, number + 1, next));
                finished += 1;
            }
        }
        bench.world.meter.add(spent, u64::from(finished));
        if answered < warm_up && answered + finished >= warm_up {
            bench.world.meter.restart();
            before = (bench.world.health(), bench.world.busy_turns);
        }
        answered += finished;
        bench.world.listen();
    }
    let name = format!(
        "keepalive: {} + {} bytes on {} connections",
        args.request_bytes, args.response_bytes, args.connections
    );
    let outcome =
        Outcome::new(name, "request", bench.world.meter.cost()).at_most("cycles", 2_500.0);
    let peers = bench.peers();
    Ok(finish(
        outcome,
        &bench.world,
        (&before.0, before.1),
        &peers,
        &[],
    ))
}
