//! A light peer with a device of its own: one lcore that answers, or that opens, asks and closes, without a stack.
//!
//! The peers are those of [`light`](crate::light): they keep nothing per connection and repeat nothing that was lost, so
//! they load a device under test that is as fast as a stack is. No latencies, no schedule, no IPv6 and no gateway: who
//! wants those takes the full engines. What is lost stays under way for ever, and is told.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use millrace_base::{Address, MacAddress, PacketBuf, PacketPool};
use millrace_dpdk::{
    Burst, Clock, Device, Eal, Lcore, Mbuf, MbufPool, MempoolConfig, Port, PortConfig, RxQueue,
    Task, TxOffloads, TxQueue, cycles,
};
use millrace_wire::{EtherType, EthernetView};

use crate::generator::LoadError;
use crate::light::{Checksums, Client, Counts, Heard, Link, Script, Server, Sources};
use crate::neighbor;

/// Connections opened in one turn: two bursts' worth, then the device is looked at again.
const OPENS_PER_TURN_MAX: u32 = 64;
/// Turns between two looks at what others read and say.
const TURNS_PER_REPORT: u32 = 64;
/// Free buffers kept per lcore.
const POOL_CACHE: u32 = 256;

/// What a station is made of.
#[derive(Clone, Debug)]
pub struct StationConfig {
    /// The device's name as EAL knows it.
    pub device: String,
    /// Descriptors per receive queue.
    pub rx_descriptors: u16,
    /// Descriptors per transmit queue.
    pub tx_descriptors: u16,
    /// Packet buffers.
    pub buffers: u32,
    /// Bytes per buffer, headroom (128) included.
    pub buffer_bytes: u16,
    /// Our Ethernet address, when it is not the device's.
    pub mac: Option<MacAddress>,
    /// The Ethernet address of whoever is on the link.
    pub peer_mac: MacAddress,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Whether checksums may be left to a device that offers them.
    pub offloads: bool,
    /// IPv4 addresses for which ARP is answered.
    pub addresses: Vec<Address>,
    /// What both ends do.
    pub script: Script,
    /// What this one does.
    pub role: StationRole,
}

/// Which end.
#[derive(Clone, Copy, Debug)]
pub enum StationRole {
    /// Answers, on every address and port that frames are sent to.
    Server,
    /// A closed loop of connections.
    Client {
        /// Its endpoints.
        sources: Sources,
        /// How many of them are used, at least 1.
        endpoints: u32,
        /// The service: address in host byte order, and port.
        service: (u32, u16),
        /// Connections under way.
        concurrency: u32,
    },
}

/// A station at work.
#[derive(Debug)]
pub struct Station {
    _port: Port,
    shared: Arc<Shared>,
    task: Task<()>,
}

/// What a station has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Connections closed in order at both ends.
    pub closed: u64,
    /// Responses received (client) or sent (server).
    pub responses: u64,
    /// Frames received and sent.
    pub frames: u64,
    /// Everything that must be 0 for a rate to count.
    pub errors: u64,
    /// Connections opened and not closed (client).
    pub under_way: u64,
    /// Cycles spent in turns that found work.
    pub busy_cycles: u64,
}

/// What the lcore and its watcher share. The numbers are statistics: nothing is published by them.
#[derive(Debug, Default)]
struct Shared {
    numbers: [AtomicU64; 6],
    is_winding_down: AtomicBool,
    is_to_stop: AtomicBool,
}

enum Peer {
    Server(Server),
    Client {
        client: Client,
        endpoints: u32,
        concurrency: u32,
        opened: u64,
        under_way: u32,
    },
}

struct Loop {
    clock: Clock,
    pool: MbufPool,
    rx: RxQueue,
    tx: TxQueue,
    peer: Peer,
    link: neighbor::Link,
    out: Outbox,
    shared: Arc<Shared>,
    busy_cycles: u64,
}

/// Frames on their way to the device.
struct Outbox {
    waiting: Burst,
    /// Frames that the device did not take in time.
    lost: u64,
}

impl Station {
    /// Takes the device and lets `lcore` run.
    pub fn start(eal: Eal, lcore: Lcore, config: &StationConfig) -> Result<Self, LoadError> {
        let pool_config = MempoolConfig {
            // Both may be in one process.
            name: match config.role {
                StationRole::Server => "light-server",
                StationRole::Client { .. } => "light-client",
            },
            count: config.buffers,
            data_room_bytes: config.buffer_bytes,
            cache: POOL_CACHE,
            socket: None,
        };
        // A peer sends what it has just made: nothing is sent twice, so there are no views.
        let pool = MbufPool::create(&eal, &pool_config, POOL_CACHE * 2)?;
        let port_config = PortConfig {
            rx_descriptors: config.rx_descriptors,
            tx_descriptors: config.tx_descriptors,
            mtu: Some(config.mtu),
            tx_offloads: if config.offloads {
                PortConfig::default().tx_offloads
            } else {
                TxOffloads::MULTI_SEGS
            },
            ..PortConfig::default()
        };
        let device = Device::by_name(&eal, &config.device)?;
        let (port, mut rx, mut tx) = device.configure(&port_config, &[pool.bufs()])?.start()?;
        let (Some(rx), Some(tx)) = (rx.pop(), tx.pop()) else {
            return Err(LoadError::NoLcore);
        };
        let sums = TxOffloads::IPV4_CKSUM | TxOffloads::TCP_CKSUM;
        let mac = config.mac.unwrap_or_else(|| port.mac());
        let link = Link {
            ours: mac,
            theirs: config.peer_mac,
            mtu: config.mtu,
            checksums: if port.effective().tx_offloads.contains(sums) {
                Checksums::Device
            } else {
                Checksums::Software
            },
        };
        let shared = Arc::new(Shared::default());
        let clock = Clock::new(&eal);
        let mut at_work = Loop {
            clock,
            pool,
            rx,
            tx,
            peer: Peer::new(link, config),
            link: neighbor::Link::new(mac, config.addresses.iter().copied(), None),
            out: Outbox {
                waiting: Burst::new(),
                lost: 0,
            },
            shared: Arc::clone(&shared),
            busy_cycles: 0,
        };
        let task = eal.launch(lcore, move || at_work.run())?;
        Ok(Self {
            _port: port,
            shared,
            task,
        })
    }

    /// What it has done so far; at most some microseconds old.
    pub fn done(&self) -> Done {
        self.shared.done()
    }

    /// Lets it open nothing more.
    pub fn wind_down(&self) {
        self.shared.is_winding_down.store(true, Ordering::Relaxed);
    }

    /// Stops it and tells what it has done in all.
    pub fn stop(self) -> Result<Done, LoadError> {
        self.shared.is_to_stop.store(true, Ordering::Relaxed);
        let lcore = self.task.lcore();
        if self.task.join().is_err() {
            return Err(LoadError::Panicked(lcore));
        }
        Ok(self.shared.done())
    }
}

impl Shared {
    fn done(&self) -> Done {
        let [closed, responses, frames, errors, under_way, busy_cycles] = self
            .numbers
            .each_ref()
            .map(|number| number.load(Ordering::Relaxed));
        Done {
            closed,
            responses,
            frames,
            errors,
            under_way,
            busy_cycles,
        }
    }

    fn tell(&self, done: Done) {
        let Done {
            closed,
            responses,
            frames,
            errors,
            under_way,
            busy_cycles,
        } = done;
        let values = [closed, responses, frames, errors, under_way, busy_cycles];
        for (number, value) in self.numbers.iter().zip(values) {
            number.store(value, Ordering::Relaxed);
        }
    }
}

impl Peer {
    fn new(link: Link, config: &StationConfig) -> Self {
        let script = config.script.clone();
        // Another run wants other sequence numbers.
        let key = cycles();
        match config.role {
            StationRole::Server => Self::Server(Server::new(link, script, key)),
            StationRole::Client {
                sources,
                endpoints,
                service,
                concurrency,
            } => Self::Client {
                client: Client::new(link, sources, service, script, key),
                endpoints: endpoints.max(1),
                // A connection more than there are endpoints would be an old one, disturbed.
                concurrency: concurrency.min(endpoints.max(1)),
                opened: 0,
                under_way: 0,
            },
        }
    }

    fn counts(&self) -> &Counts {
        match self {
            Self::Server(server) => server.counts(),
            Self::Client { client, .. } => client.counts(),
        }
    }

    fn handle(
        &mut self,
        frame: &Mbuf,
        now_ms: u32,
        pool: &mut MbufPool,
        out: &mut impl FnMut(Mbuf),
    ) {
        match self {
            Self::Server(server) => server.handle(frame, now_ms, pool, out),
            Self::Client {
                client, under_way, ..
            } => {
                let heard = client.handle(frame, now_ms, pool, out);
                if matches!(heard, Heard::Closed { .. } | Heard::Reset { .. }) {
                    *under_way = under_way.saturating_sub(1);
                }
            }
        }
    }

    /// Opens what is missing; tells whether that was anything.
    fn open(&mut self, now_ms: u32, pool: &mut MbufPool, out: &mut impl FnMut(Mbuf)) -> bool {
        let Self::Client {
            client,
            endpoints,
            concurrency,
            opened,
            under_way,
        } = self
        else {
            return false;
        };
        let missing = concurrency
            .saturating_sub(*under_way)
            .min(OPENS_PER_TURN_MAX);
        for _ in 0..missing {
            let index = opened.checked_rem(u64::from(*endpoints)).unwrap_or(0);
            // Below `endpoints`, so it fits.
            client.open(index as u32, now_ms, pool, out);
            *opened = opened.wrapping_add(1);
            *under_way = under_way.saturating_add(1);
        }
        missing > 0
    }
}

impl Loop {
    fn run(&mut self) {
        let mut received = Burst::new();
        let mut turns = 0u32;
        while !self.shared.is_to_stop.load(Ordering::Relaxed) {
            let began = cycles();
            if self.turn(&mut received) {
                let took = cycles().wrapping_sub(began);
                self.busy_cycles = self.busy_cycles.wrapping_add(took);
            }
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS_PER_REPORT) {
                self.report();
            }
        }
        self.report();
    }

    /// One turn; tells whether it found work.
    fn turn(&mut self, received: &mut Burst) -> bool {
        let now_ms = self.clock.now().as_millis() as u32;
        let Self {
            pool,
            rx,
            tx,
            peer,
            link,
            out,
            ..
        } = self;
        let mut worked = rx.burst(received) > 0;
        for frame in received.frames() {
            frame.prefetch();
        }
        for frame in received.frames() {
            if is_ipv4(frame) {
                peer.handle(frame, now_ms, pool, &mut |answer| out.push(answer, tx));
            } else if let Some(reply) = link.react(frame.bytes()).reply
                && let Some(reply) = filled(pool, &reply)
            {
                out.push(reply, tx);
            }
        }
        received.clear();
        if !self.shared.is_winding_down.load(Ordering::Relaxed) {
            worked |= peer.open(now_ms, pool, &mut |frame| out.push(frame, tx));
        }
        out.flush(tx);
        worked
    }

    fn report(&self) {
        let counts = self.peer.counts();
        self.shared.tell(Done {
            closed: counts.closed,
            responses: counts.responses,
            frames: counts.frames_in.wrapping_add(counts.frames_out),
            errors: counts.errors().wrapping_add(self.out.lost),
            under_way: match self.peer {
                Peer::Server(_) => 0,
                Peer::Client { under_way, .. } => under_way.into(),
            },
            busy_cycles: self.busy_cycles,
        });
    }
}

impl Outbox {
    fn push(&mut self, frame: Mbuf, tx: &mut TxQueue) {
        if self.waiting.is_full() {
            self.flush(tx);
        }
        self.lost = self
            .lost
            .wrapping_add(self.waiting.try_push(frame).is_err().into());
    }

    /// Offers what waits. A full device gets the rest with the next turn; a frame it refuses is lost.
    fn flush(&mut self, tx: &mut TxQueue) {
        if !self.waiting.is_empty() {
            let refused = tx.burst(&mut self.waiting).keep();
            self.lost = self.lost.wrapping_add(refused as u64);
        }
    }
}

fn is_ipv4(frame: &Mbuf) -> bool {
    let ethernet = EthernetView::parse(frame.bytes());
    ethernet.is_ok_and(|ethernet| ethernet.ether_type() == EtherType::IPV4)
}

fn filled(pool: &mut MbufPool, bytes: &[u8]) -> Option<Mbuf> {
    let mut buf = pool.alloc()?;
    let offset = buf.offset();
    if !buf.set_span(offset, bytes.len()) {
        return None;
    }
    buf.bytes_mut()?.copy_from_slice(bytes);
    Some(buf)
}
