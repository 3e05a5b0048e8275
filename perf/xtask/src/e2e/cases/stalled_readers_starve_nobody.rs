//! Clients that ask for much and then stop reading do not get all packet buffers: others are served beside them, and
//! every buffer is back when they are gone.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::super::{Bed, Case, data, plan};
use crate::interrupt;
use crate::process::{self, Background};

/// More than the pool of the test bed has room for at a full window each.
const READERS: &str = "300";
/// What closing 300 sessions may take on a busy machine.
const RETURN_LIMIT: Duration = Duration::from_secs(20);

pub(super) const CASE: Case = Case {
    name: "stalled_readers_starve_nobody",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: super::plain,
    test,
};

fn test(bed: &mut Bed) -> Result<String> {
    let vip = IpAddr::V4(plan::VIP4);
    let (large, small) = (data::sample(50)?, data::sample(10)?);
    bed.offer(&large, "large.bin")?;
    bed.offer(&small, "small.bin")?;
    let mut readers = process::inside(bed.client(), "wrk");
    readers.args(["-t", "1", "-c", READERS, "-d", "90"]);
    readers.arg(plan::url(vip, "large.bin"));
    let readers = Background::start("readers", &mut readers, bed.folder())?;
    interrupt::sleep(Duration::from_secs(2))?;
    readers.signal(Signal::STOP);
    // Their kernel goes on receiving until its own buffers are full.
    interrupt::sleep(Duration::from_secs(6))?;
    let free = bed.millrace()?.counter("millrace_mbufs_available")?;
    let capacity = bed.millrace()?.counter("millrace_mbufs_capacity")?;
    ensure!(free < capacity, "the stalled readers hold nothing");
    bed.download(vip, "small.bin", &small)?;
    readers.kill();
    interrupt::wait_until("every packet buffer", RETURN_LIMIT, || {
        let free = bed
            .millrace()
            .and_then(|millrace| millrace.counter("millrace_mbufs_available"))
            .map_err(|error| format!("{error:#}"))?;
        if free == capacity {
            Ok(())
        } else {
            Err(format!("{free} of {capacity} are free"))
        }
    })?;
    Ok(format!(
        "10 MiB beside {READERS} readers that stood still with {} of {capacity} buffers; all are back",
        capacity - free
    ))
}
