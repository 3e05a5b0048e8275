//! Two hosts and a wire that may lose, repeat, hold back and damage packets: what is read is what
//! was written, in order; a connection that nobody ended delivers everything once the wire is well;
//! in the end nothing is left.

use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use millrace_base::{Address, Instant, Nanos};
use millrace_socket::linux::{AF_INET, AF_INET6, SOCK_NONBLOCK, SOCK_STREAM};
use millrace_socket::{Call, HostConfig, Progress, Reply, SocketAddress, Sockets};
use millrace_stack::TcpTunables;

/// Steps of one input.
const STEPS_MAX: usize = 150;
const PORT: u16 = 80;
/// One way through the wire.
const DELAY: Nanos = Nanos::from_millis(5);
/// How long the ends may take to deliver what is under way once the wire is well: the longest
/// timeout and some rounds.
const HEALING: Nanos = Nanos::from_secs(300);
/// Longer than any timer.
const FOR_EVER: Nanos = Nanos::from_secs(100_000);

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Step {
    Write { by: bool, bytes: u16 },
    Read { by: bool, bytes: u16 },
    ShutDown { by: bool },
    Wait { ms: u16 },
    Wire { from: bool, fault: Fault },
    Option { by: bool, name: u8, value: i16 },
}

/// What happens to the next packet of a direction.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Fault {
    Lose,
    Repeat,
    HoldBack { ms: u8 },
    Damage { place: u8, bit: u8 },
}

/// One end and what is known of its stream.
struct End {
    host: Sockets,
    fd: Option<i32>,
    written: u64,
    /// Bytes this end has read of the other's.
    read: u64,
    shut: bool,
    saw_end: bool,
    broken: bool,
    faults: VecDeque<Fault>,
    wire: Vec<(Instant, Vec<u8>)>,
}

struct World {
    now: Instant,
    ends: [End; 2],
    listener: i32,
}

/// Plays `data` as steps.
pub(crate) fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let knobs = input.arbitrary().unwrap_or_default();
    let mut world = World::new(knobs);
    world.open(knobs & 1 != 0);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else {
            break;
        };
        world.play(step);
    }
    world.heal();
    world.end();
}

/// The byte at `place` of the stream that `from` writes.
fn byte(from: usize, place: u64) -> u8 {
    (place.wrapping_mul(31) >> 3) as u8 ^ (place as u8) ^ from as u8
}

fn addresses(number: u8) -> [(Address, u8); 2] {
    [
        (Address::v4([10, 0, 0, number]), 24),
        (
            Address::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]),
            64,
        ),
    ]
}

impl End {
    fn new(number: u8, knobs: u8) -> Self {
        let tcp = TcpTunables {
            tcp_timestamps: knobs & 2 == 0,
            tcp_sack: knobs & 4 == 0,
            tcp_window_scaling: knobs & 8 == 0,
            tcp_rmem: if knobs & 16 == 0 {
                TcpTunables::default().tcp_rmem
            } else {
                [4_096, 16_384]
            },
            ..TcpTunables::default()
        };
        Self {
            host: Sockets::new(HostConfig {
                addresses: addresses(number).to_vec(),
                connections_max: 16,
                buffers_max: 4_096,
                secret: [number; 32],
                tcp,
                ..HostConfig::default()
            }),
            fd: None,
            written: 0,
            read: 0,
            shut: false,
            saw_end: false,
            broken: false,
            faults: VecDeque::new(),
            wire: Vec::new(),
        }
    }

    fn call(&mut self, now: Instant, call: Call) -> Option<Reply> {
        match self.host.start(now, call) {
            Progress::Ready(result) => result.ok(),
            Progress::Pending(_) => None,
        }
    }
}

impl World {
    fn new(knobs: u8) -> Self {
        Self {
            now: Instant::from_millis(1_000),
            ends: [End::new(1, knobs), End::new(2, knobs)],
            listener: -1,
        }
    }

    /// End 0 connects to end 1; the wire is well so far.
    fn open(&mut self, v6: bool) {
        let family = if v6 { AF_INET6 } else { AF_INET };
        let there = match v6 {
            true => SocketAddress::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], PORT),
            false => SocketAddress::v4([10, 0, 0, 2], PORT),
        };
        let now = self.now;
        let [client, server] = &mut self.ends;
        let kind = SOCK_STREAM | SOCK_NONBLOCK;
        self.listener = server.host.socket(family, kind, 0).expect("a descriptor");
        let bound = server.host.bind(now, self.listener, there);
        bound.expect("a free port");
        let listens = server.host.listen(now, self.listener, 4);
        listens.expect("bound");
        let fd = client.host.socket(family, kind, 0).expect("a descriptor");
        client.fd = Some(fd);
        let _ = client.call(now, Call::Connect { fd, address: there });
        self.wait(Nanos::from_millis(100));
        let (fd, flags) = (self.listener, SOCK_NONBLOCK);
        let accepted = self.ends[1].call(self.now, Call::Accept { fd, flags });
        let Some(Reply::Accepted { fd, .. }) = accepted else {
            panic!("a good wire, and no connection: {accepted:?}");
        };
        self.ends[1].fd = Some(fd);
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Write { by, bytes } => self.write(usize::from(by), bytes.into()),
            Step::Read { by, bytes } => {
                self.read(usize::from(by), bytes.into());
            }
            Step::ShutDown { by } => {
                let end = &mut self.ends[usize::from(by)];
                if let Some(fd) = end.fd {
                    let _ = end.host.shutdown(self.now, fd, 1);
                    end.shut = true;
                }
            }
            Step::Wait { ms } => self.wait(Nanos::from_millis(ms.into())),
            Step::Wire { from, fault } => self.ends[usize::from(from)].faults.push_back(fault),
            Step::Option { by, name, value } => {
                // Options of TCP that do not end a connection by themselves.
                let name = [1, 3, 10, 12, 15][usize::from(name) % 5];
                let end = &mut self.ends[usize::from(by)];
                if let Some(fd) = end.fd {
                    let value = i32::from(value).to_ne_bytes();
                    let _ = end.host.setsockopt(self.now, fd, 6, name, &value);
                }
            }
        }
        self.collect();
    }

    fn write(&mut self, by: usize, bytes: u64) {
        let end = &mut self.ends[by];
        let (Some(fd), false) = (end.fd, end.shut) else {
            return;
        };
        let data = (end.written..end.written + bytes).map(|place| byte(by, place));
        let call = Call::Write {
            fd,
            data: data.collect(),
        };
        if let Some(Reply::Count(count)) = end.call(self.now, call) {
            end.written += count as u64;
        }
    }

    /// Reads and compares; whether anything came.
    fn read(&mut self, by: usize, len: usize) -> bool {
        let end = &mut self.ends[by];
        let Some(fd) = end.fd.filter(|_| len > 0) else {
            return false;
        };
        match end.host.start(self.now, Call::Read { fd, len }) {
            Progress::Ready(Ok(Reply::Received(received))) => {
                for (got, place) in received.bytes.iter().zip(end.read..) {
                    assert_eq!(*got, byte(1 - by, place), "at {place} of the stream");
                }
                end.read += received.bytes.len() as u64;
                end.saw_end |= received.bytes.is_empty();
                !received.bytes.is_empty()
            }
            Progress::Ready(Err(error)) => {
                end.broken |= error != millrace_socket::Errno::EAGAIN;
                false
            }
            Progress::Ready(Ok(_)) | Progress::Pending(_) => false,
        }
    }

    fn wait(&mut self, time: Nanos) {
        let until = self.now.after(time);
        for _ in 0..1_000_000 {
            self.collect();
            let arrivals = self
                .ends
                .iter()
                .flat_map(|end| &end.wire)
                .map(|(at, _)| *at);
            let timers = self.ends.iter().map(|end| end.host.next_deadline());
            let Some(next) = arrivals.chain(timers).min().filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            self.deliver();
            for end in &mut self.ends {
                end.host.advance(self.now);
            }
        }
        self.now = until;
        self.collect();
    }

    fn deliver(&mut self) {
        for from in 0..2 {
            let wire = core::mem::take(&mut self.ends[from].wire);
            let (due, later) = wire.into_iter().partition(|(at, _)| *at <= self.now);
            self.ends[from].wire = later;
            let mut due: Vec<(Instant, Vec<u8>)> = due;
            due.sort_by_key(|(at, _)| *at);
            for (_, packet) in due {
                self.ends[1 - from].host.packet_in(self.now, &packet);
            }
        }
    }

    /// What left goes onto the wire, and meets what waits there for it.
    fn collect(&mut self) {
        for end in &mut self.ends {
            while let Some((at, mut packet)) = end.host.packet_out() {
                let at = at.after(DELAY);
                match end.faults.pop_front() {
                    None => end.wire.push((at, packet)),
                    Some(Fault::Lose) => {}
                    Some(Fault::Repeat) => {
                        end.wire.push((at, packet.clone()));
                        end.wire.push((at.after(DELAY), packet));
                    }
                    Some(Fault::HoldBack { ms }) => {
                        let late = at.after(Nanos::from_millis(ms.into()));
                        end.wire.push((late, packet));
                    }
                    Some(Fault::Damage { place, bit }) => {
                        // Behind the addresses, where only checksums notice it.
                        let at_byte = 44 + usize::from(place) % 64;
                        if let Some(byte) = packet.get_mut(at_byte) {
                            *byte ^= 1 << (bit % 8);
                        }
                        end.wire.push((at, packet));
                    }
                }
            }
            while end.host.poll_finished().is_some() {}
        }
    }

    /// From now on the wire is well and both ends read: everything arrives.
    fn heal(&mut self) {
        for end in &mut self.ends {
            end.faults.clear();
        }
        let until = self.now.after(HEALING);
        while self.now < until {
            for by in 0..2 {
                while self.read(by, 65_536) {}
            }
            self.wait(Nanos::from_millis(500));
        }
        let [a, b] = &self.ends;
        if a.broken || b.broken {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            assert_eq!(to.read, from.written, "all that was written is read");
            assert_eq!(to.saw_end, from.shut, "and the end, if there is one");
        }
    }

    fn end(&mut self) {
        let fd = self.listener;
        let _ = self.ends[1].call(self.now, Call::Close { fd });
        for end in &mut self.ends {
            if let Some(fd) = end.fd.take() {
                let _ = end.call(self.now, Call::Close { fd });
            }
        }
        self.wait(FOR_EVER);
        for end in &self.ends {
            let left = end.host.occupancy();
            assert_eq!(left, Default::default(), "something stays for ever");
        }
    }
}
