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
        format!("--rss={}", dataplane.rss.word()),
        format!("--rss-selftest-ms={}", dataplane.rss_selftest_ms),
        format!("--snat-pairs={}", snat_pairs(config)),
        format!("--log-level={}", config.log.level.word()),
        format!("--log-format={}", config.log.format.word()),
    ];
    args.extend(
        config
            .ports
            .iter()
            .map(|port| format!("--port={}", port_arg(port))),
    );
    if !dataplane.rss_key.is_empty() {
        args.push(format!("--rss-key={}", dataplane.rss_key));
    }
    if dataplane.capture {
        args.push("--capture".to_owned());
    }
    let eal_args = dataplane.eal_args.iter();
    args.extend(eal_args.map(|arg| format!("--eal-arg={arg}")));
    args
}

/// Pairs of source address and backend to keep account of: those of this file, and as many again for
/// what a reload may add. The dataplane takes at most 65,536.
fn snat_pairs(config: &Config) -> usize {
    const PAIRS_MIN: usize = 64;
    const PAIRS_MAX: usize = 65_536;
    let backends = config.pools.iter().flat_map(|pool| &pool.backends);
    let pairs = backends.map(|backend| {
        let is_v4 = backend.endpoint.address.is_v4();
        let sources = config.snat.addresses.iter();
        sources
            .filter(|source| source.address.is_v4() == is_v4)
            .count()
    });
    (2 * pairs.sum::<usize>()).clamp(PAIRS_MIN, PAIRS_MAX)
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
