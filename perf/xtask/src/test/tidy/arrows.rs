//! Dependency arrows: which crate may name which, as the design's table says.

use anyhow::{Context, Result};

use super::Breach;
use crate::paths;

/// Crate, and the crates of this workspace that it may name. A crate that is not here may not exist.
const ALLOWED: &[(&str, &[&str])] = &[
    ("millrace-base", &[]),
    ("millrace-wire", &["base"]),
    ("millrace-stack", &["base", "wire"]),
    ("millrace-socket", &["base", "wire", "stack"]),
    ("millrace-script", &["base", "wire", "stack", "socket"]),
    // The C face of the sockets for the real packetdrill: decision 0011.
    ("millrace-packetdrill", &["base", "stack", "socket"]),
    ("millrace-abi", &["base"]),
    ("millrace-lb", &["base", "wire", "stack", "abi"]),
    ("millrace-dpdk-sys", &[]),
    ("millrace-dpdk", &["base", "dpdk-sys"]),
    (
        "millrace-worker",
        &[
            "base", "wire", "stack", "socket", "lb", "abi", "dpdk-sys", "dpdk",
        ],
    ),
    ("millrace-config", &["base", "abi"]),
    ("millrace-api", &["base", "abi"]),
    // The daemon parses the ARP and ND frames that the dataplane punts: decision 0001.
    ("millrace-daemon", &["base", "abi", "wire", "config", "api"]),
    ("millrace-cli", &["base", "abi", "config", "api"]),
    (
        "millrace-sim",
        &["base", "wire", "stack", "socket", "lb", "abi"],
    ),
    (
        "millrace-fuzz",
        &[
            "base", "wire", "stack", "socket", "script", "lb", "abi", "config", "api",
        ],
    ),
    (
        "millrace-micro",
        &["base", "wire", "stack", "socket", "lb", "abi"],
    ),
    ("millrace-forward", &["base", "wire", "stack", "dpdk"]),
    ("millrace-load", &["base", "wire", "stack", "dpdk"]),
    ("millrace-report", &[]),
    ("xtask", &["report", "script"]),
    // It measures the real lcore beside a generator: decision 0006.
    (
        "millrace-rig",
        &[
            "base", "wire", "stack", "lb", "abi", "dpdk", "worker", "load",
        ],
    ),
];

/// Manifests that name what they may not.
pub(super) fn breaches(files: &[String]) -> Result<Vec<Breach>> {
    let mut found = Vec::new();
    for path in files.iter().filter(|path| path.ends_with("/Cargo.toml")) {
        let text = std::fs::read_to_string(paths::root().join(path))?;
        let manifest: toml::Table = text.parse().with_context(|| path.clone())?;
        found.extend(judge(path, &text, &manifest));
    }
    Ok(found)
}

fn judge(path: &str, text: &str, manifest: &toml::Table) -> Vec<Breach> {
    let breach = |line, rule| Breach {
        path: path.to_owned(),
        line,
        rule,
    };
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name")?.as_str());
    let Some(name) = name else { return Vec::new() };
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        let rule = format!("the crate {name} has no place in the design's table");
        return vec![breach(0, rule)];
    };
    // Development and build dependencies follow the same arrows: tests of a low crate must build without the high ones.
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(toml::Table::keys)
        .filter_map(|dependency| dependency.strip_prefix("millrace-"))
        .filter(|dependency| !allowed.contains(dependency))
        .map(|dependency| {
            let wanted = format!("millrace-{dependency}");
            let line = text
                .lines()
                .position(|line| line.trim_start().starts_with(&wanted));
            let rule = format!("{name} may not name {wanted}: the arrow points up");
            breach(line.map_or(0, |index| index + 1), rule)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Vec<Breach> {
        judge("x/Cargo.toml", text, &text.parse().expect("TOML"))
    }

    #[test]
    fn an_arrow_that_points_up_is_found_with_its_line() {
        let text = "[package]\nname = \"millrace-wire\"\n[dev-dependencies]\nmillrace-base.workspace = true\n\
                    millrace-stack.workspace = true\n";
        let found = judged(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 5);
    }

    #[test]
    fn an_arrow_that_points_down_is_fine() {
        let text =
            "[package]\nname = \"millrace-lb\"\n[dependencies]\nmillrace-stack.workspace = true\n";
        assert_eq!(judged(text), []);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(judged("[package]\nname = \"millrace-utils\"\n").len(), 1);
    }
}
