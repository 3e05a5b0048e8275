//! A dataplane played by the test, over a real region, and the real binary as control.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant as Wall};

use millrace_abi::{
    Command, CounterKind, CounterSpec, Event, LcoreHandle, LcoreInfo, LcoreState, Name, PortInfo,
    ProbeOutcome, Region, RegionConfig, Tables,
};
use millrace_api::{Answer, Outcome, Request, RequestEnvelope, ResponseEnvelope};
use millrace_base::{Endpoint, LcoreIndex, PortId};

/// Our address on port 0.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0xaa, 1];
const PATIENCE: Duration = Duration::from_secs(10);

/// A runtime directory with a configuration; removed at the end.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) metrics_port: u16,
}

/// The lcores as the test plays them.
pub(crate) struct Dataplane {
    pub(crate) region: Region,
    pub(crate) lcores: Vec<LcoreHandle>,
    /// The tables each lcore has adopted last, newest at the end; one entry a publication.
    pub(crate) adopted: Vec<Box<Tables>>,
    /// Commands received, with their lcore.
    pub(crate) commands: Vec<(usize, Command)>,
    /// Frames to be sent, with their port.
    pub(crate) sent: Vec<(PortId, Vec<u8>)>,
    /// Backends that do not answer probes.
    pub(crate) broken: Vec<Endpoint>,
    beat: u64,
}

/// A running control; killed at the end.
pub(crate) struct Control {
    pub(crate) child: Child,
    socket: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("millrace-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("folder");
        // Free now; a race with another process is possible and has not been seen.
        let metrics_port = TcpListener::bind("127.0.0.1:0")
            .expect("bind")
            .local_addr()
            .expect("bound")
            .port();
        let place = Self {
            directory,
            metrics_port,
        };
        place.configure(|text| text);
        place
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("millrace.toml")
    }

    /// Writes the configuration, changed by `edit`.
    pub(crate) fn configure(&self, edit: impl FnOnce(String) -> String) {
        let text = format!(
            r#"runtime_dir = "{}"
[[port]]
name = "front"
device = "net_null0"
addresses = ["10.8.0.10/24", "fd00:8::10/64"]
[[route]]
to = "0.0.0.0/0"
via = "10.8.0.1"
[snat]
addresses = ["10.8.0.11"]
[[listener]]
name = "web"
address = "10.8.0.100"
ports = "80"
pool = "web"
[[pool]]
name = "web"
health = {{ interval_ms = 50, timeout_ms = 40, rise = 2, fall = 2 }}
[[pool.backend]]
name = "a"
address = "10.8.0.20:80"
[[pool.backend]]
name = "b"
address = "10.8.0.21:80"
[metrics]
listen = "127.0.0.1:{}"
"#,
            self.directory.display(),
            self.metrics_port
        );
        std::fs::write(self.config(), edit(text)).expect("write");
    }

    pub(crate) fn control(&self) -> Control {
        let child = Process::new(env!("CARGO_BIN_EXE_millrace-control"))
            .arg("--config")
            .arg(self.config())
            .stderr(if std::env::var_os("MILLRACE_TEST_LOG").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .expect("starts");
        Control {
            child,
            socket: self.directory.join("control.sock"),
        }
    }

    /// The status line and the body of an HTTP answer.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics_port)).expect("connect");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
        )
        .expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head");
        (
            head.lines().next().expect("status").to_owned(),
            body.to_owned(),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Dataplane {
    pub(crate) fn start(directory: &Path, lcores: u16) -> Self {
        let port = PortInfo {
            name: Name::new("front"),
            driver: Name::new("net_null"),
            mac: MAC,
            mtu: 1_500,
            queues: lcores,
            ..PortInfo::default()
        };
        let infos = vec![
            LcoreInfo {
                cpu: 1,
                numa_node: 0,
                tsc_hz: 1_000_000_000
            };
            usize::from(lcores)
        ];
        let counter = |name, help| CounterSpec {
            name,
            help,
            kind: CounterKind::Counter,
        };
        let counters = [
            counter("TcpInSegs", "Segments received."),
            counter("drop_tcp_checksum", "The TCP checksum is wrong."),
            counter("drop_ip_version", "The IP version is wrong."),
        ];
        let config = RegionConfig {
            lcores: &infos,
            ports: &[port],
            counters: &counters,
        };
        let region = Region::create(&directory.join("region"), config).expect("region");
        let lcores = (0..lcores).map(|lcore| region.lcore(LcoreIndex::new(lcore)).expect("lcore"));
        Self {
            lcores: lcores.collect(),
            region,
            adopted: Vec::new(),
            commands: Vec::new(),
            sent: Vec::new(),
            broken: Vec::new(),
            beat: 0,
        }
    }

    /// What lcores do: adopt, obey, answer probes.
    pub(crate) fn pump(&mut self) {
        self.beat += 1;
        for (index, lcore) in self.lcores.iter_mut().enumerate() {
            lcore.status.set(&LcoreState {
                heartbeat_nanos: self.beat,
                busy_cycles: self.beat * 100,
                idle_cycles: self.beat * 300,
                tsc_hz: 1_000_000_000,
                phase: 1,
                ..LcoreState::default()
            });
            if let Some(tables) = lcore.tables.poll() {
                if index == 0 {
                    self.adopted.push(Box::new(*tables));
                }
                lcore.tables.acknowledge();
            }
            while let Some(command) = lcore.commands.pop() {
                if let Command::Probe { token, target, .. } = command {
                    let broken = self.broken.contains(&target);
                    let outcome = if broken {
                        ProbeOutcome::Refused
                    } else {
                        ProbeOutcome::Connected
                    };
                    let result = Event::ProbeResult {
                        token,
                        outcome,
                        rtt_us: 120,
                    };
                    lcore.events.push(&result).expect("room");
                }
                self.commands.push((index, command));
            }
            while let Some(frame) = lcore.inject.pop(|port, _, bytes| (port, bytes.to_vec())) {
                self.sent.push(frame);
            }
        }
    }

    /// Pumps until the condition holds.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let start = Wall::now();
        loop {
            self.pump();
            if condition(self) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Pumps for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let start = Wall::now();
        while start.elapsed() < time {
            self.pump();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn tables(&self) -> &Tables {
        self.adopted.last().expect("adopted")
    }
}

impl Control {
    /// Asks over the socket, waiting for it to appear.
    pub(crate) fn ask(&self, request: Request) -> Outcome {
        let line = RequestEnvelope::new(request).to_line().expect("serializes");
        ResponseEnvelope::from_line(&self.say(&line))
            .expect("an envelope")
            .result
    }

    /// Sends raw bytes and hands back one line.
    pub(crate) fn say(&self, text: &str) -> String {
        let start = Wall::now();
        let stream = loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < PATIENCE, "no socket: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        (&stream).write_all(text.as_bytes()).expect("write");
        let mut answer = String::new();
        BufReader::new(&stream)
            .read_line(&mut answer)
            .expect("read");
        answer
    }

    /// The answer of a request that must succeed.
    pub(crate) fn answer(&self, request: Request) -> Answer {
        match self.ask(request.clone()) {
            Outcome::Ok(answer) => answer,
            Outcome::Error(failure) => panic!("{request:?}: {failure:?}"),
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Process::new("kill")
            .arg(format!("-{name}"))
            .arg(pid)
            .status();
        assert!(status.expect("kill").success());
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
