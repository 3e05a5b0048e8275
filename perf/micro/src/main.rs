//! One hot path at a time, for a tool that counts instructions: `millrace-micro PATH`.
//!
//! `cargo xtask micro` runs every path under valgrind's callgrind, which counts from the entry to
//! the exit of [`gate::measured_region`] and nothing else. Counts do not depend on the clock, on
//! other load, or on which processor this is: `perf/micro/baseline.toml` holds what they were, and
//! the `micro` step of `cargo xtask test` fails when one grew.
//!
//! Each path prints `units N`: what the counted instructions are to be divided by. It measures
//! nothing by itself; without callgrind it only checks that the paths still do what they claim.
#![forbid(unsafe_code)]

mod gate;
mod host;
mod paths;
mod world;

use std::process::ExitCode;

use paths::PATHS;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted == ["--list"] {
        for path in PATHS {
            println!("{:<16} {}", path.name, path.about);
        }
        return ExitCode::SUCCESS;
    }
    let [name] = wanted.as_slice() else {
        eprintln!("usage: millrace-micro PATH | --list");
        return ExitCode::FAILURE;
    };
    let Some(path) = PATHS.iter().find(|path| path.name == name) else {
        eprintln!("millrace-micro: there is no path {name}; --list shows all");
        return ExitCode::FAILURE;
    };
    println!("units {}", (path.run)());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_runs_and_has_units() {
        for path in PATHS {
            assert!((path.run)() > 0, "{}", path.name);
        }
    }

    #[test]
    fn names_are_unique() {
        for (index, path) in PATHS.iter().enumerate() {
            assert!(PATHS[..index].iter().all(|other| other.name != path.name));
        }
    }
}
