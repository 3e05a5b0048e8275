//! Captures on the peers' interfaces, judged by tshark: every frame of ours is checked by software we did not write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::plan::Side;
use super::topology::Topology;
use crate::interrupt;
use crate::process::{self, Background};

/// A running tcpdump on one side.
pub(crate) struct Capture {
    file: PathBuf,
    mac: &'static str,
    process: Background,
}

/// What a capture says about the frames that carry our MAC address as source.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) frames: u64,
    /// Wrong IPv4 header, TCP or ICMP checksums.
    pub(crate) bad_checksums: u64,
    /// `tcp.analysis` remarks by name.
    pub(crate) analysis: BTreeMap<String, u64>,
    /// Frames that tcpdump did not get from the kernel: with any, gaps are the capture's, not ours.
    pub(crate) missed: u64,
}

/// Remarks that say nothing bad about the sender, and why.
const EXPLAINED: [(&str, &str); 8] = [
    ("tcp.analysis.flags", "the umbrella over all the others"),
    (
        "tcp.analysis.window_update",
        "the receiver read: as it should",
    ),
    (
        "tcp.analysis.window_full",
        "we used all of the window that the peer offered",
    ),
    (
        "tcp.analysis.zero_window",
        "back-pressure: the other leg is slower",
    ),
    (
        "tcp.analysis.zero_window_probe",
        "the peer's window is closed, we ask",
    ),
    (
        "tcp.analysis.zero_window_probe_ack",
        "the peer asked, our window is closed",
    ),
    ("tcp.analysis.keep_alive", "we ask whether the peer lives"),
    (
        "tcp.analysis.keep_alive_ack",
        "the peer asked whether we live",
    ),
];

/// Remarks that a wire which really loses or reorders explains; on a good wire they are ours.
const EXPLAINED_BY_LOSS: [&str; 8] = [
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.out_of_order",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.rto_frame",
];

/// What a loss probe looks like from outside (RFC 8985 section 7).
const EXPLAINED_BY_PROBES: [&str; 3] = [
    "tcp.analysis.retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.rto_frame",
];

impl Capture {
    /// Starts tcpdump on the peer's end of a side and waits until it listens.
    pub(crate) fn start(topology: &Topology, side: &Side, folder: &Path) -> Result<Self> {
        let file = folder.join(format!("{}.pcap", side.port));
        let mut command = process::inside(topology.peer_of(side), "tcpdump");
        // -B: 64 MiB of kernel buffer; -Z root: the folder belongs to root.
        command.args([
            "-i",
            side.peer_interface,
            "-B",
            "65536",
            "-s",
            "0",
            "-U",
            "-n",
            "-Z",
            "root",
        ]);
        command.arg("-w").arg(&file);
        let name = format!("tcpdump-{}", side.port);
        let mut process = Background::start(&name, &mut command, folder)?;
        interrupt::wait_until("tcpdump", Duration::from_secs(15), || {
            process
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            let listens = process.log_text().contains("listening on");
            if listens {
                Ok(())
            } else {
                Err("it does not listen yet".into())
            }
        })?;
        Ok(Self {
            file,
            mac: side.mac,
            process,
        })
    }

    /// The first frames of ours with one of these remarks, each with what came before it on its connection.
    pub(crate) fn context(&self, remarks: &[&str]) -> Result<String> {
        let marked = format!("eth.src == {} && ({})", self.mac, remarks.join(" || "));
        let mut tshark = self.tshark();
        tshark.args([
            "-Y",
            &marked,
            "-T",
            "fields",
            "-e",
            "frame.number",
            "-e",
            "tcp.stream",
        ]);
        let listed = process::must(&mut tshark, Duration::from_secs(300))?;
        let mut text = String::new();
        for line in listed.lines().take(3) {
            let mut fields = line.split_whitespace();
            let (Some(frame), Some(stream)) = (fields.next(), fields.next()) else {
                continue;
            };
            let first = frame.parse::<u64>()?.saturating_sub(60);
            let around = format!(
                "tcp.stream == {stream} && frame.number >= {first} && frame.number <= {frame}"
            );
            let mut tshark = self.tshark();
            tshark.args(["-Y", &around]);
            let lines = process::must(&mut tshark, Duration::from_secs(300))?;
            let tail: Vec<&str> = lines.lines().rev().take(12).collect();
            for line in tail.into_iter().rev() {
                text.push_str(line);
                text.push('\n');
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// Ends tcpdump and lets tshark judge.
    pub(crate) fn judge(&mut self) -> Result<Findings> {
        // Let the last frames arrive: the kernel hands a block that is not full over after a second. Then SIGINT, after which
        // tcpdump flushes and counts.
        interrupt::sleep(Duration::from_millis(1200))?;
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(20))?;
        let log = self.process.log_text();
        let missed = log
            .lines()
            .find_map(|line| line.strip_suffix(" packets dropped by kernel"))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0);
        let ours = format!("eth.src == {}", self.mac);
        let bad = format!(
            "{ours} && (ip.checksum.status == 0 || tcp.checksum.status == 0 || \
             icmp.checksum.status == 0 || icmpv6.checksum.status == 0)"
        );
        let frames = self.count(&ours)?;
        let bad_checksums = self.count(&bad)?;
        let mut findings = Findings {
            frames,
            bad_checksums,
            missed,
            ..Findings::default()
        };
        let names = EXPLAINED
            .iter()
            .map(|(name, _)| *name)
            .chain(EXPLAINED_BY_LOSS)
            .chain(OTHERS);
        for name in names.filter(|name| *name != "tcp.analysis.flags") {
            findings.analysis.insert(name.to_owned(), 0);
        }
        let disordered = self.disordered_by_peer()?;
        self.count_analysis(&ours, &disordered, &mut findings.analysis)?;
        findings.analysis.retain(|_, count| *count > 0);
        Ok(findings)
    }

    fn tshark(&self) -> Command {
        let mut tshark = Command::new("tshark");
        tshark.arg("-n").arg("-r").arg(&self.file);
        tshark.args([
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "ip.check_checksum:TRUE",
        ]);
        tshark
    }

    fn count(&self, filter: &str) -> Result<u64> {
        let mut tshark = self.tshark();
        tshark.args(["-Y", filter, "-T", "fields", "-e", "frame.number"]);
        let listed = process::must(&mut tshark, Duration::from_secs(300))?;
        u64::try_from(listed.lines().count()).context("count")
    }

    /// Connections on which the peer's own segments came out of order or twice: a kernel that sends from two CPUs does
    /// that even on a perfect wire.
    fn disordered_by_peer(&self) -> Result<BTreeSet<String>> {
        let filter = format!(
            "eth.src != {} && (tcp.analysis.out_of_order || tcp.analysis.retransmission || \
             tcp.analysis.lost_segment)",
            self.mac
        );
        let mut tshark = self.tshark();
        tshark.args(["-Y", &filter, "-T", "fields", "-e", "tcp.stream"]);
        let listed = process::must(&mut tshark, Duration::from_secs(300))?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// One pass over the frames with remarks; one column per remark. A duplicate ACK is the right answer (RFC 5681 section
    /// 4.2) to what the peer sent out of order, and is not counted there.
    fn count_analysis(
        &self,
        ours: &str,
        disordered: &BTreeSet<String>,
        counts: &mut BTreeMap<String, u64>,
    ) -> Result<()> {
        let mut tshark = self.tshark();
        tshark.args([
            "-Y",
            &format!("{ours} && tcp.analysis.flags"),
            "-T",
            "fields",
        ]);
        tshark.args(["-E", "separator=|", "-e", "tcp.stream"]);
        let names: Vec<String> = counts.keys().cloned().collect();
        for name in &names {
            tshark.args(["-e", name]);
        }
        let listed = process::must(&mut tshark, Duration::from_secs(300))?;
        for line in listed.lines() {
            let (stream, marks) = line.split_once('|').unwrap_or((line, ""));
            let marked = names
                .iter()
                .zip(marks.split('|'))
                .filter(|(_, mark)| !mark.is_empty());
            for (name, _) in marked {
                let answers_disorder =
                    name == "tcp.analysis.duplicate_ack" && disordered.contains(stream);
                if !answers_disorder {
                    *counts.entry(name.clone()).or_insert(0) += 1;
                }
            }
        }
        Ok(())
    }
}

/// The remaining remarks: never explained.
const OTHERS: [&str; 2] = ["tcp.analysis.reused_ports", "tcp.analysis.tfo_ignored"];

impl Findings {
    /// Remarks about our frames that nothing explains; `lossy` wires explain more, and so many loss
    /// probes as many retransmissions.
    pub(crate) fn unexplained(&self, lossy: bool, probes: u64) -> Vec<(&str, u64)> {
        let explained = |name: &str, count: u64| {
            EXPLAINED.iter().any(|(known, _)| *known == name)
                || ((lossy || self.missed > 0) && EXPLAINED_BY_LOSS.contains(&name))
                || (count <= probes && EXPLAINED_BY_PROBES.contains(&name))
        };
        let rows = self
            .analysis
            .iter()
            .map(|(name, count)| (name.as_str(), *count));
        rows.filter(|(name, count)| !explained(name, *count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retransmission_is_explained_only_by_a_lossy_wire_or_a_loss_probe() {
        let mut findings = Findings::default();
        findings
            .analysis
            .insert("tcp.analysis.retransmission".to_owned(), 3);
        findings
            .analysis
            .insert("tcp.analysis.window_update".to_owned(), 9);
        assert_eq!(
            findings.unexplained(false, 2),
            [("tcp.analysis.retransmission", 3)]
        );
        assert!(findings.unexplained(false, 3).is_empty());
        assert!(findings.unexplained(true, 0).is_empty());
    }
}
