//! The commands of the public scripts, in small.

use super::{Command, Runs, parse};
use crate::fault::Position;
use crate::kernel::Setting;

const AT: Position = Position { line: 3, column: 1 };

fn read(text: &str) -> Vec<Command> {
    parse(text, AT).expect("known forms")
}

fn tunable(name: &str, value: &str) -> Setting {
    Setting::Tunable {
        name: name.to_owned(),
        value: value.to_owned(),
        is_optional: false,
    }
}

#[test]
fn a_quoted_value_and_a_continued_line_are_one_assignment_each() {
    let text = "../common/set_sysctls.py /proc/sys/net/ipv4/tcp_wmem=\"4096 50000 4194304\" \\\n  \
                /proc/sys/net/ipv4/tcp_timestamps=0\\\n\\\n";
    let commands = read(text);
    assert_eq!(commands.len(), 1);
    assert_eq!(
        commands[0].settings,
        [
            tunable("net.ipv4.tcp_wmem", "4096 50000 4194304"),
            tunable("net.ipv4.tcp_timestamps", "0")
        ]
    );
}

#[test]
fn slashes_and_dots_name_the_same_tunable_and_comments_end_a_line() {
    let commands = read("sysctl -q net/ipv4/tcp_ecn=2  # agree\n\nsysctl -e -q net.ipv4.tcp_ecn=1");
    assert_eq!(commands[0].settings, [tunable("net.ipv4.tcp_ecn", "2")]);
    let optional = Setting::Tunable {
        name: "net.ipv4.tcp_ecn".to_owned(),
        value: "1".to_owned(),
        is_optional: true,
    };
    assert_eq!(commands[1].settings, [optional]);
    assert_eq!((commands[1].at.line, commands[1].at.column), (5, 1));
}

#[test]
fn the_right_side_of_two_bars_runs_after_a_failure() {
    let commands =
        read("sysctl -q net.ipv4.x=0 &> /dev/null ||\\\n ip tcp_metrics flush all &> /dev/null");
    let found: Vec<_> = commands
        .iter()
        .map(|command| (command.runs, &command.settings[0]))
        .collect();
    let (first, second) = (tunable("net.ipv4.x", "0"), Setting::FlushMetrics);
    assert_eq!(
        found,
        [(Runs::Always, &first), (Runs::AfterFailure, &second)]
    );
}

#[test]
fn questions_are_pipelines() {
    let commands = read("grep \" 0A \" /proc/net/tcp /proc/net/tcp6 | grep \":1F90\"");
    assert_eq!(commands[0].settings, [Setting::HasListener(8_080)]);
    let commands = read("nstat > /dev/null; nstat | grep TcpExtOutOfWindowIcmps > /dev/null");
    assert_eq!(commands[0].settings, [Setting::MarkCounters]);
    assert_eq!(
        commands[1].settings,
        [Setting::HasGrown("TcpExtOutOfWindowIcmps".to_owned())]
    );
}

#[test]
fn routes_offloads_and_files_are_understood() {
    let commands = read(
        "ip route change 192.0.2.1 via 192.168.0.2 dev tun0 advmss 600 mtu lock 640 initcwnd 11\n\
         ethtool -K tun0 gso off\ndd bs=1 count=5 if=/dev/zero of=/x status=none\n\
         echo 3 > /sys/module/tcp_cubic/parameters/hystart_detect",
    );
    let route = Setting::Route {
        advertised_mss: Some(600),
        mtu: Some(640),
        is_mtu_locked: true,
        initial_window: Some(11),
        initial_receive_window: None,
        rto_min_ms: None,
        window: None,
        is_quick_ack: false,
        is_ecn: false,
    };
    assert_eq!(commands[0].settings, [route]);
    let offload = Setting::Offload {
        feature: "gso".to_owned(),
        is_on: false,
    };
    assert_eq!(commands[1].settings, [offload]);
    assert_eq!(
        commands[2].settings,
        [Setting::WriteFile {
            path: "/x".to_owned(),
            bytes: 5
        }]
    );
    let parameter = Setting::ModuleParameter {
        module: "tcp_cubic".to_owned(),
        name: "hystart_detect".to_owned(),
        value: "3".to_owned(),
    };
    assert_eq!(commands[3].settings, [parameter]);
}

#[test]
fn an_unknown_command_is_a_fault_at_its_line() {
    let fault =
        parse("sysctl -q net.ipv4.tcp_ecn=1\n  rm -rf /tmp/x | sh", AT).expect_err("unknown");
    assert_eq!((fault.at.line, fault.at.column), (4, 3));
    assert!(
        fault.message.contains("rm -rf /tmp/x | sh"),
        "{}",
        fault.message
    );
    let fault = parse("reboot", AT).expect_err("unknown");
    assert_eq!(fault.message, "no known form of command: `reboot`");
}
