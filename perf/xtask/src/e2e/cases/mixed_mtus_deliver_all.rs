//! A client on jumbo frames before servers on 1,500 bytes, and the other way round: files arrive intact both ways, and
//! not a payload byte is copied to fit the smaller frames (the aftermath of every case checks that).

use anyhow::Result;

use super::super::bed::Wanted;
use super::super::config_file::Settings;
use super::super::{Bed, Case, data, plan};

/// Ethernet payload of the common jumbo frame.
const JUMBO: u16 = 9_000;

pub(super) const FRONT_CASE: Case = Case {
    name: "jumbo_clients_reach_ordinary_servers",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: || wanted(|settings| settings.mtu = [JUMBO, 1_500]),
    test,
};

pub(super) const BACK_CASE: Case = Case {
    name: "ordinary_clients_reach_jumbo_servers",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: || wanted(|settings| settings.mtu = [1_500, JUMBO]),
    test,
};

pub(super) const BOTH_CASE: Case = Case {
    name: "jumbo_clients_reach_jumbo_servers",
    devices: super::AF_PACKET,
    needs_millrace: true,
    wanted: || wanted(|settings| settings.mtu = [JUMBO, JUMBO]),
    test,
};

fn wanted(change: fn(&mut Settings)) -> Wanted {
    Wanted {
        change,
        ..Wanted::default()
    }
}

fn test(bed: &mut Bed) -> Result<String> {
    let sample = data::sample(50)?;
    bed.offer(&sample, "sample.bin")?;
    for vip in plan::VIPS {
        bed.download(vip, "sample.bin", &sample)?;
        bed.upload(vip, "sample.bin", &sample)?;
    }
    Ok("50 MiB down and up on IPv4 and IPv6".to_owned())
}
