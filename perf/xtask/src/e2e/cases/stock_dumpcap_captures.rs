//! `dpdk-dumpcap`, DPDK's own capture tool, attaches to the running dataplane, sees frames, and leaves it unharmed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::bed::Wanted;
use super::super::config_file::{Settings, file_prefix};
use super::super::peers::curl;
use super::super::{Bed, Case, plan};
use crate::process::{self, Background};
use crate::setup::hugepages;

pub(super) const CASE: Case = Case {
    name: "stock_dumpcap_captures",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: || Wanted {
        change: with_capture,
        obstacle: || (!hugepages::are_mounted()).then_some("a second DPDK process needs hugetlbfs"),
        ..Wanted::default()
    },
    test,
};

fn with_capture(settings: &mut Settings) {
    settings.capture = true;
}

/// Frames to wait for.
const FRAMES: &str = "40";

fn test(bed: &mut Bed) -> Result<String> {
    let file = bed.folder().join("dumpcap.pcap");
    let mut dumpcap = Command::new("dpdk-dumpcap");
    dumpcap.arg(format!("--file-prefix={}", file_prefix()));
    dumpcap
        .args(["-i", "0", "-c", FRAMES, "-a", "duration:30", "-P", "-w"])
        .arg(&file);
    let mut capture = Background::start("dumpcap", &mut dumpcap, bed.folder())?;
    let url = plan::url(plan::VIPS[0], "who");
    // It takes a second or so to attach; requests go on until it has seen enough.
    for _ in 0..400 {
        curl::fetch(bed.client(), &url)?;
        if capture.check_alive().is_err() {
            break;
        }
    }
    capture.wait(Duration::from_secs(40))?;
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-n")
        .arg("-r")
        .arg(&file)
        .args(["-Y", "tcp", "-T", "fields", "-e", "ip.src"]);
    let listed = process::must(&mut tshark, Duration::from_secs(60))?;
    let ours = listed
        .lines()
        .filter(|source| *source == plan::VIP4.to_string())
        .count();
    ensure!(
        ours > 0,
        "no frame of ours in the capture: {listed}{}",
        capture.log_text()
    );
    curl::fetch(bed.client(), &url)?;
    Ok(format!(
        "{} TCP frames, {ours} of them ours",
        listed.lines().count()
    ))
}
