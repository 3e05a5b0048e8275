//! Receive-side scaling at start: what each card is asked for, what it proved, and which cards are trusted.
//!
//! The wishes come from what the cards offer (key length, table length, hash types); the proof is `selftest.rs`. A card that
//! offers too little, refuses, is silent or is wrong costs nothing but cycles: its frames are hashed in software.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use millrace_abi::RssProof;
use millrace_base::rss::{KEY_BYTES_MAX, RssMap};
use millrace_dpdk::{
    Capabilities, ConfiguredPort, Device, Eal, MbufPool, Port, PortConfig, PortError, RssConfig,
    RssTypes, RxQueue, TxQueue,
};
use tracing::{info, warn};

use crate::args::Args;
use crate::selftest::{self, Subject};
use crate::{memory, owner};

/// How long a link may take to come up before its card is tested: copper of 1 Gbit/s negotiates for 2 to 3 seconds.
const LINK_PATIENCE: Duration = Duration::from_secs(4);
/// Between two looks at the link.
const LINK_LOOK: Duration = Duration::from_millis(10);

/// Who decides which lcore a frame is for.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssMode {
    /// The card, where the self-test proves it; software elsewhere.
    Auto,
    /// The card, whatever the self-test says.
    Device,
    /// Software.
    Software,
}

/// The plan for all cards.
pub(crate) struct Plan {
    pub(crate) map: Arc<RssMap>,
    key: Vec<u8>,
    mode: RssMode,
    lcores: u16,
    budget: Duration,
}

/// A port that runs, and what is known of its receive-side scaling.
pub(crate) struct Started {
    pub(crate) port: Port,
    pub(crate) rx: Vec<RxQueue>,
    pub(crate) tx: Vec<TxQueue>,
    pub(crate) proof: RssProof,
    pub(crate) is_trusted: bool,
}

impl Plan {
    /// Looks at all cards and draws the key.
    pub(crate) fn new(eal: &Eal, args: &Args) -> Result<Self> {
        let lcores = args.lcores.len() as u16;
        let mut tables = Vec::new();
        for spec in &args.ports {
            let device = Device::by_name(eal, spec.device_name())
                .with_context(|| format!("port {}", spec.name))?;
            let offered = device.capabilities();
            if args.rss != RssMode::Software && hashes_tcp(offered) {
                tables.push(offered.reta_entries);
            }
        }
        let key = match &args.rss_key {
            Some(key) => key.0.clone(),
            None => owner::draw_key()?.to_vec(),
        };
        Ok(Self {
            map: owner::map(lcores, &key, &tables)?,
            key,
            mode: args.rss,
            lcores,
            // Once in loopback, once over the wire.
            budget: Duration::from_millis(u64::from(args.rss_selftest_ms) / 2),
        })
    }

    /// Configures and starts a device, with receive-side scaling as far as it goes.
    pub(crate) fn start(
        &self,
        eal: &Eal,
        name: &str,
        config: &PortConfig,
        pool: &mut MbufPool,
    ) -> Result<Started> {
        let device = Device::by_name(eal, name)?;
        let Some((rss, table)) = self.wishes(device.capabilities()) else {
            let (port, rx, tx) = configure(device, config, pool)?.start()?;
            let is_trusted = self.mode == RssMode::Device && self.lcores > 1;
            return Ok(Started::new(port, rx, tx, RssProof::Untested, is_trusted));
        };
        drop(device);
        let config = PortConfig {
            rss: Some(rss),
            ..config.clone()
        };
        let looped = PortConfig {
            loopback: true,
            ..config.clone()
        };
        let mut proof = self
            .open(eal, name, &looped, &table, pool)
            .and_then(|mut started| self.prove(&mut started, pool))
            .unwrap_or(RssProof::NoAnswer);
        let mut started = match self.open(eal, name, &config, &table, pool) {
            Ok(started) => started,
            Err(refusal) => {
                warn!(port = name, "receive-side scaling: {refusal:#}");
                let plain = PortConfig {
                    rss: None,
                    ..config
                };
                let device = Device::by_name(eal, name)?;
                let (port, rx, tx) = configure(device, &plain, pool)?.start()?;
                return Ok(Started::new(port, rx, tx, RssProof::Untested, false));
            }
        };
        if proof != RssProof::Proven {
            let on_the_wire = self.prove(&mut started, pool)?;
            if on_the_wire != RssProof::NoAnswer {
                proof = on_the_wire;
            }
        }
        started.proof = proof;
        started.is_trusted = match self.mode {
            RssMode::Auto => proof == RssProof::Proven,
            RssMode::Device => true,
            RssMode::Software => false,
        };
        if self.mode == RssMode::Device && proof != RssProof::Proven {
            warn!(
                port = name,
                ?proof,
                "the card is trusted because the configuration says so"
            );
        }
        Ok(started)
    }

    /// What to ask of a card, and its redirection table. `None`: nothing, software does it all.
    fn wishes(&self, offered: &Capabilities) -> Option<(RssConfig, Vec<u16>)> {
        if self.lcores <= 1 || self.mode == RssMode::Software || !hashes_tcp(offered) {
            return None;
        }
        let table = self.map.table_for(offered.reta_entries.into())?;
        let config = RssConfig {
            types: RssTypes::TCP | RssTypes::IPV6_TCP_EX,
            key: self.key.clone(),
        };
        (offered.rss_key_bytes <= self.key.len()).then_some((config, table))
    }

    fn open(
        &self,
        eal: &Eal,
        name: &str,
        config: &PortConfig,
        table: &[u16],
        pool: &MbufPool,
    ) -> Result<Started> {
        let device = Device::by_name(eal, name)?;
        let (mut port, rx, tx) = configure(device, config, pool)?.start()?;
        let types = port.effective().rss_types;
        if !types.contains(RssTypes::TCP) {
            bail!("the device hashes only {types}");
        }
        port.set_reta(table)?;
        Ok(Started::new(port, rx, tx, RssProof::Untested, false))
    }

    fn prove(&self, started: &mut Started, pool: &mut MbufPool) -> Result<RssProof> {
        let mut seed = [0u8; 8];
        memory::fill_random(&mut seed).context("reading random bytes")?;
        let name = started.port.name().to_owned();
        await_link(&started.port);
        let Some(tx) = started.tx.first_mut() else {
            return Ok(RssProof::NoAnswer);
        };
        let mut subject = Subject {
            mac: started.port.mac(),
            rx: &mut started.rx,
            tx,
            pool,
        };
        let seed = u64::from_ne_bytes(seed);
        let found = selftest::run(&self.map, &mut subject, self.budget, seed);
        info!(
            port = name,
            loopback = started.port.effective().wanted.loopback,
            "RSS self-test: {:?}, {} of {} probes where predicted",
            found.proof,
            found.right,
            found.probes
        );
        if let Some((predicted, seen)) = found.wrong {
            warn!(port = name, %predicted, %seen, "a probe arrived at another lcore than predicted");
        }
        Ok(found.proof)
    }
}

impl Started {
    fn new(
        port: Port,
        rx: Vec<RxQueue>,
        tx: Vec<TxQueue>,
        proof: RssProof,
        is_trusted: bool,
    ) -> Self {
        Self {
            port,
            rx,
            tx,
            proof,
            is_trusted,
        }
    }
}

/// Waits until frames can pass. A card that was just started negotiates; what it is given meanwhile is lost, and silence would
/// be taken for an answer.
fn await_link(port: &Port) {
    let started = Instant::now();
    while !port.link().is_up && started.elapsed() < LINK_PATIENCE {
        std::thread::sleep(LINK_LOOK);
    }
}

/// Whether a card hashes TCP of both families by ports, with a key and a table that can be set.
fn hashes_tcp(offered: &Capabilities) -> bool {
    offered.rss_types.contains(RssTypes::TCP)
        && (1..=KEY_BYTES_MAX).contains(&offered.rss_key_bytes)
        && offered.reta_entries > 0
}

fn configure(
    device: Device,
    config: &PortConfig,
    pool: &MbufPool,
) -> Result<ConfiguredPort, PortError> {
    device.configure(config, &[pool.bufs()])
}
