//! The command line, in the spirit of testpmd's.

use clap::Parser;
use millrace_base::MacAddress;
use millrace_dpdk::{
    DeviceName, EalArgs, LcoreList, LogLevel, Memory, PciDevices, RX_BURST_FRAMES_MAX,
};
use millrace_forward::{Mode, Noisy, Settings, Setup, Topology};

/// Forwards packets between DPDK ports and measures it, as dpdk-testpmd does.
///
/// Without --interactive it forwards until --duration is over or a signal comes (INT, TERM), and
/// prints what it did. Exit codes: 0 done, 1 something failed, 2 mistakes in the arguments.
#[derive(Debug, Parser)]
#[command(name = "millrace-forward", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// A device, again for each: a PCI address (0000:03:00.0) or a virtual device with its
    /// arguments (net_null0, net_tap0,iface=t0). Their order numbers the ports.
    #[arg(long = "port", value_name = "DEVICE", required = true)]
    ports: Vec<String>,
    /// What is done to packets: io mac macswap csum icmpecho 5tswap rxonly txonly flowgen noisy.
    #[arg(long, alias = "forward-mode", default_value = "io")]
    pub(crate) mode: Mode,
    /// Lcores and their CPUs: 0@1,1@1 or 0-1 (lcore N on CPU N). The lowest one only controls.
    #[arg(long, default_value = "0,1")]
    lcores: LcoreList,
    /// Lcores that forward at most; default all but the first.
    #[arg(long)]
    nb_cores: Option<usize>,
    /// Frames received at once.
    #[arg(long, default_value_t = RX_BURST_FRAMES_MAX as u64,
          value_parser = clap::value_parser!(u64).range(1..=RX_BURST_FRAMES_MAX as u64))]
    burst: u64,
    /// Queues per port and direction.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    queues: u16,
    /// Descriptors per receive queue.
    #[arg(long, default_value_t = 1_024)]
    rxd: u16,
    /// Descriptors per transmit queue.
    #[arg(long, default_value_t = 1_024)]
    txd: u16,
    /// Buffers in the pool; default what queues and caches can hold.
    #[arg(long, alias = "total-num-mbufs")]
    nb_mbufs: Option<u32>,
    /// Bytes per buffer, 128 of headroom included.
    #[arg(long, default_value_t = 2_176)]
    mbuf_size: u16,
    /// Which port sends what another received: paired chained loop.
    #[arg(long, default_value = "paired")]
    port_topology: Topology,
    /// The address at the other end of a port, again for each: PORT,02:00:00:00:00:07.
    #[arg(long, value_name = "PORT,MAC", value_parser = parse_peer)]
    eth_peer: Vec<(usize, MacAddress)>,
    /// Ask a full transmit queue this often again before frames are dropped.
    #[arg(long, default_value_t = 4)]
    retries: u32,
    /// Bytes of the frames that txonly, flowgen and --tx-first make, without the check sequence.
    #[arg(long, default_value_t = 64)]
    txpkts: usize,
    /// Flows of flowgen.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    flowgen_flows: u32,
    /// Send this many bursts from every port before forwarding: something to go round in loops.
    #[arg(long, value_name = "BURSTS", num_args = 0..=1, default_missing_value = "1")]
    pub(crate) tx_first: Option<u32>,
    /// csum: leave IPv4 and TCP checksums to the device where it offers both.
    #[arg(long)]
    csum_offload: bool,
    /// noisy: frames that wait in a queue.
    #[arg(long, default_value_t = 0)]
    noisy_queue: usize,
    /// noisy: empty the queue when nothing has left it for this many milliseconds.
    #[arg(long, default_value_t = 0)]
    noisy_flush: u64,
    /// noisy: MiB of memory to work in, per stream.
    #[arg(long, default_value_t = 0)]
    noisy_memory: usize,
    /// noisy: words of it read per packet.
    #[arg(long, default_value_t = 0)]
    noisy_reads: u32,
    /// noisy: words of it written per packet.
    #[arg(long, default_value_t = 0)]
    noisy_writes: u32,
    /// noisy: words of it read and written back per packet.
    #[arg(long, default_value_t = 0)]
    noisy_updates: u32,
    /// Print port statistics every this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stats_period: Option<u64>,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) duration: Option<f64>,
    /// Measure busy cycles per packet.
    #[arg(long)]
    record_core_cycles: bool,
    /// Count bursts by size.
    #[arg(long)]
    record_burst_stats: bool,
    /// Print JSON, one object per line, instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Read commands from standard input; "help" lists them.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// With --interactive: forward at once.
    #[arg(short, long)]
    pub(crate) auto_start: bool,
    /// Ordinary pages instead of huge ones: runs anywhere, two to three times slower.
    #[arg(long)]
    no_huge: bool,
    /// MiB of packet memory; default what is needed, or 256 with --no-huge.
    #[arg(short = 'm', long, value_name = "MIB")]
    memory: Option<u32>,
    /// Separates the run-time files of several DPDK processes.
    #[arg(long)]
    file_prefix: Option<String>,
    /// One more argument for EAL, again for each: --eal-arg=--single-file-segments.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    eal_arg: Vec<String>,
}

impl Args {
    /// What EAL is started with.
    pub(crate) fn eal(&self) -> EalArgs {
        let mut vdevs = Vec::new();
        let mut addresses = Vec::new();
        for port in &self.ports {
            match DeviceName::parse(port) {
                DeviceName::Pci(address) => addresses.push(address),
                DeviceName::Virtual(vdev) => vdevs.push(vdev),
            }
        }
        let memory = if self.no_huge {
            Memory::Ordinary {
                mebibytes: self.memory.unwrap_or(256),
            }
        } else {
            Memory::HugePages {
                mebibytes: self.memory,
            }
        };
        let pci = if addresses.is_empty() {
            PciDevices::None
        } else {
            PciDevices::Allow(addresses)
        };
        EalArgs {
            program: "millrace-forward".to_owned(),
            lcores: self.lcores.0.clone(),
            memory,
            file_prefix: self.file_prefix.clone(),
            vdevs,
            pci,
            log_level: LogLevel::Warning,
            extra: self.eal_arg.clone(),
            ..EalArgs::default()
        }
    }

    /// What the forwarder is made of.
    pub(crate) fn setup(&self) -> Setup {
        let name = |port: &String| DeviceName::parse(port).name().to_owned();
        Setup {
            devices: self.ports.iter().map(name).collect(),
            queues: self.queues,
            rx_descriptors: self.rxd,
            tx_descriptors: self.txd,
            buffers: self.nb_mbufs,
            buffer_bytes: self.mbuf_size,
            topology: self.port_topology,
            peers: self.eth_peer.clone(),
            lcores_max: self.nb_cores,
            settings: self.settings(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            burst_frames: usize::try_from(self.burst).unwrap_or(RX_BURST_FRAMES_MAX),
            retries: self.retries,
            frame_bytes: self.txpkts,
            flows: self.flowgen_flows,
            noisy: Noisy {
                queue_frames: self.noisy_queue,
                flush_ms: self.noisy_flush,
                memory_mib: self.noisy_memory,
                reads: self.noisy_reads,
                writes: self.noisy_writes,
                updates: self.noisy_updates,
            },
            offload_checksums: self.csum_offload,
            record_core_cycles: self.record_core_cycles,
            record_burst_stats: self.record_burst_stats,
            ..Settings::default()
        }
    }
}

fn parse_peer(text: &str) -> Result<(usize, MacAddress), String> {
    let wrong = || format!("{text:?} is not PORT,MAC");
    let (port, mac) = text.split_once(',').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    Ok((port, MacAddress::parse(mac).ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::try_parse_from(line.split_whitespace()).expect("a good command line")
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn a_command_line_like_testpmds_is_understood() {
        let args = args(
            "millrace-forward --port net_null0 --port 00:05.0 --forward-mode macswap --burst 16 \
             --eth-peer 1,02:00:00:00:00:09 --port-topology loop --tx-first --no-huge \
             --eal-arg --no-telemetry",
        );
        assert_eq!(args.mode, Mode::MacSwap);
        assert_eq!(args.tx_first, Some(1));
        let setup = args.setup();
        assert_eq!(setup.devices, ["net_null0", "0000:00:05.0"]);
        assert_eq!(
            (setup.settings.burst_frames, setup.topology),
            (16, Topology::Loop)
        );
        let eal = args.eal();
        assert_eq!(eal.pci, PciDevices::Allow(vec!["0000:00:05.0".to_owned()]));
        assert_eq!(eal.memory, Memory::Ordinary { mebibytes: 256 });
        assert_eq!(eal.extra, ["--no-telemetry"]);
        for wrong in [
            "--burst 33",
            "--burst 0",
            "--mode swap",
            "--flowgen-flows 0",
        ] {
            let line = format!("millrace-forward --port net_null0 {wrong}");
            assert!(
                Args::try_parse_from(line.split_whitespace()).is_err(),
                "{wrong}"
            );
        }
    }
}
