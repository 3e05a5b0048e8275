//! Layers: defaults, the file, drop-ins, the environment; and what is done with the result.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millrace_base::CongestionControl;
use millrace_config::{Config, Leg, Problems, Takes, dataplane_args, diff, load_with, parse};

const MAIN: &str = r#"
[dataplane]
lcores = [1]
mbufs = 2048
[[port]]
name = "front"
device = "net_af_packet0,iface=d0,qdisc_bypass=1"
mac = "02:00:00:00:aa:01"
addresses = ["10.8.0.10/24"]
[snat]
addresses = ["10.8.0.11"]
[[listener]]
name = "web"
address = "10.8.0.100"
ports = "80"
pool = "web"
[[pool]]
name = "web"
[[pool.backend]]
name = "a"
address = "10.8.0.20:80"
"#;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().expect("parent")).expect("folder");
            std::fs::write(file, text).expect("write");
        }
        Self(path)
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, Problems> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: BTreeMap<String, String> = variables.iter().map(owned).collect();
        load_with(&self.0.join("millrace.toml"), variables)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn later_layers_win_key_by_key_and_list_by_list() {
    let folder = Folder::new(
        "layers",
        &[
            ("millrace.toml", MAIN),
            (
                "millrace.d/10-a.toml",
                "[dataplane]\nmbufs = 4096\nidle = \"poll\"\n",
            ),
            (
                "millrace.d/20-b.toml",
                "[dataplane]\nmbufs = 8192\n[snat]\naddresses = [\"10.8.0.12\"]\n",
            ),
            ("millrace.d/notes.txt", "not read"),
        ],
    );
    let config = folder.load(&[]).expect("valid");
    assert_eq!(config.dataplane.mbufs, 8_192);
    assert_eq!(config.dataplane.idle.word(), "poll");
    assert_eq!(config.dataplane.lcores, [1]);
    assert_eq!(config.snat.addresses.len(), 1);
    assert_eq!(config.snat.addresses[0].address.to_string(), "10.8.0.12");

    let variables = [
        ("MILLRACE__DATAPLANE__LCORES", "2,3"),
        ("MILLRACE__DATAPLANE__MBUFS", "1024"),
        ("MILLRACE__RUNTIME_DIR", "/run/other"),
        ("MILLRACE__METRICS__LISTEN", "off"),
        ("MILLRACE_BLESS", "not ours"),
        ("PATH", "/bin"),
    ];
    let config = folder.load(&variables).expect("valid");
    assert_eq!(config.dataplane.lcores, [2, 3]);
    assert_eq!(config.dataplane.mbufs, 1_024);
    assert_eq!(config.runtime_dir, PathBuf::from("/run/other"));
    assert_eq!(config.metrics, None);
}

#[test]
fn a_mistake_is_reported_in_the_layer_that_made_it() {
    let folder = Folder::new(
        "mistakes",
        &[
            ("millrace.toml", MAIN),
            (
                "millrace.d/10-a.toml",
                "\n[dataplane]\nmbufs = true\n[snat]\naddresses = [\"10.7.0.1\"]\n",
            ),
        ],
    );
    let variables = [
        ("MILLRACE__DATAPLANE__LCORES", "one"),
        ("MILLRACE__DATAPLANE__LCORE", "1"),
        ("MILLRACE__LISTENER__NAME", "x"),
    ];
    let problems = folder.load(&variables).expect_err("mistakes");
    let shown = problems
        .to_string()
        .replace(&format!("{}/", folder.0.display()), "");
    assert_eq!(
        shown,
        "millrace.d/10-a.toml:3: \"dataplane.mbufs\" must be a whole number, not true or false\n\
         millrace.d/10-a.toml:5: source address 10.7.0.1 is in no network of any port\n  \
         hint: the networks are 10.8.0.0/24\n\
         environment variable MILLRACE__DATAPLANE__LCORE: unknown key \"lcore\" in [dataplane]\n  \
         hint: did you mean \"lcores\"?\n\
         environment variable MILLRACE__DATAPLANE__LCORES: \"dataplane.lcores\" must be whole \
         numbers with commas between them, not \"one\"\n\
         environment variable MILLRACE__LISTENER__NAME: unknown key \"name\" in [listener]\n  \
         hint: single keys of plain tables can be set, lists of tables only in files"
    );
}

#[test]
fn a_missing_file_is_one_problem() {
    let folder = Folder::new("missing", &[]);
    let problems = folder.load(&[]).expect_err("no file");
    assert_eq!(problems.0.len(), 1);
    assert!(
        problems.to_string().contains("cannot be read"),
        "{problems}"
    );
}

#[test]
fn the_dataplane_is_started_with_one_argument_a_line() {
    let config = parse(
        "f",
        &MAIN.replace(
            "lcores = [1]",
            "lcores = [0]\nmemory = \"no-huge\"\nmemory_mb = 512\neal_args = [\"--no-pci\"]",
        ),
    )
    .expect("valid");
    assert_eq!(
        dataplane_args(&config),
        [
            "--runtime-dir=/run/millrace",
            "--lcores=0",
            "--mbufs=2048",
            "--mbuf-bytes=2176",
            "--memory=no-huge:512",
            "--file-prefix=millrace",
            "--connections-max=65536",
            "--idle=sleep",
            "--rss=auto",
            "--rss-selftest-ms=500",
            "--snat-pairs=64",
            "--log-level=info",
            "--log-format=text",
            "--port=name=front;device=net_af_packet0,iface=d0,qdisc_bypass=1;mac=02:00:00:00:aa:01;mtu=1500",
            "--eal-arg=--no-pci",
        ]
    );
}

#[test]
fn an_rss_key_is_passed_on_when_it_is_one() {
    let with = |key: &str| {
        let line = format!("lcores = [0]\nrss_key = \"{key}\"");
        parse("f", &MAIN.replace("lcores = [1]", &line))
    };
    let key = "6d:5a".repeat(20);
    let args = dataplane_args(&with(&key).expect("40 bytes"));
    assert!(args.contains(&format!("--rss-key={key}")));
    assert!(with("6d5a").is_err());
}

#[test]
fn changes_are_named_and_say_what_they_take() {
    let old = parse("old", MAIN).expect("valid");
    let text = MAIN
        .replace("mbufs = 2048", "mbufs = 4096")
        .replace("ports = \"80\"", "ports = \"80-81\"")
        .replace("name = \"a\"", "name = \"b\"")
        .replace("10.8.0.10/24", "10.8.0.9/24")
        + "[metrics]\nlisten = \"off\"\n";
    let new = parse("new", &text).expect("valid");
    let changes = diff(&old, &new);
    let shown: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "dataplane: mbufs 2048 -> 4096 (needs a restart of the dataplane)",
            "listener web: ports 80 -> 80-81",
            "metrics: listen 127.0.0.1:9464 -> off (needs a restart of control)",
            "pool web backend a: removed",
            "port 0: addresses 10.8.0.10/24 -> 10.8.0.9/24",
            "pool web backend b: added",
        ]
    );
    let restart = |change: &&millrace_config::Change| change.takes == Takes::DataplaneRestart;
    assert_eq!(changes.iter().filter(restart).count(), 1);
}

/// `MAIN` with lines about congestion control: of `[tcp]`, the listener and the pool.
fn with_congestion(tcp: &str, listener: &str, pool: &str) -> Config {
    let line = |name: &str| match name {
        "" => String::new(),
        name => format!("congestion_control = \"{name}\"\n"),
    };
    let mut text = MAIN
        .replace(
            "pool = \"web\"\n",
            &format!("pool = \"web\"\n{}", line(listener)),
        )
        .replace("[[pool]]\n", &format!("[[pool]]\n{}", line(pool)));
    if !tcp.is_empty() {
        text += &format!("[tcp]\n{}", line(tcp));
    }
    parse("f", &text).expect("valid")
}

/// What counts for the clients and for the backends.
fn both_legs(config: &Config) -> [&'static str; 2] {
    [config.listeners[0].leg, config.pools[0].leg]
        .map(|leg| leg.over(config.tcp).congestion_control.name())
}

// The default is the dataplane's: whoever says nothing gets what it would do by itself.
#[test]
fn a_listener_and_a_pool_choose_their_congestion_control_or_take_the_common_one() {
    let plain = with_congestion("", "", "");
    assert_eq!(plain.tcp.congestion_control, CongestionControl::default());
    assert_eq!(plain.listeners[0].leg, Leg::default());
    assert_eq!(both_legs(&plain), ["cubic", "cubic"]);
    assert_eq!(
        both_legs(&with_congestion("reno", "", "")),
        ["reno", "reno"]
    );
    for name in CongestionControl::NAMES {
        assert_eq!(both_legs(&with_congestion("", name, "")), [name, "cubic"]);
        assert_eq!(both_legs(&with_congestion("", "", name)), ["cubic", name]);
        assert_eq!(
            both_legs(&with_congestion("reno", name, "")),
            [name, "reno"]
        );
    }
}

#[test]
fn a_change_of_congestion_control_is_named_where_it_was_made_and_is_live() {
    let old = with_congestion("", "reno", "");
    let new = with_congestion("reno", "cubic", "reno");
    let changes = diff(&old, &new);
    let shown: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "listener web: congestion_control reno -> cubic",
            "pool web: congestion_control (unset) -> reno",
            "tcp: congestion_control cubic -> reno",
        ]
    );
    assert!(changes.iter().all(|change| change.takes == Takes::Reload));
}
