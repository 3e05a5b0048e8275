//! Virtual devices: network cards made of software, for tests and machines without a spare card.
//!
//! A [`Vdev`] is a name and its driver's arguments; pass it to EAL at start or to
//! [`Eal::plug`](crate::Eal::plug) later. The constructors write down what each driver needs to
//! work at all; `with` adds what they do not know.

use core::fmt;

/// A virtual device to create. The name begins with its driver's: `net_tap0`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vdev {
    name: String,
    arguments: Vec<String>,
}

/// How an [`af_packet`](Vdev::af_packet) device is sized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AfPacketRing {
    /// Queues in each direction; must be the number that is configured. The kernel spreads received
    /// frames by a hash that we cannot know.
    pub queue_pairs: u16,
    /// The longest frame, plus the ring's own header. A longer one is **cut without a sign**: keep
    /// it above the link's MTU + 100. 2048 for 1500, 16384 for 9000.
    pub frame_bytes: u32,
    /// Frames per ring.
    pub frame_count: u32,
}

impl Default for AfPacketRing {
    fn default() -> Self {
        Self {
            queue_pairs: 1,
            frame_bytes: 2_048,
            frame_count: 4_096,
        }
    }
}

impl Vdev {
    /// A device by its full name, without arguments.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arguments: Vec::new(),
        }
    }

    /// A device as EAL's `--vdev` takes it: `net_tap0,iface=tap0`.
    pub fn parse(devargs: &str) -> Self {
        let mut words = devargs.split(',').map(str::to_owned);
        Self {
            name: words.next().unwrap_or_default(),
            arguments: words.collect(),
        }
    }

    /// Endless empty frames in, a sink out.
    pub fn null(name: &str) -> Self {
        Self::new(name)
    }

    /// Nothing in, a sink out.
    pub fn sink(name: &str) -> Self {
        Self::new(name).with("no-rx", 1)
    }

    /// What leaves queue *i* comes in on queue *i*: a loop of pointers.
    pub fn ring_loop(name: &str) -> Self {
        Self::new(name)
    }

    /// A kernel interface through a memory-mapped packet socket. Needs `CAP_NET_RAW` and
    /// `CAP_NET_ADMIN`.
    ///
    /// No offloads: the kernel peer must not leave its checksums to the device (`ethtool -K peer tx
    /// off`).
    pub fn af_packet(name: &str, interface: &str, ring: AfPacketRing) -> Self {
        // The driver wants whole frames in a block and whole pages; a frame larger than a page is
        // its own block.
        let block_bytes = ring.frame_bytes.max(4_096);
        Self::new(name)
            .with("iface", interface)
            .with("qpairs", ring.queue_pairs)
            .with("qdisc_bypass", 1)
            .with("blocksz", block_bytes)
            .with("framesz", ring.frame_bytes)
            .with("framecnt", ring.frame_count)
    }

    /// One queue of a kernel interface through AF_XDP. Needs root. No offloads, no chains, frames
    /// up to 3400 bytes.
    pub fn af_xdp(name: &str, interface: &str, queue: u16) -> Self {
        Self::new(name)
            .with("iface", interface)
            .with("start_queue", queue)
            .with("busy_budget", 0)
    }

    /// A new kernel interface whose other side is us. Software checksums and segmentation; about 1
    /// Gbit/s.
    pub fn tap(name: &str, interface: &str) -> Self {
        Self::new(name).with("iface", interface)
    }

    /// Shared memory with another process; `is_server` listens on the socket.
    pub fn memif(name: &str, socket: &str, is_server: bool) -> Self {
        let role = if is_server { "server" } else { "client" };
        Self::new(name)
            .with("role", role)
            .with("socket", socket)
            .with("socket-abstract", "no")
    }

    /// A virtio device whose other side is a vhost-user socket. Needs `single_file_segments`.
    pub fn virtio_user(name: &str, socket: &str, queues: u16) -> Self {
        Self::new(name)
            .with("path", socket)
            .with("queues", queues)
            .with("queue_size", 1_024)
    }

    /// The vhost-user side of [`virtio_user`](Self::virtio_user), with segmentation offload. A
    /// stale socket file must be removed first.
    pub fn vhost(name: &str, socket: &str, queues: u16) -> Self {
        Self::new(name)
            .with("iface", socket)
            .with("queues", queues)
            .with("tso", 1)
    }

    /// One more argument, as the driver's guide writes it.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.arguments.push(format!("{key}={value}"));
        self
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's arguments, separated by commas.
    pub fn arguments(&self) -> String {
        self.arguments.join(",")
    }

    /// Name and arguments as `--vdev` takes them.
    pub fn devargs(&self) -> String {
        if self.arguments.is_empty() {
            self.name.clone()
        } else {
            format!("{},{}", self.name, self.arguments())
        }
    }
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.devargs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing_and_printing_agree() {
        let ring = AfPacketRing {
            queue_pairs: 2,
            ..AfPacketRing::default()
        };
        let vdev = Vdev::af_packet("net_af_packet0", "d0", ring);
        assert_eq!(Vdev::parse(&vdev.devargs()), vdev);
        assert_eq!(vdev.name(), "net_af_packet0");
        assert_eq!(Vdev::parse("net_null0").devargs(), "net_null0");
    }

    #[test]
    fn a_jumbo_frame_gets_a_block_of_its_own() {
        let ring = AfPacketRing {
            frame_bytes: 16_384,
            ..AfPacketRing::default()
        };
        let arguments = Vdev::af_packet("net_af_packet0", "d0", ring).arguments();
        assert!(arguments.contains("blocksz=16384,framesz=16384"));
    }
}
