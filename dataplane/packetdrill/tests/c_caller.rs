//! The interface as a C program sees it: `caller.c` is compiled here and loads the object.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The shared object, which cargo puts beside the tests or one folder above.
fn object() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let folders = test.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join("libmillrace_packetdrill.so"))
        .find(|path| path.is_file());
    found.expect("cargo has built the object")
}

/// The compiled caller.
fn caller() -> &'static Path {
    static CALLER: OnceLock<PathBuf> = OnceLock::new();
    CALLER.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/caller.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("packetdrill-caller-{}", std::process::id()));
        let status = Command::new("cc")
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
            .arg(&program)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(
            status.expect("a C compiler").success(),
            "the caller compiles"
        );
        program
    })
}

fn checked(output: std::io::Result<Output>) -> String {
    let output = output.expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{errors}", output.status);
    text
}

fn play(part: &str) {
    checked(Command::new(caller()).arg(object()).arg(part).output());
}

#[test]
fn the_symbol_is_exported_and_only_what_is_meant_to_be() {
    let symbols = checked(
        Command::new("nm")
            .arg("-D")
            .arg("--defined-only")
            .arg(object())
            .output(),
    );
    let mut names: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split(" T ").nth(1))
        .collect();
    names.sort_unstable();
    let wanted = [
        "close",
        "getsockopt",
        "packetdrill_interface_init",
        "sendfile",
        "sendfile64",
        "times",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn time_moves_by_the_calls_that_say_so_and_silence_ends() {
    play("time");
}

#[test]
fn a_session_from_handshake_to_close_takes_no_real_time() {
    play("session");
}

#[test]
fn a_blocked_call_really_sleeps_and_returns_at_its_virtual_time() {
    play("blocked");
}

#[test]
fn bad_pointers_lengths_and_descriptors_are_errors() {
    play("arguments");
}

#[test]
fn structures_are_laid_out_as_c_has_them() {
    play("structures");
}

#[test]
fn preloaded_the_kernels_descriptors_stay_the_kernels() {
    let output = Command::new(caller())
        .arg(object())
        .arg("preloaded")
        .env("LD_PRELOAD", object())
        .output();
    checked(output);
}
