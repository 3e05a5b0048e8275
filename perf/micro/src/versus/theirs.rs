//! Two of smoltcp's interfaces on a wire.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::{BUFFER_BYTES, CHUNK_BYTES, CONCURRENT, MESSAGE_BYTES, SERVICE_PORT, spent};

/// One of a short connection needs room for its message.
const CHURN_BUFFER_BYTES: usize = 2_048;
const STEP_MICROS: i64 = 50;
/// Turns without progress before a run is called stuck.
const STILL_TURNS_MAX: u32 = 100_000;

type Frames = Rc<RefCell<VecDeque<Vec<u8>>>>;
type Spare = Rc<RefCell<Vec<Vec<u8>>>>;

/// One end of the wire. Buffers are used again by both.
struct End {
    inbox: Frames,
    outbox: Frames,
    spare: Spare,
    /// Whether checksums are somebody else's business.
    offload: bool,
}

struct Arrived(Vec<u8>, Spare);
struct Leaving(Frames, Spare);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        let result = work(&self.0);
        self.1.borrow_mut().push(self.0);
        result
    }
}

impl phy::TxToken for Leaving {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, work: F) -> R {
        let mut frame = self.1.borrow_mut().pop().unwrap_or_default();
        frame.resize(len, 0);
        let result = work(&mut frame);
        self.0.borrow_mut().push_back(frame);
        result
    }
}

impl Device for End {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving)> {
        let frame = self.inbox.borrow_mut().pop_front()?;
        let leaving = Leaving(Rc::clone(&self.outbox), Rc::clone(&self.spare));
        Some((Arrived(frame, Rc::clone(&self.spare)), leaving))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving> {
        Some(Leaving(Rc::clone(&self.outbox), Rc::clone(&self.spare)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        if self.offload {
            capabilities.checksum = ChecksumCapabilities::ignored();
        }
        capabilities
    }
}

struct Host {
    end: End,
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
}

/// Both ends and the clock. `hosts[0]` is the client.
struct Wire {
    now: Instant,
    hosts: [Host; 2],
    next_port: u16,
}

impl Wire {
    fn new(sockets: usize, buffer_bytes: usize, offload: bool) -> Self {
        let now = Instant::from_millis(1);
        let (up, down, spare) = (Frames::default(), Frames::default(), Spare::default());
        let host = |number: u8, inbox: &Frames, outbox: &Frames| {
            let mut end = End {
                inbox: Rc::clone(inbox),
                outbox: Rc::clone(outbox),
                spare: Rc::clone(&spare),
                offload,
            };
            let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, number]).into());
            config.random_seed = u64::from(number);
            let mut interface = Interface::new(config, &mut end, now);
            interface.update_ip_addrs(|addresses| {
                let own = IpCidr::new(IpAddress::v4(10, 0, 0, number), 24);
                addresses.push(own).expect("room for an address");
            });
            let mut set = SocketSet::new(Vec::new());
            let buffer = || SocketBuffer::new(vec![0; buffer_bytes]);
            let handles = (0..sockets).map(|_| set.add(Socket::new(buffer(), buffer())));
            let handles = handles.collect();
            Host {
                end,
                interface,
                sockets: set,
                handles,
            }
        };
        Self {
            now,
            hosts: [host(1, &down, &up), host(2, &up, &down)],
            next_port: 1_024,
        }
    }

    /// Every socket of the server listens, every socket of the client connects.
    fn open(&mut self) {
        let [client, server] = &mut self.hosts;
        for handle in &server.handles {
            let socket = server.sockets.get_mut::<Socket<'_>>(*handle);
            socket.listen(SERVICE_PORT).expect("a closed socket");
        }
        for handle in &client.handles {
            self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
            let remote = (IpAddress::v4(10, 0, 0, 2), SERVICE_PORT);
            let context = client.interface.context();
            let socket = client.sockets.get_mut::<Socket<'_>>(*handle);
            let asked = socket.connect(context, remote, self.next_port);
            asked.expect("a closed socket");
        }
    }

    /// What either end has to send arrives at the other; time passes.
    fn turn(&mut self) {
        for host in &mut self.hosts {
            let Host {
                end,
                interface,
                sockets,
                ..
            } = host;
            interface.poll(self.now, end, sockets);
        }
        self.now += smoltcp::time::Duration::from_micros(STEP_MICROS as u64);
    }
}

/// Moves bytes from the client to the server.
pub(crate) fn bulk(bytes: usize, offload: bool) -> Duration {
    let mut wire = Wire::new(1, BUFFER_BYTES, offload);
    wire.open();
    let (data, mut buffer) = (vec![7; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let (mut sent, mut received, mut still) = (0, 0, 0);
    let began = spent();
    while received < bytes {
        let [client, server] = &mut wire.hosts;
        let socket = client.sockets.get_mut::<Socket<'_>>(client.handles[0]);
        while sent < bytes && socket.can_send() {
            let chunk = &data[..CHUNK_BYTES.min(bytes - sent)];
            sent += socket.send_slice(chunk).expect("an open connection");
        }
        let before = received;
        let socket = server.sockets.get_mut::<Socket<'_>>(server.handles[0]);
        while socket.can_recv() {
            received += socket.recv_slice(&mut buffer).expect("an open connection");
        }
        wire.turn();
        still = if received == before { still + 1 } else { 0 };
        assert!(still < STILL_TURNS_MAX, "nothing moves at {received} bytes");
    }
    spent().saturating_sub(began)
}

/// Opens, uses and closes connections.
pub(crate) fn churn(connections: usize, offload: bool) -> Duration {
    let mut wire = Wire::new(CONCURRENT, CHURN_BUFFER_BYTES, offload);
    let began = spent();
    for _ in 0..connections / CONCURRENT {
        wire.open();
        let (mut asked, mut turns) = ([false; CONCURRENT], 0);
        while !serve(&mut wire, &mut asked) {
            wire.turn();
            turns += 1;
            assert!(turns < STILL_TURNS_MAX, "connections do not end");
        }
        // The client closed first: its sockets are free again when TIME-WAIT is over.
        wire.now += smoltcp::time::Duration::from_secs(60);
        wire.turn();
    }
    spent().saturating_sub(began)
}

/// Both applications; tells whether every connection has come to its end.
fn serve(wire: &mut Wire, asked: &mut [bool; CONCURRENT]) -> bool {
    let mut buffer = [0; 2 * MESSAGE_BYTES];
    let [client, server] = &mut wire.hosts;
    for handle in &server.handles {
        let socket = server.sockets.get_mut::<Socket<'_>>(*handle);
        if socket.can_recv() {
            let bytes = socket.recv_slice(&mut buffer).expect("an open connection");
            socket.send_slice(&buffer[..bytes]).expect("room");
        }
        if socket.is_active() && !socket.may_recv() && socket.may_send() {
            socket.close();
        }
    }
    let mut is_over = true;
    for (handle, asked) in client.handles.iter().zip(asked) {
        let socket = client.sockets.get_mut::<Socket<'_>>(*handle);
        if socket.can_send() && !*asked {
            socket.send_slice(&[2; MESSAGE_BYTES]).expect("room");
            *asked = true;
        }
        if socket.can_recv() {
            let bytes = socket.recv_slice(&mut buffer).expect("an open connection");
            assert_eq!(bytes, MESSAGE_BYTES, "the whole answer");
            socket.close();
        }
        is_over &= matches!(
            socket.state(),
            smoltcp::socket::tcp::State::TimeWait | smoltcp::socket::tcp::State::Closed
        );
    }
    is_over
}
