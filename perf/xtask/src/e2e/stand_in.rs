//! Other software in Millrace's place: `HAProxy` and nginx on the kernel's stack, a bare wire, testpmd forwarding bare
//! frames.
//!
//! `HAProxy` proves the harness itself (topology, peers, checks); it and nginx are the benchmark's references. A bare
//! wire is the ceiling of the peers, testpmd the ceiling of the device.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::config_file::Device;
use super::plan::{self, BACK, FRONT, SERVERS4, Service};
use super::topology::Topology;
use crate::interrupt;
use crate::machine;
use crate::process::{self, Background, ip};

/// More would not fit under the file limit of a container (two descriptors a session, 20,000).
const HAPROXY_CONNECTIONS_MAX: u32 = 4000;

/// Who stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StandIn {
    /// `HAProxy` in TCP mode, one thread, kernel addresses in the lb namespace.
    Haproxy,
    /// nginx's `stream` module, one worker, in the same place.
    NginxStream,
    /// Nobody: one veth between the client and the servers.
    Direct,
    /// `dpdk-testpmd --forward-mode=io`: every frame goes out of the other port unread.
    Testpmd,
}

/// A stand-in at work.
pub(crate) struct Standing {
    /// A bare wire has none.
    process: Option<Background>,
}

impl StandIn {
    /// Puts it into the middle and waits until it works. `device` is what testpmd opens.
    pub(crate) fn start(
        self,
        topology: &Topology,
        services: &[Service],
        device: Device,
        logs: &Path,
    ) -> Result<Standing> {
        let process = match self {
            Self::Haproxy => Some(start_haproxy(topology, services, logs)?),
            Self::NginxStream => Some(start_nginx(topology, services, logs)?),
            Self::Direct => {
                lay_bare_wire(topology)?;
                None
            }
            Self::Testpmd => Some(start_testpmd(topology, device, logs)?),
        };
        Ok(Standing { process })
    }

    /// Whether it terminates TCP at the VIPs; otherwise clients talk to the servers themselves.
    pub(crate) fn terminates(self) -> bool {
        matches!(self, Self::Haproxy | Self::NginxStream)
    }
}

impl Standing {
    /// An error when it is gone.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .map_or(Ok(()), Background::check_alive)
    }
}

/// Configures the kernel of the lb namespace like the appliance: our addresses and the VIPs, offloads off.
fn dress_kernel(topology: &Topology) -> Result<()> {
    let lb = &topology.lb;
    for side in [&FRONT, &BACK] {
        let interface = side.interface;
        switch_offloads_off(lb, interface)?;
        ip(&format!(
            "-n {lb} addr add {} dev {interface}",
            side.address4
        ))?;
        ip(&format!(
            "-n {lb} addr add {} dev {interface} nodad",
            side.address6
        ))?;
    }
    let front = FRONT.interface;
    ip(&format!("-n {lb} addr add {}/32 dev {front}", plan::VIP4))?;
    ip(&format!(
        "-n {lb} addr add {}/128 dev {front} nodad",
        plan::VIP6
    ))?;
    Ok(())
}

fn switch_offloads_off(namespace: &str, interface: &str) -> Result<()> {
    let mut offloads = process::inside(namespace, "ethtool");
    offloads.args([
        "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off",
    ]);
    process::must(&mut offloads, Duration::from_secs(10)).map(drop)
}

/// On the same core that the dataplane's lcore gets.
fn on_middle_cpu(topology: &Topology, program: &str) -> Command {
    let mut command = process::inside(&topology.lb, "taskset");
    command.args(["-c", &machine::middle_cpu().to_string(), program]);
    command
}

fn start_haproxy(topology: &Topology, services: &[Service], logs: &Path) -> Result<Background> {
    dress_kernel(topology)?;
    let config = logs.join("haproxy.cfg");
    std::fs::write(&config, configuration(services)).context("cannot write haproxy.cfg")?;
    let mut command = on_middle_cpu(topology, "haproxy");
    command.args(["-db", "-f"]).arg(&config);
    settled(Background::start("haproxy", &mut command, logs)?)
}

fn start_nginx(topology: &Topology, services: &[Service], logs: &Path) -> Result<Background> {
    dress_kernel(topology)?;
    let config = logs.join("nginx-stream.conf");
    let text = nginx_configuration(services, logs);
    std::fs::write(&config, text).context("cannot write nginx-stream.conf")?;
    let mut command = on_middle_cpu(topology, "nginx");
    command.arg("-e").arg(logs.join("nginx-stream-error.log"));
    command.arg("-c").arg(&config);
    settled(Background::start("nginx-stream", &mut command, logs)?)
}

/// A proxy that is wrong about its configuration ends at once.
fn settled(mut process: Background) -> Result<Background> {
    interrupt::sleep(Duration::from_millis(500))?;
    process.check_alive()?;
    Ok(process)
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

fn nginx_configuration(services: &[Service], folder: &Path) -> String {
    let folder = folder.display();
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 16384;\n\
         pid {folder}/nginx-stream.pid;\nevents {{ worker_connections 8192; }}\n\
         stream {{\n  proxy_timeout 120s;\n  proxy_connect_timeout 5s;\n"
    );
    for service in services {
        for vip in plan::VIPS {
            let family = if vip.is_ipv4() { "v4" } else { "v6" };
            let name = format!("{}-{family}", service.name);
            let servers: String = plan::servers_of(vip)
                .iter()
                .take(service.servers)
                .map(|server| format!(" server {};", SocketAddr::new(*server, service.port)))
                .collect();
            let listen = SocketAddr::new(vip, service.port);
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "  upstream {name} {{{servers} }}\n  server {{ listen {listen} backlog=4096; proxy_pass {name}; }}"
            );
        }
    }
    text.push_str("}\n");
    text
}

/// One veth from the client to the servers, and the routes of both through it.
fn lay_bare_wire(topology: &Topology) -> Result<()> {
    let (client, servers) = (&topology.client, &topology.servers);
    ip(&format!(
        "link add x0 netns {client} type veth peer name x1 netns {servers}"
    ))?;
    for (namespace, interface) in [(client, "x0"), (servers, "x1")] {
        switch_offloads_off(namespace, interface)?;
        ip(&format!("-n {namespace} link set {interface} up"))?;
    }
    ip(&format!(
        "-n {client} route replace {} dev x0",
        BACK.subnets[0]
    ))?;
    ip(&format!(
        "-n {servers} route replace {} dev x1",
        FRONT.subnets[0]
    ))?;
    Ok(())
}

/// testpmd's device and forwarding arguments, without the namespace.
pub(crate) fn testpmd_arguments(device: Device) -> Vec<String> {
    let mut words: Vec<String> = vec!["--no-pci".into(), "--in-memory".into()];
    words.push("--lcores".into());
    words.push(format!("0@0,1@{}", machine::middle_cpu()));
    for side in [&FRONT, &BACK] {
        words.push("--vdev".into());
        words.push(device.specification(side, 1, 1_500));
    }
    let rest = "-- --forward-mode=io --auto-start --total-num-mbufs=32768 --stats-period=3600";
    words.extend(rest.split_whitespace().map(str::to_owned));
    words
}

/// Starts it, and puts the client into the servers' network: there is no router between them now.
fn start_testpmd(topology: &Topology, device: Device, logs: &Path) -> Result<Background> {
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
    command.args(testpmd_arguments(device));
    let mut process = Background::start("testpmd", &mut command, logs)?;
    let target = SERVERS4[0].to_string();
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
    Ok(process)
}
