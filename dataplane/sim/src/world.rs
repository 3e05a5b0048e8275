//! The world of one seed: hosts, wires, programs, and one thread that lets time pass.
//!
//! Every host hangs on two links, to a router in the middle and from it; node 0 has the servers,
//! and the last one may be a balancer. Whatever is due first happens next, in the order of the
//! nodes where instants are equal.

mod flow;
mod observe;

use std::collections::BTreeMap;

use millrace_base::{Address, Endpoint, Instant, Nanos};

use crate::check::{Half, Watch};
use crate::dice::Dice;
use crate::host::balancer::{BACKEND_PORTS, is_of_balancer, vip};
use crate::host::{Host, address_of};
use crate::inject::Impostor;
use crate::link::Link;
use crate::packet::{Parsed, destination, parse};
use crate::pattern::Stream;
use crate::pcap::Capture;
use crate::program::Program;
use crate::scenario::{EXTENSIONS_MAX, PATIENCE, STEP_BYTES_MIN, Scenario};
use flow::Flow;

/// The port that servers listen at.
pub(crate) const PORT: u16 = 80;
/// The node with the servers.
pub(crate) const SERVER: usize = 0;
/// Longer than any timer.
const FOR_EVER: Nanos = Nanos::from_secs(100_000);
/// Steps of one seed: far more than its packets and timers can need.
const STEPS_MAX: u64 = 20_000_000;
/// After timers of its host have fired, a program is asked again, but not more often than this.
const ASKED_EVERY: Nanos = Nanos::from_millis(50);
/// Who finds no port to connect from tries again.
const PORT_AGAIN: Nanos = Nanos::from_millis(200);

/// A host and its two links.
#[derive(Debug)]
struct Node {
    host: Box<dyn Host>,
    mtu: u16,
    up: Link,
    down: Link,
    /// When programs are asked because timers have fired.
    ask_at: Instant,
    /// It neither hears nor speaks any more.
    is_off: bool,
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    now: Instant,
    v6: bool,
    nodes: Vec<Node>,
    flows: Vec<Flow>,
    /// The node of the balancer.
    balancer: Option<usize>,
    /// Flows by the peer that their server sees, and the port it came to.
    by_peer: BTreeMap<((u128, u16), u16), usize>,
    unaccepted: usize,
    /// Between two connections that the servers accept, and when the next one may be.
    accept_every: Nanos,
    accept_at: Instant,
    impostor: Impostor,
    watch: Watch,
    /// When everything must be over, and how often that was put off.
    limit: Instant,
    extensions: u32,
    steps: u64,
    capture: Option<Capture>,
}

/// What a seed that passed was like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// TCP segments that honest hosts sent.
    pub segments: u64,
    /// Bytes that programs read.
    pub bytes: u64,
    /// Packets that links dropped, for whatever reason.
    pub lost: u64,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, captures: bool) -> Self {
        let mut dice = Dice::new(scenario.secret);
        let nodes = scenario.nodes.iter().enumerate().map(|(number, plan)| {
            let host = plan.peer.build(number, scenario.v6, dice.word());
            Node {
                host,
                mtu: plan.peer.mtu(),
                up: Link::new(plan.up.clone(), dice.fork()),
                down: Link::new(plan.down.clone(), dice.fork()),
                ask_at: Instant::NEVER,
                is_off: false,
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let flows = scenario.flows.iter().map(|plan| Flow {
            plan: plan.clone(),
            client: None,
            server: None,
            read_before: None,
        });
        Self {
            now: scenario.starts_at,
            v6: scenario.v6,
            balancer: scenario.is_balanced.then(|| nodes.len() - 1),
            nodes,
            unaccepted: scenario.flows.len(),
            accept_every: scenario.accept_every,
            accept_at: Instant::ZERO,
            impostor: Impostor::new(scenario.forged_ppm, dice.fork()),
            flows: flows.collect(),
            by_peer: BTreeMap::new(),
            watch: Watch::default(),
            limit: scenario.limit,
            extensions: 0,
            steps: 0,
            capture: captures.then(Capture::default),
        }
    }

    /// Plays everything; fails with what does not hold.
    pub(crate) fn play(&mut self) -> Result<Tally, String> {
        let ports = if self.balancer.is_some() {
            BACKEND_PORTS
        } else {
            1
        };
        for port in PORT..PORT + ports {
            self.nodes[SERVER].host.listen(self.now, port);
        }
        while !self.is_over() {
            let next = self.next_deadline();
            if next > self.limit && !self.is_worth_waiting(next) {
                return Err(self.stuck());
            }
            self.step(next)?;
        }
        self.judge()?;
        self.tear_down()?;
        Ok(self.tally())
    }

    /// Time is up: whether every flow that is open has come further since it was up before. Where a
    /// queue of a few packets loses the end of one burst after the other, a connection without time
    /// stamps may meet its longest timeout many times (Karn's rule: nothing measures a round trip), and
    /// yet nothing stands still.
    fn is_worth_waiting(&mut self, next: Instant) -> bool {
        self.extensions += 1;
        self.limit = self.limit.after(PATIENCE);
        let now = self.now;
        let mut moves = true;
        for flow in self.flows.iter_mut().filter(|flow| !flow.is_over(now)) {
            let programs = [&flow.client, &flow.server].into_iter().flatten();
            let read = programs.map(|program| program.read).sum();
            let before = flow.read_before.replace(read);
            moves &= before.is_none_or(|before| read - before >= STEP_BYTES_MIN);
        }
        moves && next <= self.limit && self.extensions <= EXTENSIONS_MAX
    }

    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) const fn capture(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// Bytes of packets that reached each node.
    #[cfg(test)]
    pub(crate) fn arrived(&self) -> Vec<u64> {
        let nodes = self.nodes.iter();
        nodes.map(|node| node.down.tally.bytes_taken).collect()
    }

    /// Bytes that the program of each client has read.
    #[cfg(test)]
    pub(crate) fn read_by_clients(&self) -> Vec<u64> {
        let clients = self.flows.iter().map(|flow| flow.client.as_ref());
        clients
            .map(|program| program.map_or(0, |program| program.read))
            .collect()
    }

    /// What became of the packets of the servers, and how long each waited on average.
    #[cfg(test)]
    pub(crate) fn served(&self) -> (crate::link::Tally, Nanos) {
        let up = &self.nodes[SERVER].up;
        (up.tally, up.mean_wait())
    }

    /// When the last client had what it wanted.
    #[cfg(test)]
    pub(crate) fn finished_at(&self) -> Instant {
        let clients = self.flows.iter().filter_map(|flow| flow.client.as_ref());
        let ends = clients.filter_map(|client| client.finished_at);
        ends.max().unwrap_or(self.now)
    }

    /// Whether every program that must finish has.
    fn is_over(&self) -> bool {
        self.flows.iter().all(|flow| flow.is_over(self.now))
    }

    fn next_deadline(&self) -> Instant {
        let nodes = self.nodes.iter().map(|node| {
            let links = node.up.next_deadline().min(node.down.next_deadline());
            links.min(node.timer()).min(node.ask_at)
        });
        let flows = self.flows.iter().map(Flow::next_deadline);
        let ends = self.flows.iter().filter_map(|flow| {
            let end = flow.plan.broken_off_at;
            end.filter(|at| *at > self.now)
        });
        let next = nodes.chain(flows).chain(ends).min();
        let next = next.unwrap_or(Instant::NEVER);
        if self.unaccepted > 0 && self.accept_at > self.now {
            return next.min(self.accept_at);
        }
        next
    }

    fn step(&mut self, next: Instant) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err("time does not pass: too many steps".to_owned());
        }
        self.now = self.now.max(next);
        for node in 0..self.nodes.len() {
            self.carry(node)?;
            if self.nodes[node].timer() <= self.now {
                self.nodes[node].host.advance(self.now);
                let ask_at = self.now.after(ASKED_EVERY);
                let node_state = &mut self.nodes[node];
                node_state.ask_at = node_state.ask_at.min(ask_at);
                self.collect(node)?;
            }
            if self.nodes[node].ask_at <= self.now {
                self.nodes[node].ask_at = Instant::NEVER;
                self.ask_all(node)?;
            }
        }
        if self.accept_at == self.now {
            self.accept();
            self.ask_all(SERVER)?;
        }
        for flow in 0..self.flows.len() {
            if self.flows[flow].next_deadline() <= self.now {
                self.run(flow, true)?;
                self.run(flow, false)?;
            }
        }
        Ok(())
    }

    /// Moves what has arrived at the ends of a node's links.
    fn carry(&mut self, node: usize) -> Result<(), String> {
        while let Some(packet) = self.nodes[node].up.take(self.now) {
            self.route(packet);
        }
        while let Some(packet) = self.nodes[node].down.take(self.now) {
            self.note(node, &packet);
            let flow = self.watch.received(node, &packet);
            if self.nodes[node].is_off {
                continue;
            }
            self.nodes[node].host.packet_in(self.now, &packet);
            if let Some(flow) = flow
                && let Some(forged) = self.forge(node, flow, &packet)
            {
                // Wherever it is: nothing else tells of it.
                self.note(SERVER, &forged);
                self.nodes[node].host.packet_in(self.now, &forged);
            }
            if node == SERVER {
                self.accept();
            }
            self.collect(node)?;
            if let Some(flow) = flow {
                self.run(flow, node != SERVER)?;
            }
        }
        Ok(())
    }

    /// What an impostor sends behind a packet that has come to a node.
    fn forge(&mut self, node: usize, flow: usize, packet: &[u8]) -> Option<Vec<u8>> {
        let state = &self.flows[flow];
        // A half that is open with a SYN's data alone believes more.
        let is_open = state.is_open() && !state.plan.fast && self.balancer.is_none();
        self.impostor.follow(node, flow, packet, is_open)
    }

    /// Gives a packet to the link down to whom it is for, and that link's answer to whom that is
    /// for.
    fn route(&mut self, packet: Vec<u8>) {
        let Some(node) = destination(&packet).and_then(|address| self.node_of(address)) else {
            return;
        };
        if let Some(answer) = self.nodes[node].down.offer(self.now, packet)
            && let Some(node) = destination(&answer).and_then(|address| self.node_of(address))
        {
            self.nodes[node].down.offer(self.now, answer);
        }
    }

    /// Takes what a host has sent.
    fn collect(&mut self, node: usize) -> Result<(), String> {
        while let Some(packet) = self.nodes[node].host.packet_out() {
            self.note(node, &packet);
            if self.balancer == Some(node) {
                self.learn_joint(&packet);
            }
            if self.nodes[node].host.is_honest() {
                self.watch.sent(node, &packet)?;
            }
            if let Some(answer) = self.nodes[node].up.offer(self.now, packet) {
                self.nodes[node].down.offer(self.now, answer);
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        while self.unaccepted > 0 && self.accept_at <= self.now {
            let Some(accepted) = self.nodes[SERVER].host.accept(self.now) else {
                break;
            };
            if self.accept_every > Nanos::ZERO {
                self.accept_at = self.now.after(self.accept_every);
            }
            let key = (number_of(accepted.peer), accepted.port);
            let flow = self.by_peer.get(&key).copied();
            let flow = flow.filter(|flow| self.flows[*flow].server.is_none());
            let Some(flow) = flow else {
                // A SYN that came twice, with data that nobody may take twice (RFC 7413 section 6),
                // or an attempt that its balancer has given up.
                let host = &mut self.nodes[SERVER].host;
                host.close(self.now, accepted.conn, true);
                continue;
            };
            self.unaccepted -= 1;
            let state = &mut self.flows[flow];
            let mut program = Program::new(&state.plan.server, accepted.conn, flow, false);
            program.believes_anything = state.plan.is_confused;
            state.server = Some(program);
        }
    }

    /// The balancer opens a connection: the flow that it is for.
    fn learn_joint(&mut self, packet: &[u8]) {
        let Parsed::Tcp(segment) = parse(packet) else {
            return;
        };
        let flags = segment.header.flags;
        let key = (number_of(segment.from), segment.to.port);
        let Some(node) = self.balancer.filter(|_| flags.syn() && !flags.ack()) else {
            return;
        };
        let joints = self.nodes[node].host.joints(self.now);
        let joint = joints
            .iter()
            .find(|joint| joint.source == segment.from && joint.server == segment.to);
        let (from, to) = (segment.from, segment.to);
        let flow = joint.and_then(|joint| {
            let client = self.node_of(joint.client.address)?;
            self.watch.flow_of(client, [joint.client, self.service()])
        });
        if let Some(flow) = flow
            && self.by_peer.insert(key, flow) != Some(flow)
        {
            self.expect(node, [from, to], flow, true);
            self.expect(SERVER, [to, from], flow, false);
        }
    }

    /// Lets one program of a flow go on; a client that is due begins.
    fn run(&mut self, flow: usize, is_client: bool) -> Result<(), String> {
        if is_client && self.flows[flow].client.is_none() {
            if self.flows[flow].plan.starts_at > self.now {
                return Ok(());
            }
            if !self.begin(flow) {
                return Ok(());
            }
        }
        let state = &mut self.flows[flow];
        let (program, node) = match is_client {
            true => (&mut state.client, state.plan.node),
            false => (&mut state.server, SERVER),
        };
        let Some(program) = program else {
            return Ok(());
        };
        let ran = program.run(self.now, self.nodes[node].host.as_mut());
        ran.map_err(|what| format!("flow {flow}: {what}"))?;
        self.collect(node)
    }

    /// Opens the connection of a flow; whether there was a port for it.
    fn begin(&mut self, flow: usize) -> bool {
        let (node, fast) = (self.flows[flow].plan.node, self.flows[flow].plan.fast);
        let server = self.service();
        let opened = self.nodes[node].host.connect(self.now, server, fast);
        let Some((conn, port)) = opened else {
            self.flows[flow].plan.starts_at = self.now.after(PORT_AGAIN);
            return false;
        };
        let client = Endpoint::new(address_of(node, self.v6), port);
        self.expect(node, [client, server], flow, true);
        self.expect(
            self.balancer.unwrap_or(SERVER),
            [server, client],
            flow,
            false,
        );
        if self.balancer.is_none() {
            self.by_peer.insert((number_of(client), PORT), flow);
        }
        let state = &mut self.flows[flow];
        let mut program = Program::new(&state.plan.client, conn, flow, true);
        program.believes_anything = state.plan.is_confused;
        state.client = Some(program);
        true
    }

    /// Where clients connect to.
    fn service(&self) -> Endpoint {
        match self.balancer {
            Some(_) => Endpoint::new(vip(self.v6), PORT),
            None => Endpoint::new(address_of(SERVER, self.v6), PORT),
        }
    }

    /// From now on a node sends a stream of this flow between these ends.
    fn expect(&mut self, node: usize, ends: [Endpoint; 2], flow: usize, by_client: bool) {
        let (mtu, plan) = (self.nodes[node].mtu, &self.flows[flow].plan);
        let stream = Stream::new(flow, by_client);
        let half = Half::new(stream, mtu, plan.is_confused, plan.fast);
        let checked = self.nodes[node].host.is_honest().then_some(half);
        self.watch.expect(node, ends, flow, checked);
    }

    /// Lets every program of a node go on.
    fn ask_all(&mut self, node: usize) -> Result<(), String> {
        for flow in 0..self.flows.len() {
            if node == SERVER {
                self.run(flow, false)?;
            } else if self.flows[flow].plan.node == node {
                self.run(flow, true)?;
            }
        }
        Ok(())
    }

    /// All bytes have arrived, where nobody has given up.
    fn judge(&self) -> Result<(), String> {
        self.flows
            .iter()
            .enumerate()
            .try_for_each(|(number, flow)| {
                flow.judge()
                    .map_err(|what| format!("flow {number}: {what}"))
            })
    }

    /// Programs and listeners go; some day nothing is left.
    fn tear_down(&mut self) -> Result<(), String> {
        for flow in &mut self.flows {
            let node = flow.plan.node;
            if let Some(program) = &mut flow.client {
                program.give_up(self.now, self.nodes[node].host.as_mut());
            }
            if let Some(program) = &mut flow.server {
                program.give_up(self.now, self.nodes[SERVER].host.as_mut());
            }
        }
        self.nodes[SERVER].host.stop_listening(self.now);
        self.unaccepted = 0;
        for node in 0..self.nodes.len() {
            self.collect(node)?;
            // A liar might go on for ever, and a record of TIME_WAIT with it.
            self.nodes[node].is_off = !self.nodes[node].host.is_honest();
        }
        let end = self.now.after(FOR_EVER);
        loop {
            let next = self.next_deadline();
            if next > end {
                break;
            }
            self.step(next)?;
        }
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some(what) = node.host.left_over() {
                return Err(format!("node {number} keeps {what}"));
            }
        }
        Ok(())
    }

    fn stuck(&self) -> String {
        let open = self
            .flows
            .iter()
            .enumerate()
            .filter(|(_, flow)| !flow.is_over(self.now));
        let open: Vec<String> = open
            .map(|(number, flow)| format!("flow {number}: {:?} / {:?}", flow.client, flow.server))
            .collect();
        format!(
            "no end in sight long after the wires healed: {}",
            open.join("; ")
        )
    }

    fn tally(&self) -> Tally {
        let programs = self
            .flows
            .iter()
            .flat_map(|flow| [&flow.client, &flow.server]);
        let links = self.nodes.iter().flat_map(|node| [&node.up, &node.down]);
        Tally {
            segments: self.watch.segments,
            bytes: programs.flatten().map(|program| program.read).sum(),
            lost: links.map(|link| link.tally.all_lost()).sum(),
        }
    }

    fn node_of(&self, address: Address) -> Option<usize> {
        let node = (0..self.nodes.len()).find(|node| address_of(*node, self.v6) == address);
        node.or_else(|| self.balancer.filter(|_| is_of_balancer(address, self.v6)))
    }

    /// Captures what passes the network card of the servers, and of the balancer.
    fn note(&mut self, node: usize, packet: &[u8]) {
        let is_watched = node == SERVER || self.balancer == Some(node);
        if let Some(capture) = self.capture.as_mut().filter(|_| is_watched) {
            capture.add(self.now, packet);
        }
    }
}

/// An endpoint as a key.
const fn number_of(end: Endpoint) -> (u128, u16) {
    (u128::from_be_bytes(*end.address.octets()), end.port)
}

impl Node {
    /// When its host has something to do next.
    fn timer(&self) -> Instant {
        if self.is_off {
            return Instant::NEVER;
        }
        self.host.next_deadline()
    }
}
