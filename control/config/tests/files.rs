//! The files an operator starts from: each one is valid, and the full one says what the key table
//! says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millrace_config::{InitialHealth, diff, full_toml, load_with, parse};

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf")
}

#[test]
fn every_file_in_conf_is_valid() {
    let mut seen = 0;
    for entry in std::fs::read_dir(conf()).expect("conf") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        if let Err(problems) = load_with(&path, BTreeMap::new()) {
            panic!("{problems}");
        }
    }
    assert!(seen >= 2, "millrace.toml and full.toml at least");
}

#[test]
fn the_full_file_is_the_key_table() {
    let path = conf().join("full.toml");
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&path, full_toml()).expect("write");
    }
    let text = std::fs::read_to_string(&path).expect("full.toml");
    assert!(
        text == full_toml(),
        "conf/full.toml is not what the key table says; MILLRACE_BLESS=1 cargo test -p millrace-config rewrites it"
    );
}

#[test]
fn a_default_written_out_changes_nothing() {
    let short = std::fs::read_to_string(conf().join("millrace.toml")).expect("file");
    let mut long = String::from("runtime_dir = \"/run/millrace\"\n");
    long += &short;
    long += "\n[dataplane]\nlcores = [1]\nmbufs = 65_536\nmbuf_bytes = 0x880\nidle = \"sleep\"\n";
    long += "[neighbor]\nucast_solicit = 3\n[log]\nlevel = \"info\"\n";
    let short = parse("short", &short).expect("valid");
    let long = parse("long", &long).expect("valid");
    assert_eq!(short, long);
    assert_eq!(diff(&short, &long), []);
    let health = short.pools[0].health.expect("probed by default");
    assert_eq!(
        (health.interval_ms, health.rise, health.fall),
        (1_000, 2, 3)
    );
    assert_eq!(health.initial, InitialHealth::Up);
}
