//! What a seed means: hosts, wires, flows, and how long all of it may take.

mod ecn;
mod flows;
mod wires;

use millrace_base::{Endpoint, Instant, Nanos};
use millrace_stack::{CongestionControl, TcpTunables};

use crate::dice::Dice;
use crate::host::balancer::BalancerHost;
use crate::host::liar::{ALWAYS, Liar, LiarPlan, Lie};
use crate::host::model::{Model, ModelPlan};
use crate::host::stack::{StackHost, StackPlan};
use crate::host::{Host, address_of};
use crate::link::{LinkPlan, LossPlan, MtuPlan};
use crate::program::Text;
use crate::seeds::Seed;
use crate::world::{PORT, SERVER};
use flows::Kind;

/// When time begins: not at 0, which many clocks take for "never".
pub(crate) const BEGINNING: Instant = Instant::from_millis(1_000);
/// How long connections may take to finish once the wires are well, beside the time that their
/// bytes take: the longest timeout of Linux (120 s), a few times.
pub(crate) const PATIENCE: Nanos = Nanos::from_secs(600);
/// How many times that is waited once more, and how far every flow must come meanwhile: by the smallest
/// segment there is (`tcp_mtu_probe_floor`).
pub(crate) const EXTENSIONS_MAX: u32 = 20;
pub(crate) const STEP_BYTES_MIN: u64 = 48;

/// A program that has closed is held to its bytes, too. Left to itself, a closed connection is given up
/// with the first timeout of the longest length (Linux: `tcp_orphan_retries`).
const ORPHAN_RETRIES: u8 = 15;

/// Where a balancer is, the longest outage and the highest loss, in a million.
const OUTAGE_MAX: Nanos = Nanos::from_secs(2);
const BALANCED_LOSS_PPM: u32 = 30_000;

/// The algorithms of the first edition.
const CONTROLS: [CongestionControl; 3] = [
    CongestionControl::Reno,
    CongestionControl::Cubic,
    CongestionControl::Dctcp,
];
/// The lies of the first edition.
const LIES: usize = 11;

/// How long a liar may go on.
const LIARS_TIME: Nanos = Nanos::from_secs(40);

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) v6: bool,
    /// The servers' first; the balancer's last, if there is one.
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) is_balanced: bool,
    pub(crate) flows: Vec<FlowPlan>,
    /// Between two connections that the servers accept; zero is at once.
    pub(crate) accept_every: Nanos,
    /// Arrivals behind which an impostor sends something, in a million.
    pub(crate) forged_ppm: u32,
    pub(crate) starts_at: Instant,
    /// When it must be over.
    pub(crate) limit: Instant,
    /// Of links and hosts.
    pub(crate) secret: u64,
}

/// A host and its wires.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) peer: PeerPlan,
    /// To the router.
    pub(crate) up: LinkPlan,
    /// From the router.
    pub(crate) down: LinkPlan,
}

/// Who sits at a node.
#[derive(Clone, Debug)]
pub(crate) enum PeerPlan {
    /// The stack.
    Stack(StackPlan),
    /// The oracle.
    Model(ModelPlan),
    /// The oracle, lying.
    Liar(LiarPlan),
    /// The balancer between the others.
    Balancer(StackPlan),
}

/// One connection and its two programs.
#[derive(Clone, Debug)]
pub(crate) struct FlowPlan {
    /// The node of the client.
    pub(crate) node: usize,
    pub(crate) starts_at: Instant,
    pub(crate) client: Text,
    pub(crate) server: Text,
    /// When it is broken off, where one of its ends lies: such a flow need not come to an end.
    pub(crate) broken_off_at: Option<Instant>,
    /// What its server receives is made up: then neither what the server reads nor how it answers
    /// can be judged.
    pub(crate) is_confused: bool,
    /// The client's SYN may carry data (RFC 7413).
    pub(crate) fast: bool,
    /// The servers may have no room for it: a SYN that is not answered, or a cookie that comes back
    /// behind something else and is not known again.
    pub(crate) may_be_refused: bool,
}

impl PeerPlan {
    /// Makes the host.
    pub(crate) fn build(&self, node: usize, v6: bool, secret: u64) -> Box<dyn Host> {
        match self {
            Self::Stack(plan) => Box::new(StackHost::new(node, v6, plan, secret)),
            Self::Model(plan) => Box::new(Model::new(node, v6, plan, secret)),
            Self::Liar(plan) => Box::new(Liar::new(node, v6, plan, secret)),
            Self::Balancer(plan) => {
                let servers = Endpoint::new(address_of(SERVER, v6), PORT);
                Box::new(BalancerHost::new(node, v6, plan, secret, servers))
            }
        }
    }

    /// The largest packet that it sends, in bytes.
    pub(crate) const fn mtu(&self) -> u16 {
        match self {
            Self::Stack(plan) | Self::Balancer(plan) => plan.mtu,
            Self::Model(plan) => plan.mtu,
            Self::Liar(plan) => plan.model.mtu,
        }
    }
}

impl Scenario {
    /// The scenario of a seed. Later editions change the first one, with dice of their own: so the
    /// seeds of an edition mean for ever what they meant.
    pub(crate) fn of_seed(seed: Seed) -> Self {
        let mut scenario = Self::of_first_edition(seed.number);
        if seed.edition >= 2 {
            ecn::revise(&mut scenario, seed.number);
        }
        scenario
    }

    /// Whether somebody lies.
    pub(crate) fn is_hostile(&self) -> bool {
        let lies = |node: &NodePlan| matches!(node.peer, PeerPlan::Liar(_));
        self.nodes.iter().any(lies)
    }

    fn of_first_edition(number: u64) -> Self {
        let mut dice = Dice::new(number);
        let v6 = dice.one_in(2);
        let clients = dice.pick(&[1, 1, 1, 2, 4]);
        let heals_at = BEGINNING.after(dice.below(Nanos::from_secs(20)));
        let (near, far) = wires::draw(&mut dice, heals_at);
        // One of four talks to the oracle, one of eight to a liar.
        let cast = dice.between(0, 7);
        let mut server = PeerPlan::Stack(stack(&mut dice));
        if cast == 0 {
            server = PeerPlan::Model(model(&mut dice));
        }
        let mut nodes = vec![NodePlan {
            peer: server,
            up: far.0,
            down: far.1,
        }];
        for _ in 0..clients {
            let peer = match cast {
                1 => PeerPlan::Model(model(&mut dice)),
                2 => PeerPlan::Liar(liar(&mut dice)),
                _ => PeerPlan::Stack(stack(&mut dice)),
            };
            nodes.push(NodePlan {
                peer,
                up: near.clone(),
                down: near.clone(),
            });
        }
        let heeds = |node: &NodePlan| matches!(node.peer, PeerPlan::Stack(_));
        if dice.one_in(6) && nodes.iter().all(heeds) {
            small_hop(&mut dice, &mut nodes, heals_at, v6);
        }
        let (kind, mut flows) = flows::draw(&mut dice, clients, BEGINNING);
        for flow in &mut flows {
            if let PeerPlan::Liar(liar) = &nodes[flow.node].peer {
                flow.is_confused = liar.lie.confuses();
                flow.broken_off_at = Some(flow.starts_at.after(LIARS_TIME));
            }
        }
        let forged_ppm = dice.pick(&[0, 0, 0, 0, 1_000, 50_000]);
        let mut scenario = Self {
            v6,
            nodes,
            is_balanced: false,
            limit: heals_at,
            flows,
            accept_every: Nanos::ZERO,
            forged_ppm: if cast == 2 { 0 } else { forged_ppm },
            starts_at: BEGINNING,
            secret: dice.word(),
        };
        scenario.prepare(&mut dice, kind);
        for node in &mut scenario.nodes {
            if let Some(plan) = node.stack_mut() {
                plan.tcp.tcp_orphan_retries = ORPHAN_RETRIES;
            }
        }
        scenario.limit = limit(&scenario.nodes, &scenario.flows, heals_at);
        scenario
    }

    /// Makes the hosts such that flows of this kind are what they are meant to be.
    fn prepare(&mut self, dice: &mut Dice, kind: Kind) {
        let is_stack = |node: &NodePlan| matches!(node.peer, PeerPlan::Stack(_));
        match kind {
            Kind::Plain => {}
            Kind::Crowded => {
                self.accept_every = Nanos::from_millis(dice.spread(1, 300).into());
                let backlog = dice.pick(&[1, 2, 4, 8]);
                for flow in &mut self.flows {
                    flow.may_be_refused = true;
                }
                let (cookies, half_open) = (dice.between(0, 2) as u8, dice.pick(&[4, 4_096]));
                if let PeerPlan::Stack(plan) = &mut self.nodes[SERVER].peer {
                    plan.backlog = backlog;
                    plan.tcp.tcp_syncookies = cookies;
                    plan.tcp.tcp_max_syn_backlog = half_open;
                }
            }
            // Who rests is known by its stamps alone.
            Kind::Reusing if self.nodes.iter().all(is_stack) => {
                let first = dice.between(1_100, 60_000) as u16;
                let ports = (first, first + dice.between(1, 6) as u16);
                for plan in self.nodes.iter_mut().filter_map(NodePlan::stack_mut) {
                    plan.tcp.tcp_timestamps = true;
                    plan.ports = Some(ports);
                }
            }
            Kind::Reusing => {}
            Kind::Fast => {
                let no_cookies = dice.one_in(4);
                for plan in self.nodes.iter_mut().filter_map(NodePlan::stack_mut) {
                    plan.tcp.tcp_fastopen = if no_cookies { 0x607 } else { 0x403 };
                }
                for flow in &mut self.flows {
                    flow.fast = true;
                }
            }
            Kind::Balanced if self.nodes.iter().all(is_stack) => self.balance(dice),
            Kind::Balanced => {}
        }
    }

    /// Puts a balancer between the clients and the servers. Its legs meet the faults of the servers'
    /// wire and of its own; not so many that its four attempts, of four seconds each, may all fail.
    fn balance(&mut self, dice: &mut Dice) {
        let (up, down) = match dice.one_in(2) {
            true => (LinkPlan::default(), LinkPlan::default()),
            false => (
                self.nodes[SERVER].up.clone(),
                self.nodes[SERVER].down.clone(),
            ),
        };
        let mut plan = stack(dice);
        if let Some(server) = self.nodes[SERVER].stack_mut() {
            // Who goes through a black hole has to look for it.
            plan.tcp.tcp_mtu_probing = server.tcp.tcp_mtu_probing;
        }
        let peer = PeerPlan::Balancer(plan);
        self.nodes.push(NodePlan { peer, up, down });
        self.is_balanced = true;
        for node in &mut self.nodes {
            for link in [&mut node.up, &mut node.down] {
                link.outages.truncate(1);
                for outage in &mut link.outages {
                    outage.until = outage.until.min(outage.from.after(OUTAGE_MAX));
                }
                link.loss = match link.loss {
                    LossPlan::None => LossPlan::None,
                    LossPlan::Bernoulli { ppm } => LossPlan::Bernoulli {
                        ppm: ppm.min(BALANCED_LOSS_PPM),
                    },
                    LossPlan::Gilbert { .. } => LossPlan::Bernoulli {
                        ppm: BALANCED_LOSS_PPM,
                    },
                };
            }
        }
    }
}

impl NodePlan {
    /// What is chosen of the stack, where it is one.
    const fn stack_mut(&mut self) -> Option<&mut StackPlan> {
        match &mut self.peer {
            PeerPlan::Stack(plan) | PeerPlan::Balancer(plan) => Some(plan),
            PeerPlan::Model(_) | PeerPlan::Liar(_) => None,
        }
    }
}

/// How long everything may take.
fn limit(nodes: &[NodePlan], flows: &[FlowPlan], heals_at: Instant) -> Instant {
    let rates = nodes.iter().flat_map(|node| [&node.up, &node.down]);
    let rates = rates.flat_map(|link| [Some(link.rate), link.rate_shift.map(|(_, rate)| rate)]);
    let slowest = rates.flatten().filter(|rate| *rate > 0).min();
    let mut limit = heals_at.after(PATIENCE);
    for flow in flows {
        let (up, down) = (flow.client.bytes(), flow.server.bytes());
        let idle = flow.client.idles(down).as_nanos() + flow.server.idles(up).as_nanos();
        limit = limit.max(flow.starts_at.after(PATIENCE));
        limit = limit.after(Nanos::new(idle * 2));
        if let Some(rate) = slowest {
            limit = limit.after(Nanos::from_millis((up + down) * 8_000 / rate));
        }
    }
    limit
}

/// Somewhere on the way to the servers and back is a hop with a smaller MTU. It tells, or it is a
/// black hole, and goes when the wires heal; or it stays, and the hosts look for the path's MTU
/// themselves (RFC 4821). That one which tells stays too is of the second edition.
fn small_hop(dice: &mut Dice, nodes: &mut [NodePlan], heals_at: Instant, v6: bool) {
    let (kind, probing) = (dice.between(0, 2), dice.between(1, 2) as u8);
    let least = if v6 { 1_280 } else { 600 };
    let hop = MtuPlan {
        mtu: dice.between(least, 1_480) as u16,
        from: BEGINNING.after(dice.below(Nanos::from_secs(1))),
        until: if kind == 2 { Instant::NEVER } else { heals_at },
        tells: kind == 0,
    };
    for node in &mut *nodes {
        if let PeerPlan::Stack(plan) = &mut node.peer
            && kind == 2
        {
            plan.tcp.tcp_mtu_probing = probing;
        }
    }
    if let Some(server) = nodes.first_mut() {
        (server.up.mtu, server.down.mtu) = (Some(hop), Some(hop));
    }
}

/// A host of the stack with some of its knobs turned.
fn stack(dice: &mut Dice) -> StackPlan {
    let mut tcp = TcpTunables {
        tcp_congestion_control: dice.pick(&CONTROLS),
        tcp_ecn: dice.pick(&[0, 1, 2]),
        ..TcpTunables::default()
    };
    if dice.one_in(6) {
        tcp.tcp_timestamps = false;
    }
    if dice.one_in(6) {
        tcp.tcp_sack = false;
    }
    if dice.one_in(8) {
        tcp.tcp_dsack = false;
    }
    if dice.one_in(8) {
        tcp.tcp_window_scaling = false;
    }
    if dice.one_in(5) {
        tcp.tcp_rmem = dice.pick(&[[4_096, 16_384], [16_384, 65_536], [2_304, 8_192]]);
    }
    if dice.one_in(5) {
        tcp.tcp_wmem = dice.pick(&[[4_096, 16_384], [4_608, 4_608], [16_384, 65_536]]);
    }
    if dice.one_in(8) {
        tcp.tcp_recovery = dice.pick(&[0, 2, 4, 7]);
    }
    if dice.one_in(8) {
        tcp.tcp_early_retrans = dice.pick(&[0, 4]);
    }
    if dice.one_in(8) {
        tcp.tcp_frto = 0;
    }
    tcp.fq = dice.one_in(6);
    tcp.software_tso = dice.one_in(3);
    tcp.tcp_slow_start_after_idle = !dice.one_in(4);
    StackPlan {
        tcp,
        mtu: dice.pick(&[1_500, 1_500, 1_500, 1_280, 9_000, 1_492]),
        buffers: dice.pick(&[8_192, 8_192, 1_024]),
        nodelay: dice.one_in(2),
        backlog: 128,
        ..StackPlan::default()
    }
}

/// An oracle.
fn model(dice: &mut Dice) -> ModelPlan {
    ModelPlan {
        mtu: dice.pick(&[1_500, 1_500, 1_280, 9_000, 576 + 1_000]),
        timestamps: dice.one_in(2),
        sack: !dice.one_in(3),
        scale: dice.pick(&[None, Some(0), Some(3), Some(7)]),
        window: dice.pick(&[4_096, 20_000, 65_535, 200_000, 1_000_000]),
        send_buffer: dice.pick(&[5_000, 65_536, 1_000_000]),
        delays_acks: dice.one_in(2),
        reneges_ppm: 0,
    }
}

fn liar(dice: &mut Dice) -> LiarPlan {
    LiarPlan {
        model: model(dice),
        lie: dice.pick(&Lie::ALL[..LIES]),
        lies_ppm: dice.pick(&[ALWAYS, ALWAYS / 4, ALWAYS / 100]),
    }
}
