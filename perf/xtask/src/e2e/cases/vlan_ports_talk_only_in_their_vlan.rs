//! Both ports in VLANs of their own: transfers are equal, and frames of other VLANs end in a counter.
//!
//! af_packet takes tags off (the kernel does) and leaves inserting them to the stack; af_xdp does neither. A card that does
//! both is in `cargo xtask qnic`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::bed::Wanted;
use super::super::config_file::Device;
use super::super::frames;
use super::super::peers::curl;
use super::super::plan::{self, FRONT};
use super::super::topology::Wire;
use super::super::{Bed, Case, data};
use crate::interrupt;

pub(super) const CASE: Case = Case {
    name: "vlan_ports_talk_only_in_their_vlan",
    devices: &[Device::AfPacket, Device::AfXdp],
    needs_millrace: true,
    wanted: || Wanted {
        front: Wire::Trunk(FRONT_VLAN),
        back: Wire::Trunk(BACK_VLAN),
        change: |settings| settings.vlan = [Some(FRONT_VLAN), Some(BACK_VLAN)],
        ..Wanted::default()
    },
    test,
};

const FRONT_VLAN: u16 = 100;
const BACK_VLAN: u16 = 4_094;
/// The drop reason of frames of other VLANs, as a counter.
const WRONG_VLAN: &str = "drop_wrong_vlan";
/// Frames of each kind that do not belong.
const STRAYS: usize = 10;

fn test(bed: &mut Bed) -> Result<String> {
    let sample = data::sample(20)?;
    bed.offer(&sample, "vlan.bin")?;
    for vip in plan::VIPS {
        bed.download(vip, "vlan.bin", &sample)?;
        bed.upload(vip, "vlan.bin", &sample)?;
    }
    let before = bed.millrace()?.counter(WRONG_VLAN)?;
    let relay = bed.topology.relay(&FRONT).context("no relay")?;
    let kinds = [
        frames::arp_request(None),
        frames::arp_request(Some(FRONT_VLAN + 1)),
        frames::arp_request(Some(0)),
    ];
    for frame in &kinds {
        relay.inject(&vec![frame.clone(); STRAYS])?;
    }
    let wanted = (kinds.len() * STRAYS) as u64;
    let millrace = bed.millrace()?;
    interrupt::wait_until("the strays to be counted", Duration::from_secs(10), || {
        let now = millrace
            .counter(WRONG_VLAN)
            .map_err(|error| format!("{error:#}"))?;
        let grown = now.saturating_sub(before);
        if grown >= wanted {
            Ok(())
        } else {
            Err(format!("{grown} of {wanted}"))
        }
    })?;
    for vip in plan::VIPS {
        let name = curl::fetch(bed.client(), &plan::url(vip, "who"))?;
        ensure!(["a", "b"].contains(&name.as_str()), "`{name}` answered");
    }
    Ok(format!(
        "20 MiB down and up in both families, {wanted} strays counted"
    ))
}
