//! `millrace-control`: decides, publishes, resolves neighbours, checks backends, measures.
//!
//! The dataplane goes on without it: killing control drops no packet, and a new one takes over what
//! it finds. Exit codes: 0 stopped by a signal, 1 could not run, 2 mistakes in the configuration
//! (all on standard error, nothing changed).
#![forbid(unsafe_code)]

mod attach;
mod clock;
mod control;
mod health;
mod http;
mod lcores;
mod listing;
mod memo;
mod metrics;
mod neighbor;
mod outbox;
mod publish;
mod reconcile;
mod server;
mod show;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use millrace_config::{Config, LogFormat, LogLevel};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;

use crate::clock::Clock;
use crate::control::Control;
use crate::server::Message;

const EXIT_FAILED: u8 = 1;
const EXIT_CONFIG: u8 = 2;

/// Time to the next turn while the rings have work.
const TURN_BUSY: Duration = Duration::from_millis(1);
/// Longest time to the next turn: what an unresolved neighbour waits at most before it is asked
/// for. 200 turns a second cost well under 1 % of a CPU.
const TURN_IDLE: Duration = Duration::from_millis(5);

/// The deciding process of Millrace.
///
/// Exit codes: 0 stopped by a signal, 1 could not run, 2 mistakes in the configuration.
#[derive(Debug, Parser)]
#[command(name = "millrace-control", version)]
struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match millrace_config::load(&args.config) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    start_log(&config);
    match run(args.config, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn start_log(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level);
    match config.log.format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn run(config_path: PathBuf, config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(serve(config_path, config))
}

async fn serve(config_path: PathBuf, config: Config) -> anyhow::Result<()> {
    let directory = config.runtime_dir.clone();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make the runtime directory {}", directory.display()))?;
    let (sender, mut messages) = mpsc::channel(server::MESSAGES_MAX);
    let socket_path = directory.join(millrace_api::SOCKET_NAME);
    let socket = server::bind(&socket_path)?;
    if let Some(address) = config.metrics {
        let listener = http::bind(address).await?;
        tokio::spawn(http::serve(listener, sender.clone()));
    }
    tokio::spawn(server::serve(socket, sender));
    let mut reload = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let mut stop = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;

    let clock = Clock::start();
    let mut control = Control::new(config_path, config, clock.now())?;
    tracing::info!(pid = std::process::id(), runtime_dir = %directory.display(), "control started");
    let mut pause = TURN_BUSY;
    let mut turn = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(turn) => {
                let worked = control.turn(clock.now());
                pause = if worked { TURN_BUSY } else { (pause * 2).min(TURN_IDLE) };
                turn = tokio::time::Instant::now() + pause;
            }
            Some(message) = messages.recv() => {
                answer(&mut control, &clock, message);
                turn = tokio::time::Instant::now();
            }
            _ = reload.recv() => {
                // The problems are in the log.
                let _ = control.reload(clock.now());
            }
            _ = stop.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("control stops; the dataplane goes on");
    std::fs::remove_file(&socket_path).context("cannot remove the control socket")
}

fn answer(control: &mut Control, clock: &Clock, message: Message) {
    let now = clock.now();
    // A client that left does not want its answer.
    match message {
        Message::Request(request, reply) => control.request(now, &request, reply),
        Message::Scrape(reply) => drop(reply.send(control.scrape(now))),
        Message::Health(reply) => drop(reply.send(control.complaints())),
    }
}
