//! `dpdk-dumpcap`, DPDK's own capture tool, attaches to the running dataplane: it sees what a port
//! receives and sends, filtered, cut and counted, also what the stack then drops, and leaves it
//! unharmed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::bed::Wanted;
use super::super::config_file::{Settings, file_prefix};
use super::super::peers::curl;
use super::super::plan::{self, FRONT};
use super::super::relay::Faults;
use super::super::topology::Wire;
use super::super::{Bed, Case, frames};
use crate::process::{self, Background};
use crate::setup::hugepages;

// behaviour: TAP-1, TAP-4, TAP-5, TAP-6, TAP-9, TAP-10, TAP-12, TAP-13, TAP-14, TAP-15, TAP-17
// behaviour: IPI-1, CNT-8
pub(super) const CASE: Case = Case {
    name: "stock_dumpcap_captures",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: || Wanted {
        change: with_capture,
        front: Wire::Relay(Faults::NONE),
        obstacle: || (!hugepages::are_mounted()).then_some("a second DPDK process needs hugetlbfs"),
        ..Wanted::default()
    },
    test,
};

fn with_capture(settings: &mut Settings) {
    settings.capture = true;
}

/// Frames to wait for.
const FRAMES: usize = 60;

/// Bytes of each frame: less than an answer of the web servers has.
const SNAPLEN: u32 = 120;

fn test(bed: &mut Bed) -> Result<String> {
    let file = bed.folder().join("dumpcap.pcapng");
    let mut dumpcap = Command::new("dpdk-dumpcap");
    dumpcap.arg(format!("--file-prefix={}", file_prefix()));
    dumpcap
        .args(["-i", "0", "-c", &FRAMES.to_string(), "-a", "duration:30"])
        .args(["-f", "ip", "-s", &SNAPLEN.to_string(), "-w"])
        .arg(&file);
    let mut capture = Background::start("dumpcap", &mut dumpcap, bed.folder())?;
    let url = plan::url(plan::VIPS[0], "who");
    // It takes a second or so to attach; requests go on until it has seen enough.
    for round in 0..400 {
        curl::fetch(bed.client(), &url)?;
        if round % 4 == 0 {
            drop_something(bed)?;
        }
        if capture.check_alive().is_err() {
            break;
        }
    }
    capture.wait(Duration::from_secs(40))?;
    let said = capture.log_text();
    let captured = read(&file)?;
    ensure!(!captured.is_empty(), "an empty capture: {said}");
    let vip = plan::VIP4.to_string();
    let sent = captured.iter().filter(|it| it.source == vip).count();
    let received = captured.iter().filter(|it| it.target == vip).count();
    ensure!(sent > 0 && received > 0, "{sent} sent, {received} received");
    let backends = captured.iter().filter(|it| it.source != vip);
    ensure!(
        backends.clone().all(|it| it.target == vip),
        "frames of another port, or of another protocol than asked for"
    );
    ensure!(
        captured.iter().all(|it| it.captured <= SNAPLEN),
        "a frame is longer than the snapshot"
    );
    let cut = captured.iter().filter(|it| it.bytes > it.captured).count();
    ensure!(cut > 0, "no frame was cut, or its real length is not known");
    let dropped = captured.iter().filter(|it| !it.checksum_is_good).count();
    ensure!(dropped > 0, "no frame that the stack drops was seen");
    ensure!(
        said.contains("Packets received/dropped"),
        "no statistics: {said}"
    );
    curl::fetch(bed.client(), &url)?;
    Ok(format!(
        "{received} received, {sent} sent, {cut} cut, {dropped} that the stack dropped"
    ))
}

/// A frame with a wrong IP checksum, which the stack counts and forgets.
fn drop_something(bed: &mut Bed) -> Result<()> {
    let wrong = frames::wrong_ip_checksum();
    let relay = bed.topology.relay(&FRONT).context("no relay")?;
    relay.inject(&[wrong])
}

/// What tshark reads of one frame.
#[derive(Debug)]
struct Captured {
    source: String,
    target: String,
    bytes: u32,
    captured: u32,
    checksum_is_good: bool,
}

fn read(file: &Path) -> Result<Vec<Captured>> {
    let mut tshark = Command::new("tshark");
    tshark
        .args(["-n", "-o", "ip.check_checksum:TRUE", "-r"])
        .arg(file)
        .args(["-T", "fields", "-E", "occurrence=f"])
        .args(["-e", "ip.src", "-e", "ip.dst", "-e", "frame.len"])
        .args(["-e", "frame.cap_len", "-e", "ip.checksum.status"]);
    let listed = process::must(&mut tshark, Duration::from_secs(60))?;
    listed
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [source, target, bytes, captured, status] = fields[..] else {
                anyhow::bail!("tshark said `{line}`");
            };
            Ok(Captured {
                source: source.to_owned(),
                target: target.to_owned(),
                bytes: bytes.parse()?,
                captured: captured.parse()?,
                checksum_is_good: status != "0" && status != "Bad",
            })
        })
        .collect()
}
