//! Captures on both peers, read by tshark: every checksum of ours is right, and no remark about our TCP is left
//! unexplained.

use anyhow::{Result, bail, ensure};

use super::super::capture::Capture;
use super::super::peers::curl;
use super::super::plan::{self, BACK, FRONT};
use super::super::{Bed, Case, data};

pub(super) const CASE: Case = Case {
    name: "capture_shows_no_error_of_ours",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let folder = bed.folder().to_path_buf();
    let captures = [&FRONT, &BACK]
        .into_iter()
        .map(|side| Capture::start(&bed.topology, side, &folder))
        .collect::<Result<Vec<_>>>()?;
    // Small, because tshark needs a minute for 100,000 frames.
    let sample = data::sample(5)?;
    bed.offer(&sample, "captured.bin")?;
    for vip in plan::VIPS {
        for _ in 0..20 {
            curl::fetch(bed.client(), &plan::url(vip, "who"))?;
        }
        bed.download(vip, "captured.bin", &sample)?;
        bed.upload(vip, "captured.bin", &sample)?;
        bed.half_close(vip, 1, 2)?;
    }
    let probes = loss_probes(bed)?;
    let mut frames = 0;
    for (mut capture, side) in captures.into_iter().zip(["client", "server"]) {
        let findings = capture.judge()?;
        frames += findings.frames;
        ensure!(
            findings.frames > 500,
            "only {} frames of ours on the {side} wire",
            findings.frames
        );
        ensure!(findings.bad_checksums == 0, "{side} wire: {findings:?}");
        let unexplained = findings.unexplained(false, probes);
        if !unexplained.is_empty() {
            let remarks: Vec<&str> = unexplained.iter().map(|(name, _)| *name).collect();
            let context = capture.context(&remarks)?;
            bail!("{side} wire: {unexplained:?} of {findings:?}\n{context}");
        }
    }
    Ok(format!("{frames} frames of ours judged"))
}

/// Loss probes that a capture may show. The tail of a transfer is probed after two round trips and two milliseconds (RFC 8985
/// section 7.2), and on two CPUs that Millrace shares with the peers an ACK may need longer: the peer has not been given a CPU
/// to send it, the kernel has not handed it over, or one lcore has received what waits for the other. That an lcore takes what
/// has arrived before it looks at a timer is held by the rig, where nobody else decides about time.
fn loss_probes(bed: &mut Bed) -> Result<u64> {
    /// More are a fault of ours, whatever the machine does.
    const PROBES_MAX: u64 = 4;
    let probes = bed.millrace()?.counter("TcpExtTCPLossProbes")?;
    Ok(probes.min(PROBES_MAX))
}
