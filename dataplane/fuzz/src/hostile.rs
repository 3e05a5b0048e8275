//! A peer that sends anything at a host whose program does anything: nothing panics, everything
//! that leaves is well formed, no packet is answered by a flood, and in the end nothing is left.

use arbitrary::{Arbitrary, Unstructured};
use millrace_base::{Address, Instant, Nanos, SeqNumber};
use millrace_socket::linux::{
    AF_INET, IPPROTO_TCP, SO_LINGER, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_USER_TIMEOUT,
};
use millrace_socket::{Call, HostConfig, Progress, Reply, SocketAddress, Sockets};
use millrace_stack::TcpTunables;
use millrace_wire::{
    Checksum, EtherType, IpRepr, IpView, SackBlocks, TcpFlags, TcpOptions, TcpRepr, TcpView,
    Timestamps, protocol, tcp,
};

/// Steps of one input.
const STEPS_MAX: usize = 200;
/// Packets that one step may draw: a whole send buffer in the smallest segments.
const ANSWERS_MAX: usize = 20_000;
const HOST: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];
const PORT: u16 = 80;
/// Longer than any timer: everything that ends by itself has ended.
const FOR_EVER: Nanos = Nanos::from_secs(100_000);
/// A program may be patient with its peer for 24 days; here for 18 hours (in milliseconds).
const PATIENCE_MASK: i32 = 0x03ff_ffff;
const _: () = assert!((PATIENCE_MASK as u64) < FOR_EVER.as_millis());

#[derive(Clone, Debug, Arbitrary)]
enum Step {
    Segment(Segment),
    /// A raw IP packet.
    Raw(Vec<u8>),
    /// An ICMP error about a segment that was sent, `back` bytes before the newest.
    Icmp {
        kind: u8,
        code: u8,
        mtu: u16,
        back: u16,
    },
    Wait {
        ms: u16,
    },
    WaitLong {
        seconds: u8,
    },
    Connect,
    Accept,
    Write {
        bytes: u16,
        flags: u8,
    },
    Read {
        bytes: u16,
        flags: u8,
    },
    Shutdown {
        how: u8,
    },
    Close,
    Linger {
        seconds: u8,
    },
    Option {
        level: u8,
        name: u8,
        value: i32,
    },
}

/// Numbers relative to what the host expects, so that small ones mean something.
#[derive(Clone, Debug, Arbitrary)]
struct Segment {
    flags: u8,
    seq: i16,
    ack: i16,
    window: u16,
    len: u16,
    urgent: u16,
    stamp: Option<(i8, i8)>,
    sack: Option<(u16, u16)>,
    mss: Option<u16>,
    scale: Option<u8>,
    sack_permitted: bool,
    other_port: bool,
}

struct World {
    host: Sockets,
    now: Instant,
    listener: i32,
    fd: Option<i32>,
    /// What the peer knows: the host's next number, its own next, the newest stamp.
    host_next: SeqNumber,
    host_una: SeqNumber,
    peer_next: SeqNumber,
    host_stamp: u32,
    stamp: u32,
    peer_port: u16,
    host_port: u16,
}

/// Plays `data` as steps.
pub(crate) fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut world = World::new(input.arbitrary().unwrap_or_default());
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else {
            break;
        };
        world.play(step);
    }
    world.end();
}

impl World {
    fn new(knobs: u8) -> Self {
        let tcp = TcpTunables {
            tcp_timestamps: knobs & 1 == 0,
            tcp_sack: knobs & 2 == 0,
            tcp_window_scaling: knobs & 4 == 0,
            ..TcpTunables::default()
        };
        let mut host = Sockets::new(HostConfig {
            addresses: vec![(Address::v4(HOST), 24)],
            connections_max: 16,
            buffers_max: 2_048,
            tcp,
            ..HostConfig::default()
        });
        let listener = host.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        let listener = listener.expect("a descriptor");
        let here = SocketAddress::v4(HOST, PORT);
        host.bind(Instant::ZERO, listener, here)
            .expect("a free port");
        host.listen(Instant::ZERO, listener, 4).expect("bound");
        Self {
            host,
            now: Instant::from_millis(1_000),
            listener,
            fd: None,
            host_next: SeqNumber::new(0),
            host_una: SeqNumber::new(0),
            peer_next: SeqNumber::new(1_000),
            host_stamp: 0,
            stamp: 1_000,
            peer_port: 40_000,
            host_port: PORT,
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Segment(segment) => self.segment(&segment),
            Step::Raw(bytes) => self.host.packet_in(self.now, &bytes),
            Step::Icmp {
                kind,
                code,
                mtu,
                back,
            } => self.icmp(kind, code, mtu, back),
            Step::Wait { ms } => self.wait(Nanos::from_millis(ms.into())),
            Step::WaitLong { seconds } => self.wait(Nanos::from_secs(seconds.into())),
            Step::Connect => self.connect(),
            Step::Accept => {
                let (fd, flags) = (self.listener, SOCK_NONBLOCK);
                if let Some(Reply::Accepted { fd, .. }) = self.call(Call::Accept { fd, flags }) {
                    self.close();
                    self.fd = Some(fd);
                }
            }
            Step::Write { bytes, flags } => self.with_fd(|fd| Call::Send {
                fd,
                data: vec![b'x'; bytes.into()],
                flags: i32::from(flags),
                address: None,
            }),
            Step::Read { bytes, flags } => self.with_fd(|fd| Call::Receive {
                fd,
                len: bytes.into(),
                control_len: 256,
                flags: i32::from(flags),
            }),
            Step::Shutdown { how } => {
                if let Some(fd) = self.fd {
                    let _ = self.host.shutdown(self.now, fd, i32::from(how % 4));
                }
            }
            Step::Close => self.close(),
            Step::Linger { seconds } => self.option(SOL_SOCKET, SO_LINGER, &{
                let mut value = 1i32.to_ne_bytes().to_vec();
                value.extend_from_slice(&i32::from(seconds).to_ne_bytes());
                value
            }),
            Step::Option { level, name, value } => {
                let level = [0, 1, IPPROTO_TCP, 41][usize::from(level % 4)];
                let name = i32::from(name);
                let patience = (level, name) == (IPPROTO_TCP, TCP_USER_TIMEOUT);
                let value = if patience {
                    value & PATIENCE_MASK
                } else {
                    value
                };
                self.option(level, name, &value.to_ne_bytes());
            }
        }
        self.collect();
    }

    fn call(&mut self, call: Call) -> Option<Reply> {
        match self.host.start(self.now, call) {
            Progress::Ready(result) => result.ok(),
            Progress::Pending(_) => None,
        }
    }

    fn with_fd(&mut self, call: impl FnOnce(i32) -> Call) {
        if let Some(fd) = self.fd {
            let _ = self.call(call(fd));
        }
    }

    fn option(&mut self, level: i32, name: i32, value: &[u8]) {
        if let Some(fd) = self.fd {
            let _ = self.host.setsockopt(self.now, fd, level, name, value);
            let _ = self.host.getsockopt(self.now, fd, level, name, 256);
        }
    }

    fn connect(&mut self) {
        self.close();
        let Ok(fd) = self.host.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0) else {
            return;
        };
        self.fd = Some(fd);
        let address = SocketAddress::v4(PEER, PORT);
        let _ = self.call(Call::Connect { fd, address });
    }

    fn close(&mut self) {
        if let Some(fd) = self.fd.take() {
            let _ = self.call(Call::Close { fd });
        }
    }

    fn wait(&mut self, time: Nanos) {
        let end = self.now.after(time);
        // A timer may follow a timer, but not without an end: even the shortest are milliseconds.
        for _ in 0..100_000 {
            let next = self.host.next_deadline();
            if next > end {
                break;
            }
            self.now = next;
            self.host.advance(next);
            self.collect();
        }
        self.now = end;
        self.host.advance(end);
    }

    fn segment(&mut self, what: &Segment) {
        let mut sack = SackBlocks::default();
        if let Some((from, len)) = what.sack {
            let start = self.host_una.plus(from.into());
            sack.push(start, start.plus(len.into()));
        }
        let flags = TcpFlags::from_bits(what.flags.into());
        let header = TcpRepr {
            source_port: self.peer_port + u16::from(what.other_port),
            destination_port: self.host_port,
            seq: offset(self.peer_next, what.seq),
            ack: offset(self.host_next, what.ack),
            flags,
            window: what.window,
            urgent: what.urgent,
            options: TcpOptions {
                mss: what.mss.filter(|_| flags.syn()),
                window_scale: what.scale.filter(|_| flags.syn()),
                sack_permitted: what.sack_permitted && flags.syn(),
                timestamps: what.stamp.map(|(value, echo)| Timestamps {
                    value: self.stamp.wrapping_add_signed(value.into()),
                    echo: self.host_stamp.wrapping_add_signed(echo.into()),
                }),
                sack,
                ..TcpOptions::default()
            },
        };
        let len = usize::from(what.len % 3_000);
        let Some(packet) = packet(&header, len, PEER, HOST) else {
            return;
        };
        if what.seq == 0 {
            let advance = len as u32 + u32::from(flags.syn()) + u32::from(flags.fin());
            self.peer_next = self.peer_next.plus(advance);
            self.stamp = self.stamp.wrapping_add(1);
        }
        self.host.packet_in(self.now, &packet);
    }

    fn icmp(&mut self, kind: u8, code: u8, mtu: u16, back: u16) {
        let quoted = TcpRepr {
            source_port: self.host_port,
            destination_port: self.peer_port,
            seq: SeqNumber::new(self.host_next.value().wrapping_sub(back.into())),
            ack: self.peer_next,
            flags: TcpFlags::ACK,
            window: 0,
            urgent: 0,
            options: TcpOptions::default(),
        };
        let Some(quoted) = packet(&quoted, 8, HOST, PEER) else {
            return;
        };
        let mut message = vec![kind, code, 0, 0, 0, 0];
        message.extend_from_slice(&mtu.to_be_bytes());
        message.extend_from_slice(&quoted);
        let mut sum = Checksum::new();
        sum.add_bytes(&message);
        message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        if let Some(packet) = ip_packet(protocol::ICMPV4, PEER, HOST, &message) {
            self.host.packet_in(self.now, &packet);
        }
    }

    /// Takes what left, and looks at all of it.
    fn collect(&mut self) {
        for count in 0.. {
            assert!(count < ANSWERS_MAX, "a flood");
            let Some((at, packet)) = self.host.packet_out() else {
                break;
            };
            assert!(at <= self.now, "nothing leaves before its time");
            let ip = IpView::parse(EtherType::IPV4, &packet, packet.len());
            let ip = ip.expect("IP").expect("a packet that is well formed");
            assert!(ip.header_checksum_ok());
            if ip.protocol() == protocol::TCP && ip.destination() == Address::v4(PEER) {
                let tcp = TcpView::parse(ip.payload()).expect("a segment that is well formed");
                self.learn(&tcp, ip.payload_len() - tcp.header_len());
            }
        }
        while self.host.poll_finished().is_some() {}
    }

    fn learn(&mut self, tcp: &TcpView<'_>, len: usize) {
        if tcp.flags().rst() || tcp.destination_port() > self.peer_port + 1 {
            return;
        }
        let advance = len as u32 + u32::from(tcp.flags().syn()) + u32::from(tcp.flags().fin());
        let end = tcp.seq().plus(advance);
        if tcp.flags().syn() {
            (self.host_next, self.host_una) = (end, tcp.seq());
            (self.host_port, self.peer_port) = (tcp.source_port(), tcp.destination_port());
        } else if end.after(self.host_next) {
            self.host_next = end;
        }
        if let Some(stamps) = tcp.options().timestamps {
            self.host_stamp = stamps.value;
        }
    }

    /// The program is gone, the peer silent: some day nothing is left.
    fn end(&mut self) {
        self.close();
        let fd = self.listener;
        let _ = self.call(Call::Close { fd });
        self.collect();
        self.wait(FOR_EVER);
        let left = self.host.occupancy();
        assert_eq!(left, Default::default(), "something stays for ever");
    }
}

fn offset(number: SeqNumber, by: i16) -> SeqNumber {
    SeqNumber::new(number.value().wrapping_add_signed(by.into()))
}

fn packet(header: &TcpRepr, payload: usize, from: [u8; 4], to: [u8; 4]) -> Option<Vec<u8>> {
    let mut segment = vec![0; header.header_len() + payload];
    header.emit(&mut segment)?;
    let (source, destination) = (Address::v4(from), Address::v4(to));
    let len = segment.len() as u32;
    let nothing = core::iter::empty();
    tcp::checksum::fill(source, destination, &mut segment, nothing, len)?;
    ip_packet(protocol::TCP, from, to, &segment)
}

fn ip_packet(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Option<Vec<u8>> {
    let header = IpRepr {
        source: Address::v4(from),
        destination: Address::v4(to),
        protocol,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        identification: 1,
        payload_len: u16::try_from(payload.len()).ok()?,
    };
    let mut packet = vec![0; header.header_len()];
    header.emit(&mut packet, false)?;
    packet.extend_from_slice(payload);
    Some(packet)
}
