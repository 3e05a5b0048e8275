//! `cargo xtask demo`: two web servers, Millrace before them, a client. Everything it shows really happens: three
//! network namespaces, DPDK's poll-mode driver on both sides, every byte through our own TCP.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use crate::e2e::appliance::Millrace;
use crate::e2e::config_file::{Device, Settings};
use crate::e2e::data;
use crate::e2e::peers::{curl, nginx::Nginx};
use crate::e2e::plan::{self, SERVERS4, SERVERS6};
use crate::e2e::topology::{self, Topology, Wire};
use crate::paths::{self, RunFolder};
use crate::{binaries, interrupt, machine, setup};

/// Arguments of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct DemoArguments {
    /// Leave it running at the end, and say how to look around.
    #[arg(long)]
    keep: bool,
    /// Lcores, each on a CPU of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    lcores: u8,
    /// Stop a demo that was left running.
    #[arg(long)]
    stop: bool,
}

/// `runtime_dir` of conf/demo.toml: the region, the control socket, and our process id.
const RUNTIME: &str = "/run/millrace-demo";

/// Size of the download, in MiB.
const DOWNLOAD_MIB: u64 = 200;

/// Runs or stops the demo.
pub(crate) fn run(arguments: &DemoArguments) -> Result<()> {
    if arguments.stop {
        return stop();
    }
    if let Some(id) = running() {
        bail!("a demo runs as process {id}; `cargo xtask demo --stop` ends it");
    }
    setup::ensure()?;
    topology::sweep_stale()?;
    heading("building the two processes and the command line");
    let binaries = binaries::build()?;
    let runtime = Runtime::claim()?;

    heading("laying the network: client ── Millrace ── two servers, in three namespaces");
    let folder = RunFolder::create(&format!("mr-{}", std::process::id()))?;
    let topology = Topology::create(&Wire::Veth, &Wire::Veth, folder.path())?;
    let mut scene = Scene::start(
        &binaries,
        topology,
        folder.path(),
        usize::from(arguments.lcores),
    )?;

    scene.show_balancing()?;
    scene.show_download()?;
    scene.show_a_death()?;
    scene.show_tables()?;
    if arguments.keep {
        scene.explain_how_to_look_around();
        // Ends with Ctrl-C or `--stop`, which is not an error.
        while scene.millrace.check_alive().is_ok()
            && interrupt::sleep(Duration::from_secs(1)).is_ok()
        {}
        println!("\ndemo: stopping");
    }
    drop(scene);
    drop(runtime);
    println!("demo: over; the namespaces are gone");
    Ok(())
}

fn heading(text: &str) {
    println!("\n\u{2500}\u{2500} {text}");
}

/// Everything that plays. Fields drop in this order.
struct Scene {
    millrace: Millrace,
    servers: Vec<Nginx>,
    topology: Topology,
    folder: PathBuf,
}

impl Scene {
    fn start(
        binaries: &binaries::Binaries,
        topology: Topology,
        folder: &Path,
        lcores: usize,
    ) -> Result<Self> {
        for side in [&plan::FRONT, &plan::BACK] {
            let peer = topology.peer_of(side);
            println!("{peer}: {}", side.peer_addresses.join(" "));
        }
        println!(
            "{}: Millrace, VIPs {} and {}",
            topology.lb,
            plan::VIP4,
            plan::VIP6
        );
        let servers = [0, 1]
            .map(|index| start_server(&topology, index, folder))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        heading("starting millrace-dataplane and millrace-control with conf/demo.toml");
        let mut settings = Settings::new(RUNTIME.into(), Device::AfPacket);
        settings.services.retain(|service| service.name == "web");
        settings.lcores = lcores;
        let config = demo_file(folder, lcores)?;
        let mut millrace =
            Millrace::launch_from_file(binaries, settings, &config, &topology, folder)?;
        millrace.wait_until_ready()?;
        println!("both run, and both servers are healthy");
        Ok(Self {
            millrace,
            servers,
            topology,
            folder: folder.to_path_buf(),
        })
    }

    fn ask(&self, vip: IpAddr, count: usize) -> Result<Vec<String>> {
        let url = plan::url(vip, "who");
        let mut answers = Vec::new();
        for _ in 0..count {
            let answer = curl::fetch(&self.topology.client, &url)?;
            println!("$ curl -g {url}\n{answer}");
            answers.push(answer);
        }
        Ok(answers)
    }

    fn show_balancing(&self) -> Result<()> {
        heading("ten requests: the servers take turns");
        let mut answers = self.ask(plan::VIPS[0], 6)?;
        ensure!(
            plan::takes_turns(&answers, self.millrace.settings.lcores),
            "they do not alternate: {answers:?}"
        );
        answers = self.ask(plan::VIPS[1], 4)?;
        ensure!(
            plan::takes_turns(&answers, self.millrace.settings.lcores),
            "they do not alternate: {answers:?}"
        );
        Ok(())
    }

    fn show_download(&self) -> Result<()> {
        heading(&format!("a download of {DOWNLOAD_MIB} MiB"));
        let sample = data::sample(DOWNLOAD_MIB)?;
        for server in &self.servers {
            server.offer(&sample, "big.bin")?;
        }
        let url = plan::url(plan::VIPS[0], "big.bin");
        println!("$ curl {url} | sha256sum");
        let received = curl::download(&self.topology.client, &url, &sample)?;
        println!("{received}  as received\n{}  as served", sample.sha256);
        Ok(())
    }

    fn show_a_death(&mut self) -> Result<()> {
        heading("server a is killed; the health check notices, and b serves alone");
        self.servers.remove(0).kill();
        self.millrace.wait_for_backends("down", plan::VIPS.len())?;
        self.print_table("backends")?;
        let answers = self.ask(plan::VIPS[0], 4)?;
        ensure!(
            answers.iter().all(|name| name == "b"),
            "a is dead and answered: {answers:?}"
        );
        heading("server a is back");
        self.servers.insert(
            0,
            start_server(&self.topology, 0, &self.folder.join("again"))?,
        );
        self.millrace.wait_until_ready()?;
        self.ask(plan::VIPS[0], 2)?;
        Ok(())
    }

    fn show_tables(&self) -> Result<()> {
        for what in [
            "lcores",
            "ports",
            "listeners",
            "backends",
            "neighbors",
            "routes",
            "drops",
        ] {
            self.print_table(what)?;
        }
        heading(&format!(
            "metrics: http://{}/metrics",
            self.millrace.metrics_address()
        ));
        let page = self.millrace.metrics()?;
        let figures = page.lines().filter(|line| !line.starts_with('#'));
        figures
            .filter(|line| line.contains("session"))
            .take(8)
            .for_each(|line| println!("{line}"));
        Ok(())
    }

    fn print_table(&self, what: &str) -> Result<()> {
        println!("\n$ millrace show {what}");
        let finished = self.millrace.cli(&["show", what])?;
        ensure!(finished.success(), "{}", finished.stderr);
        print!("{}", finished.stdout);
        Ok(())
    }

    fn explain_how_to_look_around(&self) {
        let Topology {
            client,
            lb,
            servers,
            ..
        } = &self.topology;
        let millrace = paths::target().join(binaries::PROFILE).join("millrace");
        let [four, six] = plan::VIPS.map(|vip| plan::url(vip, "who"));
        heading("it goes on running; in another terminal:");
        println!(
            "  {millrace} --runtime-dir {RUNTIME} show connections      (or lcores, ports, backends, drops, …)\n\
             \x20 ip netns exec {client} curl -g {four} {six}\n\
             \x20 ip netns exec {client} ping {vip}\n\
             \x20 ip netns exec {servers} tcpdump -ni {peer}\n\
             \x20 ip netns exec {client} wrk -c 64 -d 10 {four}\n\
             \x20 dpdk-telemetry.py -f millrace-demo      (in {lb}: ip netns exec {lb} …)\n\
             \x20 curl http://{metrics}/metrics\n\
             stop with Ctrl-C here, or `cargo xtask demo --stop`",
            millrace = millrace.display(),
            vip = plan::VIP4,
            peer = plan::BACK.peer_interface,
            metrics = self.millrace.metrics_address(),
        );
    }
}

fn start_server(topology: &Topology, index: usize, folder: &Path) -> Result<Nginx> {
    std::fs::create_dir_all(folder)?;
    let name = ["a", "b"][index];
    Nginx::start(
        &topology.servers,
        name,
        &[SERVERS4[index], SERVERS6[index]],
        folder,
    )
}

/// conf/demo.toml itself, or a copy of it for several lcores: that many CPUs, and a queue of each device for each.
fn demo_file(folder: &Path, lcores: usize) -> Result<PathBuf> {
    let file = paths::root().join("conf/demo.toml");
    if lcores == 1 {
        return Ok(file);
    }
    let cpus = machine::cpus();
    ensure!(lcores <= cpus, "{lcores} lcores need more than {cpus} CPUs");
    let text = std::fs::read_to_string(&file).context("conf/demo.toml")?;
    let copy = folder.join("demo.toml");
    std::fs::write(&copy, for_lcores(&text, lcores)).context("the demo's configuration")?;
    Ok(copy)
}

fn for_lcores(text: &str, lcores: usize) -> String {
    text.replace(
        "lcores = [0]",
        &format!("lcores = {:?}", machine::middle_cpus(lcores)),
    )
    .replace("framecnt=4096", &format!("framecnt=4096,qpairs={lcores}"))
}

/// The runtime folder with our process id in it; both go on drop.
struct Runtime;

impl Runtime {
    fn claim() -> Result<Self> {
        std::fs::create_dir_all(RUNTIME).context(RUNTIME)?;
        std::fs::write(pid_file(), std::process::id().to_string())
            .context("the demo's pid file")?;
        Ok(Self)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // What stays behind is a small folder that the next demo uses again.
        let _ = std::fs::remove_dir_all(RUNTIME);
    }
}

fn pid_file() -> PathBuf {
    Path::new(RUNTIME).join("demo.pid")
}

/// The process id of a living demo.
fn running() -> Option<u32> {
    let id: u32 = std::fs::read_to_string(pid_file())
        .ok()?
        .trim()
        .parse()
        .ok()?;
    topology::lives(id).then_some(id)
}

fn stop() -> Result<()> {
    let Some(id) = running() else {
        println!("demo: none is running");
        return topology::sweep_stale();
    };
    let pid = i32::try_from(id)
        .ok()
        .and_then(Pid::from_raw)
        .context("the demo's process id")?;
    kill_process(pid, Signal::TERM).context("cannot signal the demo")?;
    interrupt::wait_until("the demo to stop", Duration::from_secs(30), || {
        if running().is_some() {
            Err(format!("process {id} runs"))
        } else {
            Ok(())
        }
    })?;
    println!("demo: stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_for_two_lcores_has_two_cpus_and_two_queues_per_device() {
        let text =
            std::fs::read_to_string(paths::root().join("conf/demo.toml")).expect("conf/demo.toml");
        let file: toml::Table = for_lcores(&text, 2).parse().expect("TOML");
        let lcores = file["dataplane"]["lcores"].as_array().map(Vec::len);
        assert_eq!(lcores, Some(machine::cpus().min(2)));
        for port in file["port"].as_array().expect("ports") {
            let device = port["device"].as_str().unwrap_or_default();
            assert!(device.ends_with(",qpairs=2"), "{device}");
        }
    }

    #[test]
    fn the_demo_file_describes_the_network_that_the_demo_lays() {
        let text =
            std::fs::read_to_string(paths::root().join("conf/demo.toml")).expect("conf/demo.toml");
        let file: toml::Table = text.parse().expect("TOML");
        assert_eq!(file["runtime_dir"].as_str(), Some(RUNTIME));
        for (index, side) in [plan::FRONT, plan::BACK].iter().enumerate() {
            let port = &file["port"][index];
            assert_eq!(port["name"].as_str(), Some(side.port));
            assert_eq!(port["mac"].as_str(), Some(side.mac));
            let device = port["device"].as_str().unwrap_or_default();
            assert!(device.contains(&format!("iface={},", side.interface)));
            assert_eq!(port["addresses"][0].as_str(), Some(side.address4));
        }
        let vips = plan::VIPS.map(|vip| vip.to_string());
        let listeners = file["listener"].as_array().expect("listeners");
        assert!(
            listeners
                .iter()
                .zip(vips)
                .all(|(row, vip)| row["address"].as_str() == Some(&vip))
        );
    }
}
