//! A peer played frame by frame against a server: node 1 of a chain of two.

use millrace_base::{
    Address, ChecksumStatus, FlowTuple, HeapBuf, HeapPool, MacAddress, PortId, SeqNumber,
};
use millrace_stack::{
    FastOpenListen, FlowId, FrameOptions, ListenOptions, Listener, Path, StackConfig, Stats,
    write_headers,
};
use millrace_wire::tcp::FastOpenCookie;
use millrace_wire::{
    EtherType, EthernetView, IpRepr, IpView, TcpFlags, TcpOptions, TcpRepr, TcpView, Timestamps,
};
use millrace_wire::{ethernet, protocol};

use crate::wire::{World, address, config, interface, listener, mac, node, tuple};

pub(crate) const PORT: PortId = PortId::new(0);
pub(crate) const SYN: TcpFlags = TcpFlags::SYN;
pub(crate) const ACK: TcpFlags = TcpFlags::ACK;
pub(crate) const RST: TcpFlags = TcpFlags::RST;

/// The server, and where the peer stands.
pub(crate) struct Peer {
    pub(crate) world: World,
    /// As the peer sees it.
    pub(crate) tuple: FlowTuple,
    pub(crate) timestamp: Option<u32>,
    /// What the peer's timestamps echo.
    pub(crate) echo: u32,
    /// The scale that the peer's SYNs offer; they permit SACK with it.
    pub(crate) scale: Option<u8>,
    /// What its SYNs carry of Fast Open.
    pub(crate) cookie: Option<FastOpenCookie>,
    /// Whether its segments have room for a signature.
    pub(crate) md5: bool,
    /// Whether the server takes what waits in its backlog.
    pub(crate) accepts: bool,
}

impl Peer {
    pub(crate) fn new(backlog: u32) -> Self {
        Self::with(backlog, config(2))
    }

    pub(crate) fn with(backlog: u32, config: StackConfig) -> Self {
        let mut world = World::chain(1, 2);
        let (now, server) = (world.now, address(false, 0, 2));
        world.nodes[1] = node(config);
        let addresses = [server, address(true, 0, 2)];
        let interfaces = [interface(0, mac(1, 0), &addresses)];
        world.nodes[1].stack.set_interfaces(now, &interfaces);
        world.resolve_all();
        let options = ListenOptions {
            backlog,
            ..ListenOptions::default()
        };
        let row = Listener {
            options,
            ..listener(1, server, 80)
        };
        world.nodes[1].stack.set_listeners(&[row]);
        Self {
            world,
            tuple: tuple(address(false, 0, 1), 40_000, server, 80),
            timestamp: None,
            echo: 0,
            scale: None,
            cookie: None,
            md5: false,
            accepts: true,
        }
    }

    /// The server listens with data in SYNs, so many at a time.
    pub(crate) fn listen_fast(&mut self, queue_max: u32) {
        let row = Listener {
            options: ListenOptions {
                fastopen: FastOpenListen {
                    queue_max,
                    ..FastOpenListen::default()
                },
                ..ListenOptions::default()
            },
            ..listener(1, self.tuple.remote.address, 80)
        };
        self.world.nodes[1].stack.set_listeners(&[row]);
    }

    /// The server's counters.
    pub(crate) fn stats(&self) -> &Stats {
        self.world.nodes[1].stack.stats()
    }

    /// A frame of the peer.
    pub(crate) fn frame(&self, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
        let echo = self.echo;
        let timestamps = self.timestamp.map(|value| Timestamps { value, echo });
        let header = TcpRepr {
            source_port: self.tuple.local.port,
            destination_port: self.tuple.remote.port,
            seq: SeqNumber::new(seq),
            ack: SeqNumber::new(ack),
            flags,
            window: 60_000,
            urgent: 0,
            options: TcpOptions {
                mss: Some(1_000).filter(|_| flags.syn()),
                window_scale: self.scale.filter(|_| flags.syn()),
                sack_permitted: self.scale.is_some() && flags.syn(),
                timestamps,
                fastopen: self.cookie.filter(|_| flags.syn()),
                md5: self.md5,
                ..TcpOptions::default()
            },
        };
        let path = Path {
            source: mac(0, 1),
            destination: mac(1, 0),
            ..Path::default()
        };
        let mut pool = HeapPool::new(1, 2_176);
        let mut frame = pool.receive(payload).expect("room");
        let options = FrameOptions::default();
        assert!(write_headers(
            &mut frame,
            &path,
            &self.tuple,
            &header,
            options
        ));
        frame.to_vec()
    }

    /// Sends a segment to the server; returns what it answers.
    pub(crate) fn send(
        &mut self,
        flags: TcpFlags,
        seq: u32,
        ack: u32,
        payload: &[u8],
    ) -> Vec<TcpRepr> {
        let frame = self.frame(flags, seq, ack, payload);
        self.put(&frame)
    }

    /// Sends any bytes; returns what the server answers.
    pub(crate) fn put(&mut self, frame: &[u8]) -> Vec<TcpRepr> {
        self.world.deliver(1, PORT, frame);
        self.answers()
    }

    /// Sends bytes whose IP header checksum the device has found good.
    pub(crate) fn put_verified(&mut self, frame: &[u8]) -> Vec<TcpRepr> {
        let mut buf = HeapBuf::from_frame(frame);
        buf.meta.ip_checksum = ChecksumStatus::Good;
        let node = &mut self.world.nodes[1];
        let punt = node.stack.handle(self.world.now, PORT, buf, &mut node.pool);
        assert!(punt.is_none());
        self.answers()
    }

    /// Frames the server wants to send.
    pub(crate) fn frames(&mut self) -> Vec<Vec<u8>> {
        let node = &mut self.world.nodes[1];
        let mut frames = Vec::new();
        while let Some(sent) = node.stack.poll_transmit(self.world.now, &mut node.pool) {
            frames.push(sent.frame.to_vec());
        }
        while self.accepts
            && let Some(event) = node.stack.poll_event()
        {
            node.events.push(event);
        }
        frames
    }

    /// Segments the server wants to send.
    pub(crate) fn answers(&mut self) -> Vec<TcpRepr> {
        let read = |bytes: &Vec<u8>| {
            let ethernet = EthernetView::parse(bytes).expect("Ethernet");
            let payload = ethernet.payload();
            let ip = IpView::parse(ethernet.ether_type(), payload, payload.len());
            let ip = ip.expect("IP").expect("well formed");
            TcpRepr::parse(&TcpView::parse(ip.payload()).expect("TCP"))
        };
        self.frames().iter().map(read).collect()
    }

    /// Sends a SYN; returns the server's initial sequence number.
    pub(crate) fn syn(&mut self, seq: u32) -> u32 {
        let answers = self.send(SYN, seq, 0, b"");
        let [syn_ack] = &answers[..] else {
            panic!("one SYN-ACK: {answers:?}")
        };
        assert_eq!(syn_ack.flags, SYN | ACK);
        assert_eq!(syn_ack.ack.value(), seq.wrapping_add(1));
        syn_ack.seq.value()
    }

    /// Opens a connection whose next number is 101; returns it and the server's next number.
    pub(crate) fn open(&mut self) -> (FlowId, u32) {
        let nxt = self.syn(100).wrapping_add(1);
        let before = self.accepted();
        assert!(self.send(ACK, 101, nxt, b"").is_empty());
        let accepted = self.world.nodes[1].events.iter();
        let mut flows =
            accepted.filter(|event| event.ready.contains(millrace_stack::Ready::ACCEPTED));
        (flows.nth(before).expect("accepted").flow, nxt)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        let events = self.world.nodes[1].events.iter();
        let is_new =
            |event: &&millrace_stack::Event| event.ready.contains(millrace_stack::Ready::ACCEPTED);
        events.filter(is_new).count()
    }

    /// An ICMP message from a host of the peer's link comes to an address of the server's.
    pub(crate) fn deliver_icmp(&mut self, source: Address, destination: Address, message: &[u8]) {
        let frame = icmp_frame((source, destination), (mac(0, 1), mac(1, 0)), message);
        self.world.deliver(1, PORT, &frame);
    }

    /// The server's time passes; returns what it sends meanwhile, with the milliseconds gone.
    pub(crate) fn wait(&mut self, ms: u64) -> Vec<(u64, TcpRepr)> {
        let start = self.world.now;
        let mut sent = Vec::new();
        for step in 1..=ms / 10 {
            self.world.now = start.after(millrace_base::Nanos::from_millis(step * 10));
            let node = &mut self.world.nodes[1];
            node.stack.advance(self.world.now, &mut node.pool);
            let answers = self.answers();
            sent.extend(answers.into_iter().map(|answer| (step * 10, answer)));
        }
        sent
    }
}

/// A frame with an ICMP message, from one address and card to another.
pub(crate) fn icmp_frame(
    (source, destination): (Address, Address),
    (from, to): (MacAddress, MacAddress),
    message: &[u8],
) -> Vec<u8> {
    let ip = IpRepr {
        source,
        destination,
        protocol: protocol::ICMPV4,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: false,
        identification: 9,
        payload_len: message.len() as u16,
    };
    let mut frame = vec![0; 34];
    ethernet::emit(&mut frame, to, from, EtherType::IPV4).expect("fits");
    ip.emit(&mut frame[14..], false).expect("fits");
    frame.extend_from_slice(message);
    frame
}
