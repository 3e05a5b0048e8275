//! The world of one seed: hosts, wires, programs, and one thread that lets time pass.
//!
//! Every host hangs on two links, to a router in the middle and from it; node 0 has the servers.
//! Whatever is due first happens next, in the order of the nodes where instants are equal.

use std::collections::BTreeMap;

use millrace_base::{Address, Endpoint, Instant, Nanos};

use crate::check::{Half, Watch};
use crate::dice::Dice;
use crate::host::{Host, address_of};
use crate::link::Link;
use crate::packet::destination;
use crate::pattern::Stream;
use crate::pcap::Capture;
use crate::program::Program;
use crate::scenario::{FlowPlan, Scenario};

/// The port that servers listen at.
const PORT: u16 = 80;
/// The node with the servers.
const SERVER: usize = 0;
/// Longer than any timer.
const FOR_EVER: Nanos = Nanos::from_secs(100_000);
/// Steps of one seed: far more than its packets and timers can need.
const STEPS_MAX: u64 = 20_000_000;
/// After timers of its host have fired, a program is asked again, but not more often than this.
const ASKED_EVERY: Nanos = Nanos::from_millis(50);

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

/// A flow that waits, runs or is over.
#[derive(Debug)]
struct Flow {
    plan: FlowPlan,
    client: Option<Program>,
    server: Option<Program>,
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    now: Instant,
    v6: bool,
    nodes: Vec<Node>,
    flows: Vec<Flow>,
    /// Flows by the node and the port of their client.
    by_port: BTreeMap<(usize, u16), usize>,
    unaccepted: usize,
    watch: Watch,
    limit: Instant,
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
        let nodes = nodes.collect();
        let flows = scenario.flows.iter().map(|plan| Flow {
            plan: plan.clone(),
            client: None,
            server: None,
        });
        Self {
            now: scenario.starts_at,
            v6: scenario.v6,
            nodes,
            unaccepted: scenario.flows.len(),
            flows: flows.collect(),
            by_port: BTreeMap::new(),
            watch: Watch::default(),
            limit: scenario.limit,
            steps: 0,
            capture: captures.then(Capture::default),
        }
    }

    /// Plays everything; fails with what does not hold.
    pub(crate) fn play(&mut self) -> Result<Tally, String> {
        self.nodes[SERVER].host.listen(self.now, PORT);
        while !self.is_over() {
            let next = self.next_deadline();
            if next > self.limit {
                return Err(self.stuck());
            }
            self.step(next)?;
        }
        self.judge()?;
        self.tear_down()?;
        Ok(self.tally())
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
        next.unwrap_or(Instant::NEVER)
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
            if node == SERVER && self.unaccepted > 0 {
                self.accept();
            }
            self.collect(node)?;
            if let Some(flow) = flow {
                self.run(flow, node != SERVER)?;
            }
        }
        Ok(())
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
        while let Some((conn, peer)) = self.nodes[SERVER].host.accept(self.now) {
            let node = self.node_of(peer.address);
            let flow = node.and_then(|node| self.by_port.get(&(node, peer.port)));
            let Some(flow) = flow.copied() else {
                unreachable!("only clients here connect, not {peer}");
            };
            let state = &mut self.flows[flow];
            self.unaccepted -= usize::from(state.server.is_none());
            let mut program = Program::new(&state.plan.server, conn, flow, false);
            program.believes_anything = state.plan.is_confused;
            state.server = Some(program);
        }
    }

    /// Lets one program of a flow go on; a client that is due begins.
    fn run(&mut self, flow: usize, is_client: bool) -> Result<(), String> {
        if is_client && self.flows[flow].client.is_none() {
            if self.flows[flow].plan.starts_at > self.now {
                return Ok(());
            }
            self.begin(flow);
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

    fn begin(&mut self, flow: usize) {
        let node = self.flows[flow].plan.node;
        let server = Endpoint::new(address_of(SERVER, self.v6), PORT);
        let (conn, port) = self.nodes[node].host.connect(self.now, server);
        let client = Endpoint::new(address_of(node, self.v6), port);
        self.by_port.insert((node, port), flow);
        for (at, by_client) in [(node, true), (SERVER, false)] {
            let stream = Stream::new(flow, by_client);
            let half = Half::new(
                stream,
                self.nodes[at].mtu,
                self.flows[flow].plan.is_confused,
            );
            let checked = self.nodes[at].host.is_honest().then_some(half);
            let ends = if by_client {
                [client, server]
            } else {
                [server, client]
            };
            self.watch.expect(at, ends, flow, checked);
        }
        let state = &mut self.flows[flow];
        state.client = Some(Program::new(&state.plan.client, conn, flow, true));
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
        (0..self.nodes.len()).find(|node| address_of(*node, self.v6) == address)
    }

    /// Captures what passes the servers' network card.
    fn note(&mut self, node: usize, packet: &[u8]) {
        if let Some(capture) = self.capture.as_mut().filter(|_| node == SERVER) {
            capture.add(self.now, packet);
        }
    }
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

impl Flow {
    /// Whether both ends do what the other waits for.
    fn ends_well(&self) -> bool {
        self.plan.broken_off_at.is_none()
            && self.plan.client.ends_well()
            && self.plan.server.ends_well()
    }

    fn is_over(&self, now: Instant) -> bool {
        if self.plan.broken_off_at.is_some_and(|at| at <= now) {
            return true;
        }
        let done = |program: &Option<Program>| {
            let program = program.as_ref();
            program.is_some_and(|program| program.finished_at.is_some())
        };
        if self.ends_well() {
            return done(&self.client) && done(&self.server);
        }
        // Nobody tells the other end of an abort that got lost.
        done(&self.client) || done(&self.server)
    }

    fn next_deadline(&self) -> Instant {
        let client = match &self.client {
            None => self.plan.starts_at,
            Some(program) => program.next_deadline(),
        };
        let server = self.server.as_ref().map(Program::next_deadline);
        client.min(server.unwrap_or(Instant::NEVER))
    }

    fn judge(&self) -> Result<(), String> {
        let (Some(client), Some(server)) = (&self.client, &self.server) else {
            return Ok(());
        };
        for (name, from, to) in [
            ("the client's", client, server),
            ("the server's", server, client),
        ] {
            if to.read > from.written && !self.plan.is_confused {
                return Err(format!("more was read of {name} stream than written"));
            }
            if !self.ends_well() {
                continue;
            }
            if let Some(why) = &from.broken {
                return Err(format!("{name} connection broke: {why}"));
            }
            if to.read < from.written {
                let (read, written) = (to.read, from.written);
                return Err(format!("{name} stream: {read} of {written} bytes arrived"));
            }
        }
        Ok(())
    }
}
