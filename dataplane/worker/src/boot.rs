//! From arguments to running lcores, in the order in which things can fail.
//!
//! EAL, packet memory, ports, the shared region, one stack and balancer per lcore: everything that will ever be allocated
//! is allocated here. What each failure means is in its error's words; all of them end the process with exit code 1.

use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arrayvec::ArrayVec;
use millrace_abi::limits::{LCORES_MAX, PORTS_MAX};
use millrace_abi::plan::{self, LcoreSizes};
use millrace_abi::{LcoreInfo, LcoreState, PortInfo, Region, RegionConfig};
use millrace_base::rss::RssMap;
use millrace_base::{Instant, LcoreIndex, PortId};
use millrace_dpdk::{
    Burst, Clock, Eal, EalArgs, Effective, Lcore as EalLcore, LcoreCpu, LogLevel, MbufPool,
    Memory as EalMemory, PciDevices, Port, RxQueue, Vdev,
};
use millrace_lb::{Balancer, BalancerConfig};
use millrace_stack::{Offloads, Stack, StackConfig, TcpTunables};
use tracing::{info, warn};

use crate::account::Stopwatch;
use crate::args::{Args, Memory, MemoryKind, PortSpec};
use crate::backlog::Backlog;
use crate::bells::Bells;
use crate::counters::{self, Counters};
use crate::idle::Idler;
use crate::poll::Lcore;
use crate::pools::Pools;
use crate::ports::{self, StartedPort, offloads_of};
use crate::shutdown::Control;
use crate::steer::Steer;
use crate::tx::TxPort;
use crate::{memory, rss};

/// Next hops an lcore can know.
const NEIGHBORS_MAX: usize = 4_096;
/// Health probes one lcore can have under way.
const PROBES_MAX: usize = 512;

/// A dataplane that is ready to run.
pub struct Dataplane {
    /// The proof that EAL runs.
    pub eal: Eal,
    /// Where the first lcore's frames come from; on a machine with one NUMA node, everybody's.
    pub pool: MbufPool,
    /// The ports, for statistics and link state.
    pub ports: Vec<Port>,
    /// Each lcore's loop and where it will run.
    pub lcores: Vec<(EalLcore, Lcore)>,
    /// The shared region.
    pub region: Region,
}

/// Does everything up to, and not including, the first packet.
pub fn boot(args: &Args, control: &Control) -> Result<Dataplane> {
    let path = region_path(args);
    // Before EAL takes memory and devices, which the other one may be using.
    Region::check_free(&path).with_context(|| format!("the region {}", path.display()))?;
    let eal = start_eal(args)?;
    info!(
        version = eal.version(),
        capture = eal.is_capture_ready(),
        "EAL started"
    );
    if let Err(errno) = eal.tell_usage() {
        warn!(%errno, "telemetry will not tell the lcores' usage");
    }
    assemble(eal, args, control, offloads_of)
}

/// The part of `boot` after EAL has started: the devices that `args` names may have been plugged in since.
///
/// `offloads` tells what to leave to a device: [`offloads_of`], unless the other end of the device is code that takes
/// frames as a better one would. The part of `args` that is EAL's is not looked at.
pub fn assemble(
    eal: Eal,
    args: &Args,
    control: &Control,
    offloads: impl Fn(&Effective) -> Offloads,
) -> Result<Dataplane> {
    let plan = rss::Plan::new(&eal, args)?;
    let pools = Pools::create(&eal, args)?;
    let mut ports = ports::start(&eal, args, &plan, &pools, offloads)?;
    let region = create_region(&eal, args, &ports)?;
    let mut lcores = create_lcores(&eal, args, control, &pools, &mut ports, &region, &plan.map)?;
    if let Some((_, first)) = lcores.first_mut() {
        memory::report_tables(&mut first.counters);
    }
    let ports = ports.into_iter().map(|started| started.port).collect();
    Ok(Dataplane {
        eal,
        pool: pools.of_lcore(0)?,
        ports,
        lcores,
        region,
    })
}

fn start_eal(args: &Args) -> Result<Eal> {
    let main_cpu = housekeeping_cpu(&args.lcores);
    let mut lcores = vec![LcoreCpu {
        lcore: 0,
        cpu: main_cpu,
    }];
    for (lcore, cpu) in (1u16..).zip(&args.lcores) {
        lcores.push(LcoreCpu { lcore, cpu: *cpu });
    }
    let (pci, vdevs): (Vec<&PortSpec>, Vec<&PortSpec>) =
        args.ports.iter().partition(|port| port.is_pci());
    let pci = if pci.is_empty() {
        PciDevices::None
    } else {
        PciDevices::Allow(pci.iter().map(|port| port.device.clone()).collect())
    };
    let eal_args = EalArgs {
        program: "millrace-dataplane".to_owned(),
        lcores,
        main_lcore: Some(0),
        memory: choose_memory(args),
        in_memory: !args.capture,
        file_prefix: Some(args.file_prefix.clone()),
        vdevs: vdevs.iter().map(|port| Vdev::parse(&port.device)).collect(),
        pci,
        log_level: LogLevel::Warning,
        extra: args.eal_args.clone(),
        ..EalArgs::default()
    };
    Eal::start(&eal_args).context("EAL did not start")
}

/// The CPU of the main thread, which wakes a few times a second: one that runs no lcore, if there is one.
fn housekeeping_cpu(lcores: &[u16]) -> u16 {
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let free = (0..cpus as u16).find(|cpu| !lcores.contains(cpu));
    free.or_else(|| lcores.first().copied()).unwrap_or(0)
}

fn choose_memory(args: &Args) -> EalMemory {
    let Memory { kind, megabytes } = args.memory;
    let needed =
        plan::mebibytes_needed(args.mbufs.into(), args.mbuf_bytes, args.lcores.len() as u64);
    let needed = u32::try_from(needed).unwrap_or(u32::MAX);
    let wanted = if megabytes == 0 { needed } else { megabytes };
    let use_huge = match kind {
        MemoryKind::HugePages => true,
        MemoryKind::NoHuge => false,
        MemoryKind::Auto => memory::huge_mebibytes_free() >= needed,
    };
    info!(use_huge, wanted, needed, "packet memory in MiB");
    if use_huge {
        EalMemory::HugePages {
            mebibytes: (megabytes != 0).then_some(megabytes),
        }
    } else {
        EalMemory::Ordinary { mebibytes: wanted }
    }
}

fn create_region(eal: &Eal, args: &Args, ports: &[StartedPort]) -> Result<Region> {
    let tsc_hz = Clock::new(eal).hertz();
    let lcores: Vec<LcoreInfo> = eal
        .worker_lcores()
        .iter()
        .map(|lcore| LcoreInfo {
            cpu: lcore.cpu().map_or(u32::MAX, u32::from),
            numa_node: u32::from(lcore.socket().0),
            tsc_hz,
        })
        .collect();
    let ports: Vec<PortInfo> = ports.iter().map(|started| started.info).collect();
    let counters = counters::specs();
    let config = RegionConfig {
        lcores: &lcores,
        ports: &ports,
        counters: &counters,
    };
    let path = region_path(args);
    std::fs::create_dir_all(&args.runtime_dir)
        .with_context(|| format!("creating {}", args.runtime_dir.display()))?;
    Region::create(&path, config).with_context(|| format!("creating {}", path.display()))
}

/// Where the shared region is.
pub(crate) fn region_path(args: &Args) -> PathBuf {
    args.runtime_dir.join("region")
}

fn create_lcores(
    eal: &Eal,
    args: &Args,
    control: &Control,
    pools: &Pools,
    ports: &mut [StartedPort],
    region: &Region,
    map: &Arc<RssMap>,
) -> Result<Vec<(EalLcore, Lcore)>> {
    let clock = Clock::new(eal);
    let count = args.lcores.len();
    if count > LCORES_MAX || ports.len() > PORTS_MAX {
        bail!("more lcores or ports than the region holds");
    }
    let offloads: ArrayVec<Offloads, PORTS_MAX> =
        ports.iter().map(|started| started.offloads).collect();
    let trusted = ports.iter().rev().fold(0u16, |bits, started| {
        (bits << 1) | u16::from(started.is_trusted)
    });
    let seats = deal_queues(ports, count)?;
    let tables = create_tables(eal, args, map)?;
    let steers = Steer::all(count as u16, map, trusted);
    let bells = Bells::new(args.idle, count).context("a bell for each lcore")?;
    let mut lcores = Vec::with_capacity(count);
    let parts = seats.into_iter().zip(tables).zip(steers);
    for ((number, eal_lcore), ((queues, tables), steer)) in
        (0u16..).zip(eal.worker_lcores()).zip(parts)
    {
        let index = LcoreIndex::new(number);
        let (mut stack, balancer) = tables;
        stack.reserve_connections(sizes(args).connections_reserved as usize);
        let lcore = Lcore {
            index,
            stock: pools.stock_of(index.index())?,
            clock,
            pool: pools.of_lcore(index.index())?,
            stack,
            balancer,
            rx: queues.rx,
            tx: queues.tx,
            offloads: offloads.clone(),
            shared: region
                .lcore(index)
                .context("the region's end for this lcore")?,
            steer,
            untold: None,
            idler: Idler::new(args.idle, bells.of(index)),
            bells: bells.clone(),
            control: control.clone(),
            counters: Counters::default(),
            state: LcoreState::default(),
            stopwatch: Stopwatch::new(),
            usage: eal.usage_of(eal_lcore),
            report_due: Instant::ZERO,
            backlog: Backlog::new(),
            turns: 0,
            burst: Burst::new(),
            ours: Burst::new(),
        };
        lcores.push((eal_lcore, lcore));
    }
    Ok(lcores)
}

/// The queues of one lcore, one pair of each port.
struct Seat {
    rx: ArrayVec<(PortId, RxQueue), PORTS_MAX>,
    tx: ArrayVec<TxPort, PORTS_MAX>,
}

/// Takes the queues from the ports and gives each lcore its own.
fn deal_queues(ports: &mut [StartedPort], lcores: usize) -> Result<Vec<Seat>> {
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|started| {
            let (rx, tx) = (&mut started.rx, &mut started.tx);
            (take(rx).into_iter(), take(tx).into_iter())
        })
        .collect();
    let mut seats = Vec::with_capacity(lcores);
    for lcore in 0..lcores {
        let (mut rx, mut tx) = (ArrayVec::new(), ArrayVec::new());
        for (port, (rx_queues, tx_queues)) in (0u16..).zip(&mut queues) {
            let missing = || anyhow!("port {port} has no queue for lcore {lcore}");
            rx.push((PortId::new(port), rx_queues.next().ok_or_else(missing)?));
            tx.push(TxPort::new(tx_queues.next().ok_or_else(missing)?));
        }
        seats.push(Seat { rx, tx });
    }
    Ok(seats)
}

/// The tables of every lcore, each taken by the lcore's own thread: the pages lie on the NUMA node of the CPU that
/// touches them first, and all lcores take theirs at the same time.
fn create_tables(
    eal: &Eal,
    args: &Args,
    map: &Arc<RssMap>,
) -> Result<Vec<(Stack<MbufPool>, Balancer)>> {
    let count = args.lcores.len() as u16;
    let mut tasks = Vec::with_capacity(args.lcores.len());
    for (number, lcore) in (0..count).zip(eal.worker_lcores()) {
        let stack = stack_config(args)?;
        let balancer = balancer_config(args, LcoreIndex::new(number))?;
        let map = Arc::clone(map);
        tasks.push(eal.launch(lcore, move || {
            (Stack::new(stack), Balancer::new(balancer, map))
        })?);
    }
    let tables = tasks.into_iter().map(|task| {
        task.join()
            .map_err(|_| anyhow!("an lcore could not take its tables"))
    });
    tables.collect()
}

// What is planned must not be cut down by the stack.
const _: () = assert!(has_as_many_desks(1) && has_as_many_desks(70_000));
const _: () = assert!(has_as_many_desks(1 << 22));
const _: () = assert!(plan::REQUESTS_MAX as usize <= millrace_stack::limits::SYN_QUEUE_MAX);
const _: () = assert!(plan::TIME_WAITS_MAX as usize <= millrace_stack::limits::TIME_WAIT_MAX);

/// How large each lcore's tables are.
fn sizes(args: &Args) -> LcoreSizes {
    let (ports, lcores) = (args.ports.len() as u64, args.lcores.len() as u64);
    LcoreSizes::new(
        args.connections_max.into(),
        args.mbufs.into(),
        ports,
        lcores,
    )
}

/// Whether the plan counts the desks of so many connections as the stack does.
const fn has_as_many_desks(connections: usize) -> bool {
    let planned = plan::desks_for(connections as u64);
    planned == millrace_stack::limits::desks_for(connections) as u64
}

fn stack_config(args: &Args) -> Result<StackConfig> {
    let sizes = sizes(args);
    let mut secret = [0u8; 32];
    memory::fill_random(&mut secret).context("reading random bytes")?;
    Ok(StackConfig {
        connections_max: sizes.connections as usize,
        syn_queue_max: sizes.requests as usize,
        time_wait_max: sizes.time_waits as usize,
        chunks_max: sizes.queued as usize,
        neighbors_max: NEIGHBORS_MAX,
        secret,
        tcp: TcpTunables::default(),
    })
}

fn balancer_config(args: &Args, lcore: LcoreIndex) -> Result<BalancerConfig> {
    let mut seed = [0u8; 8];
    memory::fill_random(&mut seed).context("reading random bytes")?;
    Ok(BalancerConfig {
        lcore,
        sessions_max: sizes(args).sessions as usize,
        probes_max: PROBES_MAX,
        snat_pairs_max: args.snat_pairs as usize,
        seed: u64::from_ne_bytes(seed),
    })
}
