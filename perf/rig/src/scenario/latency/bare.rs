//! The same path with a bare forward in Millrace's place: cards, peers and connections of its own.

use anyhow::{Context, Result, bail};
use millrace_base::Rng;
use millrace_dpdk::{Device, Eal, MbufPool, Port, PortConfig, RxQueue, TxQueue};
use millrace_load::light::{Client, Heard, Script, Server};

use super::trial::{Lane, Plan, Trial};
use crate::apart::{Forward, Middle, RealTime};
use crate::args::Args;
use crate::nic::{Delivery, Nic};
use crate::plan::{SERVICE, SOURCES};
use crate::scenario::STALL_ROUNDS;
use crate::scenario::sessions::Ready;
use crate::world::{Card, RING_FRAMES, World};

/// Connections opened at a time: a burst.
const OPENS: u32 = 32;

/// Everything of it.
pub(super) struct BareLane {
    eal: Eal,
    pool: MbufPool,
    nics: [Nic; 2],
    client: Client,
    server: Server,
    ready: Ready,
    connections: u32,
    /// Away while it runs apart.
    middle: Option<Middle>,
    _ports: Vec<Port>,
}

impl BareLane {
    /// Beside `world`, with as many connections, all open.
    pub(super) fn new(args: &Args, world: &World, script: Script) -> Result<Self> {
        let (mut ports, mut queues, mut nics) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["barefront", "bareback"] {
            let (near, far) = world.eal.plug_ring_pair(name, 1, RING_FRAMES)?;
            let (port, rx, tx) = start(near, world.pool)?;
            ports.push(port);
            queues.push((rx, tx));
            let (port, rx, tx) = start(far, world.pool)?;
            ports.push(port);
            let has_offloads = world.setup.card != Card::Plain;
            nics.push(Nic::new(vec![rx], vec![tx], Delivery::First, has_offloads));
        }
        let (Ok(queues), Ok(nics)) = (queues.try_into(), nics.try_into()) else {
            bail!("two ring pairs make two cards");
        };
        let mut forward = Forward::new(queues);
        let mut lane = Self {
            eal: world.eal,
            pool: world.pool,
            nics,
            client: Client::new(world.link(0), SOURCES, SERVICE, script.clone(), args.key),
            server: Server::new(world.link(1), script, !args.key),
            ready: Ready::with_capacity(args.connections as usize),
            connections: args.connections,
            middle: None,
            _ports: ports,
        };
        lane.establish(args.connections, world.now_ms(), &mut forward)?;
        lane.middle = Some(Middle::Forward(Box::new(forward)));
        Ok(lane)
    }

    /// One trial.
    pub(super) fn run(&mut self, time: RealTime, plan: &Plan, rng: &mut Rng) -> Result<Trial> {
        let middle = self.middle.take().context("the forward is gone")?;
        let mut lane = Lane {
            eal: self.eal,
            pool: self.pool,
            time,
            nics: &mut self.nics,
            client: &mut self.client,
            server: &mut self.server,
            connections: self.connections,
            ready: &mut self.ready,
        };
        let (middle, trial) = lane.run(middle, plan, rng)?;
        self.middle = Some(middle);
        Ok(trial)
    }

    /// Opens connections `0..count`, on this thread.
    fn establish(&mut self, count: u32, now_ms: u32, forward: &mut Forward) -> Result<()> {
        let Self {
            pool,
            nics: [front, back],
            client,
            server,
            ready,
            ..
        } = self;
        let (mut opened, mut rounds) = (0, 0);
        while ready.len() < count as usize {
            let most = count.min(opened + OPENS);
            for index in opened..most {
                let outbox = &mut front.outbox;
                client.open(index, now_ms, pool, &mut |frame| outbox.push(frame));
            }
            opened = most;
            front.outbox.flush();
            forward.turn();
            back.serve(|frame, outbox| {
                server.handle(frame, now_ms, pool, &mut |answer| outbox.push(answer));
            });
            forward.turn();
            front.serve(|frame, outbox| {
                let heard = client.handle(frame, now_ms, pool, &mut |answer| outbox.push(answer));
                if let Heard::Established { index, next } = heard {
                    ready.push_back((index, 1, next));
                }
            });
            rounds += 1;
            if rounds > STALL_ROUNDS {
                bail!("connections do not open through the forward: {client:?}");
            }
        }
        Ok(())
    }
}

fn start(device: Device, pool: MbufPool) -> Result<(Port, RxQueue, TxQueue)> {
    let config = PortConfig::default();
    let (port, mut rx, mut tx) = device.configure(&config, &[pool.bufs()])?.start()?;
    let queues = rx.pop().zip(tx.pop()).context("a queue pair")?;
    Ok((port, queues.0, queues.1))
}
