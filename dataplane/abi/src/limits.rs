//! Every bound of the shared region, with its reason. Changing one changes the layout hash.

/// Worker lcores one dataplane may run.
///
/// A 64-core machine is the largest we plan for; each lcore costs about 3 MiB of region.
pub const LCORES_MAX: usize = 64;

/// Network ports one dataplane may own. A load balancer has a front, a back and their spares.
pub const PORTS_MAX: usize = 16;

/// Own addresses of all kinds together: interface, VIP, SNAT.
pub const ADDRESSES_MAX: usize = 256;

/// Routes of the forwarding table, both families together: a default route and the operator's
/// statics.
pub const ROUTES_MAX: usize = 1024;

/// Listeners. Also the number of listener identifiers, so counters are indexed by identifier.
pub const LISTENERS_MAX: usize = 1024;

/// Pools.
pub const POOLS_MAX: usize = 512;

/// Backends of all pools. Also the number of backend identifiers, so counters are indexed by
/// identifier.
pub const BACKENDS_MAX: usize = 4096;

/// Source addresses (with their port ranges) for connections to backends.
pub const SNAT_MAX: usize = 64;

/// Bytes of a name, UTF-8, zero padded: enough for a DNS label's first half, small enough for a
/// table row.
pub const NAME_BYTES: usize = 32;

/// Counters one lcore may have, without the per-backend and per-listener ones.
pub const COUNTERS_MAX: usize = 512;

/// Bytes of a counter's name, zero padded.
pub const COUNTER_NAME_BYTES: usize = 64;

/// Bytes of a counter's help sentence, zero padded.
pub const COUNTER_HELP_BYTES: usize = 160;

/// 64-bit words of one command or event.
pub const MESSAGE_WORDS: usize = 16;

/// Bytes of one command or event: two cache lines.
pub const MESSAGE_BYTES: usize = MESSAGE_WORDS * 8;

/// Commands that may wait for one lcore. Control sends probes and neighbours: hundreds per second,
/// drained every burst.
pub const COMMANDS_MAX: usize = 1024;

/// Events that may wait for control. Larger than the commands: one listing answers one command with
/// many rows.
pub const EVENTS_MAX: usize = 4096;

/// Frames that may wait in one punt or inject ring: ARP and ND bursts, 1 MiB a ring.
pub const FRAMES_MAX: usize = 512;

/// 64-bit words of one frame slot.
pub const FRAME_WORDS: usize = 256;

/// The longest frame that fits a slot: 2 KiB less the slot's 8-byte header. Control protocols fit
/// in 1,514 bytes.
pub const FRAME_BYTES_MAX: usize = (FRAME_WORDS - 1) * 8;

/// Buckets of the burst-size histogram: 0, 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 and more.
pub const BURST_BUCKETS: usize = 8;

/// Stages that an lcore's busy cycles are told apart by.
pub const STAGES: usize = 8;

const _: () = assert!(COMMANDS_MAX.is_power_of_two());
const _: () = assert!(EVENTS_MAX.is_power_of_two());
const _: () = assert!(FRAMES_MAX.is_power_of_two());
const _: () = assert!(EVENTS_MAX >= COMMANDS_MAX);
const _: () = assert!(FRAME_BYTES_MAX >= 1_518);
// Identifiers and indices are 16 bits.
const _: () = assert!(BACKENDS_MAX <= u16::MAX as usize);
const _: () = assert!(LISTENERS_MAX <= u16::MAX as usize);
const _: () = assert!(ROUTES_MAX <= u16::MAX as usize);
const _: () = assert!(POOLS_MAX <= u16::MAX as usize);
