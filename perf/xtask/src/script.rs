//! `cargo xtask script FILE...`: plays packetdrill scripts against the stack, in virtual time.
//!
//! What the language is and what is checked: `dataplane/script`. A folder means every `.pkt` file
//! below it. By the custom of the public suite, a name that ends in `v4.pkt` is not played over
//! IPv6, and one that ends in `v6.pkt` only over IPv6.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use millrace_script::{Host, Leftovers, Report, Script, Variant, run};

/// Which scripts, and how.
#[derive(Args)]
pub(crate) struct ScriptArguments {
    /// Scripts, or folders of scripts.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// ipv4, ipv6 or ipv4-mapped-ipv6; all three when it is not given.
    #[arg(long)]
    variant: Option<Variant>,
    /// Print every packet and call with its time, and what code blocks print.
    #[arg(long)]
    verbose: bool,
    /// Report packets that no line expects instead of failing the script (the public suite has
    /// scripts that end before their last packet).
    #[arg(long)]
    allow_leftovers: bool,
    /// Print one line per script and the count, without the reasons.
    #[arg(long)]
    summary: bool,
}

/// Plays them; `true` when all pass.
pub(crate) fn run_all(arguments: &ScriptArguments) -> Result<bool> {
    let mut files = Vec::new();
    for path in &arguments.paths {
        collect(path, &mut files)?;
    }
    if files.is_empty() {
        bail!("no script (*.pkt) there");
    }
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let name = file.display().to_string();
        let variants = Variant::ALL
            .into_iter()
            .filter(|variant| fits(&name, *variant));
        for variant in variants.filter(|v| arguments.variant.is_none_or(|wanted| wanted == *v)) {
            let outcome = play(&name, &text, variant, arguments);
            match &outcome {
                Ok(_) => passed += 1,
                Err(_) => failed += 1,
            }
            show(&name, variant, &outcome, arguments);
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut below: Vec<_> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    below.sort();
    for path in below {
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "pkt") {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn fits(name: &str, variant: Variant) -> bool {
    match variant {
        Variant::Ipv6 => !name.ends_with("v4.pkt"),
        Variant::Ipv4 | Variant::Mapped => !name.ends_with("v6.pkt"),
    }
}

fn play(
    name: &str,
    text: &str,
    variant: Variant,
    arguments: &ScriptArguments,
) -> Result<Report, String> {
    let script = Script::parse(name, text, variant).map_err(|error| error.to_string())?;
    let leftovers = if arguments.allow_leftovers {
        Leftovers::Allow
    } else {
        Leftovers::Fail
    };
    let mut host = Host::new(script.network());
    run(&script, &mut host, leftovers).map_err(|error| error.to_string())
}

fn show(
    name: &str,
    variant: Variant,
    outcome: &Result<Report, String>,
    arguments: &ScriptArguments,
) {
    match outcome {
        Ok(report) => {
            println!("ok   {name} ({variant})");
            if arguments.verbose {
                report.log.iter().for_each(|line| println!("       {line}"));
                report
                    .printed
                    .iter()
                    .for_each(|line| println!("       print: {line}"));
                report
                    .leftovers
                    .iter()
                    .for_each(|line| println!("       left over: {line}"));
            }
        }
        Err(_) if arguments.summary => println!("FAIL {name} ({variant})"),
        Err(reason) => println!("FAIL {name} ({variant})\n{reason}"),
    }
}
