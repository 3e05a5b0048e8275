//! Other software in Millrace's place: `HAProxy` on the kernel's stack, testpmd forwarding bare frames.
//!
//! `HAProxy` proves the harness itself (topology, peers, checks) and is the benchmark's reference; testpmd is
//! the ceiling of the wires.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::plan::{self, BACK, FRONT, Service};
use super::topology::Topology;
use crate::interrupt;
use crate::machine;
use crate::process::{self, Background, ip};

/// More would not fit under the file limit of a container (two descriptors a session, 20,000).
const HAPROXY_CONNECTIONS_MAX: u32 = 4000;

/// `HAProxy` in TCP mode, one thread, kernel addresses in the lb namespace.
pub(crate) struct Haproxy {
    process: Background,
}

impl Haproxy {
    /// Configures the kernel of the lb namespace like the appliance, and starts it there.
    pub(crate) fn start(topology: &Topology, services: &[Service], logs: &Path) -> Result<Self> {
        let lb = &topology.lb;
        for side in [&FRONT, &BACK] {
            let interface = side.interface;
            let mut offloads = process::inside(lb, "ethtool");
            offloads.args([
                "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off",
            ]);
            process::must(&mut offloads, Duration::from_secs(10))?;
            ip(&format!(
                "-n {lb} addr add {} dev {interface}",
                side.address4
            ))?;
            ip(&format!(
                "-n {lb} addr add {} dev {interface} nodad",
                side.address6
            ))?;
        }
        ip(&format!(
            "-n {lb} addr add {}/32 dev {}",
            plan::VIP4,
            FRONT.interface
        ))?;
        ip(&format!(
            "-n {lb} addr add {}/128 dev {} nodad",
            plan::VIP6,
            FRONT.interface
        ))?;
        let config = logs.join("haproxy.cfg");
        std::fs::write(&config, configuration(services)).context("cannot write haproxy.cfg")?;
        let mut command = process::inside(lb, "taskset");
        // The same core that the dataplane's lcore gets.
        command
            .args([
                "-c",
                &machine::middle_cpu().to_string(),
                "haproxy",
                "-db",
                "-f",
            ])
            .arg(&config);
        let mut process = Background::start("haproxy", &mut command, logs)?;
        interrupt::sleep(Duration::from_millis(500))?;
        process.check_alive()?;
        Ok(Self { process })
    }

    /// An error when it is gone.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }
}

fn configuration(services: &[Service]) -> String {
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn {HAPROXY_CONNECTIONS_MAX}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 120s\n  timeout server 120s\n\
         \x20 option splice-auto\n"
    );
    for service in services {
        for vip in plan::VIPS {
            let family = if vip.is_ipv4() { "v4" } else { "v6" };
            let bind = SocketAddr::new(vip, service.port);
            let name = service.name;
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "listen {name}-{family}\n  bind {bind}\n  balance roundrobin"
            );
            for (index, server) in plan::servers_of(vip)
                .iter()
                .take(service.servers)
                .enumerate()
            {
                let address = SocketAddr::new(*server, service.port);
                let _ = writeln!(text, "  server s{index} {address}");
            }
        }
    }
    text
}

/// `dpdk-testpmd --forward-mode=io`: every frame goes out of the other port unread.
pub(crate) struct Testpmd {
    process: Background,
}

impl Testpmd {
    /// The command's device and forwarding arguments, without the namespace.
    pub(crate) fn arguments() -> Vec<String> {
        let mut words: Vec<String> = vec!["--no-pci".into(), "--in-memory".into()];
        words.push("--lcores".into());
        words.push(format!("0@0,1@{}", machine::middle_cpu()));
        for (index, side) in [&FRONT, &BACK].iter().enumerate() {
            words.push("--vdev".into());
            words.push(format!(
                "net_af_packet{index},iface={},qdisc_bypass=1,blocksz=4096,framesz=2048,framecnt=4096",
                side.interface
            ));
        }
        let rest = "-- --forward-mode=io --auto-start --total-num-mbufs=32768 --stats-period=3600";
        words.extend(rest.split_whitespace().map(str::to_owned));
        words
    }

    /// Starts it, and puts the client into the servers' network: there is no router between them now.
    pub(crate) fn start(topology: &Topology, logs: &Path) -> Result<Self> {
        let client = &topology.client;
        ip(&format!(
            "-n {client} addr add 10.9.0.200/24 dev {}",
            FRONT.peer_interface
        ))?;
        ip(&format!(
            "-n {client} route del {} via {}",
            BACK.subnets[0], FRONT.gateway4
        ))?;
        let mut command = machine::inside_unpinned(&topology.lb, "dpdk-testpmd");
        command.args(Self::arguments());
        let mut process = Background::start("testpmd", &mut command, logs)?;
        let target = plan::SERVERS4[0].to_string();
        interrupt::wait_until("testpmd to forward", Duration::from_secs(30), || {
            process
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            let mut ping = process::inside(client, "ping");
            let answered = process::finish(
                ping.args(["-c", "1", "-W", "1", &target]),
                Duration::from_secs(5),
            );
            match answered {
                Ok(finished) if finished.success() => Ok(()),
                Ok(finished) => Err(finished.stdout),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        Ok(Self { process })
    }

    /// An error when it is gone.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }
}
