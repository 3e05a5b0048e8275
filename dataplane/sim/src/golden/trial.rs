//! One trial: senders of the stack on one side of a narrow place, a receiver of it on the other.
//!
//! ```text
//!   sender 1 --+
//!   sender 2 --+-- router --[outage, loss]--[queue | rate]--[half of the round trip]--> receiver
//!   ...      --+     <------------------[half of the round trip, no limit]------------
//! ```
//!
//! Only what goes to the receiver is lost by chance. Buffers, windows and everything else are as
//! the stack has them by default, which is as Linux has them.

use millrace_base::{Instant, Nanos};
use millrace_stack::{CongestionControl, TcpTunables};

use crate::host::stack::StackPlan;
use crate::link::{FlightPlan, LinkPlan, LossPlan, Outage, QueuePlan, Strike};
use crate::program::{Pace, Step, Text};
use crate::scenario::{BEGINNING, FlowPlan, NodePlan, PeerPlan, Scenario};
use crate::world::World;

/// Payload of a full segment: 1,500 bytes less two headers and timestamps.
pub(super) const MSS: u64 = 1_448;
/// What a full segment takes of a link: 1,500 bytes and the frame around them.
const WIRE_BYTES: u64 = 1_538;
/// Packets that any queue has room for.
const QUEUE_LEAST: u64 = 100;
/// Bytes that a program writes at once: what it offers in vain is copied all the same.
const WRITE_BYTES: usize = 8 * MSS as usize;
/// The receiver.
pub(super) const RECEIVER: usize = 0;
/// A sender that never has enough.
pub(super) const ENDLESS: u64 = 1 << 50;

/// The way from the senders to the receiver and back.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// Bytes per second.
    pub(super) rate: u64,
    /// Without what the queue adds.
    pub(super) rtt: Nanos,
    pub(super) queue_bytes: u64,
    pub(super) loss_ppm: u32,
    /// In both directions.
    pub(super) outages: Vec<Outage>,
    pub(super) strikes: Vec<Strike>,
}

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) control: CongestionControl,
    pub(super) starts_after: Nanos,
    pub(super) bytes: u64,
}

impl Way {
    /// A way with a queue as long as what is on its way in a round trip.
    pub(super) fn new(megabits: u64, rtt: Nanos) -> Self {
        let rate = megabits * 125_000;
        let mut way = Self {
            rate,
            rtt,
            queue_bytes: 0,
            loss_ppm: 0,
            outages: Vec::new(),
            strikes: Vec::new(),
        };
        way.queue_bytes = way.product().max(QUEUE_LEAST * WIRE_BYTES);
        way
    }

    /// The product of rate and round trip in bytes.
    pub(super) fn product(&self) -> u64 {
        self.rate * self.rtt.as_micros() / 1_000_000
    }

    /// Mbit/s of payload that fit through.
    pub(super) fn payload_megabits(&self) -> f64 {
        self.rate as f64 * 8e-6 * MSS as f64 / WIRE_BYTES as f64
    }

    /// Seconds that so many bytes take whose sender begins with ten segments, doubles them with
    /// each round trip until the way is full, and loses nothing: from its SYN to their arrival.
    pub(super) fn ideal_seconds(&self, bytes: u64) -> f64 {
        let rtt = self.rtt.as_micros() as f64 / 1e6;
        let per_second = self.rate as f64 / WIRE_BYTES as f64;
        let (mut left, mut window, mut seconds) = (bytes.div_ceil(MSS) as f64, 10.0, rtt);
        while window < per_second * rtt && left > window {
            left -= window;
            window *= 2.0;
            seconds += rtt;
        }
        seconds + left / per_second + rtt / 2.0
    }

    /// The world with these senders, about to begin.
    pub(super) fn world(&self, senders: &[Sender], seed: u64) -> World {
        let half = FlightPlan {
            delay: Nanos::new(self.rtt.as_nanos() / 2),
            ..FlightPlan::default()
        };
        let receiver = NodePlan {
            peer: PeerPlan::Stack(StackPlan::default()),
            up: LinkPlan {
                flight: half.clone(),
                outages: self.outages.clone(),
                ..LinkPlan::default()
            },
            down: LinkPlan {
                rate: self.rate,
                queue: QueuePlan::DropTail {
                    bytes: self.queue_bytes,
                },
                flight: half,
                loss: match self.loss_ppm {
                    0 => LossPlan::None,
                    ppm => LossPlan::Bernoulli { ppm },
                },
                outages: self.outages.clone(),
                strikes: self.strikes.clone(),
                ..LinkPlan::default()
            },
        };
        let nodes = core::iter::once(receiver).chain(senders.iter().map(node));
        let scenario = Scenario {
            v6: false,
            nodes: nodes.collect(),
            is_balanced: false,
            flows: senders.iter().enumerate().map(flow).collect(),
            accept_every: Nanos::ZERO,
            forged_ppm: 0,
            starts_at: BEGINNING,
            limit: Instant::NEVER,
            secret: seed,
        };
        let mut world = World::new(&scenario, false);
        world.open_up();
        world
    }
}

impl Sender {
    /// Sends so much from the beginning on.
    pub(super) const fn of(control: CongestionControl, bytes: u64) -> Self {
        Self {
            control,
            starts_after: Nanos::ZERO,
            bytes,
        }
    }
}

/// The instant so long after the beginning.
pub(super) fn at(span: Nanos) -> Instant {
    BEGINNING.after(span)
}

/// Seconds from the beginning.
pub(super) fn seconds(instant: Instant) -> f64 {
    instant.since(BEGINNING).as_nanos() as f64 / 1e9
}

fn node(sender: &Sender) -> NodePlan {
    NodePlan {
        peer: PeerPlan::Stack(StackPlan {
            tcp: TcpTunables {
                tcp_congestion_control: sender.control,
                ..TcpTunables::default()
            },
            write_bytes: WRITE_BYTES,
            ..StackPlan::default()
        }),
        up: LinkPlan::default(),
        down: LinkPlan::default(),
    }
}

fn flow((number, sender): (usize, &Sender)) -> FlowPlan {
    let text = |steps| Text {
        steps,
        pace: Pace::GREEDY,
    };
    FlowPlan {
        node: number + 1,
        starts_at: at(sender.starts_after),
        client: text(vec![Step::Write(sender.bytes), Step::ShutDown]),
        server: text(vec![Step::AwaitEnd, Step::ShutDown]),
        broken_off_at: None,
        is_confused: false,
        fast: false,
        may_be_refused: false,
    }
}

/// Packets towards the receiver that came to nothing: on their way, and behind more holes than it
/// remembers.
pub(super) fn lost(world: &World) -> u64 {
    let dropped = world.counter(RECEIVER, "TcpExtTCPOFODrop");
    world.towards(RECEIVER).all_lost() + dropped
}
