//! Loss, duplication and reordering on one wire: transfers through it are still equal, both ways.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::bed::Wanted;
use super::super::plan::{BACK, FRONT};
use super::super::relay::Faults;
use super::super::topology::Wire;
use super::super::{Bed, Case, data, plan};
use crate::interrupt;

pub(super) const FRONT_CASE: Case = Case {
    name: "lossy_client_wire_delivers_all",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: || Wanted {
        front: lossy(),
        ..Wanted::default()
    },
    test,
};

pub(super) const BACK_CASE: Case = Case {
    name: "lossy_server_wire_delivers_all",
    devices: super::AF_PACKET,
    needs_millrace: false,
    wanted: || Wanted {
        back: lossy(),
        ..Wanted::default()
    },
    test,
};

/// 1 % of each, as the issue asks.
fn lossy() -> Wire {
    Wire::Relay(Faults {
        loss: 1,
        duplicate: 1,
        reorder: 1,
        seed: 20_240_601,
    })
}

fn test(bed: &mut Bed) -> Result<String> {
    let sample = data::sample(20)?;
    bed.offer(&sample, "lossy.bin")?;
    for vip in plan::VIPS {
        bed.download(vip, "lossy.bin", &sample)?;
        bed.upload(vip, "lossy.bin", &sample)?;
    }
    bed.half_close(plan::VIPS[0], 2, 10)?;
    // The relay writes its counts five times a second.
    interrupt::sleep(Duration::from_millis(500))?;
    let relay = [&FRONT, &BACK]
        .into_iter()
        .find_map(|side| bed.topology.relay(side));
    let relay = relay.context("this bed has a relay")?;
    ensure!(
        relay.lost() > 100,
        "the wire was too good: {}",
        relay.report()
    );
    Ok(format!(
        "20 MiB down and up on both families; frames: {}",
        relay.report()
    ))
}
