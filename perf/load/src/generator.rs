//! Devices, lcores and hosts put together: what a command line describes and a run consists of.
//!
//! ```text
//!   port queue 0 -- lcore 1: stack + engine --\
//!                        | exchange            > counters --> observer
//!   port queue 1 -- lcore 2: stack + engine --/
//! ```

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use millrace_base::MacAddress;
use millrace_dpdk::{
    Clock, Device, Eal, Effective, LaunchError, Lcore as EalLcore, MbufPool, MempoolConfig,
    MempoolError, Port, PortConfig, PortError, Task, TxOffloads,
};
use millrace_stack::Offloads;

use crate::counters::Counters;
use crate::engine::Engine;
use crate::exchange::{Exchange, Role};
use crate::host::{Host, HostConfig};
use crate::lcore::{Control, Idle, Lcore};

/// Free buffers kept per lcore.
const POOL_CACHE: u32 = 256;
/// Buffers that one lcore holds on their way: its cache one and a half times, bursts, an inbox.
const LCORE_BUFFERS: usize = 2_048;

/// What a generator is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The device's name as EAL knows it.
    pub device: String,
    /// Descriptors per receive queue.
    pub rx_descriptors: u16,
    /// Descriptors per transmit queue.
    pub tx_descriptors: u16,
    /// Packet buffers in all.
    pub buffers: u32,
    /// Bytes per buffer, headroom (128) included.
    pub buffer_bytes: u16,
    /// Our Ethernet address, when it is not the device's.
    pub mac: Option<MacAddress>,
    /// What an lcore does when there is nothing to do.
    pub idle: Idle,
    /// Whether checksums and segmentation may be left to a device that offers them. `net_ring`
    /// offers what nobody does: its peer gets the frames as they are.
    pub offloads: bool,
    /// Client or sink.
    pub role: Role,
    /// Every lcore's host; addresses and sizes are each lcore's own, what the device decides is
    /// filled in.
    pub host: HostConfig,
}

/// Why a generator does not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is only the main lcore.
    #[error("no lcore to work on: the main one only watches, so --lcores needs two")]
    NoLcore,
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
    Panicked(EalLcore),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] std::io::Error),
}

/// A run under way.
#[derive(Debug)]
pub struct Generator {
    port: Port,
    control: Arc<Control>,
    counters: Vec<Arc<Counters>>,
    tasks: Vec<Task<()>>,
    /// What the device had dropped before.
    drops_before: u64,
}

impl Generator {
    /// Takes the device, gives each of these worker lcores a queue, a stack and an engine, and lets
    /// them run. `engine` makes the engine of one lcore of so many.
    pub fn start<E: Engine + Send + 'static>(
        eal: Eal,
        workers: &[EalLcore],
        setup: &Setup,
        mut engine: impl FnMut((u16, u16), Arc<Counters>) -> E,
    ) -> Result<Self, LoadError> {
        let lcores = u16::try_from(workers.len()).unwrap_or(u16::MAX);
        if lcores == 0 {
            return Err(LoadError::NoLcore);
        }
        let pool = create_pool(&eal, setup)?;
        let device = Device::by_name(&eal, &setup.device)?;
        let config = PortConfig {
            rx_queues: lcores,
            tx_queues: lcores,
            rx_descriptors: setup.rx_descriptors,
            tx_descriptors: setup.tx_descriptors,
            mtu: Some(setup.host.mtu),
            tx_offloads: if setup.offloads {
                PortConfig::default().tx_offloads
            } else {
                TxOffloads::MULTI_SEGS
            },
            ..PortConfig::default()
        };
        let (port, rx, tx) = device.configure(&config, &[pool.bufs()])?.start()?;
        let mut host = host_on(setup, &port);
        host.stack.chunks_max = queued_max(setup, lcores);
        let clock = Clock::new(&eal);
        let control = Arc::new(Control::default());
        let mut generator = Self {
            drops_before: 0,
            port,
            control: Arc::clone(&control),
            counters: Vec::with_capacity(workers.len()),
            tasks: Vec::with_capacity(workers.len()),
        };
        generator.drops_before = generator.drops_in_all();
        let ends = Exchange::all(lcores, setup.role);
        let parts = workers.iter().zip(ends).zip(rx.into_iter().zip(tx));
        for (number, ((worker, exchange), (rx, tx))) in (0u16..).zip(parts) {
            let counters = Arc::new(Counters::default());
            generator.counters.push(Arc::clone(&counters));
            // No two stacks may choose equal sequence numbers.
            File::open("/dev/urandom")?.read_exact(&mut host.stack.secret)?;
            let engine = engine((number, lcores), Arc::clone(&counters));
            let lcore = Lcore {
                clock,
                pool,
                host: Host::new(clock.now(), &host, engine, Arc::clone(&counters)),
                rx,
                tx,
                exchange,
                counters,
                control: Arc::clone(&control),
                idle: setup.idle,
            };
            let task = eal.launch(*worker, move || lcore.run())?;
            generator.tasks.push(task);
        }
        Ok(generator)
    }

    /// What the lcores count, one each.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.clone()
    }

    /// Lets arrivals come at this rate, all lcores together.
    pub fn set_rate(&self, rate: f64) {
        self.control
            .set_rate(rate / self.counters.len().max(1) as f64);
    }

    /// Lets the lcores begin nothing new.
    pub fn wind_down(&self) {
        self.control.wind_down();
    }

    /// Operations under way.
    pub fn in_flight(&self) -> u64 {
        let gauges = self.counters.iter().map(|lcore| lcore.in_flight.value());
        gauges.sum()
    }

    /// Lets the lcores reset what is left, and waits for them.
    pub fn stop(&mut self) -> Result<(), LoadError> {
        self.control.stop();
        let mut panicked = None;
        for task in self.tasks.drain(..) {
            let lcore = task.lcore();
            if task.join().is_err() {
                panicked = Some(lcore);
            }
        }
        panicked.map_or(Ok(()), |lcore| Err(LoadError::Panicked(lcore)))
    }

    /// Whether an lcore has returned without being told to.
    pub fn has_ended(&self) -> bool {
        self.tasks.iter().any(Task::is_finished)
    }

    /// Frames that the device dropped since the start.
    pub fn device_drops(&self) -> u64 {
        self.drops_in_all().saturating_sub(self.drops_before)
    }

    /// What the device can do and does.
    pub fn describe(&self) -> String {
        self.port.effective().to_string()
    }

    /// A driver that cannot tell leaves zeros, as DPDK's own tools do.
    fn drops_in_all(&self) -> u64 {
        let stats = self.port.stats().unwrap_or_default();
        stats
            .rx_missed
            .wrapping_add(stats.rx_errors)
            .wrapping_add(stats.rx_no_buffer)
            .wrapping_add(stats.tx_errors)
    }
}

fn create_pool(eal: &Eal, setup: &Setup) -> Result<MbufPool, MempoolError> {
    // Both may be in one process.
    let name = match setup.role {
        Role::Client => "load-client",
        Role::Sink => "load-sink",
    };
    let config = MempoolConfig {
        name,
        count: setup.buffers,
        data_room_bytes: setup.buffer_bytes,
        cache: POOL_CACHE,
        socket: None,
    };
    // A view is needed for each segment that leaves while its buffer is still held.
    MbufPool::create(eal, &config, (setup.buffers / 2).max(4_095))
}

/// Buffers that one lcore's connections may queue: what rings, caches and bursts leave over, half
/// of the pool at least.
fn queued_max(setup: &Setup, lcores: u16) -> usize {
    let buffers = setup.buffers as usize;
    let lcores = usize::from(lcores.max(1));
    let rings = usize::from(setup.rx_descriptors).saturating_add(setup.tx_descriptors.into());
    let moving = rings.saturating_add(LCORE_BUFFERS).saturating_mul(lcores);
    let queued = buffers.saturating_sub(moving.min(buffers / 2));
    queued.checked_div(lcores).unwrap_or(queued)
}

/// The host as this device makes it.
fn host_on(setup: &Setup, port: &Port) -> HostConfig {
    let effective = port.effective();
    let limit = effective
        .segmented_frame_bytes_max()
        .map(|frame| frame.saturating_sub(millrace_wire::ethernet::HEADER_BYTES as u16));
    HostConfig {
        mac: setup.mac.unwrap_or_else(|| port.mac()),
        mtu: limit.map_or(setup.host.mtu, |limit| limit.min(setup.host.mtu)),
        offloads: offloads_of(effective),
        ..setup.host.clone()
    }
}

/// What is in force on the device, as the stack wants to know it.
fn offloads_of(effective: &Effective) -> Offloads {
    let has = |offload: TxOffloads| effective.tx_offloads.contains(offload);
    let tso_bytes_max = effective.tso_bytes_max();
    Offloads {
        ip_checksum: has(TxOffloads::IPV4_CKSUM),
        tcp_checksum: has(TxOffloads::TCP_CKSUM),
        tso: tso_bytes_max > 0,
        tso_bytes_max,
        segments_max: effective.tx_segments_max(),
        even_pieces: effective.needs_even_pieces(),
        ..Offloads::default()
    }
}
