//! A test bed: folder, wires, servers, and the device under test, up and ready; all gone when dropped.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::appliance::Millrace;
use super::config_file::{Device, Settings};
use super::data::Sample;
use super::peers::{curl, iperf, nginx::Nginx};
use super::plan;
use super::stand_in::{StandIn, Standing};
use super::topology::{Topology, Wire};
use crate::binaries::Binaries;
use crate::interrupt;
use crate::paths::RunFolder;
use crate::process::{self, Background};

/// What a veth has when nobody says otherwise.
const DEFAULT_MTU: u16 = 1_500;

/// What sits between the client and the servers.
pub(crate) enum Dut {
    Millrace(Box<Millrace>),
    StandIn(Standing),
    /// Between two lives.
    Absent,
}

/// What a case asks for.
pub(crate) struct Wanted {
    pub(crate) front: Wire,
    pub(crate) back: Wire,
    /// Changes the usual settings.
    pub(crate) change: fn(&mut Settings),
    /// Why this machine cannot run the case, when it cannot.
    pub(crate) obstacle: fn() -> Option<&'static str>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            front: Wire::Veth,
            back: Wire::Veth,
            change: |_| {},
            obstacle: || None,
        }
    }
}

/// What to put between the client and the servers.
pub(crate) enum Middle {
    Millrace(Binaries),
    StandIn(StandIn),
}

/// What every case of a run shares.
pub(crate) struct Run {
    pub(crate) middle: Middle,
    pub(crate) device: Device,
    /// Lcores of Millrace.
    pub(crate) lcores: usize,
    /// Failed cases' logs go here.
    pub(crate) logs: PathBuf,
    pub(crate) keep_logs: bool,
}

/// Everything a case plays with. Fields drop in this order: first what talks, last the wires.
pub(crate) struct Bed {
    pub(crate) dut: Dut,
    pub(crate) web: Vec<Nginx>,
    pub(crate) iperf: iperf::Server,
    _half_close: Background,
    pub(crate) topology: Topology,
    folder: RunFolder,
    saved_logs: PathBuf,
    keep_logs: bool,
}

impl Bed {
    /// Lays the wires, starts the servers and the device under test, and waits until they are ready.
    pub(crate) fn make(run: &Run, case: &str, wanted: &Wanted) -> Result<Self> {
        let folder = RunFolder::create(&format!("mr-{}", std::process::id()))?;
        let built = Self::build(run, wanted, &folder);
        if built.is_err() {
            // There is no bed whose drop would save the logs.
            save_logs(folder.path(), &run.logs.join(case));
        }
        let (dut, web, iperf, half_close, topology) = built?;
        Ok(Self {
            dut,
            web,
            iperf,
            _half_close: half_close,
            topology,
            folder,
            saved_logs: run.logs.join(case),
            keep_logs: run.keep_logs,
        })
    }

    fn build(
        run: &Run,
        wanted: &Wanted,
        folder: &RunFolder,
    ) -> Result<(Dut, Vec<Nginx>, iperf::Server, Background, Topology)> {
        let path = folder.path();
        let wire = |wire: &Wire| match (wire, run.device) {
            (Wire::Veth, Device::Tap) => Wire::DeviceTap,
            (other, _) => other.clone(),
        };
        let mut settings = Settings::new(path.join("run"), run.device);
        settings.lcores = run.lcores;
        (wanted.change)(&mut settings);
        let topology = Topology::create(&wire(&wanted.front), &wire(&wanted.back), path)?;
        for (side, mtu) in [plan::FRONT, plan::BACK].iter().zip(settings.mtu) {
            if mtu != DEFAULT_MTU {
                topology.set_mtu(side, mtu)?;
            }
        }
        // With taps of the device the peers' interfaces appear only when the device is up, but servers bind to addresses
        // that exist: so the dataplane goes first there, and its backends are down until then.
        let (dut, servers) = match &run.middle {
            Middle::Millrace(binaries) => {
                let mut millrace = Millrace::launch(binaries, settings, &topology, path)?;
                let servers = Servers::start(&topology, path)?;
                millrace.wait_until_ready()?;
                (Dut::Millrace(Box::new(millrace)), servers)
            }
            Middle::StandIn(who) => {
                let servers = Servers::start(&topology, path)?;
                let standing = who.start(&topology, &settings.services, run.device, path)?;
                (Dut::StandIn(standing), servers)
            }
        };
        Ok((
            dut,
            servers.web,
            servers.iperf,
            servers.half_close,
            topology,
        ))
    }

    /// Millrace, or an error that says why a case cannot run against a stand-in.
    pub(crate) fn millrace(&mut self) -> Result<&mut Millrace> {
        match &mut self.dut {
            Dut::Millrace(millrace) => Ok(millrace),
            Dut::StandIn(_) | Dut::Absent => {
                bail!("this case needs Millrace itself")
            }
        }
    }

    /// SIGTERM, then a second start with the same configuration; the exit status of the first life.
    pub(crate) fn restart_millrace(&mut self) -> Result<std::process::ExitStatus> {
        let Dut::Millrace(first) = std::mem::replace(&mut self.dut, Dut::Absent) else {
            bail!("this case needs Millrace itself");
        };
        let (binaries, settings) = first.recipe();
        let status = first.stop()?;
        let again = Millrace::launch(&binaries, settings, &self.topology, self.folder.path())?;
        self.dut = Dut::Millrace(Box::new(again));
        Ok(status)
    }

    /// An error when a process that should run does not.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.iperf.check_alive()?;
        match &mut self.dut {
            Dut::Millrace(millrace) => millrace.check_alive(),
            Dut::StandIn(standing) => standing.check_alive(),
            Dut::Absent => bail!("nothing is in the middle"),
        }
    }

    /// What must hold after every case: everybody lives, and no counter of our own mistakes moved.
    pub(crate) fn check_aftermath(&mut self) -> Result<()> {
        self.check_alive()?;
        match &self.dut {
            Dut::Millrace(millrace) => millrace.check_promises(),
            Dut::StandIn(_) | Dut::Absent => Ok(()),
        }
    }

    /// The client's namespace.
    pub(crate) fn client(&self) -> &str {
        &self.topology.client
    }

    /// Lcores that take turns of their own: those of Millrace, one for anything else.
    pub(crate) fn lcores(&self) -> usize {
        match &self.dut {
            Dut::Millrace(millrace) => millrace.settings.lcores,
            Dut::StandIn(_) | Dut::Absent => 1,
        }
    }

    /// A folder for files of this case.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a sample downloadable from every server as `/NAME`.
    pub(crate) fn offer(&self, sample: &Sample, name: &str) -> Result<()> {
        self.web
            .iter()
            .try_for_each(|server| server.offer(sample, name))
    }

    /// Downloads a sample through a VIP and compares.
    pub(crate) fn download(&self, vip: IpAddr, name: &str, sample: &Sample) -> Result<()> {
        curl::download(self.client(), &plan::url(vip, name), sample)
            .with_context(|| format!("download of {name} through {vip}"))?;
        Ok(())
    }

    /// Uploads a sample through a VIP, finds the server that got it, and compares.
    pub(crate) fn upload(&self, vip: IpAddr, name: &str, sample: &Sample) -> Result<()> {
        let url = plan::url(vip, &format!("upload/{name}"));
        curl::upload(self.client(), &url, sample)
            .with_context(|| format!("upload of {name} through {vip}"))?;
        let arrived: Vec<PathBuf> = self
            .web
            .iter()
            .map(|server| server.uploaded(name))
            .filter(|file| file.exists())
            .collect();
        let [file] = arrived.as_slice() else {
            bail!("{name} arrived on {} servers", arrived.len());
        };
        let (bytes, sha256) = super::data::digest_of_file(file)?;
        std::fs::remove_file(file)?;
        if (bytes, &sha256) != (sample.bytes, &sample.sha256) {
            bail!(
                "upload of {name} through {vip}: {bytes} bytes of {}, {sha256}",
                sample.bytes
            );
        }
        Ok(())
    }

    /// The half-close exchange through a VIP.
    pub(crate) fn half_close(&self, vip: IpAddr, send_mib: u64, expect_mib: u64) -> Result<String> {
        let target = SocketAddr::new(vip, plan::HALF_CLOSE_PORT).to_string();
        let mut ask = process::inside(self.client(), std::env::current_exe()?);
        ask.args([
            "peer",
            "ask",
            &target,
            &send_mib.to_string(),
            &expect_mib.to_string(),
        ]);
        process::must(&mut ask, curl::TRANSFER_LIMIT).map(|said| said.trim().to_owned())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.keep_logs || std::thread::panicking() {
            save_logs(self.folder.path(), &self.saved_logs);
        }
    }
}

impl Bed {
    /// Keeps what the processes wrote, for a case that failed.
    pub(crate) fn save_logs(&self) {
        save_logs(self.folder.path(), &self.saved_logs);
    }
}

/// Copies small text files (logs, configurations, captures) out of the run's folder.
pub(crate) fn save_logs(from: &Path, to: &Path) {
    /// A log beyond this says nothing more.
    const BYTES_MAX: u64 = 64 << 20;
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let file = entry.metadata()?;
            if file.is_file() && file.len() <= BYTES_MAX {
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    match copy() {
        Ok(()) => println!("     logs are in {}", to.display()),
        Err(error) => eprintln!("     cannot keep the logs: {error}"),
    }
}

/// The peers in the servers' namespace.
pub(crate) struct Servers {
    pub(crate) web: Vec<Nginx>,
    pub(crate) iperf: iperf::Server,
    pub(crate) half_close: Background,
}

impl Servers {
    /// Starts two nginx, iperf3 and the half-close server.
    pub(crate) fn start(topology: &Topology, folder: &Path) -> Result<Self> {
        let namespace = &topology.servers;
        let pairs = plan::SERVERS4.iter().zip(plan::SERVERS6);
        let web = ["a", "b"]
            .iter()
            .zip(pairs)
            .map(|(name, (four, six))| Nginx::start(namespace, name, &[*four, six], folder))
            .collect::<Result<Vec<_>>>()?;
        let iperf = iperf::Server::start(namespace, folder)?;
        let mut command = process::inside(namespace, std::env::current_exe()?);
        command.args(["peer", "serve"]);
        for server in plan::SERVERS4.iter().chain(&plan::SERVERS6) {
            command.arg(SocketAddr::new(*server, plan::HALF_CLOSE_PORT).to_string());
        }
        let mut half_close = Background::start("half-close-server", &mut command, folder)?;
        interrupt::wait_until("the half-close server", Duration::from_secs(10), || {
            half_close
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            if half_close.log_text().contains("ready") {
                Ok(())
            } else {
                Err("not ready".into())
            }
        })?;
        Ok(Self {
            web,
            iperf,
            half_close,
        })
    }
}
