//! What was counted, for people (in testpmd's shape) and for programs (JSON).

use core::fmt::{self, Write as _};

use millrace_dpdk::{Lcore, PortStats};
use serde::Serialize;

use crate::counters::{BURST_SIZES, Snapshot};
use crate::mode::Mode;
use crate::stream::StreamPlace;

/// What a device counted, and its rates since this was last asked.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct NicReport {
    /// The port's number.
    pub port: usize,
    /// The device's name.
    pub name: String,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames lost because nobody fetched them in time.
    pub rx_missed: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames received damaged.
    pub rx_errors: u64,
    /// Frames lost because the pool was empty.
    pub rx_nombuf: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames received per second.
    pub rx_pps: u64,
    /// Bits received per second.
    pub rx_bps: u64,
    /// Frames sent per second.
    pub tx_pps: u64,
    /// Bits sent per second.
    pub tx_bps: u64,
}

/// Frames forwarded from and to one port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PortReport {
    /// The port's number.
    pub port: usize,
    /// The device's name.
    pub name: String,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames the device dropped before they were received.
    pub rx_dropped: u64,
    /// Frames the device took for sending.
    pub tx_packets: u64,
    /// Frames freed because the device did not take them.
    pub tx_dropped: u64,
    /// How often the device was asked again to take frames.
    pub tx_retries: u64,
    /// Frames received and freed, as is the mode's purpose.
    pub absorbed: u64,
    /// Frames that could not be made because the pool was empty.
    pub no_buffer: u64,
    /// Frames received with a wrong IPv4 header checksum.
    pub bad_ip_checksum: u64,
    /// Frames received with a wrong TCP or UDP checksum.
    pub bad_l4_checksum: u64,
    /// Bursts received by size; sizes that did not occur are left out.
    pub rx_bursts: Vec<BurstCount>,
    /// Bursts sent by size; sizes that did not occur are left out.
    pub tx_bursts: Vec<BurstCount>,
}

/// How often a burst had a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct BurstCount {
    /// Frames in the burst.
    pub frames: usize,
    /// Bursts of this size.
    pub bursts: u64,
}

/// What one lcore did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LcoreReport {
    /// Its number.
    pub lcore: u16,
    /// The CPU it is pinned to.
    pub cpu: Option<u16>,
    /// Streams it polls.
    pub streams: usize,
    /// Frames it handled: received, or sent by a mode that makes its own.
    pub packets: u64,
    /// Cycles of bursts that did something; 0 unless recorded.
    pub busy_cycles: u64,
    /// Cycles in all; 0 unless recorded.
    pub total_cycles: u64,
    /// Busy cycles per frame; none when nothing was recorded.
    pub cycles_per_packet: Option<f64>,
}

/// What was forwarded.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ForwardReport {
    /// What is done to packets.
    pub mode: &'static str,
    /// How long, seconds.
    pub seconds: f64,
    /// Cycles per second.
    pub hertz: u64,
    /// Frames received per second, all ports together.
    pub rx_pps: u64,
    /// Frames sent per second, all ports together.
    pub tx_pps: u64,
    /// Busy cycles per frame over all lcores; none when nothing was recorded.
    pub cycles_per_packet: Option<f64>,
    /// One entry per port.
    pub ports: Vec<PortReport>,
    /// One entry per lcore that forwards.
    pub lcores: Vec<LcoreReport>,
}

impl NicReport {
    /// What the device counted between two readings; a driver that counts backwards counted
    /// nothing.
    pub(crate) fn difference(now: &PortStats, then: &PortStats) -> Self {
        Self {
            rx_packets: now.rx_frames.saturating_sub(then.rx_frames),
            rx_missed: now.rx_missed.saturating_sub(then.rx_missed),
            rx_bytes: now.rx_bytes.saturating_sub(then.rx_bytes),
            rx_errors: now.rx_errors.saturating_sub(then.rx_errors),
            rx_nombuf: now.rx_no_buffer.saturating_sub(then.rx_no_buffer),
            tx_packets: now.tx_frames.saturating_sub(then.tx_frames),
            tx_errors: now.tx_errors.saturating_sub(then.tx_errors),
            tx_bytes: now.tx_bytes.saturating_sub(then.tx_bytes),
            ..Self::default()
        }
    }

    /// The port's name, and the rates of what was counted in the last `seconds`.
    pub(crate) fn named(self, port: usize, name: String, recent: &Self, seconds: f64) -> Self {
        Self {
            port,
            name,
            rx_pps: per_second(recent.rx_packets, seconds),
            rx_bps: per_second(recent.rx_bytes.saturating_mul(8), seconds),
            tx_pps: per_second(recent.tx_packets, seconds),
            tx_bps: per_second(recent.tx_bytes.saturating_mul(8), seconds),
            ..self
        }
    }
}

impl PortReport {
    pub(crate) fn of(
        port: usize,
        name: &str,
        rx_dropped: u64,
        streams: &[(StreamPlace, Snapshot)],
    ) -> Self {
        let sum = |is_part: fn(&StreamPlace) -> usize| {
            streams
                .iter()
                .filter(|(place, _)| is_part(place) == port)
                .fold(Snapshot::default(), |sum, (_, one)| sum.plus(one))
        };
        let (received, sent) = (sum(|place| place.rx_port), sum(|place| place.tx_port));
        Self {
            port,
            name: name.to_owned(),
            rx_packets: received.rx_frames,
            rx_dropped,
            tx_packets: sent.tx_frames,
            tx_dropped: sent.tx_dropped,
            tx_retries: sent.tx_retries,
            absorbed: received.absorbed,
            no_buffer: sent.no_buffer,
            bad_ip_checksum: received.bad_ip_checksum,
            bad_l4_checksum: received.bad_l4_checksum,
            rx_bursts: burst_counts(&received.rx_sizes),
            tx_bursts: burst_counts(&sent.tx_sizes),
        }
    }
}

impl LcoreReport {
    pub(crate) fn of(
        mode: Mode,
        lcore: Lcore,
        streams: usize,
        counted: &Snapshot,
        total_cycles: u64,
    ) -> Self {
        let packets = if mode.is_generator() {
            counted.tx_frames
        } else {
            counted.rx_frames
        };
        Self {
            lcore: lcore.number(),
            cpu: lcore.cpu(),
            streams,
            packets,
            busy_cycles: counted.busy_cycles,
            total_cycles,
            cycles_per_packet: ratio(counted.busy_cycles, packets),
        }
    }
}

impl ForwardReport {
    pub(crate) fn of(
        mode: Mode,
        hertz: u64,
        seconds: f64,
        ports: Vec<PortReport>,
        lcores: Vec<LcoreReport>,
    ) -> Self {
        let busy = lcores.iter().map(|lcore| lcore.busy_cycles).sum();
        let packets = lcores.iter().map(|lcore| lcore.packets).sum();
        let received = ports.iter().map(|port| port.rx_packets).sum();
        let sent = ports.iter().map(|port| port.tx_packets).sum();
        Self {
            mode: mode.name(),
            seconds,
            hertz,
            rx_pps: per_second(received, seconds),
            tx_pps: per_second(sent, seconds),
            cycles_per_packet: ratio(busy, packets),
            ports,
            lcores,
        }
    }
}

fn burst_counts(sizes: &[u64; BURST_SIZES]) -> Vec<BurstCount> {
    let count = |(frames, bursts): (usize, &u64)| BurstCount {
        frames,
        bursts: *bursts,
    };
    let counts = sizes.iter().enumerate().map(count);
    counts.filter(|count| count.bursts != 0).collect()
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (part != 0 && whole != 0).then(|| part as f64 / whole as f64)
}

fn per_second(count: u64, seconds: f64) -> u64 {
    if seconds > 0.0 {
        (count as f64 / seconds) as u64
    } else {
        0
    }
}

impl fmt::Display for NicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = "#".repeat(24);
        writeln!(
            f,
            "\n  {line} NIC statistics for port {:<2} {line}",
            self.port
        )?;
        writeln!(
            f,
            "  RX-packets: {:<10} RX-missed: {:<10} RX-bytes:  {:<10}",
            self.rx_packets, self.rx_missed, self.rx_bytes
        )?;
        writeln!(f, "  RX-errors: {}", self.rx_errors)?;
        writeln!(f, "  RX-nombuf:  {:<10}", self.rx_nombuf)?;
        writeln!(
            f,
            "  TX-packets: {:<10} TX-errors: {:<10} TX-bytes:  {:<10}",
            self.tx_packets, self.tx_errors, self.tx_bytes
        )?;
        writeln!(f, "\n  Throughput (since last show)")?;
        for (way, pps, bps) in [
            ("Rx", self.rx_pps, self.rx_bps),
            ("Tx", self.tx_pps, self.tx_bps),
        ] {
            writeln!(f, "  {way}-pps: {pps:>12}          {way}-bps: {bps:>12}")?;
        }
        writeln!(f, "  {}", "#".repeat(76))
    }
}

impl fmt::Display for PortReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = "-".repeat(22);
        writeln!(
            f,
            "\n  {line} Forward statistics for port {:<2} {line}",
            self.port
        )?;
        write_counts(f, "RX", self.rx_packets, self.rx_dropped)?;
        write_bursts(f, "RX", &self.rx_bursts)?;
        write_counts(f, "TX", self.tx_packets, self.tx_dropped)?;
        write_bursts(f, "TX", &self.tx_bursts)?;
        for (name, count) in [
            ("TX-retries", self.tx_retries),
            ("RX-absorbed", self.absorbed),
            ("TX-nombuf", self.no_buffer),
            ("Bad-ipcsum", self.bad_ip_checksum),
            ("Bad-l4csum", self.bad_l4_checksum),
        ] {
            if count != 0 {
                writeln!(f, "  {name}: {count}")?;
            }
        }
        writeln!(f, "  {}", "-".repeat(76))
    }
}

fn write_counts(f: &mut fmt::Formatter<'_>, way: &str, packets: u64, dropped: u64) -> fmt::Result {
    let total = packets.saturating_add(dropped);
    writeln!(
        f,
        "  {way}-packets: {packets:<14} {way}-dropped: {dropped:<13} {way}-total: {total}"
    )
}

/// Empty bursts, the two most frequent sizes and the rest, as testpmd does.
fn write_bursts(f: &mut fmt::Formatter<'_>, way: &str, counts: &[BurstCount]) -> fmt::Result {
    let total: u64 = counts.iter().map(|count| count.bursts).sum();
    if total == 0 {
        return Ok(());
    }
    let percent = |bursts: u64| bursts.saturating_mul(100) / total;
    let empty = counts.iter().find(|count| count.frames == 0);
    let empty = empty.map_or(0, |count| count.bursts);
    let mut line = format!("{}% of 0 pkts", percent(empty));
    let mut sizes: Vec<&BurstCount> = counts.iter().filter(|count| count.frames != 0).collect();
    sizes.sort_by_key(|count| core::cmp::Reverse(count.bursts));
    let mut shown = empty;
    for count in sizes.iter().take(2) {
        write!(
            line,
            " + {}% of {} pkts",
            percent(count.bursts),
            count.frames
        )?;
        shown = shown.saturating_add(count.bursts);
    }
    if shown < total {
        write!(
            line,
            " + {}% of others",
            percent(total.saturating_sub(shown))
        )?;
    }
    writeln!(f, "  {way}-bursts : {total} [{line}]")
}

impl fmt::Display for ForwardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for port in &self.ports {
            port.fmt(f)?;
        }
        let plus = "+".repeat(15);
        let sum = |field: fn(&PortReport) -> u64| self.ports.iter().map(field).sum();
        writeln!(
            f,
            "\n  {plus} Accumulated forward statistics for all ports{plus}"
        )?;
        write_counts(
            f,
            "RX",
            sum(|port| port.rx_packets),
            sum(|port| port.rx_dropped),
        )?;
        write_counts(
            f,
            "TX",
            sum(|port| port.tx_packets),
            sum(|port| port.tx_dropped),
        )?;
        writeln!(
            f,
            "  Rx-pps: {:>12}          Tx-pps: {:>12}          over {:.2} s",
            self.rx_pps, self.tx_pps, self.seconds
        )?;
        writeln!(f, "  {}", "+".repeat(76))?;
        for lcore in &self.lcores {
            lcore.fmt(f)?;
        }
        let Some(cycles) = self.cycles_per_packet else {
            return Ok(());
        };
        let sum = |field: fn(&LcoreReport) -> u64| self.lcores.iter().map(field).sum::<u64>();
        writeln!(
            f,
            "\n  CPU cycles/packet={cycles:.2} (busy cycles={} / total {} packets={}) at {} MHz Clock",
            sum(|lcore| lcore.busy_cycles),
            self.mode,
            sum(|lcore| lcore.packets),
            self.hertz / 1_000_000
        )
    }
}

impl fmt::Display for LcoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu.map_or("-".to_owned(), |cpu| cpu.to_string());
        write!(
            f,
            "  lcore {:<3} cpu {cpu:<3} streams {:<3} packets {:<14}",
            self.lcore, self.streams, self.packets
        )?;
        let Some(share) = ratio(self.busy_cycles, self.total_cycles) else {
            return writeln!(f);
        };
        writeln!(
            f,
            " busy {:.1}% of {} cycles, {:.2} per packet",
            share * 100.0,
            self.total_cycles,
            self.cycles_per_packet.unwrap_or(0.0)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::MacAddress;

    fn place(rx_port: usize, tx_port: usize) -> StreamPlace {
        StreamPlace {
            rx_port,
            tx_port,
            queue: 0,
            tx_mac: MacAddress::ZERO,
            peer_mac: MacAddress::ZERO,
        }
    }

    #[test]
    fn a_port_is_credited_with_what_it_sent_for_another() {
        let counted = |rx_frames, tx_dropped| Snapshot {
            rx_frames,
            tx_frames: rx_frames - tx_dropped,
            tx_dropped,
            ..Snapshot::default()
        };
        let streams = [(place(0, 1), counted(10, 3)), (place(1, 0), counted(20, 5))];
        let report = PortReport::of(1, "net_null1", 7, &streams);
        assert_eq!((report.rx_packets, report.rx_dropped), (20, 7));
        assert_eq!((report.tx_packets, report.tx_dropped), (7, 3));
        let text = report.to_string();
        assert!(text.contains("RX-packets: 20             RX-dropped: 7             RX-total: 27"));
        assert!(text.contains("Forward statistics for port 1 "));
    }

    #[test]
    fn bursts_are_summed_up_as_the_two_most_frequent_sizes() {
        let mut counted = Snapshot::default();
        counted.rx_sizes[0] = 50;
        counted.rx_sizes[32] = 30;
        counted.rx_sizes[4] = 15;
        counted.rx_sizes[1] = 5;
        let text = PortReport::of(0, "p", 0, &[(place(0, 0), counted)]).to_string();
        let expected =
            "RX-bursts : 100 [50% of 0 pkts + 30% of 32 pkts + 15% of 4 pkts + 5% of others]";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("TX-bursts"), "{text}");
    }

    #[test]
    fn rates_are_over_the_time_since_the_last_question() {
        let (then, now) = (
            PortStats::default(),
            PortStats {
                rx_frames: 100,
                rx_bytes: 6_400,
                ..PortStats::default()
            },
        );
        let total = NicReport::difference(&now, &then);
        let report = total.clone().named(0, "p".to_owned(), &total, 2.0);
        assert_eq!(
            (report.rx_pps, report.rx_bps, report.tx_pps),
            (50, 25_600, 0)
        );
        let first = total.clone().named(0, "p".to_owned(), &total, 0.0);
        assert_eq!(first.rx_pps, 0);
    }
}
