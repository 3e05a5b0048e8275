//! The dataplane's arguments. The dataplane reads no file: what it must know to boot is on its
//! command line.

use crate::valid::{Config, Memory, Port};

/// The arguments of `millrace-dataplane` for this configuration, one element for each argument, in
/// `--key=value` form so that no value can be taken for a key.
pub fn dataplane_args(config: &Config) -> Vec<String> {
    let dataplane = &config.dataplane;
    let lcores: Vec<String> = dataplane.lcores.iter().map(u16::to_string).collect();
    let mut args = vec![
        format!("--runtime-dir={}", config.runtime_dir.display()),
        format!("--lcores={}", lcores.join(",")),
        format!("--mbufs={}", dataplane.mbufs),
        format!("--mbuf-bytes={}", dataplane.mbuf_bytes),
        format!("--memory={}", memory(dataplane.memory, dataplane.memory_mb)),
        format!("--file-prefix={}", dataplane.file_prefix),
        format!("--connections-max={}", dataplane.connections_max),
        format!("--idle={}", dataplane.idle.word()),
        format!("--log-level={}", config.log.level.word()),
        format!("--log-format={}", config.log.format.word()),
    ];
    args.extend(
        config
            .ports
            .iter()
            .map(|port| format!("--port={}", port_arg(port))),
    );
    if dataplane.capture {
        args.push("--capture".to_owned());
    }
    let eal_args = dataplane.eal_args.iter();
    args.extend(eal_args.map(|arg| format!("--eal-arg={arg}")));
    args
}

fn memory(memory: Memory, megabytes: u32) -> String {
    match megabytes {
        0 => memory.word().to_owned(),
        _ => format!("{}:{megabytes}", memory.word()),
    }
}

fn port_arg(port: &Port) -> String {
    let mut text = format!("name={};device={}", port.name, port.device);
    if let Some(mac) = port.mac {
        text += &format!(";mac={mac}");
    }
    text += &format!(";mtu={}", port.mtu);
    if let Some(vlan) = port.vlan {
        text += &format!(";vlan={vlan}");
    }
    if let Some(queues) = port.queues {
        text += &format!(";queues={queues}");
    }
    text
}
