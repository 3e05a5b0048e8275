//! The stack against scripts: the project's own, which all pass, and the public suite, of which
//! what has passed once must go on passing.

use std::fs;
use std::path::Path;

use crate::folders::{below_manifest, public, scripts, variants};
use millrace_script::{Host, Leftovers, Report, RunError, Script, Variant, run};

pub(crate) fn play(
    path: &Path,
    variant: Variant,
    leftovers: Leftovers,
) -> Result<Report, RunError> {
    let script = read(path, variant)?;
    let mut host = Host::new(script.network());
    run(&script, &mut host, leftovers)
}

fn read(path: &Path, variant: Variant) -> Result<Script, RunError> {
    let text = fs::read_to_string(path).expect("a script");
    Ok(Script::parse(&path.display().to_string(), &text, variant)?)
}

// What a connection loses at rest is nothing that anybody could tell.
#[test]
fn every_own_script_passes_when_connections_rest_whenever_they_can() {
    let (mut failures, mut resting) = (Vec::new(), 0);
    for path in scripts(&below_manifest("../stack/tests/scripts")) {
        let script = read(&path, Variant::Ipv4).expect("it is read elsewhere");
        let mut host = Host::resting(script.network());
        let outcome = run(&script, &mut host, Leftovers::Fail);
        failures.extend(outcome.err().map(|error| error.to_string()));
        resting += usize::from(host.rested() > 0);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(resting > 100, "only {resting} scripts have one at rest");
}

#[test]
fn every_own_script_passes_in_every_variant_and_leaves_no_packet_over() {
    let mut failures = Vec::new();
    let paths = scripts(&below_manifest("../stack/tests/scripts"));
    assert!(paths.len() > 30, "only {} scripts", paths.len());
    for path in &paths {
        for variant in variants(path) {
            let outcome = play(path, variant, Leftovers::Fail);
            failures.extend(outcome.err().map(|error| format!("{variant}: {error}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_same_script_gives_the_same_packets_every_time() {
    for path in scripts(&below_manifest("../stack/tests/scripts")) {
        let first = play(&path, Variant::Ipv4, Leftovers::Fail).map(|report| report.log);
        let second = play(&path, Variant::Ipv4, Leftovers::Fail).map(|report| report.log);
        assert_eq!(first, second, "{}", path.display());
    }
}

/// Public scripts that the stack passes, and in which variants. A line is added when one more does.
pub(crate) const PASSING: &str = include_str!("public_passing.txt");

#[test]
fn public_scripts_that_have_passed_still_pass() {
    let Some(folder) = public() else { return };
    let mut failures = Vec::new();
    let mut count = 0;
    for line in PASSING.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let path = folder.join(words.next().expect("a path"));
        for word in words {
            let variant = word.parse().expect("a variant");
            count += 1;
            let outcome = play(&path, variant, Leftovers::Allow);
            failures.extend(outcome.err().map(|error| format!("{variant}: {error}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    eprintln!("{count} public runs pass");
}
