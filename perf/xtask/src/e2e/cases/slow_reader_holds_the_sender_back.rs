//! Back-pressure: a client that reads slowly does not make the balancer hoard, and others do not notice.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::peers::curl::Download;
use super::super::{Bed, Case, data, plan};
use crate::interrupt;

pub(super) const CASE: Case = Case {
    name: "slow_reader_holds_the_sender_back",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let vip = IpAddr::V4(plan::VIP4);
    let (slow, quick) = (data::sample(20)?, data::sample(50)?);
    bed.offer(&slow, "slow.bin")?;
    bed.offer(&quick, "quick.bin")?;
    let url = plan::url(vip, "slow.bin");
    let readers = (0..8)
        .map(|_| Download::start_paced(bed.client(), &url, &["--limit-rate", "2M"]))
        .collect::<Result<Vec<_>>>()?;
    interrupt::sleep(Duration::from_secs(2))?;
    bed.download(vip, "quick.bin", &quick)?;
    ensure!(
        readers.iter().any(Download::is_running),
        "the slow readers were not slow"
    );
    for reader in readers {
        reader.finish(&slow)?;
    }
    Ok("50 MiB at full pace beside 8 readers of 2 MB/s, all intact".to_owned())
}
