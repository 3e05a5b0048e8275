//! The proof that a card delivers where the RSS map predicts: probes at start, before any lcore polls.
//!
//! A probe is a frame to the port's own address: an Ethernet, IP and TCP header with a tuple of the benchmarking networks
//! (RFC 2544, RFC 5180), chosen so that every slot of the redirection table is met, and a payload with a nonce, so that it is
//! recognised and never enters a stack. It leaves by queue 0. Whatever sends it back (the card's own loopback, a cable with an
//! echo at its end, the emulated wire), it must arrive by the queue of the lcore that the map says. Its only TCP flag is RST,
//! which nobody answers, should it reach somebody.
//!
//! One wrong arrival refutes. Silence proves nothing either way: then software hashes. All of it takes bounded time, is done
//! once, and drops what else arrives meanwhile: there is nobody yet to take it.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use millrace_abi::RssProof;
use millrace_base::rss::RssMap;
use millrace_base::{
    Address, Endpoint, FlowTuple, LcoreIndex, MacAddress, PacketBuf, PacketPool, Rng, SeqNumber,
};
use millrace_dpdk::{Burst, MbufPool, RxQueue, TxQueue};
use millrace_wire::tcp::checksum;
use millrace_wire::{IpRepr, TcpFlags, TcpOptions, TcpRepr, ethernet, protocol};

/// Marks a probe; the nonce and the probe's number follow.
const MAGIC: [u8; 8] = *b"mrRSStst";
const COOKIE_BYTES: usize = 20;
/// The longest probe: headers of IPv6 and TCP, and the cookie.
const PROBE_BYTES_MAX: usize = 14 + 40 + 20 + COOKIE_BYTES;
/// How long answers may be missing before the silent probes are sent again, or given up when there were any.
const PATIENCE: Duration = Duration::from_millis(25);
/// Probes that leave at a time: less than the shortest ring holds.
const ROUND_PROBES: usize = 32;

/// A port under test: its queues in the order of the lcores, and where its frames come from.
pub struct Subject<'a> {
    /// The address that probes are sent to: the card's own.
    pub mac: MacAddress,
    /// One queue for each lcore.
    pub rx: &'a mut [RxQueue],
    /// The queue that probes leave by.
    pub tx: &'a mut TxQueue,
    /// Where probes come from.
    pub pool: &'a mut MbufPool,
}

/// What a test found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Findings {
    /// The verdict.
    pub proof: RssProof,
    /// Probes there were.
    pub probes: usize,
    /// Probes that arrived where they were predicted.
    pub right: usize,
    /// The first that did not: predicted and seen.
    pub wrong: Option<(LcoreIndex, LcoreIndex)>,
}

/// One probe: its tuple as we would see it, and what became of it.
#[derive(Clone, Copy, Debug)]
struct Probe {
    tuple: FlowTuple,
    answered: bool,
}

/// Sends probes and watches where they arrive, for at most `budget`.
pub fn run(map: &RssMap, subject: &mut Subject<'_>, budget: Duration, seed: u64) -> Findings {
    let mut rng = Rng::new(seed);
    let nonce = rng.next_u64();
    let mut probes = probes(map, &mut rng);
    let mut findings = Findings {
        proof: RssProof::NoAnswer,
        probes: probes.len(),
        right: 0,
        wrong: None,
    };
    let started = Instant::now();
    while started.elapsed() < budget && findings.wrong.is_none() {
        let before = findings.right;
        let mut asked = 0;
        while let Some(next) = probes.get(asked..).filter(|rest| !rest.is_empty()) {
            let round = next.len().min(ROUND_PROBES);
            send(subject, nonce, asked, next.get(..round).unwrap_or_default());
            asked = asked.saturating_add(round);
            collect(map, subject, nonce, &mut probes, &mut findings);
            // A wire that has answered nothing yet is not flooded: one round at a time.
            if findings.right == 0 {
                break;
            }
        }
        let sent = Instant::now();
        let mut heard = findings.right;
        let mut last = sent;
        while last.elapsed() < PATIENCE && started.elapsed() < budget && findings.wrong.is_none() {
            collect(map, subject, nonce, &mut probes, &mut findings);
            if findings.right != heard {
                (heard, last) = (findings.right, Instant::now());
            }
            if findings.right == findings.probes {
                break;
            }
            std::thread::yield_now();
        }
        let is_over = findings.right == findings.probes;
        if is_over || (findings.right == before && findings.right > 0) {
            break;
        }
    }
    findings.proof = verdict(&findings);
    findings
}

/// One wrong arrival refutes; half of the probes must have come back, for a wire may lose some.
fn verdict(findings: &Findings) -> RssProof {
    if findings.wrong.is_some() {
        RssProof::Wrong
    } else if findings.probes > 0 && findings.right.saturating_mul(2) >= findings.probes {
        RssProof::Proven
    } else {
        RssProof::NoAnswer
    }
}

/// A probe for every slot in either family.
fn probes(map: &RssMap, rng: &mut Rng) -> Vec<Probe> {
    let slots = 0..map.owners().len() as u32;
    let families = [true, false].into_iter();
    let wanted = families.flat_map(|is_v4| slots.clone().map(move |slot| (is_v4, slot)));
    wanted
        .map(|(is_v4, slot)| Probe {
            tuple: tuple_in_slot(map, rng, is_v4, slot),
            answered: false,
        })
        .collect()
}

/// A tuple of the benchmarking networks that hashes into `slot`.
fn tuple_in_slot(map: &RssMap, rng: &mut Rng, is_v4: bool, slot: u32) -> FlowTuple {
    let [a, b, c, d, e, f, g, h] = rng.next_u64().to_be_bytes();
    let (ours, theirs) = if is_v4 {
        (Address::v4([198, 18, a, b]), Address::v4([198, 19, c, d]))
    } else {
        let host = |last: [u8; 4]| {
            let [w, x, y, z] = last;
            Address::v6([0x20, 0x01, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, w, x, y, z])
        };
        (host([a, b, c, d]), host([e, f, g, h]))
    };
    let remote = Endpoint::new(theirs, u16::from_be_bytes([g, h]));
    let mut tuple = FlowTuple {
        local: Endpoint::new(ours, 0),
        remote,
    };
    let order = map.ports(is_v4);
    let rest = map.slot(map.hash(&tuple));
    let place = rng.below(order.bucket_ports() as u32) as usize;
    tuple.local.port = order.port(rest ^ slot, place);
    tuple
}

/// Sends one round of probes that were not answered; `first` is the number of the first.
fn send(subject: &mut Subject<'_>, nonce: u64, first: usize, probes: &[Probe]) {
    let mut burst = Burst::new();
    for (number, probe) in (first as u32..)
        .zip(probes)
        .filter(|(_, probe)| !probe.answered)
    {
        let mut bytes = [0u8; PROBE_BYTES_MAX];
        let written = emit(&mut bytes, subject.mac, &probe.tuple, nonce, number);
        let bytes = written.and_then(|len| bytes.get(..len));
        if let (Some(bytes), Some(mut frame)) = (bytes, subject.pool.alloc()) {
            let offset = frame.offset();
            if frame.set_span(offset, bytes.len())
                && let Some(room) = frame.bytes_mut()
            {
                room.copy_from_slice(bytes);
                drop(burst.try_push(frame));
            }
        }
    }
    // What the device does not take now is sent with the next round.
    drop(subject.tx.burst(&mut burst));
    burst.clear();
}

/// Writes a probe; returns its length.
fn emit(
    bytes: &mut [u8],
    mac: MacAddress,
    tuple: &FlowTuple,
    nonce: u64,
    number: u32,
) -> Option<usize> {
    let (source, destination) = (tuple.remote, tuple.local);
    let ip = IpRepr {
        source: source.address,
        destination: destination.address,
        protocol: protocol::TCP,
        hop_limit: 1,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0,
        payload_len: (20 + COOKIE_BYTES) as u16,
    };
    let tcp = TcpRepr {
        source_port: source.port,
        destination_port: destination.port,
        seq: SeqNumber::new(number),
        ack: SeqNumber::new(0),
        flags: TcpFlags::RST,
        window: 0,
        urgent: 0,
        options: TcpOptions::default(),
    };
    let [first, others @ ..] = *mac.octets();
    let [b, c, d, e, f] = others;
    // Not our own address: some cards drop what seems to come from themselves.
    let other = MacAddress::new([first ^ 0x02, b, c, d, e, f]);
    let ip_at = ethernet::emit(bytes, mac, other, ip.ether_type())?;
    let tcp_at = ip_at.checked_add(ip.emit(bytes.get_mut(ip_at..)?, false)?)?;
    let cookie_at = tcp_at.checked_add(tcp.emit(bytes.get_mut(tcp_at..)?)?)?;
    let end = cookie_at.checked_add(COOKIE_BYTES)?;
    let cookie = bytes.get_mut(cookie_at..end)?;
    cookie.get_mut(..8)?.copy_from_slice(&MAGIC);
    cookie.get_mut(8..16)?.copy_from_slice(&nonce.to_be_bytes());
    cookie.get_mut(16..)?.copy_from_slice(&number.to_be_bytes());
    let segment = bytes.get_mut(tcp_at..end)?;
    let len = segment.len() as u32;
    checksum::fill(ip.source, ip.destination, segment, core::iter::empty(), len)?;
    Some(end)
}

/// Takes what has arrived at any queue.
fn collect(
    map: &RssMap,
    subject: &mut Subject<'_>,
    nonce: u64,
    probes: &mut [Probe],
    findings: &mut Findings,
) {
    let mut burst = Burst::new();
    for (queue, rx) in (0u16..).zip(subject.rx.iter_mut()) {
        rx.burst(&mut burst);
        let numbers: ArrayVec<u32, { millrace_dpdk::BURST_FRAMES_MAX }> = burst
            .frames()
            .iter()
            .filter_map(|frame| number_of(frame.bytes(), nonce))
            .collect();
        burst.clear();
        for number in numbers {
            let Some(probe) = probes.get_mut(number as usize) else {
                continue;
            };
            let predicted = map.owner(&probe.tuple);
            let seen = LcoreIndex::new(queue);
            if predicted != seen {
                findings.wrong.get_or_insert((predicted, seen));
            } else if !probe.answered {
                probe.answered = true;
                findings.right = findings.right.saturating_add(1);
            }
        }
    }
}

/// The number of a probe of this test; `None` for any other frame. It may have got a tag on its way.
fn number_of(frame: &[u8], nonce: u64) -> Option<u32> {
    let at = frame
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)?;
    let cookie: &[u8; COOKIE_BYTES] = frame.get(at..)?.first_chunk()?;
    let (head, number) = cookie.split_last_chunk::<4>()?;
    let is_ours = head.last_chunk::<8>() == Some(&nonce.to_be_bytes());
    is_ours.then(|| u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests;
