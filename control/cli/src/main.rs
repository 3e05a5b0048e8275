//! The command `millrace`: checks the configuration, shows what runs, asks control to reload.
//!
//! `check` and `dataplane-args` read files only, `plan` reads nothing; everything else talks to control over its socket.
//! Exit codes: 0 done, 1 control refused or the connection broke, 2 mistakes in the configuration
//! or in the arguments, 3 control does not run.

mod client;
mod plan;
mod table;
mod view;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use millrace_api::{Answer, FailureKind, Outcome, Request, SOCKET_NAME, Topic};
use millrace_config::{Place, Problems};

use crate::client::ClientError;

const EXIT_REFUSED: u8 = 1;
const EXIT_CONFIG: u8 = 2;
const EXIT_NOT_RUNNING: u8 = 3;

/// Operates a Millrace load balancer.
///
/// Exit codes: 0 done, 1 control refused, 2 mistakes in the configuration or the arguments, 3
/// control does not run.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Write JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
    /// The runtime directory of the instance to talk to.
    #[arg(
        long,
        global = true,
        default_value = "/run/millrace",
        value_name = "DIR"
    )]
    runtime_dir: PathBuf,
    /// The control socket, when it is not in the runtime directory.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file and print every mistake; changes nothing.
    Check {
        /// The file, usually conf/millrace.toml.
        file: PathBuf,
    },
    /// Print the arguments of millrace-dataplane for a configuration, one a line.
    DataplaneArgs {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what a number of sessions needs: memory by what it is for, huge pages, source addresses.
    Plan {
        #[command(flatten)]
        demand: plan::PlanArgs,
    },
    /// Show what runs.
    Show {
        /// What to show.
        #[arg(value_enum)]
        what: What,
        /// Connections at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show how control and the dataplane are.
    Status,
    /// Make control read its configuration again; a file with mistakes changes nothing.
    Reload,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// What each lcore did.
    Lcores,
    /// The network cards.
    Ports,
    /// Their flags, state, MTU and addresses, as `ip address` shows links on Linux.
    Addresses,
    /// What clients connect to.
    Listeners,
    /// The servers, their health and traffic.
    Backends,
    /// Open sessions.
    Connections,
    /// What was dropped and why.
    Drops,
    /// Every counter of the dataplane.
    Counters,
    /// The counters of IP, ICMP and TCP under the names that `nstat` has on Linux.
    Netstat,
    /// Ethernet addresses of neighbours.
    Neighbors,
    /// The forwarding table.
    Routes,
}

/// Writes an answer for eyes.
type View<W> = fn(&Answer, &mut W) -> std::io::Result<()>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = std::io::stdout().lock();
    let plain: (fn(Answer) -> Answer, View<_>) = (as_it_is, view::write);
    let done = match &cli.command {
        Command::Check { file } => check(file, cli.global.json, &mut out),
        Command::DataplaneArgs { config } => dataplane_args(config, cli.global.json, &mut out),
        Command::Plan { demand } => plan::write(demand, cli.global.json, &mut out).map(|()| 0),
        Command::Show { what, limit } => {
            let is_netstat = matches!(what, What::Netstat);
            let keep = if is_netstat { only_mib_names } else { as_it_is };
            let view = if matches!(what, What::Addresses) {
                view::write_as_links
            } else {
                view::write
            };
            ask(request(*what, *limit), (keep, view), &cli.global, &mut out)
        }
        Command::Status => ask(Request::Status, plain, &cli.global, &mut out),
        Command::Reload => ask(Request::Reload, plain, &cli.global, &mut out),
    };
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        // The reader of a pipe may leave early, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace: {error}");
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

fn request(what: What, limit: u32) -> Request {
    Request::Show(match what {
        What::Connections => return Request::Connections { limit },
        What::Lcores => Topic::Lcores,
        What::Ports | What::Addresses => Topic::Ports,
        What::Listeners => Topic::Listeners,
        What::Backends => Topic::Backends,
        What::Drops => Topic::Drops,
        What::Counters | What::Netstat => Topic::Counters,
        What::Neighbors => Topic::Neighbors,
        What::Routes => Topic::Routes,
    })
}

fn check(file: &std::path::Path, json: bool, out: &mut impl Write) -> std::io::Result<u8> {
    let problems = match millrace_config::load(file) {
        Ok(_) if json => {
            writeln!(out, "{}", serde_json::json!({ "ok": true, "problems": [] }))?;
            return Ok(0);
        }
        Ok(config) => {
            let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
            writeln!(
                out,
                "{}: no mistakes; {} ports, {} listeners, {} pools, {backends} backends",
                file.display(),
                config.ports.len(),
                config.listeners.len(),
                config.pools.len(),
            )?;
            return Ok(0);
        }
        Err(problems) => problems,
    };
    if json {
        let value = serde_json::json!({ "ok": false, "problems": problems_json(&problems) });
        writeln!(out, "{value}")?;
    } else {
        eprintln!("{problems}");
        let count = problems.0.len();
        eprintln!("{count} mistake{}", if count == 1 { "" } else { "s" });
    }
    Ok(EXIT_CONFIG)
}

fn problems_json(problems: &Problems) -> Vec<serde_json::Value> {
    let rows = problems.0.iter().map(|problem| {
        let (file, line, variable) = match &problem.place {
            Place::File { path, line } => (Some(path.display().to_string()), Some(*line), None),
            Place::Variable(name) => (None, None, Some(name)),
        };
        serde_json::json!({
            "file": file,
            "line": line,
            "variable": variable,
            "message": problem.fault.to_string(),
            "hint": problem.fault.hint(),
        })
    });
    rows.collect()
}

fn dataplane_args(file: &std::path::Path, json: bool, out: &mut impl Write) -> std::io::Result<u8> {
    let config = match millrace_config::load(file) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(EXIT_CONFIG);
        }
    };
    let args = millrace_config::dataplane_args(&config);
    if json {
        writeln!(out, "{}", serde_json::json!(args))?;
    } else {
        for arg in args {
            writeln!(out, "{arg}")?;
        }
    }
    Ok(0)
}

fn as_it_is(answer: Answer) -> Answer {
    answer
}

/// Leaves out counters of our own: a MIB's begin with the name of their protocol.
fn only_mib_names(mut answer: Answer) -> Answer {
    let is_mib = |name: &str| {
        ["Ip", "Icmp", "Tcp"]
            .iter()
            .any(|mib| name.starts_with(mib))
    };
    if let Answer::Counters(rows) = &mut answer {
        rows.retain(|row| is_mib(&row.name));
    }
    answer
}

fn ask<W: Write>(
    request: Request,
    (keep, view): (fn(Answer) -> Answer, View<W>),
    global: &Global,
    out: &mut W,
) -> std::io::Result<u8> {
    let socket = match &global.socket {
        Some(socket) => socket.clone(),
        None => global.runtime_dir.join(SOCKET_NAME),
    };
    let outcome = match client::ask(&socket, request) {
        Ok(outcome) => outcome,
        Err(error @ ClientError::NotRunning { .. }) => {
            eprintln!("millrace: {error}");
            return Ok(EXIT_NOT_RUNNING);
        }
        Err(error) => {
            eprintln!("millrace: {error}");
            return Ok(EXIT_REFUSED);
        }
    };
    match outcome {
        Outcome::Ok(answer) => {
            let answer = keep(answer);
            if global.json {
                writeln!(out, "{}", inner_json(&answer)?)?;
            } else {
                view(&answer, out)?;
            }
            Ok(0)
        }
        Outcome::Error(failure) => {
            if global.json {
                let value = serde_json::json!({ "error": failure });
                writeln!(out, "{value}")?;
            } else {
                eprintln!("{}", failure.message);
            }
            Ok(match failure.kind {
                FailureKind::Config => EXIT_CONFIG,
                FailureKind::Request | FailureKind::NoDataplane | FailureKind::Busy => EXIT_REFUSED,
            })
        }
    }
}

/// The rows themselves, without the name of the answer around them.
fn inner_json(answer: &Answer) -> std::io::Result<serde_json::Value> {
    let value = serde_json::to_value(answer)?;
    Ok(match value {
        serde_json::Value::Object(map) => map.into_values().next().unwrap_or_default(),
        other @ (serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Array(_)) => other,
    })
}
