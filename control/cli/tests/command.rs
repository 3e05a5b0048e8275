//! The command as an operator meets it: output, errors and exit codes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn millrace(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(args)
        .output()
        .expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("millrace-cli-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("folder");
    path
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf/millrace.toml");
    path.to_str().expect("text").to_owned()
}

#[test]
fn check_accepts_the_example_and_lists_mistakes_with_exit_code_2() {
    let good = millrace(&["check", &example()]);
    assert_eq!(good.status.code(), Some(0));
    assert!(text(&good.stdout).contains("no mistakes; 1 ports, 1 listeners"));

    let folder = temporary("check");
    let file = folder.join("bad.toml");
    let broken = std::fs::read_to_string(example()).expect("file");
    let broken = broken
        .replace("pool = \"web\"", "pool = \"wbe\"")
        .replace("10.8.0.21:80", "10.8.0.21");
    std::fs::write(&file, broken).expect("write");
    let file = file.to_str().expect("text");
    let bad = millrace(&["check", file]);
    assert_eq!(bad.status.code(), Some(2));
    let shown = text(&bad.stderr);
    assert!(
        shown.contains(":28: there is no pool \"wbe\"\n  hint: did you mean \"web\"?"),
        "{shown}"
    );
    assert!(
        shown.contains("\"10.8.0.21\" is not an address and a port"),
        "{shown}"
    );
    assert!(shown.ends_with("2 mistakes\n"), "{shown}");

    let json = millrace(&["check", file, "--json"]);
    assert_eq!(json.status.code(), Some(2));
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(value["problems"][0]["line"], 28);
    assert_eq!(value["problems"][0]["hint"], "did you mean \"web\"?");
    std::fs::remove_dir_all(folder).expect("remove");
}

#[test]
fn dataplane_args_are_one_a_line_and_fail_with_the_configuration() {
    let out = millrace(&["dataplane-args", "--config", &example()]);
    assert_eq!(out.status.code(), Some(0));
    let lines: Vec<String> = text(&out.stdout).lines().map(str::to_owned).collect();
    assert!(lines.iter().all(|line| line.starts_with("--")), "{lines:?}");
    assert!(
        lines.contains(&"--port=name=front;device=net_af_packet0,iface=eth1;mtu=1500".to_owned())
    );
    let out = millrace(&["dataplane-args", "--config", "/nowhere/millrace.toml"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("cannot be read"));
}

#[test]
fn without_control_the_error_says_what_to_do() {
    let folder = temporary("absent");
    let out = millrace(&[
        "show",
        "ports",
        "--runtime-dir",
        folder.to_str().expect("text"),
    ]);
    assert_eq!(out.status.code(), Some(3));
    let shown = text(&out.stderr);
    assert!(
        shown.contains("millrace-control does not run here"),
        "{shown}"
    );
    assert!(shown.contains("hint: start millrace-control"), "{shown}");
    std::fs::remove_dir_all(folder).expect("remove");
}

/// Answers one request with this line and hands back what was asked.
fn serve_once(socket: &Path, answer: &'static str) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).expect("bind");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accept");
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).expect("read");
        (&stream).write_all(answer.as_bytes()).expect("write");
        asked
    })
}

#[test]
fn netstat_shows_the_counters_of_the_mib_and_no_others() {
    const COUNTERS: &str = "{\"version\":1,\"result\":{\"ok\":{\"counters\":[\
                            {\"name\":\"millrace_rx_frames_total\",\"lcores\":[9],\"help\":\"f\",\"total\":9},\
                            {\"name\":\"TcpExtTCPTimeouts\",\"lcores\":[4],\"help\":\"t\",\"total\":4}]}}}\n";
    let folder = temporary("netstat");
    let socket = folder.join("control.sock");
    let server = serve_once(&socket, COUNTERS);
    let out = millrace(&[
        "show",
        "netstat",
        "--runtime-dir",
        folder.to_str().expect("text"),
    ]);
    assert_eq!(
        text(&out.stdout),
        "VALUE  COUNTER            MEANING\n    4  TcpExtTCPTimeouts  t\n"
    );
    let asked = server.join().expect("server");
    assert_eq!(
        asked,
        "{\"version\":1,\"request\":{\"show\":\"counters\"}}\n"
    );
    std::fs::remove_dir_all(folder).expect("remove");
}

// behaviour: QDS-3, NIC-2, NIC-24
#[test]
fn addresses_are_shown_as_ip_address_shows_links() {
    const PORT: &str = "\"vlan\":null,\"rss_test\":\"untested\",\"rx_mode\":\"\",\"tx_mode\":\"\",\
                        \"ipackets\":0,\"opackets\":0,\"ibytes\":0,\"obytes\":0,\"imissed\":0,\
                        \"ierrors\":0,\"oerrors\":0";
    let port = |number: u8, name: &str, rest: &str| {
        format!(
            "{{\"port\":{number},\"name\":\"{name}\",\"driver\":\"net_ixgbe\",\
             \"mac\":\"02:00:00:00:aa:0{number}\",\"queues\":4,{rest},{PORT}}}"
        )
    };
    let up = "\"mtu\":1400,\"link_up\":true,\"link_mbps\":10000,\
              \"addresses\":[\"10.173.32.47/21\",\"fd00::1/64\"]";
    let down = "\"mtu\":9000,\"link_up\":false,\"link_mbps\":0,\"addresses\":[]";
    let rows = [port(0, "front", up), port(1, "back", down)].join(",");
    let answer = format!("{{\"version\":1,\"result\":{{\"ok\":{{\"ports\":[{rows}]}}}}}}\n");
    let folder = temporary("addresses");
    let server = serve_once(&folder.join("control.sock"), answer.leak());
    let out = millrace(&[
        "show",
        "addresses",
        "--runtime-dir",
        folder.to_str().expect("text"),
    ]);
    let asked = server.join().expect("server");
    assert_eq!(asked, "{\"version\":1,\"request\":{\"show\":\"ports\"}}\n");
    assert_eq!(
        text(&out.stdout),
        "0: front: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400 driver net_ixgbe queues 4 state UP\n\
         \x20   link/ether 02:00:00:00:aa:00 speed 10000Mb/s\n\
         \x20   inet 10.173.32.47/21\n\
         \x20   inet6 fd00::1/64\n\
         1: back: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 9000 driver net_ixgbe queues 4 state DOWN\n\
         \x20   link/ether 02:00:00:00:aa:01\n"
    );
    std::fs::remove_dir_all(folder).expect("remove");
}

// behaviour: RTE-2, RTE-6, RTE-7
#[test]
fn answers_are_tables_or_the_rows_as_json() {
    const ROUTES: &str = "{\"version\":1,\"result\":{\"ok\":{\"routes\":[{\"to\":\"0.0.0.0/0\",\"via\":\"10.8.0.1\",\
                          \"port\":\"front\",\"mtu\":1500,\"source\":\"config\"}]}}}\n";
    let folder = temporary("tables");
    let socket = folder.join("control.sock");
    let server = serve_once(&socket, ROUTES);
    let folder_text = folder.to_str().expect("text");
    let out = millrace(&["show", "routes", "--runtime-dir", folder_text]);
    assert_eq!(
        text(&out.stdout),
        "TO         VIA       PORT    MTU  SOURCE\n0.0.0.0/0  10.8.0.1  front  1500  config\n"
    );
    let asked = server.join().expect("server");
    assert_eq!(asked, "{\"version\":1,\"request\":{\"show\":\"routes\"}}\n");

    std::fs::remove_file(&socket).expect("remove");
    let server = serve_once(&socket, ROUTES);
    let out = millrace(&[
        "--json",
        "show",
        "routes",
        "--socket",
        socket.to_str().expect("text"),
    ]);
    let value: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(value[0]["via"], "10.8.0.1");
    server.join().expect("server");

    std::fs::remove_file(&socket).expect("remove");
    const REFUSED: &str =
        "{\"version\":1,\"result\":{\"error\":{\"kind\":\"config\",\"message\":\"f:3: wrong\"}}}\n";
    let server = serve_once(&socket, REFUSED);
    let out = millrace(&["reload", "--runtime-dir", folder_text]);
    assert_eq!(
        (out.status.code(), text(&out.stderr)),
        (Some(2), "f:3: wrong\n".to_owned())
    );
    server.join().expect("server");
    std::fs::remove_dir_all(folder).expect("remove");
}
