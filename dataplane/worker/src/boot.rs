//! From arguments to running lcores, in the order in which things can fail.
//!
//! EAL, packet memory, ports, the shared region, one stack and balancer per lcore: everything that will ever be allocated
//! is allocated here. What each failure means is in its error's words; all of them end the process with exit code 1.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arrayvec::ArrayVec;
use millrace_abi::limits::{LCORES_MAX, PORTS_MAX};
use millrace_abi::plan::{self, LcoreSizes};
use millrace_abi::{LcoreInfo, LcoreState, Name, PortInfo, Region, RegionConfig};
use millrace_base::rss::RssMap;
use millrace_base::{Instant, LcoreIndex, PortId};
use millrace_dpdk::{
    Burst, Clock, Eal, EalArgs, Effective, Lcore as EalLcore, LcoreCpu, LogLevel, MbufPool,
    Memory as EalMemory, Mempool, MempoolConfig, PciDevices, Port, PortConfig, RxQueue, TxOffloads,
    TxQueue, Vdev,
};
use millrace_lb::{Balancer, BalancerConfig};
use millrace_stack::{Offloads, Stack, StackConfig, TcpTunables};
use tracing::{info, warn};

use crate::account::Stopwatch;
use crate::args::{Args, Idle, Memory, MemoryKind, PortSpec};
use crate::counters::{self, Counters};
use crate::idle::Idler;
use crate::memory;
use crate::poll::Lcore;
use crate::rss;
use crate::shutdown::Control;
use crate::steer::Steer;
use crate::tag;
use crate::tx::TxPort;

/// Free mbufs that each lcore keeps at hand.
const MBUF_CACHE: u32 = 256;
/// The largest frame that a TSO device is handed, bytes. Beyond 64 KiB the IP length field ends.
const TSO_BYTES_MAX: u32 = 61_440;
/// Next hops an lcore can know.
const NEIGHBORS_MAX: usize = 4_096;
const ETHERNET_HEADER_BYTES: u16 = millrace_wire::ethernet::HEADER_BYTES as u16;
/// Health probes one lcore can have under way.
const PROBES_MAX: usize = 512;

/// A dataplane that is ready to run.
pub struct Dataplane {
    /// The proof that EAL runs.
    pub eal: Eal,
    /// Where frames are received into.
    pub pool: MbufPool,
    /// The ports, for statistics and link state.
    pub ports: Vec<Port>,
    /// Each lcore's loop and where it will run.
    pub lcores: Vec<(EalLcore, Lcore)>,
    /// The shared region.
    pub region: Region,
}

struct StartedPort {
    port: Port,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    info: PortInfo,
    offloads: Offloads,
    /// Whether the card is trusted to deliver to the owner of a flow.
    is_trusted: bool,
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
    let pool = create_pool(&eal, args)?;
    let plan = rss::Plan::new(&eal, args)?;
    let mut ports = Vec::with_capacity(args.ports.len());
    for spec in &args.ports {
        ports.push(start_port(&eal, spec, &plan, args, pool, &offloads)?);
    }
    let region = create_region(&eal, args, &ports)?;
    let mut lcores = create_lcores(&eal, args, control, pool, &mut ports, &region, &plan.map)?;
    if let Some((_, first)) = lcores.first_mut() {
        memory::report_tables(&mut first.counters);
    }
    let ports = ports.into_iter().map(|started| started.port).collect();
    Ok(Dataplane {
        eal,
        pool,
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

fn create_pool(eal: &Eal, args: &Args) -> Result<MbufPool> {
    let config = MempoolConfig {
        name: "frames",
        count: args.mbufs,
        data_room_bytes: args.mbuf_bytes,
        cache: MBUF_CACHE,
        socket: None,
    };
    let reserved = plan::RESERVED_FRAMES.saturating_mul(args.lcores.len() as u64);
    let reserved = u32::try_from(reserved).context("reserved packet buffers")?;
    let reserve = MempoolConfig {
        name: "reserve",
        count: reserved,
        data_room_bytes: plan::RESERVED_BYTES,
        cache: 0,
        socket: None,
    };
    let reserve = Mempool::new(eal, &reserve).context("reserved packet buffers")?;
    let views = u32::try_from(plan::views(args.mbufs.into())).context("packet views")?;
    MbufPool::create(eal, &config, views)
        .map(|pool| pool.with_reserve(reserve))
        .context("packet buffers")
}

fn start_port(
    eal: &Eal,
    spec: &PortSpec,
    plan: &rss::Plan,
    args: &Args,
    mut pool: MbufPool,
    offloads: impl Fn(&Effective) -> Offloads,
) -> Result<StartedPort> {
    let queues = args.lcores.len() as u16;
    let config = PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        mtu: Some(spec.mtu),
        rx_interrupts: args.idle == Idle::Interrupt,
        ..tag::wishes(spec.vlan)
    };
    let rss::Started {
        port,
        rx,
        tx,
        proof,
        is_trusted,
    } = plan
        .start(eal, spec.device_name(), &config, &mut pool)
        .with_context(|| format!("port {} with {queues} queues", spec.name))?;
    info!(port = spec.name, "\n{}", port.effective());
    let mac = spec.mac.unwrap_or_else(|| port.mac());
    let offloads = Offloads {
        vlan: spec.vlan,
        ..offloads(port.effective())
    };
    let info = PortInfo {
        name: Name::new(&spec.name),
        driver: Name::new(&port.effective().offered.driver),
        mac: *mac.octets(),
        mtu: usable_mtu(spec, port.effective()),
        queues,
        rss_proof: proof as u8,
        ..PortInfo::default()
    };
    Ok(StartedPort {
        port,
        rx,
        tx,
        info,
        offloads,
        is_trusted,
    })
}

/// The MTU the stack works with: what was asked for, less what the device's segmentation needs.
fn usable_mtu(spec: &PortSpec, effective: &Effective) -> u16 {
    let limit = effective
        .segmented_frame_bytes_max()
        .map(|frame| frame.saturating_sub(ETHERNET_HEADER_BYTES))
        .map(|packet| packet.saturating_sub(tag::bytes_in_frame(spec.vlan)));
    limit.map_or(spec.mtu, |limit| limit.min(spec.mtu))
}

/// What is in force on the device, as the stack wants to know it.
pub fn offloads_of(effective: &Effective) -> Offloads {
    let has = |offload: TxOffloads| effective.tx_offloads.contains(offload);
    let segments_max = if effective.sends_chains() {
        effective.offered.tx_segments_max
    } else {
        1
    };
    // A large frame is a chain, and its pieces need their checksums from the device too.
    let tso = has(TxOffloads::TCP_TSO) && has(TxOffloads::TCP_CKSUM) && segments_max > 1;
    Offloads {
        ip_checksum: has(TxOffloads::IPV4_CKSUM),
        tcp_checksum: has(TxOffloads::TCP_CKSUM),
        tso,
        tso_bytes_max: if tso { TSO_BYTES_MAX } else { 0 },
        segments_max,
        // What the operator wants, not what the device offers: the caller fills it in.
        vlan: None,
        vlan_insert: has(TxOffloads::VLAN_INSERT),
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
    pool: MbufPool,
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
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|started| {
            (
                std::mem::take(&mut started.rx).into_iter(),
                std::mem::take(&mut started.tx).into_iter(),
            )
        })
        .collect();
    let mut lcores = Vec::with_capacity(count);
    let mut tables = create_tables(eal, args, map)?.into_iter();
    let sizes = sizes(args);
    let watermarks = memory::watermarks(pool.bufs().available(), count);
    let trusted = ports.iter().rev().fold(0u16, |bits, started| {
        (bits << 1) | u16::from(started.is_trusted)
    });
    let steers = Steer::all(count as u16, map, trusted);
    for ((number, steer), eal_lcore) in (0u16..).zip(steers).zip(eal.worker_lcores()) {
        let index = LcoreIndex::new(number);
        let (mut rx, mut tx) = (ArrayVec::new(), ArrayVec::new());
        for (port, (rx_queues, tx_queues)) in (0u16..).zip(&mut queues) {
            let missing = || anyhow!("port {port} has no queue for lcore {number}");
            rx.push((PortId::new(port), rx_queues.next().ok_or_else(missing)?));
            tx.push(TxPort::new(tx_queues.next().ok_or_else(missing)?));
        }
        let (mut stack, balancer) = tables.next().context("one set of tables for each lcore")?;
        stack.reserve_connections(sizes.connections_reserved as usize);
        let lcore = Lcore {
            index,
            watermarks,
            clock,
            pool,
            stack,
            balancer,
            rx,
            tx,
            offloads: offloads.clone(),
            shared: region
                .lcore(index)
                .context("the region's end for this lcore")?,
            steer,
            untold: None,
            idler: Idler::new(args.idle),
            control: control.clone(),
            counters: Counters::default(),
            state: LcoreState::default(),
            stopwatch: Stopwatch::new(),
            usage: eal.usage_of(eal_lcore),
            report_due: Instant::ZERO,
            turns: 0,
            burst: Burst::new(),
            ours: Burst::new(),
        };
        lcores.push((eal_lcore, lcore));
    }
    Ok(lcores)
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
