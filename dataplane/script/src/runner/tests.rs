//! The runner against a server that answers well, or badly in one way at a time.

mod fake;

use super::{Leftovers, Report, run};
use crate::kernel::Setting;
use crate::script::Script;
use crate::variant::Variant;
use fake::{Fake, Quirk};

/// A server that accepts, reads and writes. The peer's and the script's numbers start at 0.
const SERVER: &str = "\
    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
   +0 bind(3, ..., ...) = 0
   +0 listen(3, 1) = 0
   +0...0.2 accept(3, ..., ...) = 4
  +.1 < S 0:0(0) win 32792 <mss 1000,sackOK,TS val 100 ecr 0>
   +0 > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 5 ecr 100>
  +.1 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 200 ecr 5>
   +0 < P. 1:1501(1500) ack 1 win 257 <nop,nop,TS val 201 ecr 5>
   +0 > [noecn] . 1:1(0) ack 1501 win 500 <nop,nop,TS val 105 ecr 201>
   +0 read(4, ..., 1000) = 1000
   +0 read(4, ..., 1000) = 500
   +0 read(4, ..., 1000) = -1 EAGAIN (Resource temporarily unavailable)
   +0 %{ cwnd = tcpi_snd_cwnd; print('cwnd', cwnd); assert cwnd == 10, cwnd }%
   +0 write(4, ..., 2500) = 2500
   +0 > P. 1:2501(2500) ack 1501 <nop,nop,TS val 105 ecr 201>
   +0 close(4) = 0
   +0 > F. 2501:2501(0) ack 1501 <...>
";

fn play(
    text: &str,
    variant: Variant,
    quirk: Quirk,
    leftovers: Leftovers,
) -> Result<Report, String> {
    let script = Script::parse("x.pkt", text, variant).map_err(|error| error.to_string())?;
    let mut kernel = Fake::new(quirk);
    run(&script, &mut kernel, leftovers).map_err(|error| error.to_string())
}

fn fails(text: &str, quirk: Quirk) -> String {
    play(text, Variant::Ipv4, quirk, Leftovers::Fail).expect_err("does not pass")
}

#[test]
fn a_good_server_passes_in_every_variant() {
    for variant in [Variant::Ipv4, Variant::Ipv6] {
        let report = play(SERVER, variant, Quirk::None, Leftovers::Fail).expect("passes");
        assert_eq!(report.printed, ["cwnd 10"]);
        assert_eq!(report.leftovers, [""; 0]);
    }
    let mapped = format!("--bind_port=8081\n{SERVER}");
    play(&mapped, Variant::Mapped, Quirk::None, Leftovers::Fail).expect("passes");
}

#[test]
fn the_same_run_twice_is_the_same() {
    let log = || {
        play(SERVER, Variant::Ipv4, Quirk::None, Leftovers::Fail)
            .expect("passes")
            .log
    };
    assert!(log().len() > 10);
    assert_eq!(log(), log());
}

#[test]
fn every_way_to_misbehave_is_caught_and_named() {
    for (quirk, line, words) in [
        (
            Quirk::WrongSynOptions,
            6,
            "options: expected <mss 1460,sackOK,TS val 5 ecr 100>, actual <mss 536>",
        ),
        (
            Quirk::WrongAck,
            9,
            "acknowledgement: expected 1501, actual 1502",
        ),
        (
            Quirk::WrongEcn,
            9,
            "type of service: expected [noecn], actual 0x2 (ect0)",
        ),
        (Quirk::LateAck, 9, "time: expected 0.200"),
        (Quirk::NoAck, 9, "no packet left"),
        (
            Quirk::WrongErrno,
            12,
            "`read`: expected EAGAIN, actual -1 ECONNRESET",
        ),
        (
            Quirk::WrongRead,
            10,
            "`read`: byte 0 is not what the peer sent there",
        ),
        (Quirk::WrongPush, 15, "flags: expected P., actual ."),
        (
            Quirk::WrongPayload,
            15,
            "payload: byte 7 is not what the program sent there",
        ),
        (
            Quirk::WrongChecksum,
            6,
            "a broken packet left the stack: bad TCP checksum",
        ),
    ] {
        let failure = fails(SERVER, quirk);
        assert!(
            failure.starts_with(&format!("x.pkt:{line}:")),
            "{quirk:?}: {failure}"
        );
        assert!(failure.contains(words), "{quirk:?}: {failure}");
    }
}

#[test]
fn a_failure_shows_both_packets_as_the_language_writes_them() {
    let failure = fails(SERVER, Quirk::WrongAck);
    let lines: Vec<_> = failure.lines().map(str::trim).collect();
    assert_eq!(
        lines[1],
        "expected: > [noecn] . 1:1(0) ack 1501 win 500 <nop,nop,TS val 105 ecr 201>"
    );
    assert!(
        lines[2].starts_with("actual: > . 1:1(0) ack 1502 win 500 <nop,nop,TS val 105 ecr 201>"),
        "{failure}"
    );
}

#[test]
fn segments_make_up_one_expected_packet_unless_strict() {
    let strict = format!("--strict_segments\n{SERVER}");
    let failure = fails(&strict, Quirk::None);
    assert!(
        failure.contains("length: expected 2500, actual 1000"),
        "{failure}"
    );
    // 700, 700, 700, 400: only the last piece is shorter.
    play(
        SERVER,
        Variant::Ipv4,
        Quirk::UnevenSegments,
        Leftovers::Fail,
    )
    .expect("cut evenly");
    let two = SERVER.replace("1:2501(2500) ack 1501", "1:1001(1000) ack 1501");
    let failure = fails(&two, Quirk::UnevenSegments);
    assert!(
        failure.contains("length: expected 1000, actual 1400"),
        "{failure}"
    );
}

#[test]
fn packets_left_over_fail_unless_allowed() {
    let failure = fails(SERVER, Quirk::DoubleAck);
    assert!(
        failure.contains("length: expected 2500, actual 0"),
        "{failure}"
    );
    let short = SERVER.lines().take(9).collect::<Vec<_>>().join("\n");
    let failure = fails(&short, Quirk::DoubleAck);
    assert!(
        failure.contains("packets left that the script does not expect"),
        "{failure}"
    );
    assert!(failure.contains("> . 1:1(0) ack 1501 win 500"), "{failure}");
    let report = play(&short, Variant::Ipv4, Quirk::DoubleAck, Leftovers::Allow).expect("passes");
    assert_eq!(report.leftovers.len(), 1);
}

#[test]
fn a_call_must_return_when_the_script_says() {
    let early = SERVER.replace("+0...0.2 accept", "+0...0.1 accept");
    let failure = fails(&early, Quirk::None);
    assert!(
        failure.contains("`accept` should have returned at 0.10000"),
        "{failure}"
    );
    let never = "\
        0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0...0.2 accept(3, ..., ...) = 4\n";
    let failure = fails(never, Quirk::None);
    assert!(failure.starts_with("x.pkt:2:"), "{failure}");
    assert!(
        failure.contains("should have returned at 0.20000"),
        "{failure}"
    );
    let unmarked = SERVER.replace("+0...0.2 accept", "+0 accept");
    let failure = fails(&unmarked, Quirk::None);
    assert!(failure.contains("`accept` blocks"), "{failure}");
}

#[test]
fn an_echo_of_a_timestamp_that_never_left_is_refused_unless_scaled() {
    let other = SERVER.replace("TS val 200 ecr 5>", "TS val 200 ecr 7>");
    let failure = fails(&other, Quirk::None);
    assert!(
        failure.contains("no packet left with timestamp 7"),
        "{failure}"
    );
    let scaled = format!("--tcp_ts_ecr_scaled\n{other}");
    play(&scaled, Variant::Ipv4, Quirk::None, Leftovers::Fail).expect("passes");
}

#[test]
fn timestamps_are_checked_when_their_tick_is_known() {
    let ticking = format!("--tcp_ts_tick_usecs=1000\n{SERVER}");
    play(&ticking, Variant::Ipv4, Quirk::None, Leftovers::Fail).expect("passes");
    let failure = fails(
        &ticking.replace(
            "TS val 105 ecr 201>\n   +0 read",
            "TS val 150 ecr 201>\n   +0 read",
        ),
        Quirk::None,
    );
    assert!(
        failure.contains("timestamp: expected 150, actual 105"),
        "{failure}"
    );
}

#[test]
fn a_range_of_time_and_any_time_are_wider() {
    let ranged = SERVER.replace("   +0 > [noecn]", "+0~+.05 > [noecn]");
    play(&ranged, Variant::Ipv4, Quirk::LateAck, Leftovers::Fail).expect("passes");
    let any = SERVER.replace("   +0 > [noecn]", "* > [noecn]");
    play(&any, Variant::Ipv4, Quirk::LateAck, Leftovers::Fail).expect("passes");
}

#[test]
fn an_assertion_fails_at_its_line() {
    let failure = fails(&SERVER.replace("cwnd == 10", "cwnd == 11"), Quirk::None);
    assert!(failure.starts_with("x.pkt:13:"), "{failure}");
    assert!(
        failure.contains("assertion failed: cwnd == 11: 10"),
        "{failure}"
    );
}

#[test]
fn commands_reach_the_kernel_and_a_refused_one_fails() {
    let text = "`sysctl -q net.ipv4.tcp_sack=0`\n0 socket(..., SOCK_STREAM, 0) = 3\n\
                +0 `sysctl -q net.ipv4.tcp_unknown=1 || tc qdisc replace dev tun0 root fq`\n\
                +0 `sysctl -e -q net.ipv4.tcp_unknown=1`";
    let script = Script::parse("x.pkt", text, Variant::Ipv4).expect("reads");
    let mut kernel = Fake::new(Quirk::None);
    run(&script, &mut kernel, Leftovers::Fail).expect("passes");
    assert!(
        kernel
            .settings
            .contains(&Setting::Discipline("fq".to_owned()))
    );
    assert_eq!(kernel.settings.len(), 4);
    let failure = fails("0 `sysctl net.ipv4.tcp_unknown=1`", Quirk::None);
    assert_eq!(
        failure,
        "x.pkt:1:4: `sysctl net.ipv4.tcp_unknown=1`: no such tunable"
    );
}

#[test]
fn what_the_script_gets_wrong_is_told_apart_from_the_stack() {
    for (text, words) in [
        ("0 close(3) = 0", "never opened descriptor 3"),
        (
            "0 socket(..., SOCK_STREAMS, 0) = 3",
            "`SOCK_STREAMS` is no constant",
        ),
        ("0 sockets(1) = 3", "no system call `sockets`"),
        ("0 < . 1:1(0) win 5", "accept"),
    ] {
        let script = Script::parse("x.pkt", text, Variant::Ipv4).expect("reads");
        let outcome = run(&script, &mut Fake::new(Quirk::None), Leftovers::Fail);
        if words == "accept" {
            // A first packet for nobody is allowed: the stack may have to refuse it.
            assert!(outcome.is_ok(), "{outcome:?}");
            continue;
        }
        let Err(crate::RunError::Script(error)) = outcome else {
            panic!("{text}: {outcome:?}")
        };
        assert!(error.message.contains(words), "{error}");
    }
}
