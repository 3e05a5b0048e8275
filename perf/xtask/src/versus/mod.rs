//! `cargo xtask versus-linux`: Millrace and the Linux kernel send the same bytes to the same receiver,
//! over the same emulated paths with the same losses.
//!
//! | room | what it is |
//! |---|---|
//! | `rig` | namespaces, wires, both senders, up and ready |
//! | `frame`, `link`, `relay` | the emulated path: one link for each flow |
//! | `capture` | what the senders saw, for somebody who looks for a reason |
//! | `peers` | the program that sends and the one that receives |
//! | `schedule` | which transfers run at the same time |
//! | `outcome` | the table |
//!
//! `cargo xtask bench` runs all of it as the scenario `versus-linux` and puts the table on the page;
//! this task runs a part, quicker, for somebody who looks for a difference. Congestion control is that
//! of the leg to the client: the bytes come from a sender right behind Millrace.

mod capture;
mod frame;
mod link;
mod outcome;
mod peers;
mod relay;
mod rig;
mod schedule;

use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender as Say, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use millrace_report::{Row, SendersMatrix, Work, read_scenarios};
use serde::Serialize;

use crate::binaries::{self, Binaries};
use crate::e2e::topology;
use crate::{interrupt, machine, paths, setup};
use capture::Capture;
use link::Shape;
use outcome::Transfer;
use rig::{ALGORITHMS, Rig};
use schedule::{Cell, Company, Load, Round};

/// The scenario whose figures are the defaults.
const SCENARIO: &str = "versus-linux";

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sender {
    Millrace,
    Linux,
}

impl Sender {
    fn name(self) -> &'static str {
        match self {
            Self::Millrace => "millrace",
            Self::Linux => "linux",
        }
    }
}

/// Arguments of `cargo xtask versus-linux`. What is left out is as the scenario's file says.
#[derive(Args)]
pub(crate) struct VersusArguments {
    /// Only these algorithms, comma separated.
    #[arg(long, value_delimiter = ',')]
    algorithms: Vec<String>,
    /// Only these round trips in milliseconds, comma separated.
    #[arg(long, value_delimiter = ',')]
    rtt: Vec<f64>,
    /// Only these losses in per cent, comma separated.
    #[arg(long, value_delimiter = ',')]
    loss: Vec<f64>,
    /// Only these senders, comma separated.
    #[arg(long, value_enum, value_delimiter = ',')]
    senders: Vec<Sender>,
    /// Runs of each cell for each sender.
    #[arg(long)]
    runs: Option<u32>,
    /// Mebibytes of each transfer.
    #[arg(long)]
    size: Option<u64>,
    /// Megabits a second of every flow's link.
    #[arg(long)]
    rate: Option<u64>,
    /// Megabits a second that all flows may be expected to take together.
    #[arg(long)]
    budget: Option<u64>,
    /// Run the binaries of this folder instead of building them.
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Write what the senders sent and heard into this folder (pcap).
    #[arg(long, value_name = "FOLDER")]
    capture: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone)]
pub(crate) struct Plan {
    cells: Vec<Cell>,
    senders: Vec<Sender>,
    runs: u32,
    bytes: u64,
    /// Bits a second.
    link: u64,
    budget: u64,
    /// How long all of it may take.
    limit: Duration,
    binaries: Option<Binaries>,
    capture: Option<PathBuf>,
}

/// Runs the task with what the command line says.
pub(crate) fn run(arguments: &VersusArguments) -> Result<()> {
    let all = read_scenarios(&paths::root().join("perf/scenarios"))?;
    let scenario = all.iter().find(|scenario| scenario.name == SCENARIO);
    let work = scenario.context("its scenario is missing")?.work.clone();
    let mut plan = Plan::new(&narrowed(work, arguments)?, &arguments.senders)?;
    plan.capture.clone_from(&arguments.capture);
    setup::ensure()?;
    topology::sweep_stale()?;
    let plan = match (&arguments.binaries, plan.needs_millrace()) {
        (_, false) => plan,
        (Some(folder), true) => plan.with(Binaries::in_folder(folder)),
        (None, true) => plan.with(binaries::build()?),
    };
    for row in measure(&plan)? {
        println!(
            "{:<42} {:<24} {:>10} {}",
            row.quantity,
            row.subject,
            row.text(),
            row.unit
        );
    }
    Ok(())
}

/// The scenario's matrix, less what the command line leaves out.
fn narrowed(work: Work, arguments: &VersusArguments) -> Result<SendersMatrix> {
    let Work::VersusLinux(matrix) = work else {
        bail!("`{SCENARIO}` is a scenario of another kind");
    };
    let or = |asked: &[f64], usual: Vec<f64>| match asked {
        [] => usual,
        asked => asked.to_vec(),
    };
    Ok(SendersMatrix {
        algorithms: match arguments.algorithms.as_slice() {
            [] => matrix.algorithms,
            asked => asked.to_vec(),
        },
        rtt_ms: or(&arguments.rtt, matrix.rtt_ms),
        loss_percent: or(&arguments.loss, matrix.loss_percent),
        mebibytes: arguments.size.unwrap_or(matrix.mebibytes),
        runs: arguments.runs.unwrap_or(matrix.runs),
        link_mbit: arguments.rate.unwrap_or(matrix.link_mbit),
        budget_mbit: arguments.budget.unwrap_or(matrix.budget_mbit),
        limit_minutes: matrix.limit_minutes,
    })
}

impl Plan {
    /// What a scenario asks for. No senders means both.
    pub(crate) fn new(matrix: &SendersMatrix, senders: &[Sender]) -> Result<Self> {
        let SendersMatrix {
            algorithms,
            rtt_ms,
            loss_percent,
            mebibytes,
            runs,
            link_mbit,
            budget_mbit,
            limit_minutes,
        } = matrix;
        ensure!(*link_mbit > 0, "a link needs a rate");
        let mut cells = Vec::new();
        for algorithm in algorithms {
            let known = ALGORITHMS.into_iter().find(|name| name == algorithm);
            let algorithm = known.with_context(|| format!("nobody knows `{algorithm}`"))?;
            for rtt in rtt_ms {
                for loss in loss_percent {
                    ensure!((0.0..100.0).contains(loss), "a loss of {loss} %");
                    ensure!((0.0..10_000.0).contains(rtt), "a round trip of {rtt} ms");
                    cells.push(Cell {
                        algorithm,
                        rtt: Duration::from_secs_f64(rtt / 1_000.0),
                        loss_ppm: (loss * 10_000.0).round() as u32,
                    });
                }
            }
        }
        Ok(Self {
            cells,
            senders: match senders {
                [] => vec![Sender::Millrace, Sender::Linux],
                some => some.to_vec(),
            },
            runs: *runs,
            bytes: mebibytes << 20,
            link: link_mbit * 1_000_000,
            budget: budget_mbit * 1_000_000,
            limit: Duration::from_secs(limit_minutes * 60),
            binaries: None,
            capture: None,
        })
    }

    /// The same, a trial of the machinery: fewer bytes and runs.
    pub(crate) fn hurried(mut self, by: u32) -> Self {
        self.runs = (self.runs / by).max(1);
        self.bytes = (self.bytes / u64::from(by)).max(1 << 20);
        self
    }

    /// The same, with Millrace.
    pub(crate) fn with(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    /// The algorithms of its cells, each once.
    fn algorithms(&self) -> Vec<&'static str> {
        let is_used = |name: &&str| self.cells.iter().any(|cell| cell.algorithm == *name);
        ALGORITHMS.into_iter().filter(is_used).collect()
    }

    /// The same without cells of algorithms that Millrace does not have, which are named.
    fn of_known(&self) -> Result<Self> {
        let mut plan = self.clone();
        if let Some(binaries) = &self.binaries {
            for algorithm in self.algorithms() {
                if !rig::is_known(binaries, algorithm)? {
                    println!("versus-linux: Millrace has no `{algorithm}`: left out");
                    plan.cells.retain(|cell| cell.algorithm != algorithm);
                }
            }
        }
        ensure!(!plan.cells.is_empty(), "nothing is left to compare");
        Ok(plan)
    }

    /// Whether Millrace is among the senders.
    pub(crate) fn needs_millrace(&self) -> bool {
        self.senders.contains(&Sender::Millrace)
    }
}

/// Runs every transfer; the rows of the table, without scenario and command. What is finished is said,
/// and appended to a file, as it comes.
pub(crate) fn measure(plan: &Plan) -> Result<Vec<Row>> {
    // The lcore has its CPU to itself, as it is meant to: nobody else runs there, and it keeps nobody waiting.
    let _pinned = machine::PinnedPeers::pin()?;
    // Sender, relay and receiver must not wait for what else runs; where that is not allowed, they do.
    let usual = rustix::process::getpriority_process(None).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, (usual - 15).max(-20));
    let plan = plan.of_known()?;
    let mut conduct = Conduct::new(&plan)?;
    let outcome = conduct.play();
    let _ = rustix::process::setpriority_process(None, usual);
    let rows = outcome::rows(&plan.cells, &conduct.transfers);
    if let Err(error) = outcome {
        // What there is is better than nothing; that it is not all is said.
        interrupt::check()?;
        println!("versus-linux: {error:#}");
        ensure!(!rows.is_empty(), "no cell has figures of both senders");
    }
    Ok(rows)
}

/// The transfers of a plan, under way.
struct Conduct<'a> {
    plan: &'a Plan,
    waiting: Vec<Round>,
    load: Load,
    begun: u16,
    transfers: Vec<Transfer>,
    log: std::fs::File,
    /// When what is not over is given up.
    end: Instant,
}

/// A transfer that was begun.
struct Begun {
    receiver: std::net::Ipv4Addr,
    cell: Cell,
    run: u32,
    sender: Sender,
    company: Company,
    expected: u64,
}

/// What its thread says at its end.
type Ended = (Begun, Result<Duration>);

impl<'a> Conduct<'a> {
    fn new(plan: &'a Plan) -> Result<Self> {
        Ok(Self {
            plan,
            waiting: schedule::rounds(&plan.cells, plan.runs, &plan.senders, plan.link),
            load: Load::default(),
            begun: 0,
            transfers: Vec::new(),
            log: rig::fresh_log(&rig::output()?)?,
            end: Instant::now() + plan.limit,
        })
    }

    /// Plays all rounds.
    fn play(&mut self) -> Result<()> {
        let file = self.plan.capture.as_ref();
        let capture = file.map(|folder| Capture::create(&folder.join("senders.pcap")));
        let binaries = self.plan.binaries.as_ref();
        let mut rig = Rig::make(binaries, &self.plan.algorithms(), capture.transpose()?)?;
        let outcome = self.run(&mut rig).and_then(|()| rig.check_aftermath());
        if outcome.is_err() {
            rig.save_logs();
        }
        outcome
    }

    /// Begins and waits until all is over.
    fn run(&mut self, rig: &mut Rig) -> Result<()> {
        let (say, hear) = channel::<Ended>();
        let mut open = 0usize;
        loop {
            while let Some(index) = schedule::next(&self.waiting, self.load, self.plan.budget) {
                let round = self.waiting.remove(index);
                for sender in &round.senders {
                    self.begin(rig, &round, *sender, &say)?;
                    open += 1;
                }
            }
            if open == 0 && self.waiting.is_empty() {
                return Ok(());
            }
            match hear.recv_timeout(Duration::from_millis(200)) {
                Ok(ended) => {
                    open -= 1;
                    self.end(rig, ended)?;
                }
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
                Err(RecvTimeoutError::Disconnected) => bail!("the receivers' threads died"),
            }
            ensure!(
                Instant::now() < self.end,
                "{} rounds had not begun and {open} transfers were not over after {} minutes",
                self.waiting.len(),
                self.plan.limit.as_secs() / 60
            );
        }
    }

    fn begin(&mut self, rig: &Rig, round: &Round, sender: Sender, say: &Say<Ended>) -> Result<()> {
        let target = Rig::target(sender, round.cell.algorithm)?;
        self.begun = self.begun.checked_add(1).context("too many transfers")?;
        let begun = Begun {
            receiver: rig::receiver(self.begun),
            cell: round.cell,
            run: round.run,
            sender,
            company: round.company,
            expected: round.expected,
        };
        rig.relay.announce(
            begun.receiver,
            Shape {
                rtt: round.cell.rtt,
                bits_per_second: self.plan.link,
                loss_ppm: round.cell.loss_ppm,
                seed: round.cell.seed(round.run),
            },
        );
        self.load.add(begun.company, begun.expected);
        let (namespace, say) = (rig.client().to_owned(), say.clone());
        let (bytes, end) = (self.plan.bytes, self.end);
        std::thread::spawn(move || {
            let took = peers::receive(&namespace, begun.receiver, target, bytes, end);
            // Nobody listens any more when the run was interrupted.
            let _ = say.send((begun, took));
        });
        Ok(())
    }

    fn end(&mut self, rig: &mut Rig, (begun, took): Ended) -> Result<()> {
        self.load.remove(begun.company, begun.expected);
        let tally = rig.relay.remove(begun.receiver);
        let seconds = took.as_ref().map_or(0.0, Duration::as_secs_f64);
        let transfer = Transfer {
            cell: begun.cell,
            name: begun.cell.name(),
            sender: begun.sender,
            run: begun.run,
            seconds,
            mbit_per_second: match seconds > 0.0 {
                true => self.plan.bytes as f64 * 8.0 / seconds / 1e6,
                false => 0.0,
            },
            tally,
            failure: took.err().map(|error| format!("{error:#}")),
        };
        println!("{transfer}");
        writeln!(self.log, "{}", serde_json::to_string(&transfer)?)?;
        let has_failed = transfer.failure.is_some();
        self.transfers.push(transfer);
        // Without a sender all others would fail too, each after its patience.
        match has_failed {
            true => rig.check_alive(),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> SendersMatrix {
        SendersMatrix {
            algorithms: vec!["reno".into(), "bbr".into()],
            rtt_ms: vec![0.1, 20.0],
            loss_percent: vec![0.0, 0.1],
            mebibytes: 64,
            runs: 5,
            link_mbit: 100,
            budget_mbit: 200,
            limit_minutes: 9,
        }
    }

    #[test]
    fn a_plan_is_every_algorithm_on_every_path_and_in_a_hurry_it_is_smaller() {
        let plan = Plan::new(&matrix(), &[]).expect("a plan").hurried(10);
        assert_eq!((plan.cells.len(), plan.runs), (8, 1));
        assert_eq!(plan.cells[1].name(), "reno, RTT 0.1 ms, loss 0.1 %");
        assert_eq!(plan.bytes, (64 << 20) / 10);
        assert!(plan.needs_millrace());
        assert_eq!(plan.limit, Duration::from_secs(540));
        let unknown = SendersMatrix {
            algorithms: vec!["vegas".into()],
            ..matrix()
        };
        assert!(Plan::new(&unknown, &[]).is_err());
    }
}
