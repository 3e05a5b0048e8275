//! One process with everything in it: lcores as the worker boots them, ring pairs for cards, a clock that the rig moves.
//!
//! The lcores' turns and the generator's take place one after the other on one thread; only the turns are timed. Virtual
//! time is the time that the lcores have been busy: what a run of the scenario costs is also how long it lasts, as on a
//! core that does nothing else.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use millrace_abi::{ControlHandle, Region, Stage, heap};
use millrace_base::{Instant, Nanos};
use millrace_dpdk::{
    Clock, Device, Eal, EalArgs, Effective, LcoreCpu, LogLevel, MbufPool, Memory, Port, PortConfig,
    cycles,
};
use millrace_load::light::{Checksums, Link};
use millrace_stack::Offloads;
use millrace_worker::{Args, Control, Dataplane, Lcore, assemble, offloads_of};

use crate::health::Health;
use crate::meter::{Meter, Stages};
use crate::nic::{Delivery, Nic};
use crate::plan;

/// Frames that fit a ring: as many as all connections under way in any scenario can send at once.
pub(crate) const RING_FRAMES: u32 = 16_384;
/// The longest a turn moves the clock. A turn handles some hundred frames; one that took longer was interrupted.
pub(crate) const TURN_NANOS_MAX: u64 = 100_000;
/// How often an lcore looks at its timers while nothing arrives: an idle one sleeps about that long.
const IDLE_STEP_NANOS: u64 = 50_000;
/// Turns after which control's rings have been looked at.
const ADOPTION_TURNS: usize = 2_000;
/// The largest frame that a card with segmentation offload takes, bytes.
const LARGE_FRAME_BYTES: u32 = 61_440;

/// What the cards can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Card {
    /// Nothing: checksums are computed and verified in software, at both ends.
    Plain,
    /// Checksums.
    Checksum,
    /// Checksums and TCP segmentation.
    Tso,
}

/// What the world is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) lcores: u16,
    pub(crate) card: Card,
    pub(crate) mtu: u16,
    pub(crate) mbufs: u32,
    pub(crate) connections_max: u32,
    pub(crate) delivery: Delivery,
    pub(crate) huge_pages: bool,
    /// MiB of EAL's memory beside the packet buffers.
    pub(crate) extra_mebibytes: u32,
    pub(crate) chunk: u64,
    /// The CPU that the lcores run on.
    pub(crate) cpu: u16,
    /// The CPU that everything else runs on: the same, but where they run at the same time.
    pub(crate) peers_cpu: u16,
}

/// Everything.
pub(crate) struct World {
    pub(crate) lcores: Vec<Lcore>,
    /// The client side's card and the backend side's.
    pub(crate) nics: [Nic; 2],
    pub(crate) eal: Eal,
    pub(crate) pool: MbufPool,
    pub(crate) now: Instant,
    pub(crate) meter: Meter,
    pub(crate) setup: Setup,
    /// Cycles of turns that found work, since the start.
    pub(crate) busy_cycles: u64,
    /// Turns that found work, since the start.
    pub(crate) busy_turns: u64,
    clock: Clock,
    control: ControlHandle,
    _region: Region,
    _ports: Vec<Port>,
}

impl World {
    /// Boots the lcores and publishes their tables.
    pub(crate) fn new(setup: Setup) -> Result<Self> {
        let eal = start_eal(&setup)?;
        let mut far = Vec::new();
        for name in ["front", "back"] {
            let (near, end) = eal.plug_ring_pair(name, setup.lcores, RING_FRAMES)?;
            far.push((near.name().to_owned(), end));
        }
        let folder = Folder::create()?;
        let args = worker_args(&setup, &folder, &far)?;
        let offloads = |effective: &Effective| offloads(&setup, effective);
        let dataplane = assemble(eal, &args, &Control::default(), offloads)?;
        let Dataplane {
            pool,
            mut ports,
            lcores,
            region,
            ..
        } = dataplane;
        let mut nics = Vec::new();
        for (_, device) in far {
            let (port, nic) = start_far_end(device, &setup, pool)?;
            ports.push(port);
            nics.push(nic);
        }
        let Ok(nics) = <[Nic; 2]>::try_from(nics) else {
            bail!("two ring pairs make two cards");
        };
        let control = Region::open(&folder.region())?.control()?;
        let mut world = Self {
            lcores: lcores.into_iter().map(|(_, lcore)| lcore).collect(),
            nics,
            eal,
            pool,
            now: Instant::from_millis(1_000),
            meter: Meter::new(setup.chunk, Stages::default()),
            setup,
            busy_cycles: 0,
            busy_turns: 0,
            clock: Clock::new(&eal),
            control,
            _region: region,
            _ports: ports,
        };
        world.publish()?;
        Ok(world)
    }

    /// One turn of every lcore; returns the cycles of those that found work.
    pub(crate) fn turn(&mut self) -> u64 {
        let mut spent = 0;
        for lcore in &mut self.lcores {
            heap::seal_thread(heap::OnAllocation::Count);
            let start = cycles();
            let worked = lcore.turn(self.now);
            let took = cycles().wrapping_sub(start);
            heap::unseal_thread();
            if worked {
                spent += took;
                self.busy_turns += 1;
            }
        }
        self.busy_cycles += spent;
        let per_lcore = spent / u64::from(self.setup.lcores);
        let nanos = u128::from(per_lcore) * 1_000_000_000 / u128::from(self.clock.hertz());
        // An idle turn takes time too, or nothing would ever be due.
        let nanos = u64::try_from(nanos)
            .unwrap_or(u64::MAX)
            .clamp(100, TURN_NANOS_MAX);
        self.now = self.now.after(Nanos::new(nanos));
        spent
    }

    /// Adds to the meter what the lcores spent, and what was finished meanwhile.
    pub(crate) fn measure(&mut self, cycles: u64, operations: u64) {
        let Self { meter, lcores, .. } = self;
        meter.add(cycles, operations, || stages_of(lcores));
    }

    /// The warm-up is over.
    pub(crate) fn restart_meter(&mut self) {
        self.meter.restart(stages_of(&self.lcores));
    }

    /// Cycles of an operation by stage, since the meter was restarted.
    pub(crate) fn by_stage(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        Stage::ALL
            .map(Stage::word)
            .into_iter()
            .zip(self.meter.by_stage())
    }

    /// The clock whose rate virtual time has.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Cycles per second of this machine's counter.
    pub(crate) fn hertz(&self) -> u64 {
        self.clock.hertz()
    }

    /// The clock of the peers' timestamps.
    pub(crate) fn now_ms(&self) -> u32 {
        self.now.as_millis() as u32
    }

    /// Lets time pass in which no lcore has a turn.
    pub(crate) fn stand_still(&mut self, absence: Nanos) {
        self.now = self.now.after(absence);
    }

    /// Lets time pass in which nothing arrives; timers run.
    pub(crate) fn wait_until(&mut self, then: Instant) {
        while self.now < then {
            let rest = then.since(self.now).as_nanos();
            self.now = self.now.after(Nanos::new(rest.min(IDLE_STEP_NANOS)));
            self.turn();
        }
    }

    /// The link of a generator behind card `side`.
    pub(crate) fn link(&self, side: usize) -> Link {
        link(&self.setup, side)
    }

    /// Everything that is counted, now.
    pub(crate) fn health(&self) -> Health {
        Health::of(self)
    }

    /// Reads what the lcores tell control, as control would; a ring that nobody empties costs them a failed push.
    pub(crate) fn listen(&mut self) {
        for events in &mut self.control.events {
            while events.pop().is_some() {}
        }
    }

    fn publish(&mut self) -> Result<()> {
        let mtu = self.setup.mtu;
        let mut outcome = Ok(());
        let published = self
            .control
            .publish(|tables| outcome = plan::fill(tables, mtu));
        outcome?;
        if published.is_err() {
            bail!("the region is busy before anybody used it");
        }
        self.settle();
        for command in plan::neighbors() {
            for commands in &mut self.control.commands {
                if commands.push(&command).is_err() {
                    bail!("more neighbours than fit the ring");
                }
            }
        }
        self.settle();
        let adopted = |lcore: &Lcore| {
            let counters = lcore.balancer().counters();
            counters.tables_adopted == 1 && counters.records_invalid == 0
        };
        if !self.lcores.iter().all(adopted) {
            bail!("an lcore did not adopt the tables");
        }
        Ok(())
    }

    fn settle(&mut self) {
        for _ in 0..ADOPTION_TURNS {
            self.turn();
        }
    }
}

/// Totals by stage of all lcores.
fn stages_of(lcores: &[Lcore]) -> Stages {
    let mut stages = Stages::default();
    for lcore in lcores {
        for (sum, cycles) in stages.0.iter_mut().zip(lcore.state().stage_cycles) {
            *sum += cycles;
        }
    }
    stages
}

/// The link of a generator behind card `side`.
pub(crate) fn link(setup: &Setup, side: usize) -> Link {
    Link {
        ours: plan::THEIRS[side],
        theirs: plan::OURS[side],
        mtu: setup.mtu,
        checksums: match setup.card {
            Card::Plain => Checksums::Software,
            Card::Checksum | Card::Tso => Checksums::Device,
        },
    }
}

/// A folder for the region's file, gone when its maker is: the mapping needs no name.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("millrace-rig-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    fn region(&self) -> PathBuf {
        self.0.join("region")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn start_eal(setup: &Setup) -> Result<Eal> {
    let mebibytes = setup.mbufs / 1_024 * (u32::from(mbuf_bytes(setup)) + 512) / 1_024
        + 160
        + setup.extra_mebibytes;
    let args = EalArgs {
        program: "millrace-rig".to_owned(),
        lcores: (0..=setup.lcores)
            .map(|lcore| LcoreCpu {
                lcore,
                cpu: if lcore == 0 {
                    setup.peers_cpu
                } else {
                    setup.cpu
                },
            })
            .collect(),
        main_lcore: Some(0),
        memory: if setup.huge_pages {
            Memory::HugePages { mebibytes: None }
        } else {
            Memory::Ordinary { mebibytes }
        },
        file_prefix: Some(format!("millrace-rig-{}", std::process::id())),
        log_level: LogLevel::Error,
        extra: vec!["--no-telemetry".to_owned()],
        ..EalArgs::default()
    };
    Eal::start(&args).context("EAL did not start")
}

/// Room for a whole frame behind the headroom.
pub(crate) fn mbuf_bytes(setup: &Setup) -> u16 {
    (setup.mtu + 128 + 64).max(2_176)
}

fn worker_args(setup: &Setup, folder: &Folder, far: &[(String, Device)]) -> Result<Args> {
    let cpus: Vec<String> = (0..setup.lcores).map(|lcore| lcore.to_string()).collect();
    let folder = folder
        .0
        .to_str()
        .context("the folder's name is not UTF-8")?;
    let mut arguments = vec![
        "millrace-dataplane".to_owned(),
        format!("--runtime-dir={folder}"),
        format!("--lcores={}", cpus.join(",")),
        format!("--mbufs={}", setup.mbufs),
        format!("--mbuf-bytes={}", mbuf_bytes(setup)),
        format!("--connections-max={}", setup.connections_max),
        "--idle=poll".to_owned(),
    ];
    for ((device, _), mac) in far.iter().zip(plan::OURS) {
        let mtu = setup.mtu;
        arguments.push(format!(
            "--port=name={device};device={device};mac={mac};mtu={mtu}"
        ));
    }
    Ok(Args::try_parse_from(arguments)?)
}

fn offloads(setup: &Setup, effective: &Effective) -> Offloads {
    let has_checksums = setup.card != Card::Plain;
    let has_tso = setup.card == Card::Tso;
    Offloads {
        ip_checksum: has_checksums,
        tcp_checksum: has_checksums,
        tso: has_tso,
        tso_bytes_max: if has_tso { LARGE_FRAME_BYTES } else { 0 },
        ..offloads_of(effective)
    }
}

fn start_far_end(device: Device, setup: &Setup, pool: MbufPool) -> Result<(Port, Nic)> {
    let config = PortConfig {
        rx_queues: setup.lcores,
        tx_queues: setup.lcores,
        ..PortConfig::default()
    };
    let (port, rx, tx) = device.configure(&config, &[pool.bufs()])?.start()?;
    let nic = Nic::new(rx, tx, setup.delivery, setup.card != Card::Plain);
    Ok((port, nic))
}
