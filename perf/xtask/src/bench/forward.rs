//! millrace-forward and dpdk-testpmd in turn on the same device, asked through the same socket.
//!
//! A run counts with its packets per second of processor time of the forwarding lcore: the same as
//! per second when nothing else runs there, and hardly less when something does. The programs
//! alternate, so that a slow spell of the machine meets both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use millrace_report::{Row, Scenario, Work};

use super::Bench;
use super::telemetry::{self, Telemetry};
use crate::process::{self, Background};
use crate::{interrupt, machine, paths};

/// EAL start on a machine that is also compiling.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Parts of a run that are counted apart. Shorter ones would show how seldom the kernel brings processor time up to date.
const SLICES: u32 = 6;
/// Buffers of either program; testpmd's own number for one port.
const BUFFERS: &str = "8191";

const SUBJECTS: [&str; 2] = ["millrace-forward", "dpdk-testpmd"];

/// One device and mode.
struct Track<'a> {
    device: &'a str,
    mode: &'a str,
    binary: &'a Path,
    folder: &'a Path,
    span: Duration,
}

/// Measures every device and mode of the scenario.
pub(super) fn measure(bench: &mut Bench, scenario: &Scenario) -> Result<()> {
    let Work::Forward {
        devices,
        modes,
        pairs,
        seconds,
    } = &scenario.work
    else {
        bail!("not a scenario of forwarding");
    };
    if machine::cpus() < 2 {
        bail!("a forwarding lcore and its observer need two CPUs");
    }
    let binary = build()?;
    let folder = paths::below_target("bench-logs")?;
    write_frames(&folder.join("frames.pcap"))?;
    let _pinned = machine::PinnedPeers::pin()?;
    for device in devices {
        for mode in modes {
            interrupt::check()?;
            let track = Track {
                device,
                mode,
                binary: &binary,
                folder: &folder,
                span: Duration::from_secs_f64((seconds / f64::from(bench.hurry)).max(0.3)),
            };
            let pairs = (*pairs / bench.hurry).max(1);
            if let Err(error) = measure_track(bench, &scenario.name, &track, pairs) {
                interrupt::check()?;
                bench.skip(format!("{}, net_{device} {mode}", scenario.name), &error);
            }
        }
    }
    Ok(())
}

fn measure_track(bench: &mut Bench, scenario: &str, track: &Track<'_>, pairs: u32) -> Result<()> {
    let mut rates: [Vec<f64>; 2] = Default::default();
    for pair in 0..pairs {
        // Who goes first changes, too.
        for turn in 0..SUBJECTS.len() {
            let subject = (turn + pair as usize) % SUBJECTS.len();
            rates[subject].push(track.run(subject)?);
        }
    }
    let ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(a, b)| a / b).collect();
    let quantity = format!("net_{} {}", track.device, track.mode);
    let mut record = |subject: &str, unit: &str, figures: Vec<f64>, command: String| {
        let (median, spread) = summary(figures);
        bench.record(Row {
            scenario: scenario.to_owned(),
            subject: subject.to_owned(),
            quantity: quantity.clone(),
            value: median,
            unit: unit.to_owned(),
            spread: Some(spread),
            command,
            ..Row::default()
        });
    };
    for (subject, figures) in SUBJECTS.iter().zip(rates) {
        let command = track.command(subject)?;
        let line = process::line_of(&command).replace(&track.folder.display().to_string(), "…");
        let line = line.replace(&track.binary.display().to_string(), "millrace-forward");
        let line = line.replace(&file_prefix(), "mr-bench");
        record(subject, "Mpps", figures, line);
    }
    record("ratio", "×", ratios, String::new());
    Ok(())
}

/// The median, the lowest and the highest.
fn summary(mut figures: Vec<f64>) -> (f64, [f64; 2]) {
    figures.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
    let middle = figures.len() / 2;
    let median = if figures.len().is_multiple_of(2) {
        (at(middle.saturating_sub(1)) + at(middle)) / 2.0
    } else {
        at(middle)
    };
    (median, [at(0), at(figures.len().saturating_sub(1))])
}

impl Track<'_> {
    /// Millions of packets per second of one run: of its best slice, since what else happens on the machine only takes away.
    fn run(&self, subject: usize) -> Result<f64> {
        let mut command = self.command(SUBJECTS[subject])?;
        // This process is pinned, and EAL may only use the CPUs that it finds allowed.
        let mut unpinned = Command::new("taskset");
        unpinned
            .args(["-c", &format!("0-{}", machine::cpus() - 1)])
            .arg(command.get_program())
            .args(command.get_args());
        command = unpinned;
        let mut process = Background::start(SUBJECTS[subject], &mut command, self.folder)?;
        let outcome = self.sample(&mut process);
        // It has nothing to save, and its huge pages have no files: no reason to wait for manners.
        process.kill();
        let _ = std::fs::remove_dir_all(telemetry::folder(&file_prefix()));
        outcome
    }

    fn sample(&self, process: &mut Background) -> Result<f64> {
        let mut telemetry = None;
        interrupt::wait_until("the forwarder", READY_LIMIT, || {
            let alive = process.check_alive();
            alive.map_err(|error| format!("{error:#}"))?;
            let connected = Telemetry::connect(&file_prefix());
            let connected = connected.map_err(|error| format!("{error:#}"))?;
            match connected.received(0) {
                Ok(0) => return Err("nothing is received yet".to_owned()),
                Ok(_) => telemetry = Some(connected),
                Err(error) => return Err(format!("{error:#}")),
            }
            Ok(())
        })?;
        let telemetry = telemetry.context("no telemetry")?;
        interrupt::sleep(Duration::from_millis(200))?;
        let lcore = lcore_of(process.id())?;
        let look = || anyhow::Ok((lcore.run_time()?, telemetry.received(0)?));
        let mut best = 0.0_f64;
        let mut before = look()?;
        for _ in 0..SLICES {
            interrupt::sleep(self.span / SLICES)?;
            let after = look()?;
            let seconds = after.0.saturating_sub(before.0).as_secs_f64();
            let packets = after.1.saturating_sub(before.1) as f64;
            if seconds <= 0.0 {
                bail!("the forwarding lcore did not run");
            }
            best = best.max(packets / seconds / 1e6);
            before = after;
        }
        Ok(best)
    }

    fn command(&self, subject: &str) -> Result<Command> {
        let devices = self.devices()?;
        let lcores = format!("0@0,1@{}", machine::middle_cpu());
        let is_loop = self.device == "ring";
        if subject == "dpdk-testpmd" {
            let mut command = Command::new(subject);
            command.args(["--no-pci", "--in-memory", "--lcores", &lcores]);
            command.args(["--file-prefix", &file_prefix()]);
            for device in &devices {
                command.args(["--vdev", device]);
            }
            command.args(["--", "--auto-start", "--stats-period=3600"]);
            command.arg(format!("--forward-mode={}", self.mode));
            command.arg(format!("--total-num-mbufs={BUFFERS}"));
            command.args(["--burst=32", "--nb-cores=1", "--rxd=1024", "--txd=1024"]);
            command.args(is_loop.then_some("--tx-first"));
            return Ok(command);
        }
        let mut command = Command::new(self.binary);
        for device in &devices {
            command.args(["--port", device]);
        }
        command.args(["--lcores", &lcores, "--file-prefix", &file_prefix()]);
        command.args(["--mode", self.mode, "--nb-mbufs", BUFFERS]);
        command.args(is_loop.then_some("--tx-first"));
        Ok(command)
    }

    /// The two ports, as EAL wants them.
    fn devices(&self) -> Result<[String; 2]> {
        let frames = self.folder.join("frames.pcap");
        Ok(match self.device {
            "null" => ["net_null0".to_owned(), "net_null1".to_owned()],
            "ring" => ["net_ring0".to_owned(), "net_ring1".to_owned()],
            "pcap" => [0, 1].map(|index| {
                let frames = frames.display();
                format!("net_pcap{index},rx_pcap={frames},tx_pcap=/dev/null,infinite_rx=1")
            }),
            other => bail!("nobody knows the device `{other}`: null ring pcap"),
        })
    }
}

/// The thread that forwards.
struct LcoreThread(PathBuf);

impl LcoreThread {
    /// Processor time it has used. The kernel brings it up to date every few milliseconds.
    fn run_time(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(self.0.join("schedstat"))?;
        let nanos = text.split_whitespace().next().and_then(|n| n.parse().ok());
        nanos
            .map(Duration::from_nanos)
            .with_context(|| format!("schedstat says `{text}`"))
    }
}

/// The one worker lcore of a DPDK process: EAL names its threads.
fn lcore_of(process: u32) -> Result<LcoreThread> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let path = task?.path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("lcore-worker") || name.starts_with("rte-worker") {
            return Ok(LcoreThread(path));
        }
    }
    bail!("process {process} has no worker lcore")
}

/// The name of the program under test among DPDK processes.
fn file_prefix() -> String {
    format!("mr-bench-{}", std::process::id())
}

fn build() -> Result<PathBuf> {
    super::program::build("millrace-forward", "millrace-forward")
}

/// A capture file of 512 UDP frames of 64 bytes, for `net_pcap` to receive over and over.
pub(crate) fn write_frames(path: &Path) -> Result<()> {
    const FRAMES: u32 = 512;
    const LENGTH: u32 = 64;
    let mut file = Vec::new();
    // Magic (microseconds, this machine's order), version 2.4, zone, accuracy, longest, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for number in 0..FRAMES {
        for word in [0, number, LENGTH, LENGTH] {
            file.extend(word.to_le_bytes());
        }
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50];
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
        frame.extend([0, 9, 0, 9, 0, 30, 0, 0]);
        frame.resize(LENGTH as usize, 0);
        file.extend(frame);
    }
    std::fs::write(path, file).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_median_between_the_ends() {
        assert_eq!(summary(vec![3.0, 1.0, 2.0]), (2.0, [1.0, 3.0]));
        assert_eq!(summary(vec![4.0, 1.0]), (2.5, [1.0, 4.0]));
    }
}
