//! The command `millrace-forward`: command line, prompt and printing around the library.

mod args;
mod prompt;

use core::time::Duration;
use std::error::Error;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use clap::Parser;
use millrace_dpdk::Eal;
use millrace_forward::Forwarder;

use crate::args::Args;
use crate::prompt::{Command, HELP};

/// How long a signal may go unnoticed.
const TURN: Duration = Duration::from_millis(100);

type Outcome = Result<(), Box<dyn Error>>;

/// Prints and obeys until it is time to leave.
struct Session {
    forwarder: Forwarder,
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace-forward: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome {
    let leave = Arc::new(AtomicBool::new(false));
    let eal = Eal::start(&args.eal())?;
    // After EAL, whose drivers may install handlers of their own.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&leave))?;
    }
    let forwarder = Forwarder::open(eal, args.mode, &args.setup())?;
    let json = args.json;
    let mut session = Session { forwarder, json };
    let lines = args.interactive.then(read_lines);
    if lines.is_none() || args.auto_start {
        session.start(args.tx_first.unwrap_or(0))?;
    }
    session.serve(args, lines.as_ref(), &leave)?;
    session.stop()
}

/// Lines of standard input, from a thread that ends with the input.
fn read_lines() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Session {
    /// Until the time is over, a signal comes, the operator quits or the input ends.
    fn serve(
        &mut self,
        args: &Args,
        lines: Option<&Receiver<String>>,
        leave: &AtomicBool,
    ) -> Outcome {
        let began = Instant::now();
        let end = args
            .duration
            .map(|seconds| began + Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        let period = args.stats_period.map(|s| Duration::from_secs(s.max(1)));
        let mut next_print = period.map(|period| began + period);
        self.invite(lines.is_some());
        // Relaxed: the flag carries no data.
        while !leave.load(Ordering::Relaxed) {
            let now = Instant::now();
            if end.is_some_and(|end| now >= end) {
                break;
            }
            if let (Some(at), Some(period)) = (next_print, period)
                && now >= at
            {
                self.print_ports()?;
                next_print = Some(at + period);
            }
            let due = [end, next_print].into_iter().flatten().min();
            let wait = due.map_or(TURN, |due| due.duration_since(now).min(TURN));
            match lines.map(|lines| lines.recv_timeout(wait)) {
                None => std::thread::sleep(wait),
                Some(Err(RecvTimeoutError::Timeout)) => {}
                Some(Err(RecvTimeoutError::Disconnected)) => break,
                Some(Ok(line)) => {
                    if !self.obey(&line)? {
                        break;
                    }
                    self.invite(true);
                }
            }
        }
        Ok(())
    }

    /// What an operator's mistake is answered with is no failure of ours. `false`: leave.
    fn obey(&mut self, line: &str) -> Result<bool, Box<dyn Error>> {
        let command = match line.parse::<Command>() {
            Ok(command) => command,
            Err(problem) => {
                eprintln!("{problem}");
                return Ok(true);
            }
        };
        match command {
            Command::Start { tx_first } if !self.forwarder.is_running() => {
                self.forwarder.clear_forward();
                self.start(tx_first)?;
            }
            Command::SetMode(mode) if !self.forwarder.is_running() => {
                self.forwarder.set_mode(mode)?;
            }
            Command::Start { .. } | Command::SetMode(_) => eprintln!("forwarding: stop first"),
            Command::Stop => self.stop()?,
            Command::ShowPortStats => self.print_ports()?,
            Command::ShowPortInfo => print!("{}", self.forwarder.describe()),
            Command::ShowForwardStats => self.print_forward()?,
            Command::ShowStreams => self.print_streams(),
            Command::ClearPortStats => self.forwarder.clear_ports()?,
            Command::ClearForwardStats => self.forwarder.clear_forward(),
            Command::Help => println!("{HELP}"),
            Command::Quit => return Ok(false),
            Command::Nothing => {}
        }
        Ok(true)
    }

    fn start(&mut self, tx_first: u32) -> Outcome {
        self.forwarder.send_first(tx_first)?;
        self.forwarder.start()?;
        Ok(())
    }

    /// Prints what was forwarded, once per start.
    fn stop(&mut self) -> Outcome {
        if !self.forwarder.is_running() {
            return Ok(());
        }
        self.forwarder.stop()?;
        self.print_forward()
    }

    fn print_forward(&self) -> Outcome {
        let report = self.forwarder.report();
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{report}");
        }
        Ok(())
    }

    fn print_ports(&mut self) -> Outcome {
        let reports = self.forwarder.nic_reports()?;
        if self.json {
            println!("{}", serde_json::json!({ "nics": reports }));
        } else {
            for report in reports {
                print!("{report}");
            }
        }
        Ok(())
    }

    fn print_streams(&self) {
        println!(
            "{} packet forwarding, {} streams",
            self.forwarder.mode(),
            self.forwarder.streams().len()
        );
        for (lcore, place) in self.forwarder.streams() {
            println!(
                "  lcore {lcore}: RX P={}/Q={} -> TX P={}/Q={} peer={}",
                place.rx_port, place.queue, place.tx_port, place.queue, place.peer_mac
            );
        }
    }

    /// A prompt, for people only.
    fn invite(&self, is_interactive: bool) {
        if is_interactive && !self.json {
            print!("forward> ");
            // A terminal that is gone will end the input too.
            drop(std::io::stdout().flush());
        }
    }
}
