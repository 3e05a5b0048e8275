//! The configuration files in the guest: two igb ports, four lcores, the two web servers behind both VIPs.

use std::fmt::Write as _;

use super::bed::Wires;
use super::machine::{CARDS, CPUS};
use crate::e2e::plan::{self, BACK, FRONT};

/// The VLANs of both wires when they are trunks.
pub(super) const VLANS: [u16; 2] = [100, 200];
/// Packet buffers: four lcores' rings on two ports and as many again in queues.
const MBUFS: u32 = 32_768;

/// Where the file for these wires is in the guest.
pub(super) fn path(wires: Wires) -> String {
    format!("/millrace/{}.toml", wires.name())
}

/// The file.
pub(super) fn text(wires: Wires) -> String {
    let lcores: Vec<usize> = (0..CPUS).collect();
    let mut text = format!(
        "runtime_dir = \"/run/millrace\"\n[dataplane]\nlcores = {lcores:?}\nmbufs = {MBUFS}\n\
         memory = \"hugepages\"\nconnections_max = 4096\nidle = \"sleep\"\n"
    );
    for ((side, card), vlan) in [&FRONT, &BACK].into_iter().zip(CARDS).zip(VLANS) {
        let vlan = match wires {
            Wires::Plain => String::new(),
            Wires::Trunks => format!("vlan = {vlan}\n"),
        };
        let (name, four, six) = (side.port, side.address4, side.address6);
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "[[port]]\nname = \"{name}\"\ndevice = \"{card}\"\n{vlan}addresses = [\"{four}\", \"{six}\"]\n"
        );
    }
    let _ = writeln!(
        text,
        "[snat]\naddresses = [\"{}\", \"{}\"]",
        BACK.gateway4, BACK.gateway6
    );
    for vip in plan::VIPS {
        let name = if vip.is_ipv4() { "web-v4" } else { "web-v6" };
        let port = plan::WEB_PORT;
        let _ = write!(
            text,
            "[[listener]]\nname = \"{name}\"\naddress = \"{vip}\"\nports = \"{port}\"\npool = \"{name}\"\n\
             [[pool]]\nname = \"{name}\"\n\
             health = {{ interval_ms = 1000, timeout_ms = 900, rise = 1, fall = 5 }}\n"
        );
        for (server, letter) in plan::servers_of(vip).iter().zip(["a", "b"]) {
            let address = std::net::SocketAddr::new(*server, port);
            let _ = write!(
                text,
                "[[pool.backend]]\nname = \"{letter}\"\naddress = \"{address}\"\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_for_trunks_has_vlans() {
        for (wires, expected) in [(Wires::Plain, None), (Wires::Trunks, Some(200))] {
            let file: toml::Table = text(wires).parse().expect("TOML");
            let back = &file["port"][1];
            assert_eq!(back["device"].as_str(), Some("0000:02:00.0"));
            let vlan = back.get("vlan").and_then(toml::Value::as_integer);
            assert_eq!(vlan, expected);
            assert_eq!(
                file["dataplane"]["lcores"].as_array().map(Vec::len),
                Some(4)
            );
        }
    }
}
