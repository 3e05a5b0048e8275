//! The host's link and its clock: raw IP packets in and out, time going on.
//!
//! The stack speaks Ethernet; here the header is put on and taken off. Everything that is not ours
//! lies behind the link's only neighbour, which answers every resolution at once.

use millrace_base::{Address, HeapBuf, Instant, MacAddress, Nanos, PortId, Prefix};
use millrace_stack::{
    Interface, NeighborUpdate, Offloads, Prefixed, Route, RouteAttributes, Transmit,
};

use crate::header::Header;
use crate::sockets::Sockets;
use crate::sysctl::LinkRoute;

/// The link.
const PORT: PortId = PortId::new(0);
/// Our end of it and the neighbour's.
const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);
/// Bytes of the header that is put on and taken off.
const HEADER_BYTES: usize = 14;
const ETHER_TYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHER_TYPE_V6: [u8; 2] = [0x86, 0xdd];

/// Pieces one outgoing packet may be made of: what `turn.rs` of the stack would put together.
const SEGMENTS_MAX: u16 = 48;
/// Rounds of packets, news and calls after one step: each round but the last did something, and
/// what it does is bounded by what came in.
const ROUNDS_MAX: usize = 100_000;
/// Rounds of expiries in one step; each round of the stack is bounded too. What is left is due at
/// once again.
const ADVANCES_MAX: usize = 1_024;
/// The smallest step of time: a deadline that is due already is told as "soon".
const SOON: Nanos = Nanos::new(1_000);

impl Sockets {
    /// Takes a raw IP packet (IPv4 or IPv6; may exceed the MTU). What is not IP is ignored.
    pub fn packet_in(&mut self, now: Instant, packet: &[u8]) {
        self.merged_packet_in(now, packet, 0);
    }

    /// The same for a packet that the device has merged from segments of so many bytes of payload; 0
    /// when it has merged nothing, or does not say.
    pub fn merged_packet_in(&mut self, now: Instant, packet: &[u8], segment_bytes: u16) {
        self.step_to(now);
        // The stack drops and counts what is damaged; nothing of it may be believed here.
        let is_sound = Header::of(packet).is_none_or(|header| header.is_sound(packet));
        let undressed = is_sound.then(|| self.undress(packet)).flatten();
        let packet = undressed.as_deref().unwrap_or(packet);
        let ether_type = match packet.first().map(|byte| byte >> 4) {
            Some(4) => ETHER_TYPE_V4,
            Some(6) => ETHER_TYPE_V6,
            _ => return,
        };
        let mut frame = Vec::with_capacity(packet.len() + HEADER_BYTES);
        frame.extend_from_slice(OURS.octets());
        frame.extend_from_slice(THEIRS.octets());
        frame.extend_from_slice(&ether_type);
        frame.extend_from_slice(packet);
        let (_, inside) = frame.split_at(HEADER_BYTES);
        if is_sound && !self.admit(inside) {
            self.count_refused(inside);
            return;
        }
        if is_sound {
            self.note_segment(inside);
        }
        let mut frame = HeapBuf::from_frame(&frame);
        frame.meta.segment_bytes = segment_bytes;
        // What the stack hands back is not TCP: nobody here wants it.
        self.reported = self.note_icmp(packet);
        let writers = self.writes_that_await_a_handshake();
        for id in &writers {
            // What waits to be written carries the acknowledgment of the SYN-ACK.
            self.defer_third_ack(*id);
        }
        self.stack.handle(self.now, PORT, frame, &mut self.pool);
        if !writers.is_empty() {
            self.take_news();
            self.retry_calls();
        }
        self.forget_soft_errors();
        self.note_arrival();
        self.settle();
        self.reported = None;
    }

    /// The next packet that has left, and when it left.
    pub fn packet_out(&mut self) -> Option<(Instant, Vec<u8>)> {
        self.finished = self.finished.saturating_sub(1);
        let (at, mut packet) = self.left.pop_front()?;
        self.put_ip_options_on(&mut packet);
        Some((at, packet))
    }

    /// When `advance` has something to do next: timers of connections and of waiting calls.
    /// `Instant::NEVER` when only packets and calls can change anything. Always later than the last
    /// time passed in.
    pub fn next_deadline(&self) -> Instant {
        let deadline = self
            .stack
            .next_deadline()
            .min(self.calls.next_deadline())
            .min(self.next_release())
            .min(self.next_delayed());
        if deadline == Instant::NEVER {
            return deadline;
        }
        deadline.max(self.now.after(SOON))
    }

    /// Lets time pass.
    pub fn advance(&mut self, now: Instant) {
        self.step_to(now);
        for _ in 0..ADVANCES_MAX {
            self.stack.advance(self.now, &mut self.pool);
            if self.stack.next_deadline() > self.now {
                break;
            }
            // Frames leave between expiries, so that a timer that is armed again by one is seen.
            self.settle();
            if self.stack.next_deadline() > self.now {
                break;
            }
        }
        self.release_due();
        self.settle();
    }

    /// Takes note of the time; it never goes back.
    pub(crate) fn step_to(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Lets everything leave that may, and everybody know what happened.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = self.transmit();
            moved |= self.take_news();
            self.note_arrivals();
            moved |= self.feed_outboxes();
            moved |= self.fulfil_marks();
            // What may leave has left: only then it is known whether the window is full.
            if !moved {
                moved = self.tell_writable();
            }
            moved |= self.retry_calls();
            if !moved {
                break;
            }
        }
        self.watch_outboxes();
        self.update_chronos();
        self.finish_packets();
    }

    /// Whether an address is the host's.
    pub fn has_address(&self, address: Address) -> bool {
        let mut ours = self.config.addresses.iter();
        ours.any(|(known, _)| *known == address)
    }

    /// Gives the host another address, on a subnet of so many bits. An interface has 16: more are
    /// not heard.
    pub fn add_address(&mut self, now: Instant, address: Address, prefix_bits: u8) {
        self.step_to(now);
        self.config.addresses.push((address, prefix_bits));
        self.set_up_link();
    }

    /// Changes the bytes of the largest packet that leaves; living connections keep theirs.
    pub fn set_mtu(&mut self, now: Instant, mtu: u16) {
        self.step_to(now);
        self.config.mtu = mtu;
        self.set_up_link();
    }

    /// Makes the stack's interface, its addresses and the way to everybody else.
    pub(crate) fn set_up_link(&mut self) {
        let prefixed = |&(address, prefix_len): &(Address, u8)| Prefixed {
            address,
            prefix_len,
        };
        let interface = Interface {
            port: PORT,
            mac: OURS,
            mtu: self.config.mtu,
            addresses: self
                .config
                .addresses
                .iter()
                .take(16)
                .map(prefixed)
                .collect(),
            offloads: Offloads {
                segments_max: SEGMENTS_MAX,
                ..Offloads::default()
            },
        };
        self.stack.set_interfaces(self.now, &[interface]);
        self.publish_route();
    }

    /// Sets what the route to everybody says: its MTU (0 for the link's) and its attributes, as `ip
    /// route change` would.
    pub fn set_route(&mut self, mtu: u16, attributes: RouteAttributes) {
        self.sysctls.route = LinkRoute { mtu, attributes };
        self.publish_route();
        self.publish_row_tunables();
    }

    fn publish_route(&mut self) {
        let route = self.sysctls.route;
        let everything = [Address::UNSPECIFIED_V4, Address::UNSPECIFIED_V6];
        let routes = everything.iter().filter_map(|any| {
            Some(Route {
                prefix: Prefix::new(*any, 0)?,
                via: None,
                port: PORT,
                mtu: route.mtu,
                attributes: route.attributes,
            })
        });
        self.stack.set_routes(&routes.collect::<Vec<_>>());
    }

    /// Takes out every packet that may leave now.
    pub(crate) fn transmit(&mut self) -> bool {
        let mut moved = false;
        let Self {
            stack,
            pool,
            left,
            now,
            ..
        } = self;
        // The device takes a packet at once, as Linux's `tun` does: who has reached the small-queue
        // limit goes on. Each round sends something.
        loop {
            stack.transmit(*now, pool, |Transmit { port: _, frame }| {
                let mut packet = frame.to_vec();
                packet.drain(..HEADER_BYTES.min(packet.len()));
                left.push_back((*now, packet));
                moved = true;
                true
            });
            if !stack.is_throttled() {
                break;
            }
        }
        while let Some(request) = self.stack.poll_neighbor_request() {
            moved = true;
            let update = NeighborUpdate::Reachable(THEIRS);
            self.stack
                .set_neighbor(self.now, request.port, request.address, update);
        }
        // Nobody probes the neighbour, and ports are looked for in the stack's own table.
        while self.stack.poll_confirmation().is_some() {}
        while self.stack.poll_tuple_change().is_some() {}
        moved
    }
}
