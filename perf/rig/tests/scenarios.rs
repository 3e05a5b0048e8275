//! Every scenario, small: the counts are right and nothing goes wrong. Cycles are not asserted.

use std::process::Command;

use serde_json::Value;

/// Runs a scenario of a few thousand operations, in which nothing may go wrong, and returns what it says.
fn outcome(arguments: &[&str]) -> Value {
    let (outcome, counts) = outcome_and_whether_it_counts(arguments);
    assert!(counts, "{arguments:?}: {outcome}");
    outcome
}

fn outcome_and_whether_it_counts(arguments: &[&str]) -> (Value, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_millrace-rig"))
        .args(arguments)
        .args(["--json", "--cpu=0", "--connections-max=8192", "--chunk=32"])
        .output()
        .expect("the rig starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    let outcome = serde_json::from_str(&text);
    let outcome = outcome.unwrap_or_else(|error| panic!("{arguments:?}: {error} {problem}"));
    (outcome, output.status.success())
}

/// A run in which nothing was lost, copied or allocated.
fn assert_clean(outcome: &Value) {
    assert_eq!(outcome["errors"], serde_json::json!({}), "{outcome}");
    assert_eq!(outcome["copied_bytes"], 0, "{outcome}");
    assert_eq!(outcome["heap_allocations"], 0, "{outcome}");
}

#[test]
fn short_sessions_open_answer_and_close_whoever_closes() {
    for options in [&[][..], &["--client-closes"], &["--card=plain"]] {
        let arguments = [&["short", "--operations=2000"], options].concat();
        let outcome = outcome(&arguments);
        assert_clean(&outcome);
        assert!(outcome["cycles"]["operations"].as_u64() >= Some(1_900));
        // Both handshakes, a request and a response on either side, and what closes them.
        let frames = outcome["frames_per_operation"].as_f64().expect("a number");
        assert!((14.0..22.0).contains(&frames), "{frames} frames a session");
    }
}

#[test]
fn no_session_is_split_between_lcores_whatever_the_card_delivers_where() {
    let outcome = outcome(&["rss", "--operations=3000"]);
    assert_clean(&outcome);
    let steered = outcome["values"]["frames steered, of all"].as_f64();
    assert!(steered > Some(0.2), "{outcome}");
    let least = outcome["values"]["sessions of the least busy lcore"].as_f64();
    assert!(least > Some(1_000.0), "{outcome}");
}

#[test]
fn connections_that_end_on_the_box_are_answered_there() {
    assert_clean(&outcome(&["terminated", "--operations=2000"]));
    assert_clean(&outcome(&["rx", "--operations=20000", "--connections=64"]));
}

#[test]
fn every_table_finds_every_flow() {
    let outcome = outcome(&["tables", "--operations=20000", "--connections=1000"]);
    assert_clean(&outcome);
    assert!(outcome["values"]["rte_hash, burst"].as_f64() > Some(0.0));
}

#[test]
fn latency_is_told_for_every_request_that_was_due() {
    // This one runs in real time. On a machine without a free CPU a thread stands still for longer than TCP waits, and
    // repeats what was answered: whether the numbers count is the machine's business here.
    let few = ["--operations=4000", "--connections=200", "--rate=2000"];
    let (outcome, counts) = outcome_and_whether_it_counts(&[&["latency"], &few[..]].concat());
    let values = &outcome["values"];
    let answered = values["requests answered"].as_f64().expect("a number");
    assert!(answered <= 4_000.0, "{outcome}");
    assert!(!counts || answered == 4_000.0, "{outcome}");
    assert!(values["added us, p99"].is_number() && values["requests met by a stall"].is_number());
}

#[test]
fn requests_on_open_connections_are_all_answered() {
    let outcome = outcome(&["keepalive", "--operations=5000", "--connections=500"]);
    assert_clean(&outcome);
    assert!(outcome["cycles"]["operations"].as_u64() >= Some(4_900));
}

// `backlog.rs` of the worker, in its loop: what waits in the rings has arrived, and timers that are due at once have to
// hear of it first. More answers wait than one burst takes.
#[test]
fn an_lcore_that_stood_still_for_longer_than_its_timers_sends_nothing_again() {
    let absences = ["--absence-ms=500", "--concurrency=256"];
    let few = ["keepalive", "--operations=5000", "--connections=512"];
    assert_clean(&outcome(&[&few[..], &absences].concat()));
}

#[test]
fn bulk_data_arrive_uncut_with_every_kind_of_card() {
    for options in [&["--card=plain"][..], &["--card=tso"], &["--mtu=9000"]] {
        let bulk = ["bulk", "--operations=20000", "--connections=8"];
        assert_clean(&outcome(&[&bulk[..], options].concat()));
    }
}

#[test]
fn idle_sessions_stay_and_wake_up() {
    let outcome = outcome(&["idle", "--connections=5000", "--wakes=200", "--lcores=2"]);
    assert_clean(&outcome);
    assert_eq!(outcome["values"]["sessions open at the end"], 5_000.0);
    assert_eq!(outcome["values"]["wakes answered"], 200.0);
}

#[test]
fn established_sessions_get_every_answer_while_others_flood_and_crowd() {
    for scenario in [&["flood"][..], &["shed"], &["shed", "--short-of=buffers"]] {
        let few = ["--operations=5000", "--connections=500", "--lcores=2"];
        let outcome = outcome(&[scenario, &few[..]].concat());
        assert_clean(&outcome);
        assert!(
            outcome["values"]["requests answered"].as_f64() >= Some(5_000.0),
            "{outcome}"
        );
    }
}
