//! Ports, streams and lcores put together: what a command line describes and an operator starts and
//! stops.
//!
//! ```text
//!   port 0 queue 0 --\                          /--> port 1 queue 0
//!                     > stream, polled by lcore <
//!   port 1 queue 0 --/   (round robin)          \--> port 0 queue 0
//! ```

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_base::{HEADROOM_BYTES_DEFAULT, MacAddress};
use millrace_dpdk::{
    BURST_FRAMES_MAX, Clock, Device, Eal, LaunchError, Lcore, Mempool, MempoolConfig, MempoolError,
    Port, PortConfig, PortError, PortStats, RssConfig, RssTypes, RxOffloads, RxQueue, Task,
    TxOffloads, TxQueue,
};

use crate::counters::{Counters, Snapshot};
use crate::engine::{Engine, FRAME_BYTES_MIN, TxOnly};
use crate::mode::Mode;
use crate::poll::{self, LcoreCounters};
use crate::report::{ForwardReport, LcoreReport, NicReport, PortReport};
use crate::settings::Settings;
use crate::stream::{Stream, StreamPlace};
use crate::topology::Topology;

/// Free buffers kept per lcore. testpmd's default: a burst fits in many times over.
const POOL_CACHE: u32 = 250;

/// The hash key of ports with several queues is this over and over, so that both directions of a
/// flow meet on one queue (Woo and Park, "Scalable TCP session monitoring with symmetric
/// receive-side scaling", 2012).
const RSS_KEY_UNIT: [u8; 2] = [0x6d, 0x5a];
/// How often: 52 bytes serve every device.
const RSS_KEY_UNITS: usize = 26;

/// What a forwarder is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Device names as EAL knows them; their order numbers the ports.
    pub devices: Vec<String>,
    /// Queues per port and direction, at least 1.
    pub queues: u16,
    /// Descriptors per receive queue.
    pub rx_descriptors: u16,
    /// Descriptors per transmit queue.
    pub tx_descriptors: u16,
    /// Buffers in the pool; `None` counts what queues and caches can hold.
    pub buffers: Option<u32>,
    /// Bytes per buffer, headroom (128) included.
    pub buffer_bytes: u16,
    /// Which port sends what another received.
    pub topology: Topology,
    /// Addresses at the other end of ports, by port. Default 02:00:00:00:00:NN, NN the port.
    pub peers: Vec<(usize, MacAddress)>,
    /// Lcores that forward at most; `None` is all but the main one.
    pub lcores_max: Option<usize>,
    /// What the engines are told.
    pub settings: Settings,
}

/// Why a forwarder does not forward.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No device was named.
    #[error("no port: name at least one device")]
    NoPort,
    /// There is only the main lcore, or none was allowed.
    #[error("no lcore to forward on: the main one only controls, so --lcores needs two")]
    NoLcore,
    /// Frames to generate do not fit a buffer.
    #[error("frames of {frame_bytes} bytes: headers need {least}, a buffer holds {most}")]
    FrameLength {
        /// Bytes wanted.
        frame_bytes: usize,
        /// Bytes that the headers need.
        least: usize,
        /// Bytes that fit.
        most: usize,
    },
    /// It forwards already.
    #[error("forwarding already: stop first")]
    Running,
    /// A device could not be used.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The pool could not be made.
    #[error(transparent)]
    Pool(#[from] MempoolError),
    /// An lcore did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// An lcore stopped by itself: a bug of ours.
    #[error("lcore {0} panicked")]
    Panicked(Lcore),
}

#[derive(Debug)]
struct LcoreSeat {
    lcore: Lcore,
    counters: Arc<LcoreCounters>,
    /// Which streams it polls.
    streams: Vec<usize>,
    /// Its cycles at the last clearing.
    baseline: u64,
}

#[derive(Debug)]
struct Watch {
    place: StreamPlace,
    counters: Arc<Counters>,
    /// What it had counted at the last clearing.
    baseline: Snapshot,
}

#[derive(Debug)]
struct PortSeat {
    port: Port,
    /// What the device had counted when rates were last asked for.
    last: (Instant, PortStats),
    /// What the device had counted at the last clearing: not every driver can be set to zero.
    baseline: PortStats,
}

/// Ports and the streams between them, forwarding or not.
#[derive(Debug)]
pub struct Forwarder {
    eal: Eal,
    settings: Settings,
    mode: Mode,
    pool: Mempool,
    ports: Vec<PortSeat>,
    watches: Vec<Watch>,
    lcores: Vec<LcoreSeat>,
    /// The streams while nobody polls them, in order.
    idle: Vec<Stream>,
    running: Vec<Task<Vec<Stream>>>,
    stop: Arc<AtomicBool>,
    started: Instant,
    forwarded_for: Duration,
}

impl Forwarder {
    /// Takes the devices, gives them queues and starts them. Nothing is forwarded yet.
    pub fn open(eal: Eal, mode: Mode, setup: &Setup) -> Result<Self, ForwardError> {
        let settings = Settings {
            hertz: Clock::new(&eal).hertz(),
            ..setup.settings
        };
        let workers = eal.worker_lcores();
        let workers = workers
            .get(..setup.lcores_max.unwrap_or(workers.len()).min(workers.len()))
            .unwrap_or_default();
        if workers.is_empty() {
            return Err(ForwardError::NoLcore);
        }
        check_frame_length(setup)?;
        let config = MempoolConfig {
            name: "forward",
            count: setup
                .buffers
                .unwrap_or_else(|| buffers_for(setup, workers.len())),
            data_room_bytes: setup.buffer_bytes,
            cache: POOL_CACHE,
            socket: None,
        };
        let pool = Mempool::new(&eal, &config)?;
        let (ports, queues) = start_ports(&eal, setup, pool)?;
        let idle = make_streams(setup, &settings, pool, &ports, queues);
        let watches: Vec<Watch> = idle.iter().map(Watch::over).collect();
        let lcores = seat(workers, watches.len());
        Ok(Self {
            eal,
            settings,
            mode,
            pool,
            ports,
            watches,
            lcores,
            idle,
            running: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            started: Instant::now(),
            forwarded_for: Duration::ZERO,
        })
    }

    /// Starts forwarding on all lcores.
    pub fn start(&mut self) -> Result<(), ForwardError> {
        if self.is_running() {
            return Err(ForwardError::Running);
        }
        self.stop.store(false, Ordering::Relaxed);
        let mut idle: Vec<Option<Stream>> = self.idle.drain(..).map(Some).collect();
        for seat in &self.lcores {
            let take = |index: &usize| idle.get_mut(*index).and_then(Option::take);
            let streams: Vec<Stream> = seat.streams.iter().filter_map(take).collect();
            let (mode, settings) = (self.mode, self.settings);
            let stop = Arc::clone(&self.stop);
            let counters = Arc::clone(&seat.counters);
            let work = move || poll::run(mode, streams, &settings, &stop, &counters);
            self.running.push(self.eal.launch(seat.lcore, work)?);
        }
        self.started = Instant::now();
        Ok(())
    }

    /// Sends bursts of frames from every stream, as `txonly` makes them: what a loop of ports needs
    /// to have something to forward.
    pub fn send_first(&mut self, bursts: u32) -> Result<(), ForwardError> {
        if self.is_running() {
            return Err(ForwardError::Running);
        }
        for stream in &mut self.idle {
            let mut engine = TxOnly::begin(stream, &self.settings);
            for _ in 0..bursts {
                engine.burst(stream);
            }
        }
        Ok(())
    }

    /// Stops forwarding and waits until every lcore has let go of its frames. Does nothing when it
    /// does not forward.
    pub fn stop(&mut self) -> Result<(), ForwardError> {
        // Relaxed: joining orders everything else.
        self.stop.store(true, Ordering::Relaxed);
        if self.is_running() {
            self.forwarded_for = self.forwarded_for.saturating_add(self.started.elapsed());
        }
        let mut panicked = None;
        for task in self.running.drain(..) {
            let lcore = task.lcore();
            match task.join() {
                Ok(streams) => self.idle.extend(streams),
                Err(_) => panicked = Some(lcore),
            }
        }
        self.idle
            .sort_by_key(|stream| (stream.place().rx_port, stream.place().queue));
        panicked.map_or(Ok(()), |lcore| Err(ForwardError::Panicked(lcore)))
    }

    /// Chooses what the next start does.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), ForwardError> {
        if self.is_running() {
            return Err(ForwardError::Running);
        }
        self.mode = mode;
        Ok(())
    }

    /// Lets the counters of the streams begin at zero.
    pub fn clear_forward(&mut self) {
        for watch in &mut self.watches {
            watch.baseline = watch.counters.snapshot();
        }
        for seat in &mut self.lcores {
            seat.baseline = seat.counters.total_cycles.value();
        }
        self.started = Instant::now();
        self.forwarded_for = Duration::ZERO;
    }

    /// Lets the counters of the devices begin at zero.
    pub fn clear_ports(&mut self) -> Result<(), ForwardError> {
        for seat in &mut self.ports {
            seat.baseline = seat.port.stats()?;
            seat.last = (Instant::now(), seat.baseline);
        }
        Ok(())
    }

    /// What the devices counted, and the rates since this was last asked.
    pub fn nic_reports(&mut self) -> Result<Vec<NicReport>, ForwardError> {
        let mut reports = Vec::with_capacity(self.ports.len());
        for (number, seat) in self.ports.iter_mut().enumerate() {
            let now = (Instant::now(), seat.port.stats()?);
            let (then, before) = core::mem::replace(&mut seat.last, now);
            let name = seat.port.name().to_owned();
            let seconds = now.0.duration_since(then).as_secs_f64();
            let total = NicReport::difference(&now.1, &seat.baseline);
            let rates = NicReport::difference(&now.1, &before);
            reports.push(total.named(number, name, &rates, seconds));
        }
        Ok(reports)
    }

    /// What the streams counted since the last clearing.
    pub fn report(&self) -> ForwardReport {
        let running_for = if self.is_running() {
            self.started.elapsed()
        } else {
            Duration::ZERO
        };
        let counted: Vec<(StreamPlace, Snapshot)> =
            self.watches.iter().map(Watch::counted).collect();
        let port = |(number, seat): (usize, &PortSeat)| {
            let missed = seat.port.stats().map_or(0, |stats| {
                stats.rx_missed.saturating_sub(seat.baseline.rx_missed)
            });
            PortReport::of(number, seat.port.name(), missed, &counted)
        };
        let ports = self.ports.iter().enumerate().map(port).collect();
        let lcore = |seat: &LcoreSeat| {
            let snapshots = seat.streams.iter().filter_map(|index| counted.get(*index));
            let sum = snapshots.fold(Snapshot::default(), |sum, (_, one)| sum.plus(one));
            let total = seat.counters.total_cycles.value();
            let total = total.wrapping_sub(seat.baseline);
            LcoreReport::of(self.mode, seat.lcore, seat.streams.len(), &sum, total)
        };
        let lcores = self.lcores.iter().map(lcore).collect();
        let seconds = self.forwarded_for.saturating_add(running_for).as_secs_f64();
        ForwardReport::of(self.mode, self.settings.hertz, seconds, ports, lcores)
    }

    /// What each port can do and does, one table each.
    pub fn describe(&self) -> String {
        self.ports
            .iter()
            .map(|seat| seat.port.effective().to_string())
            .collect()
    }

    /// Whether lcores are forwarding.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// What the lcores do, or will.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where the streams' buffers come from.
    pub fn pool(&self) -> Mempool {
        self.pool
    }

    /// Where each stream goes, and which lcore polls it.
    pub fn streams(&self) -> Vec<(Lcore, StreamPlace)> {
        let of_seat = |seat: &LcoreSeat| {
            let lcore = seat.lcore;
            let watches = seat
                .streams
                .iter()
                .filter_map(|index| self.watches.get(*index));
            watches
                .map(|watch| (lcore, watch.place))
                .collect::<Vec<_>>()
        };
        self.lcores.iter().flat_map(of_seat).collect()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // A panic of an lcore has been reported by the one who stopped; here only the ports matter,
        // which stop with the last queue.
        drop(self.stop());
    }
}

impl Watch {
    fn over(stream: &Stream) -> Self {
        Self {
            place: *stream.place(),
            counters: Arc::clone(stream.counters()),
            baseline: Snapshot::default(),
        }
    }

    fn counted(&self) -> (StreamPlace, Snapshot) {
        (self.place, self.counters.snapshot().since(&self.baseline))
    }
}

fn check_frame_length(setup: &Setup) -> Result<(), ForwardError> {
    let frame_bytes = setup.settings.frame_bytes;
    let most = usize::from(setup.buffer_bytes).saturating_sub(HEADROOM_BYTES_DEFAULT);
    if (FRAME_BYTES_MIN..=most).contains(&frame_bytes) {
        return Ok(());
    }
    Err(ForwardError::FrameLength {
        frame_bytes,
        least: FRAME_BYTES_MIN,
        most,
    })
}

/// Enough for every descriptor, a burst in every stream, and a full cache on every lcore.
fn buffers_for(setup: &Setup, lcores: usize) -> u32 {
    let per_queue = u32::from(setup.rx_descriptors)
        .saturating_add(u32::from(setup.tx_descriptors))
        .saturating_add(2 * BURST_FRAMES_MAX as u32)
        .saturating_add(u32::try_from(setup.settings.noisy.queue_frames).unwrap_or(u32::MAX));
    let queues = u32::from(setup.queues)
        .saturating_mul(u32::try_from(setup.devices.len()).unwrap_or(u32::MAX));
    // A cache spills at one and a half times its size; the main lcore has one too.
    let caches = u32::try_from(lcores)
        .unwrap_or(u32::MAX)
        .saturating_add(1)
        .saturating_mul(POOL_CACHE.saturating_mul(2));
    let needed = per_queue.saturating_mul(queues).saturating_add(caches);
    // A power of two less one uses a pool's memory best.
    needed
        .checked_next_power_of_two()
        .map_or(u32::MAX, |size| size.saturating_sub(1))
}

type Queues = Vec<(RxQueue, TxQueue)>;

fn start_ports(
    eal: &Eal,
    setup: &Setup,
    pool: Mempool,
) -> Result<(Vec<PortSeat>, Vec<Queues>), ForwardError> {
    let checksums = if setup.settings.offload_checksums {
        TxOffloads::IPV4_CKSUM | TxOffloads::TCP_CKSUM
    } else {
        TxOffloads::NONE
    };
    let config = PortConfig {
        rx_queues: setup.queues,
        tx_queues: setup.queues,
        rx_descriptors: setup.rx_descriptors,
        tx_descriptors: setup.tx_descriptors,
        rx_offloads: RxOffloads::NONE,
        tx_offloads: TxOffloads::MULTI_SEGS | checksums,
        rss: (setup.queues > 1).then(|| RssConfig {
            types: RssTypes::TCP,
            key: RSS_KEY_UNIT.repeat(RSS_KEY_UNITS),
        }),
        ..PortConfig::default()
    };
    if setup.devices.is_empty() {
        return Err(ForwardError::NoPort);
    }
    let mut ports = Vec::with_capacity(setup.devices.len());
    let mut queues = Vec::with_capacity(setup.devices.len());
    for name in &setup.devices {
        let device = Device::by_name(eal, name)?;
        let (port, rx, tx) = device.configure(&config, &[pool])?.start()?;
        let baseline = port.stats()?;
        ports.push(PortSeat {
            port,
            last: (Instant::now(), baseline),
            baseline,
        });
        queues.push(rx.into_iter().zip(tx).collect());
    }
    Ok((ports, queues))
}

/// Pairs each receive queue with the transmit queue of the same number on the port that answers.
fn make_streams(
    setup: &Setup,
    settings: &Settings,
    pool: Mempool,
    ports: &[PortSeat],
    queues: Vec<Queues>,
) -> Vec<Stream> {
    let count = ports.len();
    let mut rx = Vec::new();
    let mut tx: Vec<Vec<Option<TxQueue>>> = Vec::new();
    for of_port in queues {
        let (of_rx, of_tx): (Vec<_>, Vec<_>) = of_port.into_iter().unzip();
        rx.push(of_rx);
        tx.push(of_tx.into_iter().map(Some).collect());
    }
    let mut streams = Vec::new();
    for (rx_port, of_rx) in rx.into_iter().enumerate() {
        let tx_port = setup.topology.sender_for(rx_port, count);
        for (queue, rx) in of_rx.into_iter().enumerate() {
            let sender = tx.get_mut(tx_port).and_then(|port| port.get_mut(queue));
            let (Some(tx), Some(seat)) = (sender.and_then(Option::take), ports.get(tx_port)) else {
                continue;
            };
            let place = StreamPlace {
                rx_port,
                tx_port,
                queue: rx.index(),
                tx_mac: seat.port.mac(),
                peer_mac: peer_of(setup, tx_port),
            };
            // `csum` may leave its work to the device only where both checksums are in force.
            let offered = seat.port.effective().tx_offloads;
            let both = TxOffloads::IPV4_CKSUM | TxOffloads::TCP_CKSUM;
            let settings = Settings {
                offload_checksums: settings.offload_checksums && offered.contains(both),
                ..*settings
            };
            streams.push(Stream::new(place, (rx, tx), pool, &settings));
        }
    }
    streams
}

fn peer_of(setup: &Setup, port: usize) -> MacAddress {
    let given = setup.peers.iter().rev().find(|(of, _)| *of == port);
    let number = u8::try_from(port).unwrap_or(u8::MAX);
    given.map_or(MacAddress::new([2, 0, 0, 0, 0, number]), |(_, mac)| *mac)
}

/// Deals streams out to lcores in turn; lcores without any stay out.
fn seat(workers: &[Lcore], streams: usize) -> Vec<LcoreSeat> {
    let every = workers.len();
    let one = |(index, lcore): (usize, &Lcore)| LcoreSeat {
        lcore: *lcore,
        counters: Arc::default(),
        streams: (index..streams).step_by(every).collect(),
        baseline: 0,
    };
    let mut seats: Vec<LcoreSeat> = workers.iter().enumerate().map(one).collect();
    seats.retain(|seat| !seat.streams.is_empty());
    seats
}
