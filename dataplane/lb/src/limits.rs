//! Every bound of the balancer, with its reason. Table sizes that control also knows are
//! `millrace_abi`'s.

use millrace_base::Nanos;

/// Sessions one lcore may be configured for.
///
/// The user word of a flow carries the slot number in 30 bits; 2^24 sessions are 2^25 connections,
/// as many as a stack can hold, 13 GB of them.
pub const SESSIONS_MAX: usize = 1 << 24;

/// Probes one lcore may be configured to have under way.
///
/// Probes share the 30 bits of slot number with sessions. Control probes each backend from one
/// lcore, so that `BACKENDS_MAX` is the most it can ask for.
pub const PROBES_MAX: usize = 4096;

/// Slot numbers fit the bits that `user.rs` gives them.
pub const SLOT_BITS: u32 = 30;
const _: () = assert!(SESSIONS_MAX <= 1 << SLOT_BITS);
const _: () = assert!(PROBES_MAX <= 1 << SLOT_BITS);

/// Connection attempts for one session: the first and three retries, each to another backend.
///
/// HAProxy's `retries 3`. A client waits for all of them, so more would only turn a refusal into a
/// hang.
pub const ATTEMPTS_MAX: usize = 4;
const _: () = assert!(ATTEMPTS_MAX <= u8::MAX as usize);

/// How long one attempt to reach a backend may take.
///
/// Four SYNs (at 0, 1, 2 and 3 s, `tcp_syn_linear_timeouts`) fit. Linux's own limit
/// (`tcp_syn_retries`, 127 s) is made for programs without a second choice. HAProxy's documentation
/// recommends slightly above 3 s for the same reason.
pub const CONNECT_TIMEOUT: Nanos = Nanos::from_millis(4_000);

/// How long a session may pass no byte in either direction before both legs are reset.
pub const IDLE_TIMEOUT: Nanos = Nanos::from_secs(3_600);

/// How often an established session is looked at to see whether it is idle: the error of the idle
/// timeout.
///
/// A million sessions cost 17,000 looks a second.
pub const IDLE_CHECK_INTERVAL: Nanos = Nanos::from_secs(60);

/// Sessions whose deadline one `advance` call may handle; the rest waits for the next call.
pub const EXPIRIES_PER_ADVANCE_MAX: usize = 64;

/// Pairs of source address and backend endpoint that one lcore may be configured to keep account
/// of.
///
/// With one lcore an account takes 8.3 KiB (a bit for each port); this many are 540 MiB, and cover
/// 64 addresses with 1,024 backends each.
pub const SNAT_PAIRS_MAX: usize = 1 << 16;

/// Source ports tried for a connection whose pair has no account.
///
/// Ports of this lcore follow one another, so that this many tries fail only when 64 neighbours are
/// all taken.
pub const SNAT_TRIES_MAX: usize = 64;

/// Tuples tried for one connection that our account calls free and the stack does not.
pub const BUSY_TUPLES_MAX: usize = 8;

/// Lookups that one report of headrooms may make; the other backends' turn comes with the next.
///
/// A report is made ten times a second. 16 addresses with 16 backends are 256 lookups; 64 with 1,024
/// are told anew every 6 s.
pub const HEADROOM_LOOKUPS_MAX: usize = 1_024;

/// Picks made and thrown away when a pool appears, so that not every lcore starts with the same
/// backend.
pub const WARM_UP_PICKS_MAX: u32 = 64;

/// The weight above which a configured weight counts as this: HAProxy's maximum.
pub const WEIGHT_MAX: u16 = 256;
// A round robin score stays within ± (sum of weights) and must fit an i32.
const _: () =
    assert!((WEIGHT_MAX as i64) * (millrace_abi::limits::BACKENDS_MAX as i64) < (i32::MAX as i64));

/// Listings of connections that may be under way at once.
pub const LISTINGS_MAX: usize = 4;

/// Session slots one listing may look at in one burst: bounds what `millrace show connections`
/// costs the packets.
pub const LISTING_SLOTS_PER_BURST_MAX: u32 = 64;

/// The shortest timeout of a probe; less is this.
pub const PROBE_TIMEOUT_MIN: Nanos = Nanos::from_millis(1);

/// The longest timeout of a probe; more is this. A probe that hangs for a minute has said enough.
pub const PROBE_TIMEOUT_MAX: Nanos = Nanos::from_secs(60);

/// Sessions that one call of `reset_sessions` resets.
///
/// Each owes two RSTs, and the stack holds `REPLIES_MAX` replies until the next transmission.
pub const RESETS_PER_CALL_MAX: usize = 64;
const _: () = assert!(2 * RESETS_PER_CALL_MAX <= millrace_stack::limits::REPLIES_MAX);
