//! Random lives of mbufs against a model that owns plain bytes.
//!
//! After every step each handle must show what the model says; after the last one every pool is
//! full again: an mbuf cannot leak, whatever is done to it in whatever order.

mod support;

use std::collections::BTreeSet;
use std::rc::Rc;

use millrace_base::{HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool};
use millrace_dpdk::{Burst, Device, Mbuf, MbufPool, PortConfig, RxQueue, TxQueue, Vdev};
use proptest::prelude::*;
use support::{eal, mbuf_pool, unique};

const BUFS: u32 = 127;
const VIEWS: u32 = 63;

#[derive(Clone, Debug)]
enum Op {
    Alloc {
        len: usize,
        fill: u8,
    },
    Share {
        of: usize,
    },
    View {
        of: usize,
        skip: usize,
        len: usize,
    },
    Append {
        to: usize,
        tail: usize,
    },
    Detach {
        of: usize,
    },
    Write {
        of: usize,
        fill: u8,
    },
    Trim {
        of: usize,
        front: usize,
        back: usize,
    },
    Prepend {
        of: usize,
        len: usize,
        fill: u8,
    },
    Drop {
        of: usize,
    },
    /// Through a ring device and back.
    Loop {
        of: usize,
    },
    /// Into a device that frees it.
    Sink {
        of: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let of = 0..24_usize;
    prop_oneof![
        4 => (0..600_usize, any::<u8>()).prop_map(|(len, fill)| Op::Alloc { len, fill }),
        2 => of.clone().prop_map(|of| Op::Share { of }),
        3 => (of.clone(), 0..64_usize, 0..300_usize)
            .prop_map(|(of, skip, len)| Op::View { of, skip, len }),
        4 => (of.clone(), of.clone()).prop_map(|(to, tail)| Op::Append { to, tail }),
        2 => of.clone().prop_map(|of| Op::Detach { of }),
        2 => (of.clone(), any::<u8>()).prop_map(|(of, fill)| Op::Write { of, fill }),
        2 => (of.clone(), 0..50_usize, 0..50_usize)
            .prop_map(|(of, front, back)| Op::Trim { of, front, back }),
        2 => (of.clone(), 1..60_usize, any::<u8>())
            .prop_map(|(of, len, fill)| Op::Prepend { of, len, fill }),
        2 => of.clone().prop_map(|of| Op::Drop { of }),
        1 => of.clone().prop_map(|of| Op::Loop { of }),
        1 => of.prop_map(|of| Op::Sink { of }),
    ]
}

/// One segment as the model sees it. The two counts are those of the mbuf module: who holds the
/// struct, who the memory.
#[derive(Clone, Debug)]
struct Segment {
    holders: Rc<()>,
    memory: Rc<()>,
    is_view: bool,
    bytes: Vec<u8>,
}

struct World {
    pool: MbufPool,
    /// Each handle and the chain it should show.
    live: Vec<(Mbuf, Vec<Segment>)>,
    ring: (RxQueue, TxQueue),
    sink: TxQueue,
}

impl World {
    fn new() -> Self {
        let pool = mbuf_pool(BUFS, VIEWS);
        let open = |vdev: Vdev| {
            eal().plug(&vdev).expect("plugs");
            let device = Device::by_name(eal(), vdev.name()).expect("exists");
            let configured = device.configure(&PortConfig::default(), &[pool.bufs()]);
            let (_, mut rx, mut tx) = configured.expect("configures").start().expect("starts");
            (rx.remove(0), tx.remove(0))
        };
        let ring = open(Vdev::ring_loop(&unique("net_ring")));
        let (_, sink) = open(Vdev::sink(&unique("net_null")));
        Self {
            pool,
            live: Vec::new(),
            ring,
            sink,
        }
    }

    fn pick(&self, of: usize) -> Option<usize> {
        (!self.live.is_empty()).then(|| of % self.live.len())
    }

    /// Structs other than `segment`'s that point into its memory.
    ///
    /// A struct's own claim counts once, however many handles it has.
    fn others_in_memory(&self, segment: &Segment) -> usize {
        let others: BTreeSet<*const ()> = self
            .live
            .iter()
            .flat_map(|(_, chain)| chain)
            .filter(|other| Rc::ptr_eq(&other.memory, &segment.memory))
            .filter(|other| !Rc::ptr_eq(&other.holders, &segment.holders))
            .map(|other| Rc::as_ptr(&other.holders))
            .collect();
        others.len()
    }

    /// Whether the model says that the first segment of handle `at` may be changed.
    fn is_unique(&self, at: usize) -> bool {
        let first = &self.live[at].1[0];
        Rc::strong_count(&first.holders) == 1 && self.others_in_memory(first) == 0
    }

    /// Whether something may be put behind the last segment of handle `at`: its struct must be
    /// alone. Views of an mbuf are counted in its struct, like handles; views of a view are not.
    fn is_last_ours(&self, at: usize) -> bool {
        let Some(last) = self.live[at].1.last() else {
            return false;
        };
        let is_held = Rc::strong_count(&last.holders) > 1;
        !is_held && (last.is_view || self.others_in_memory(last) == 0)
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Alloc { len, fill } => self.alloc(len, fill),
            Op::Share { of } => self.share(of),
            Op::View { of, skip, len } => self.view(of, skip, len),
            Op::Append { to, tail } => self.append(to, tail),
            Op::Detach { of } => self.detach(of),
            Op::Write { of, fill } => self.write(of, fill),
            Op::Trim { of, front, back } => self.trim(of, front, back),
            Op::Prepend { of, len, fill } => self.prepend(of, len, fill),
            Op::Drop { of } => {
                if let Some(at) = self.pick(of) {
                    drop(self.live.swap_remove(at));
                }
            }
            Op::Loop { of } => self.through_the_ring(of),
            Op::Sink { of } => self.drop_in_the_sink(of),
        }
        self.check();
    }

    fn alloc(&mut self, len: usize, fill: u8) {
        let Some(mut buf) = self.pool.alloc() else {
            return;
        };
        assert!(buf.set_span(HEADROOM_BYTES_DEFAULT, len));
        buf.bytes_mut().expect("fresh").fill(fill);
        let segment = Segment {
            holders: Rc::new(()),
            memory: Rc::new(()),
            is_view: false,
            bytes: vec![fill; len],
        };
        self.live.push((buf, vec![segment]));
    }

    fn share(&mut self, of: usize) {
        let Some(at) = self.pick(of) else { return };
        let (buf, chain) = &self.live[at];
        let shared = (buf.share().expect("few holders"), chain.clone());
        self.live.push(shared);
    }

    fn view(&mut self, of: usize, skip: usize, len: usize) {
        let Some(at) = self.pick(of) else { return };
        let (buf, chain) = &self.live[at];
        let bytes = &chain[0].bytes;
        let skip = skip.min(bytes.len());
        let len = len.min(bytes.len() - skip);
        let Some(view) = self.pool.view(buf, buf.offset() + skip, len) else {
            return;
        };
        let bytes = bytes[skip..skip + len].to_vec();
        let segment = Segment {
            holders: Rc::new(()),
            memory: Rc::clone(&chain[0].memory),
            is_view: true,
            bytes,
        };
        self.live.push((view, vec![segment]));
    }

    fn append(&mut self, to: usize, tail: usize) {
        let (Some(to), Some(tail)) = (self.pick(to), self.pick(tail)) else {
            return;
        };
        if to == tail {
            return;
        }
        let allowed = self.is_unique(to) && self.is_last_ours(to);
        // The last handle takes the place of the one removed.
        let last = self.live.len() - 1;
        let (tail_buf, tail_chain) = self.live.swap_remove(tail);
        let to = if to == last { tail } else { to };
        self.append_at(to, tail_buf, tail_chain, allowed);
    }

    fn append_at(&mut self, to: usize, tail: Mbuf, tail_chain: Vec<Segment>, allowed: bool) {
        let (buf, chain) = &mut self.live[to];
        match buf.append(tail) {
            Ok(()) => {
                assert!(allowed, "appended to something shared");
                chain.extend(tail_chain);
            }
            Err(tail) => {
                assert!(!allowed, "refused without a reason");
                self.live.push((tail, tail_chain));
            }
        }
    }

    fn detach(&mut self, of: usize) {
        let Some(at) = self.pick(of) else { return };
        let allowed = self.is_unique(at) && self.live[at].1.len() > 1;
        let (buf, chain) = &mut self.live[at];
        let tail = buf.detach_next();
        assert_eq!(tail.is_some(), allowed);
        if let Some(tail) = tail {
            let rest = chain.split_off(1);
            self.live.push((tail, rest));
        }
    }

    fn write(&mut self, of: usize, fill: u8) {
        let Some(at) = self.pick(of) else { return };
        let allowed = self.is_unique(at);
        let (buf, chain) = &mut self.live[at];
        let bytes = buf.bytes_mut();
        assert_eq!(bytes.is_some(), allowed);
        if let Some(bytes) = bytes {
            bytes.fill(fill);
            chain[0].bytes.fill(fill);
        }
    }

    fn trim(&mut self, of: usize, front: usize, back: usize) {
        let Some(at) = self.pick(of) else { return };
        let allowed = self.is_unique(at);
        let (buf, chain) = &mut self.live[at];
        let bytes = &mut chain[0].bytes;
        let front = front.min(bytes.len());
        let back = back.min(bytes.len() - front);
        let len = bytes.len() - front - back;
        assert_eq!(buf.set_span(buf.offset() + front, len), allowed);
        if allowed {
            *bytes = bytes[front..front + len].to_vec();
        }
    }

    fn prepend(&mut self, of: usize, len: usize, fill: u8) {
        let Some(at) = self.pick(of) else { return };
        let allowed = self.is_unique(at) && self.live[at].0.offset() >= len;
        let (buf, chain) = &mut self.live[at];
        let bytes = &mut chain[0].bytes;
        let offset = buf.offset().wrapping_sub(len);
        assert_eq!(buf.set_span(offset, bytes.len() + len), allowed);
        if allowed {
            buf.bytes_mut().expect("unique")[..len].fill(fill);
            bytes.splice(0..0, std::iter::repeat_n(fill, len));
        }
    }

    fn through_the_ring(&mut self, of: usize) {
        let Some(at) = self.pick(of) else { return };
        let (buf, chain) = self.live.swap_remove(at);
        let mut burst = Burst::new();
        burst.try_push(buf).expect("room");
        assert!(self.ring.1.burst(&mut burst).is_empty());
        assert_eq!(self.ring.0.burst(&mut burst), 1);
        let buf = burst.drain().next().expect("one");
        self.live.push((buf, chain));
    }

    fn drop_in_the_sink(&mut self, of: usize) {
        let Some(at) = self.pick(of) else { return };
        let (buf, chain) = self.live.swap_remove(at);
        let mut burst = Burst::new();
        burst.try_push(buf).expect("room");
        // The sink takes no chains: one too long to be copied flat comes back and is freed here
        // instead.
        let refused = self.sink.burst(&mut burst).discard();
        assert!(refused == 0 || chain.len() > 1);
    }

    fn check(&self) {
        for (at, (buf, chain)) in self.live.iter().enumerate() {
            let shown: Vec<&[u8]> = buf.segments().collect();
            let expected: Vec<&[u8]> = chain.iter().map(|segment| &segment.bytes[..]).collect();
            assert_eq!(shown, expected);
            assert_eq!(buf.segment_count(), chain.len());
            assert_eq!(
                buf.frame_len(),
                expected.iter().map(|bytes| bytes.len()).sum::<usize>()
            );
            assert_eq!(buf.is_unique(), self.is_unique(at));
        }
    }
}

#[test]
fn whatever_is_done_to_mbufs_none_is_lost_and_none_changes_under_another() {
    let world = std::cell::RefCell::new(World::new());
    let config = ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(ops in prop::collection::vec(op(), 1..120))| {
        let mut world = world.borrow_mut();
        // What a failed case left behind, while it is being made smaller.
        world.live.clear();
        for op in &ops {
            world.step(op);
        }
        world.live.clear();
        prop_assert_eq!(world.pool.bufs().available(), BUFS as usize);
        prop_assert_eq!(world.pool.views().available(), VIEWS as usize);
    });
}
