//! Receive-side scaling at start: what each card is asked for, what it proved, and which cards are trusted.
//!
//! The wishes come from what the cards offer (key length, table length, hash types); the proof is `selftest.rs`. A card that
//! offers too little, refuses, is silent or is wrong costs nothing but cycles: its frames are hashed in software.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use millrace_abi::RssProof;
use millrace_base::rss::{KEY_BYTES_MAX, RssMap};
use millrace_dpdk::{
    Capabilities, Device, Eal, MbufPool, Mempool, Port, PortConfig, RssConfig, RssTypes, RxQueue,
    TxQueue,
};
use tracing::{info, warn};

use crate::args::Args;
use crate::selftest::{self, Subject};
use crate::{memory, owner};

/// How long links may take to come up before their cards are tested, all together: copper of 1 Gbit/s negotiates for 2 to 3
/// seconds.
const LINK_PATIENCE: Duration = Duration::from_secs(4);
/// Between two looks at the link.
const LINK_LOOK: Duration = Duration::from_millis(10);
/// How often that makes.
const LINK_LOOKS_MAX: u32 = (LINK_PATIENCE.as_millis() / LINK_LOOK.as_millis()) as u32;

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

/// A port to be started.
pub(crate) struct Wanted {
    /// The operator's name for it.
    pub(crate) name: String,
    /// The device's name.
    pub(crate) device: String,
    /// Everything but receive-side scaling.
    pub(crate) config: PortConfig,
    /// What each receive queue is filled from.
    pub(crate) pools: Vec<Mempool>,
}

/// What is asked of a card that offers receive-side scaling.
struct Wish<'w> {
    wanted: &'w Wanted,
    config: PortConfig,
    /// Its redirection table.
    table: Vec<u16>,
}

/// What is known of a card while it is tested.
enum Trial {
    /// It does not spread, or shall not.
    NotAsked,
    /// There was nothing to be asked through.
    NoLink,
    /// What it said.
    Proof(RssProof),
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

    /// Configures and starts all devices, with receive-side scaling as far as it goes.
    ///
    /// Every step is done for all of them before the next one, so that the cards negotiate their links at the same time and
    /// one that has none costs a start its patience once, however many there are.
    pub(crate) fn start(
        &self,
        eal: &Eal,
        wanted: &[Wanted],
        pool: &mut MbufPool,
    ) -> Result<Vec<Started>> {
        let mut wishes = Vec::with_capacity(wanted.len());
        for port in wanted {
            let device = Device::by_name(eal, &port.device)?;
            wishes.push(self.wish(port, device.capabilities()));
        }
        let trials = self.try_loopback(eal, &wishes, pool);
        let mut ports = Vec::with_capacity(wanted.len());
        for ((wanted, wish), trial) in wanted.iter().zip(&wishes).zip(trials) {
            let queues = wanted.config.rx_queues;
            let started = self.start_as_it_runs(eal, wanted, wish.as_ref());
            let started =
                started.with_context(|| format!("port {} with {queues} queues", wanted.name))?;
            ports.push((started, trial));
        }
        self.try_wire(&mut ports, pool)?;
        let judged = ports.into_iter().zip(wanted);
        Ok(judged
            .map(|((started, trial), wanted)| self.judge(started, trial, &wanted.name))
            .collect())
    }

    /// Asks each card in its own loopback, where it has one.
    fn try_loopback(
        &self,
        eal: &Eal,
        wishes: &[Option<Wish<'_>>],
        pool: &mut MbufPool,
    ) -> Vec<Trial> {
        let mut looped = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let started = wish.as_ref().map(|wish| {
                let config = PortConfig {
                    loopback: true,
                    ..wish.config.clone()
                };
                self.open(eal, wish, &config)
            });
            looped.push(started.and_then(Result::ok));
        }
        let links: Vec<Option<&Port>> = looped
            .iter()
            .map(|started| started.as_ref().map(|started| &started.port))
            .collect();
        let are_up = await_links(&links);
        let trials = looped.into_iter().zip(wishes).zip(are_up);
        let trial = |((started, wish), is_up): ((Option<Started>, &Option<Wish<'_>>), bool)| {
            match (started, wish) {
                (_, None) => Trial::NotAsked,
                // It does not start so, or does not do what it offered: it may still do on the wire.
                (None, Some(_)) => Trial::Proof(RssProof::NoAnswer),
                // A loopback within the card may work without a link, and asking takes milliseconds.
                (Some(mut started), Some(_)) => match self.prove(&mut started, pool) {
                    Ok(RssProof::NoAnswer) if !is_up => Trial::NoLink,
                    proof => Trial::Proof(proof.unwrap_or(RssProof::NoAnswer)),
                },
            }
        };
        trials.map(trial).collect()
    }

    /// Starts a device as it will run.
    fn start_as_it_runs(
        &self,
        eal: &Eal,
        wanted: &Wanted,
        wish: Option<&Wish<'_>>,
    ) -> Result<Started> {
        if let Some(wish) = wish {
            match self.open(eal, wish, &wish.config) {
                Ok(started) => return Ok(started),
                Err(refusal) => warn!(
                    port = wanted.name,
                    "no receive-side scaling by the card: {refusal:#}"
                ),
            }
        }
        let device = Device::by_name(eal, &wanted.device)?;
        let (port, rx, tx) = device.configure(&wanted.config, &wanted.pools)?.start()?;
        Ok(Started::new(port, rx, tx))
    }

    /// Asks those who have not answered in loopback again, on whatever is at the other end of their wire. Who had no link
    /// then is not waited for: it has just been started anew, and would negotiate if there were anybody.
    fn try_wire(&self, ports: &mut [(Started, Trial)], pool: &mut MbufPool) -> Result<()> {
        let is_open =
            |trial: &Trial| matches!(trial, Trial::Proof(proof) if *proof != RssProof::Proven);
        let links: Vec<Option<&Port>> = ports
            .iter()
            .map(|(started, trial)| {
                let is_asked = is_open(trial) && started.spreads();
                is_asked.then_some(&started.port)
            })
            .collect();
        let is_asked: Vec<bool> = links.iter().map(Option::is_some).collect();
        let are_up = await_links(&links);
        for ((started, trial), (is_asked, is_up)) in
            ports.iter_mut().zip(is_asked.into_iter().zip(are_up))
        {
            if !is_asked {
                continue;
            }
            if !is_up {
                *trial = Trial::NoLink;
                continue;
            }
            let on_the_wire = self.prove(started, pool)?;
            if on_the_wire != RssProof::NoAnswer {
                *trial = Trial::Proof(on_the_wire);
            }
        }
        Ok(())
    }

    /// Whether a card is trusted after what was found.
    fn judge(&self, mut started: Started, trial: Trial, name: &str) -> Started {
        let asked_nothing = matches!(trial, Trial::NotAsked);
        started.proof = match trial {
            Trial::Proof(proof) if started.spreads() => proof,
            Trial::Proof(_) | Trial::NotAsked => RssProof::Untested,
            Trial::NoLink => {
                warn!(
                    port = name,
                    patience_secs = LINK_PATIENCE.as_secs(),
                    "no link: its receive-side scaling is not tested before the next start"
                );
                RssProof::Untested
            }
        };
        started.is_trusted = match self.mode {
            RssMode::Auto => started.proof == RssProof::Proven,
            RssMode::Device => self.lcores > 1 && (asked_nothing || started.spreads()),
            RssMode::Software => false,
        };
        if started.is_trusted && !asked_nothing && started.proof != RssProof::Proven {
            warn!(
                port = name,
                proof = ?started.proof,
                "the card is trusted because the configuration says so"
            );
        }
        started
    }

    /// What to ask of a card. `None`: nothing, software does it all.
    fn wish<'w>(&self, wanted: &'w Wanted, offered: &Capabilities) -> Option<Wish<'w>> {
        if self.lcores <= 1 || self.mode == RssMode::Software || !hashes_tcp(offered) {
            return None;
        }
        let table = self.map.table_for(offered.reta_entries.into())?;
        if offered.rss_key_bytes > self.key.len() {
            return None;
        }
        let rss = RssConfig {
            types: RssTypes::TCP | RssTypes::IPV6_TCP_EX,
            key: self.key.clone(),
        };
        let config = PortConfig {
            rss: Some(rss),
            ..wanted.config.clone()
        };
        Some(Wish {
            wanted,
            config,
            table,
        })
    }

    fn open(&self, eal: &Eal, wish: &Wish<'_>, config: &PortConfig) -> Result<Started> {
        let device = Device::by_name(eal, &wish.wanted.device)?;
        let (mut port, rx, tx) = device.configure(config, &wish.wanted.pools)?.start()?;
        let types = port.effective().rss_types;
        if !types.contains(RssTypes::TCP) {
            bail!("the device hashes only {types}");
        }
        port.set_reta(&wish.table)?;
        Ok(Started::new(port, rx, tx))
    }

    fn prove(&self, started: &mut Started, pool: &mut MbufPool) -> Result<RssProof> {
        let mut seed = [0u8; 8];
        memory::fill_random(&mut seed).context("reading random bytes")?;
        let name = started.port.name().to_owned();
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
    fn new(port: Port, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Self {
        Self {
            port,
            rx,
            tx,
            proof: RssProof::Untested,
            is_trusted: false,
        }
    }

    /// Whether the card was told to spread what it receives.
    fn spreads(&self) -> bool {
        self.port.effective().rss_types.contains(RssTypes::TCP)
    }
}

/// Waits until frames can pass on all of these ports, for `LINK_PATIENCE` altogether; tells of each whether they can. A card
/// that was just started negotiates; what it is given meanwhile is lost, and silence would be taken for an answer.
fn await_links(ports: &[Option<&Port>]) -> Vec<bool> {
    let is_up = |place: usize| {
        let port = ports.get(place).copied().flatten();
        port.is_none_or(|port| port.link().is_up)
    };
    await_all(ports.len(), is_up, || std::thread::sleep(LINK_LOOK))
}

/// Looks at what is not up, again and again, until all is or `LINK_LOOKS_MAX` pauses have passed; tells what is up.
fn await_all(
    count: usize,
    mut is_up: impl FnMut(usize) -> bool,
    mut pause: impl FnMut(),
) -> Vec<bool> {
    let mut are_up = vec![false; count];
    for look in 0..=LINK_LOOKS_MAX {
        for (place, up) in are_up.iter_mut().enumerate() {
            *up = *up || is_up(place);
        }
        if are_up.iter().all(|up| *up) || look == LINK_LOOKS_MAX {
            break;
        }
        pause();
    }
    are_up
}

/// Whether a card hashes TCP of both families by ports, with a key and a table that can be set.
fn hashes_tcp(offered: &Capabilities) -> bool {
    offered.rss_types.contains(RssTypes::TCP)
        && (1..=KEY_BYTES_MAX).contains(&offered.rss_key_bytes)
        && offered.reta_entries > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each port without a cable used to add eight seconds to a start.
    #[test]
    fn links_are_waited_for_together_and_dead_ones_cost_one_patience() {
        let pauses = |up_after: &[u32]| {
            let now = core::cell::Cell::new(0u32);
            let is_up = |place: usize| up_after.get(place).is_some_and(|after| now.get() >= *after);
            let are_up = await_all(up_after.len(), is_up, || {
                now.set(now.get().saturating_add(1))
            });
            (now.get(), are_up)
        };
        assert_eq!(pauses(&[]), (0, vec![]));
        assert_eq!(pauses(&[0, 0]), (0, vec![true, true]));
        assert_eq!(pauses(&[3, 200, 0]), (200, vec![true; 3]));
        let dead = u32::MAX;
        let (waited, are_up) = pauses(&[dead, 7, dead, dead]);
        assert_eq!(waited, LINK_LOOKS_MAX);
        assert_eq!(are_up, [false, true, false, false]);
    }
}
