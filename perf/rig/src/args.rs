//! The command line.

use clap::{Parser, ValueEnum};

use crate::nic::Delivery;
use crate::world::{Card, Setup};

/// Measures what one Millrace lcore spends on an operation, on devices in memory and beside a generator that costs nothing.
///
/// Cycles are those of the lcore's turns only. A number counts only when the line below it says 0 errors.
#[derive(Parser, Clone, Debug)]
#[command(name = "millrace-rig", version)]
pub(crate) struct Args {
    /// What to measure; several run one after the other in processes of their own, and none runs all.
    #[arg(value_enum)]
    pub(crate) scenarios: Vec<Scenario>,
    /// One JSON object per line in place of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Operations to measure, after a tenth as many to warm up. `--operations 4000000000` with `perf record` is a loop.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub(crate) operations: u32,
    /// Operations under way at a time.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) concurrency: u32,
    /// Connections that are open at a time, where they stay open.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) connections: u32,
    /// Sessions that wake up, where they are idle.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub(crate) wakes: u32,
    /// Bytes of a request.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) request_bytes: usize,
    /// Bytes of a response.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) response_bytes: usize,
    /// What newcomers cannot have in `shed`.
    #[arg(long, value_enum, default_value_t = Shortage::Slots)]
    pub(crate) short_of: Shortage,
    /// The client closes first.
    #[arg(long)]
    pub(crate) client_closes: bool,
    /// What the cards can do.
    #[arg(long, value_enum, default_value_t = Card::Checksum)]
    pub(crate) card: Card,
    /// The largest IP packet of both links, bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1_500, value_parser = clap::value_parser!(u16).range(1_280..=9_600))]
    pub(crate) mtu: u16,
    /// Packet buffers.
    #[arg(long, value_name = "N", default_value_t = 32_767)]
    pub(crate) mbufs: u32,
    /// Connections that an lcore can hold; a proxied session needs two.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) connections_max: u32,
    /// Packet memory in huge pages, as in production. Without, it works everywhere and costs more.
    #[arg(long)]
    pub(crate) huge_pages: bool,
    /// Operations in one of the chunks whose median is taken. Short enough to be over before the kernel runs somebody
    /// else, and more than `--concurrency`, since operations that began together end together.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) chunk: u64,
    /// Lcores, all on one thread, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) lcores: u16,
    /// Deliver every flow to a queue that has nothing to do with the lcore that owns it.
    #[arg(long)]
    pub(crate) wrong_delivery: bool,
    /// For so long the lcores stand still every few rounds, while what arrives waits in their rings: as when the
    /// machine takes their CPU.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub(crate) absence_ms: u64,
    /// The CPU to run on.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub(crate) cpu: u16,
    /// Requests a second of `latency`, in place of half of the most that it can do.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// The CPU of the peers where they run at the same time as the lcore (`latency`); the first other one by default.
    #[arg(long, value_name = "CPU")]
    pub(crate) peers_cpu: Option<u16>,
    /// What the peers' sequence numbers are made from.
    #[arg(long, value_name = "N", default_value_t = 0x6d69_6c6c_7261_6365)]
    pub(crate) key: u64,
}

/// What runs short.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Connections.
    Slots,
    /// Packet buffers: all but a sixteenth are held, as by readers that do not read.
    Buffers,
}

/// What can be measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A connection for one request and one response: both handshakes, both closes.
    Short,
    /// Requests on connections that stay open.
    Keepalive,
    /// The same with the answer given on the box, by the stack alone.
    Terminated,
    /// Data segments up to the decision about their ACK, by the stack alone.
    Rx,
    /// Bulk data from clients to backends.
    Bulk,
    /// What the lcore adds to a request and its answer at half of its highest rate, beside a bare forward. Wants two CPUs.
    Latency,
    /// `short` on two lcores, with every flow delivered to either.
    Rss,
    /// Many sessions that are open and say nothing, and some that wake up.
    Idle,
    /// A million SYNs a second beside established sessions.
    Flood,
    /// Lookups in the stack's flow table, in `hashbrown` and in DPDK's `rte_hash`, with `--connections` entries.
    Tables,
    /// More sessions than there is room for beside established ones.
    Shed,
}

impl Args {
    /// The CPU of peers that run at the same time as the lcore.
    pub(crate) fn peers_cpu(&self) -> u16 {
        let has_two = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
        let other = if has_two && self.cpu == 0 { 1 } else { 0 };
        self.peers_cpu.unwrap_or(other)
    }

    /// A scenario's name with what of the command line is not as usual, in words that a target or an explanation can
    /// refer to.
    pub(crate) fn named(&self, scenario: &str) -> String {
        let mut name = scenario.to_owned();
        let mut add = |word: &str| {
            name.push_str(", ");
            name.push_str(word);
        };
        if (self.request_bytes, self.response_bytes) != (100, 100) {
            add(&format!(
                "{} + {} bytes",
                self.request_bytes, self.response_bytes
            ));
        }
        if self.mtu != 1_500 {
            add(&format!("MTU {}", self.mtu));
        }
        match self.card {
            Card::Plain => add("checksums in software"),
            Card::Checksum => {}
            Card::Tso => add("TSO"),
        }
        if self.lcores > 1 {
            add(&format!("{} lcores", self.lcores));
        }
        if self.absence_ms > 0 {
            add(&format!("absences of {} ms", self.absence_ms));
        }
        if let Some(rate) = self.rate {
            add(&format!("{rate} requests a second"));
        }
        name
    }

    /// The world that a scenario wants by default.
    pub(crate) fn setup(&self) -> Setup {
        Setup {
            lcores: self.lcores,
            card: self.card,
            mtu: self.mtu,
            mbufs: self.mbufs,
            connections_max: self.connections_max,
            delivery: if self.wrong_delivery {
                Delivery::Wrong
            } else {
                Delivery::First
            },
            huge_pages: self.huge_pages,
            extra_mebibytes: 0,
            chunk: self.chunk,
            cpu: self.cpu,
            peers_cpu: self.cpu,
        }
    }
}
