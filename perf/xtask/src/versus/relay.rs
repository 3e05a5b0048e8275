//! The wire between senders and receivers: pairs of taps, and one thread that carries frames between
//! the two ends of each pair, on a link of its own for every flow.
//!
//! A flow is known by the address of its receiver, and must be announced ([`Relay::announce`]) before
//! its first frame. Frames of no flow pass at once. The thread reads, decides and writes by itself, so
//! that frames of a flow keep their order, and waits for a frame or for a moment. A wire waits for no
//! CPU: where it is allowed to, the thread runs before all others, and one that runs behind all others
//! keeps the CPU awake, since a sleeping virtual CPU takes a hundred microseconds to wake.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::capture::Capture;
use super::frame::segment_of;
use super::link::{Link, Shape, Tally, nanos};
use crate::process;

/// Frames taken from one tap before the others have their turn.
const BURST: usize = 64;
/// The longest frame: nobody here sends more than an MTU of 1,500.
const FRAME_BYTES_MAX: usize = 2_048;
/// The longest wait: how long it may take until the thread sees that it shall end.
const WAIT_MAX: u64 = 50_000_000;

/// Two taps, one on the sender's side.
pub(super) struct Pair {
    near: SyncDevice,
    far: SyncDevice,
}

impl Pair {
    /// Makes both taps in the namespace of the caller, from where they can be moved.
    pub(super) fn make(near: &str, far: &str) -> Result<Self> {
        let open = |name: &str| -> Result<SyncDevice> {
            let builder = DeviceBuilder::new().name(name).layer(Layer::L2);
            let tap = builder
                .build_sync()
                .with_context(|| format!("cannot make the tap {name}"))?;
            tap.set_nonblocking(true)?;
            Ok(tap)
        };
        Ok(Self {
            near: open(near)?,
            far: open(far)?,
        })
    }
}

/// The running threads. They end, and with them the taps, when this is dropped.
pub(super) struct Relay {
    links: Arc<Mutex<HashMap<u32, Link>>>,
    shall_end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Runs a thread before all others, if that is allowed.
fn prefer(thread: Pid) {
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "1"]);
    chrt.arg(thread.as_raw_nonzero().to_string());
    if process::must(&mut chrt, Duration::from_secs(10)).is_err() {
        println!("versus-linux: the relay has no priority and will be late");
    }
}

/// Uses what nobody else does of a CPU, until it shall end.
fn stay_awake(shall_end: &AtomicBool) {
    // Of this thread only, and never refused.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
    while !shall_end.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

impl Relay {
    /// Starts carrying.
    pub(super) fn start(pairs: Vec<Pair>, capture: Option<Capture>) -> Result<Self> {
        let links = Arc::new(Mutex::new(HashMap::new()));
        let shall_end = Arc::new(AtomicBool::new(false));
        let carrier = Carrier {
            taps: pairs.into_iter().flat_map(|p| [p.near, p.far]).collect(),
            links: Arc::clone(&links),
            shall_end: Arc::clone(&shall_end),
            clock: Instant::now(),
            due: BinaryHeap::new(),
            count: 0,
            spare: Vec::new(),
            capture,
        };
        let (say, hear) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                // Who started this waits for the word.
                let _ = say.send(rustix::thread::gettid());
                carrier.run();
            })?;
        // From here on it ends with what is returned, or is not.
        let mut relay = Self {
            links,
            shall_end,
            threads: vec![thread],
        };
        prefer(hear.recv()?);
        let flag = Arc::clone(&relay.shall_end);
        let waker = std::thread::Builder::new()
            .name("awake".to_owned())
            .spawn(move || stay_awake(&flag))?;
        relay.threads.push(waker);
        Ok(relay)
    }

    /// Lays a link for the flow to this receiver.
    pub(super) fn announce(&self, receiver: Ipv4Addr, shape: Shape) {
        lock(&self.links).insert(receiver.to_bits(), Link::new(shape));
    }

    /// Takes the link away; what it saw.
    pub(super) fn remove(&self, receiver: Ipv4Addr) -> Tally {
        let link = lock(&self.links).remove(&receiver.to_bits());
        link.map_or_else(Tally::default, |link| link.tally)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The flag guards no other data; the thread looks at it at every turn.
        self.shall_end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread has been printed by then.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody leaves the table half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame on its way. The order is that of arrival, then that of sending.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Travelling {
    due: u64,
    count: u64,
    /// Index of the tap that it leaves by.
    out: usize,
    /// The receiver of its flow, if it has one.
    flow: Option<u32>,
    frame: Vec<u8>,
}

/// Whether the tap of this index is on a sender's side.
fn is_near(tap: usize) -> bool {
    tap.is_multiple_of(2)
}

struct Carrier {
    /// Near and far ends in turn.
    taps: Vec<SyncDevice>,
    links: Arc<Mutex<HashMap<u32, Link>>>,
    shall_end: Arc<AtomicBool>,
    clock: Instant,
    due: BinaryHeap<Reverse<Travelling>>,
    count: u64,
    /// Buffers of frames that have arrived.
    spare: Vec<Vec<u8>>,
    capture: Option<Capture>,
}

impl Carrier {
    fn run(mut self) {
        // A wait ends when it should, not up to 50 us later.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        while !self.shall_end.load(Ordering::Relaxed) {
            let delivered = self.deliver();
            let taken = self.take();
            if !delivered && !taken {
                self.wait();
            }
        }
    }

    fn now(&self) -> u64 {
        nanos(self.clock.elapsed())
    }

    /// Sends what is due; whether anything was.
    fn deliver(&mut self) -> bool {
        let mut any = false;
        while let Some(Reverse(first)) = self.due.peek() {
            let now = self.now();
            if first.due > now {
                break;
            }
            let Some(Reverse(arrived)) = self.due.pop() else {
                break;
            };
            any = true;
            if let Some(capture) = self.capture.as_mut().filter(|_| is_near(arrived.out)) {
                capture.write(now, &arrived.frame);
            }
            // A full queue or an interface that is down loses the frame, as a wire would.
            let _ = self.taps[arrived.out].send(&arrived.frame);
            let link = arrived.flow.map(|flow| (flow, lock(&self.links)));
            if let Some((flow, mut links)) = link
                && let Some(link) = links.get_mut(&flow)
            {
                let late = now.saturating_sub(arrived.due);
                link.tally.late_ns_max = link.tally.late_ns_max.max(late);
            }
            self.spare.push(arrived.frame);
        }
        any
    }

    /// Takes frames off the taps; whether there were any.
    fn take(&mut self) -> bool {
        let mut any = false;
        for tap in 0..self.taps.len() {
            for _ in 0..BURST {
                let mut frame = self.spare.pop().unwrap_or_default();
                frame.resize(FRAME_BYTES_MAX, 0);
                let Ok(bytes) = self.taps[tap].recv(&mut frame) else {
                    self.spare.push(frame);
                    break;
                };
                frame.truncate(bytes);
                any = true;
                self.admit(tap, frame);
            }
        }
        any
    }

    fn admit(&mut self, tap: usize, frame: Vec<u8>) {
        let now = self.now();
        let is_sender = is_near(tap);
        if let Some(capture) = self.capture.as_mut().filter(|_| is_sender) {
            capture.write(now, &frame);
        }
        let out = if is_sender { tap + 1 } else { tap - 1 };
        let (mut due, mut flow) = (Some(now), None);
        if let Some(segment) = segment_of(&frame) {
            let receiver = if is_sender {
                segment.destination
            } else {
                segment.source
            };
            if let Some(link) = lock(&self.links).get_mut(&receiver) {
                flow = Some(receiver);
                due = match is_sender {
                    true => link.carry(now, frame.len() as u64, &segment),
                    false => Some(link.carry_back(now)),
                };
            }
        }
        match due {
            Some(due) => {
                self.count += 1;
                self.due.push(Reverse(Travelling {
                    due,
                    count: self.count,
                    out,
                    flow,
                    frame,
                }));
            }
            None => self.spare.push(frame),
        }
    }

    /// Waits for the next frame or the next moment.
    fn wait(&self) {
        let next = self.due.peek().map_or(u64::MAX, |Reverse(next)| next.due);
        let limit = next.saturating_sub(self.now()).min(WAIT_MAX);
        let limit = Timespec::try_from(Duration::from_nanos(limit)).ok();
        let mut waited: Vec<PollFd<'_>> = self
            .taps
            .iter()
            .map(|tap| PollFd::from_borrowed_fd(tap.as_fd(), PollFlags::IN))
            .collect();
        // Whatever ended it: the next turn looks at everything.
        let _ = poll(&mut waited, limit.as_ref());
    }
}
