//! The parser against whole scripts: own samples, and the public suite where it is at hand.

use std::fs;
use std::path::PathBuf;

use crate::folders::{below_manifest, public, scripts};
use millrace_script::{Script, Variant};

fn errors(paths: &[PathBuf]) -> Vec<String> {
    let mut errors = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).expect("a script");
        let name = path.display().to_string();
        for variant in Variant::ALL {
            errors.extend(
                Script::parse(&name, &text, variant)
                    .err()
                    .map(|error| error.to_string()),
            );
        }
    }
    errors
}

#[test]
fn every_public_script_is_read_in_every_variant() {
    let Some(folder) = public() else { return };
    let paths = scripts(&folder);
    assert!(
        paths.len() >= 90,
        "only {} scripts in {}",
        paths.len(),
        folder.display()
    );
    let errors = errors(&paths);
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn every_own_sample_is_read_in_every_variant() {
    let paths = scripts(&below_manifest("tests/samples"));
    assert!(!paths.is_empty());
    let errors = errors(&paths);
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// A text and the place and words of its error.
const MISTAKES: &[(&str, &str)] = &[
    ("", "x.pkt:1:1: expected an event"),
    (
        "0 socket(..., SOCK_STREAM) 3",
        "x.pkt:1:28: expected `=` before the call's result, found `3`",
    ),
    (
        "0 < S 0:0(1) win 5",
        "x.pkt:1:7: 0 and 1 bytes end at 1, not 0",
    ),
    (
        "0 < S 0:0(0)",
        "x.pkt:1:13: expected `win` in a packet that is sent in, found the end of the script",
    ),
    (
        "0 > S 0:0(0) <mss 1460,nop>",
        "x.pkt:1:14: 5 bytes of options: pad them with nop to a multiple of 4",
    ),
    (
        "0 > S 0:0(0) <mss 70000>",
        "x.pkt:1:19: expected a segment size between 0 and 65535, found `70000`",
    ),
    (
        "0 > SX 0:0(0)",
        "x.pkt:1:5: expected TCP flags, of F S R P U A W E and a last `.`, or `-` for none, found `SX`",
    ),
    (
        "\n\n 0~1 close(3) = 0",
        "x.pkt:3:2: only an outbound packet may have `*` or a range of time",
    ),
    (
        "+0~+-1 > . 1:1(0)",
        "x.pkt:1:5: -1 is no time between 0 s and a week",
    ),
    (
        "0...0.1 2",
        "x.pkt:1:9: expected the name of a system call, found `2`",
    ),
    (
        "0 `reboot`",
        "x.pkt:1:4: no known form of command: `reboot`",
    ),
    (
        "0 %{ assert 1 == }%",
        "x.pkt:1:18: expected a number, a name, a string or `(`, found the end of the line",
    ),
    (
        "--speed_of_light=3\n0 close(3) = 0",
        "x.pkt:1:1: no option `--speed_of_light`",
    ),
    (
        "--ip_version=ipv6\n0 close(3) = 0",
        "x.pkt:1:1: this script is for ipv6, the run is ipv4",
    ),
    (
        "0 > udp (100)",
        "x.pkt:1:5: expected TCP flags or `icmp` (encapsulation and UDP are not read), found `udp`",
    ),
    (
        "0 close(3) = 0\n`true`\n+0 close(3) = 0",
        "x.pkt:3:1: expected the end of the script after the last command, found `+`",
    ),
];

#[test]
fn a_mistake_is_named_with_its_place_and_what_was_expected() {
    for (text, expected) in MISTAKES {
        let error = Script::parse("x.pkt", text, Variant::Ipv4)
            .expect_err(text)
            .to_string();
        assert!(
            error.starts_with(expected),
            "{text:?}\n  expected: {expected}\n    actual: {error}"
        );
    }
}

#[test]
fn addresses_of_another_family_leave_the_variants_own() {
    let text = "--local_ip=192.168.0.7\n--remote_ip=10.0.0.1\n0 close(3) = 0";
    let network = |variant| {
        Script::parse("x.pkt", text, variant)
            .expect("reads")
            .network()
            .clone()
    };
    assert_eq!(network(Variant::Ipv4).local.to_string(), "192.168.0.7");
    assert_eq!(network(Variant::Mapped).remote.to_string(), "10.0.0.1");
    assert!(network(Variant::Ipv6).local.is_ipv6());
    // An IPv6 header has 20 bytes more: segments are as long as on IPv4.
    assert_eq!(network(Variant::Ipv6).mtu, network(Variant::Ipv4).mtu + 20);
}
