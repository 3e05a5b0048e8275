//! A wire that misbehaves: two taps joined by a process that loses, duplicates and delays frames.
//!
//! The kernel of the development machines has no netem. The relay is this program again (`xtask relay`),
//! so a stall of the test runner does not stall the wire. It is also the trunk of a VLAN for kernels without 802.1Q:
//! frames carry the tag on the near tap and none on the far one. All faults come from one seed per direction: the
//! same frames in the same order meet the same fate. Frames can also be put on the wire through a socket
//! ([`Relay::inject`]), which is how malformed frames reach the device without raw sockets.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::interrupt;
use crate::process::Background;

/// Per cent of the frames that meet each fate, and the seed that chooses them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Faults {
    #[arg(long, default_value_t = 0)]
    pub(crate) loss: u32,
    #[arg(long, default_value_t = 0)]
    pub(crate) duplicate: u32,
    #[arg(long, default_value_t = 0)]
    pub(crate) reorder: u32,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Faults {
    /// A good wire.
    pub(crate) const NONE: Self = Self {
        loss: 0,
        duplicate: 0,
        reorder: 0,
        seed: 1,
    };
}

/// Arguments of the hidden `xtask relay`.
#[derive(Args)]
pub(crate) struct RelayArguments {
    /// Name of the tap on our side.
    #[arg(long)]
    near: String,
    /// Name of the tap on the peer's side.
    #[arg(long)]
    far: String,
    /// Datagrams that arrive here go out of the near tap: into the device under test.
    #[arg(long)]
    socket: PathBuf,
    /// The VLAN whose tag all frames carry on the near tap; those without it do not reach the far one.
    #[arg(long)]
    vlan: Option<u16>,
    #[command(flatten)]
    faults: Faults,
}

/// The longest frame on a wire of MTU 1500, with room for oversized ones.
const FRAME_BYTES_MAX: usize = 9216;

/// A reordered frame is let pass by this many later ones, or waits this long when none comes.
const REORDER_FRAMES: u32 = 3;
const REORDER_WAIT: Duration = Duration::from_millis(5);

// ---- the process ----

/// Runs until it is ended.
pub(crate) fn run(arguments: &RelayArguments) -> Result<()> {
    let open = |name: &str| -> Result<Arc<SyncDevice>> {
        let tap = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            .build_sync();
        Ok(Arc::new(
            tap.with_context(|| format!("cannot make the tap {name}"))?,
        ))
    };
    let (near, far) = (open(&arguments.near)?, open(&arguments.far)?);
    let socket =
        UnixDatagram::bind(&arguments.socket).context("cannot bind the injection socket")?;
    let seed = arguments.faults.seed;
    let done = Arc::new(Done::default());
    let out = Fate::new(&arguments.faults, seed);
    let back = Fate::new(&arguments.faults, seed.rotate_left(32) ^ 1);
    let (take_off, put_on) = match arguments.vlan {
        Some(vlan) => (Tag::TakeOff(vlan), Tag::PutOn(vlan)),
        None => (Tag::Leave, Tag::Leave),
    };
    carry(&near, &far, out, take_off, &done);
    carry(&far, &near, back, put_on, &done);
    std::thread::spawn(move || {
        let mut frame = [0; FRAME_BYTES_MAX];
        while let Ok(length) = socket.recv(&mut frame) {
            // A frame that the tap refuses (shorter than an Ethernet header) is none.
            let _ = near.send(&frame[..length]);
        }
    });
    println!("ready");
    // The last line of the log is what the faults came to: a test reads it.
    while interrupt::sleep(Duration::from_millis(200)).is_ok() {
        println!("{done}");
    }
    Ok(())
}

/// What was done to frames, both directions. Statistics: no order between the counters is needed.
#[derive(Default)]
struct Done {
    passed: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    held: AtomicU64,
}

impl Done {
    fn count(&self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Pass => &self.passed,
            Verdict::Lose => &self.lost,
            Verdict::Twice => &self.doubled,
            Verdict::Hold => &self.held,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [passed, lost, doubled, held] = [&self.passed, &self.lost, &self.doubled, &self.held]
            .map(|counter| counter.load(Ordering::Relaxed));
        write!(
            f,
            "{passed} passed, {lost} lost, {doubled} doubled, {held} held back"
        )
    }
}

/// One direction: a thread that reads, a thread that decides and writes.
fn carry(from: &Arc<SyncDevice>, to: &Arc<SyncDevice>, fate: Fate, tag: Tag, done: &Arc<Done>) {
    let (sender, receiver) = channel();
    let (from, to, done) = (Arc::clone(from), Arc::clone(to), Arc::clone(done));
    std::thread::spawn(move || read(&from, tag, &sender));
    std::thread::spawn(move || write(&receiver, &to, fate, &done));
}

fn read(tap: &SyncDevice, tag: Tag, sender: &Sender<Vec<u8>>) {
    let mut frame = [0; FRAME_BYTES_MAX];
    loop {
        match tap.recv(&mut frame) {
            Ok(length) => {
                let Some(frame) = tag.apply(&frame[..length]) else {
                    continue;
                };
                if sender.send(frame).is_err() {
                    return;
                }
            }
            // An interface that is down reads as an error until it is up.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn write(receiver: &Receiver<Vec<u8>>, tap: &SyncDevice, mut fate: Fate, done: &Done) {
    // The peer's queue may be full or its interface down: a wire would lose the frame too.
    let send = |frame: &[u8]| drop(tap.send(frame));
    let mut held: Vec<(Vec<u8>, u32, Instant)> = Vec::new();
    loop {
        let next = match held.iter().map(|(_, _, until)| *until).min() {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => receiver.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok(frame) => {
                for (_, frames, _) in &mut held {
                    *frames = frames.saturating_sub(1);
                }
                let verdict = fate.next();
                done.count(verdict);
                match verdict {
                    Verdict::Lose => {}
                    Verdict::Pass => send(&frame),
                    Verdict::Twice => {
                        send(&frame);
                        send(&frame);
                    }
                    Verdict::Hold => {
                        held.push((frame, REORDER_FRAMES, Instant::now() + REORDER_WAIT));
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        held.retain(|(frame, frames, until)| {
            let stays = *frames > 0 && *until > now;
            if !stays {
                send(frame);
            }
            stays
        });
    }
}

/// What happens to the tag of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Leave,
    PutOn(u16),
    /// Frames without this tag stay behind.
    TakeOff(u16),
}

impl Tag {
    /// The frame that goes on; `None` when none does.
    fn apply(self, frame: &[u8]) -> Option<Vec<u8>> {
        /// Both addresses come before the tag (IEEE 802.1Q).
        const ADDRESSES: usize = 12;
        let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
        match self {
            Self::Leave => Some(frame.to_vec()),
            Self::PutOn(vlan) => {
                let tag = (0x8100_0000 | u32::from(vlan)).to_be_bytes();
                Some([addresses, &tag, rest].concat())
            }
            Self::TakeOff(vlan) => {
                let (tag, rest) = rest.split_first_chunk()?;
                let tag = u32::from_be_bytes(*tag);
                // Priority and drop eligibility may be anything.
                let is_ours = tag & 0xffff_0fff == 0x8100_0000 | u32::from(vlan);
                is_ours.then(|| [addresses, rest].concat())
            }
        }
    }
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Lose,
    Twice,
    Hold,
}

/// Draws verdicts: xorshift64*, so that a seed is the whole story.
struct Fate {
    faults: Faults,
    state: u64,
}

impl Fate {
    fn new(faults: &Faults, seed: u64) -> Self {
        Self {
            faults: faults.clone(),
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    fn next(&mut self) -> Verdict {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let drawn = (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % 100;
        let Faults {
            loss,
            duplicate,
            reorder,
            seed: _,
        } = self.faults;
        let [loss, duplicate, reorder] = [loss, duplicate, reorder].map(u64::from);
        match drawn {
            d if d < loss => Verdict::Lose,
            d if d < loss + duplicate => Verdict::Twice,
            d if d < loss + duplicate + reorder => Verdict::Hold,
            _ => Verdict::Pass,
        }
    }
}

// ---- the guard on the test's side ----

/// A running relay and the names of its taps, which appear in the namespace of the caller.
pub(crate) struct Relay {
    side: &'static str,
    near: String,
    far: String,
    socket: PathBuf,
    process: Background,
}

impl Relay {
    /// Starts the process and waits until both taps exist.
    pub(crate) fn start(
        side: &'static str,
        faults: &Faults,
        vlan: Option<u16>,
        folder: &Path,
    ) -> Result<Self> {
        let name = |end: char| format!("mr{}{}{end}", std::process::id(), &side[..1]);
        let (near, far) = (name('n'), name('f'));
        let socket = folder.join(format!("relay-{side}.sock"));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["relay", "--near", &near, "--far", &far, "--socket"])
            .arg(&socket);
        for (option, value) in [
            ("--loss", faults.loss),
            ("--duplicate", faults.duplicate),
            ("--reorder", faults.reorder),
        ] {
            command.arg(option).arg(value.to_string());
        }
        command.arg("--seed").arg(faults.seed.to_string());
        if let Some(vlan) = vlan {
            command.arg("--vlan").arg(vlan.to_string());
        }
        let mut process = Background::start(&format!("relay-{side}"), &mut command, folder)?;
        interrupt::wait_until("the relay", Duration::from_secs(10), || {
            process
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            if process.log_text().contains("ready") {
                Ok(())
            } else {
                Err("not ready".into())
            }
        })?;
        Ok(Self {
            side,
            near,
            far,
            socket,
            process,
        })
    }

    /// The port whose wire this is.
    pub(crate) fn side(&self) -> &'static str {
        self.side
    }

    /// The tap for the lb namespace.
    pub(crate) fn near(&self) -> &str {
        &self.near
    }

    /// The tap for the peer's namespace.
    pub(crate) fn far(&self) -> &str {
        &self.far
    }

    /// What it did so far, in words: `1000 passed, 9 lost, 11 doubled, 8 held back`.
    pub(crate) fn report(&self) -> String {
        self.process
            .log_text()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    }

    /// Frames that it lost so far.
    pub(crate) fn lost(&self) -> u64 {
        let report = self.report();
        let words: Vec<&str> = report
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .collect();
        let lost = words
            .windows(2)
            .find(|pair| pair[1] == "lost")
            .map(|pair| pair[0]);
        lost.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Puts frames on the wire towards the device under test, as they are.
    pub(crate) fn inject(&self, frames: &[Vec<u8>]) -> Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket
            .connect(&self.socket)
            .with_context(|| format!("relay {}", self.process.id()))?;
        for frame in frames {
            socket
                .send(frame)
                .context("cannot hand a frame to the relay")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_of_the_vlan_leave_the_trunk_and_they_leave_untagged() {
        let frame: Vec<u8> = (0..60).collect();
        let tagged = Tag::PutOn(100).apply(&frame).expect("long enough");
        assert_eq!(tagged[12..16], [0x81, 0x00, 0, 100]);
        assert_eq!(Tag::TakeOff(100).apply(&tagged), Some(frame.clone()));
        assert_eq!(Tag::TakeOff(101).apply(&tagged), None);
        assert_eq!(Tag::TakeOff(100).apply(&frame), None);
        assert_eq!(Tag::PutOn(100).apply(&frame[..11]), None);
        assert_eq!(Tag::Leave.apply(&frame), Some(frame));
    }

    #[test]
    fn one_seed_gives_one_fate_in_about_the_asked_shares() {
        let faults = Faults {
            loss: 1,
            duplicate: 2,
            reorder: 3,
            seed: 7,
        };
        let draw = || {
            let mut fate = Fate::new(&faults, 7);
            (0..100_000).map(|_| fate.next()).collect::<Vec<_>>()
        };
        let verdicts = draw();
        assert_eq!(verdicts, draw());
        let share = |v| verdicts.iter().filter(|verdict| **verdict == v).count();
        assert!((800..1200).contains(&share(Verdict::Lose)));
        assert!((1700..2300).contains(&share(Verdict::Twice)));
        assert!((2700..3300).contains(&share(Verdict::Hold)));
    }
}
