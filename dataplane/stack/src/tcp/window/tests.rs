//! The window against Linux's numbers.

use super::*;
use crate::tcp::config::Special;
use crate::tcp::recv_buffer::memory_of;
use crate::tcp::right_size::FullSegment;

const MSS: u32 = 1_448;
static TUNABLES: std::sync::LazyLock<TcpTunables> = std::sync::LazyLock::new(TcpTunables::default);

fn window(scale: u8) -> ReceiveWindow {
    let mut window = ReceiveWindow::new(&TcpTunables::default(), Instant::ZERO);
    window.open(SeqNumber::new(u32::MAX - 10), 65_535, scale);
    window.set_threshold(u32::MAX);
    window
}

fn with_memory(bytes: u32) -> TcpTunables {
    TcpTunables {
        special: Special {
            receive_buffer: bytes,
            ..Special::default()
        },
        ..TcpTunables::default()
    }
}

// SHLD-14: the right edge never moves left, whatever waits for the application.
// behaviour: A5-2, A5-3
#[test]
fn the_window_never_shrinks() {
    let mut window = window(7);
    let edge = window.edge();
    let told = window.advertise(131_072, MSS, &TUNABLES);
    assert!(window.edge().after_or_eq(edge));
    assert_eq!(told.news, Advertised::WANTED_ZERO | Advertised::CROWDED);
    window.nxt = window.nxt.plus(65_000);
    let told = window.advertise(131_072, MSS, &TUNABLES);
    assert_eq!(
        told.field, 5,
        "535 bytes are promised: five units hold them"
    );
}

// MUST-39: no silly windows.
// behaviour: A5-6, A5-7, RDV-20
#[test]
fn a_full_buffer_closes_the_window_and_opens_it_by_a_segment() {
    let mut window = window(7);
    window.nxt = window.edge();
    let told = window.advertise(131_072, MSS, &TUNABLES);
    assert_eq!((told.field, told.tells(Advertised::CLOSED)), (0, true));
    assert!(
        !window.on_taken(1_000, 129_072, MSS, &TUNABLES),
        "less than a sixteenth of the buffer"
    );
    assert_eq!(window.advertise(129_072, MSS, &TUNABLES).field, 0);
    assert!(window.on_taken(20_000, 89_072, MSS, &TUNABLES));
    let told = window.advertise(89_072, MSS, &TUNABLES);
    assert_eq!(u32::from(told.field) << 7, 20_992);
    assert!(told.tells(Advertised::OPENED));
}

// A peer that probes has made the window end a byte behind what it sent: each byte that is taken from it
// must not bring just another one.
// behaviour: A5-6
#[test]
fn a_window_of_a_byte_opens_again_where_no_more_than_a_segment_may_be_promised() {
    let mut window = window(0);
    window.open(SeqNumber::new(7), 1, 0);
    window.set_threshold(MSS);
    window.nxt = window.edge();
    assert!(window.on_taken(1, 0, MSS, &TUNABLES));
    assert_eq!(u32::from(window.advertise(0, MSS, &TUNABLES).field), MSS);
}

// SHLD-14, for an ACK that leaves out what came marked otherwise (RFC 8257 section 3.2).
// behaviour: A5-2
#[test]
fn an_ack_that_ends_earlier_promises_no_less_and_the_next_one_keeps_it() {
    let mut window = window(7);
    let edge = window.edge();
    window.nxt = window.nxt.plus(1_452);
    let ack = window.nxt.minus(726);
    let field = window.field_from(ack, 0xffff);
    assert_eq!(field, 507, "64,809 bytes, in whole units");
    let promised = ack.plus(u32::from(field) << 7);
    assert!(promised.after_or_eq(edge));
    let told = window.advertise(131_072, MSS, &TUNABLES);
    let end = window.nxt.plus(u32::from(told.field) << 7);
    assert!(end.after_or_eq(promised));
}

// A segment alone would be too late where the window is large: the sixteenth comes first, and where
// it is small the segment. Half of the buffer free is promised as it is.
// behaviour: A5-7, A5-13
#[test]
fn the_window_closes_at_a_sixteenth_or_at_a_segment_whichever_is_more() {
    let at = |memory: u32, free: u32| {
        let tunables = with_memory(memory);
        let mut window = ReceiveWindow::new(&tunables, Instant::ZERO);
        window.open(SeqNumber::new(7), 0, 1);
        window.set_threshold(u32::MAX);
        let told = window.advertise(memory - free * 2, MSS, &tunables);
        u32::from(told.field) << 1
    };
    // 65,536 bytes of window: a sixteenth is 4,096.
    assert_eq!((at(131_072, 4_096), at(131_072, 4_094)), (4_096, 0));
    // 8,000 bytes: a sixteenth is 500, a segment is more.
    assert_eq!((at(16_000, 1_448), at(16_000, 1_446)), (1_448, 0));
    // 2,000 bytes, of which more than half are free: less than a segment is promised all the same.
    assert_eq!(at(4_000, 1_000), 1_000);
}

// behaviour: A5-11
#[test]
fn the_application_s_clamp_bounds_the_window_and_what_counts_as_a_segment() {
    let mut tunables = TcpTunables::default();
    tunables.special.window_clamp = 1_200;
    let mut window = ReceiveWindow::new(&tunables, Instant::ZERO);
    window.open(SeqNumber::new(7), 0, 0);
    window.set_threshold(u32::MAX);
    window.begin(500, Instant::ZERO, &tunables);
    assert_eq!(window.threshold(), 1_200);
    let told = window.advertise(0, MSS, &tunables);
    assert_eq!(told.field, 1_200, "the window is one segment, not 1,448");
    tunables.special.window_clamp = 0;
    window.nxt = window.edge();
    assert_eq!(window.advertise(0, MSS, &tunables).field, 0);
}

// A window smaller than the unit is rounded up, or it would be none.
// behaviour: A5-15
#[test]
fn a_window_below_the_unit_is_told_as_one_unit() {
    let tunables = with_memory(4_000);
    let mut window = ReceiveWindow::new(&tunables, Instant::ZERO);
    window.open(SeqNumber::new(7), 0, 14);
    window.set_threshold(u32::MAX);
    assert_eq!(window.advertise(0, 500, &tunables).field, 1);
    window.nxt = window.edge();
    assert_eq!(window.advertise(4_000, 500, &tunables).field, 0);
}

// The numbers are those that Linux 6.18 tells: 131,072 bytes of memory, scale 10, eight segments of
// 1,460 bytes that nobody reads, all of them read, and eight more.
// behaviour: A5-14, X8-8
#[test]
fn the_threshold_opens_the_window_by_two_segments_for_each_full_one_as_in_linux() {
    let mut window = window(10);
    window.open(SeqNumber::new(7), 64_240, 10);
    window.begin(1_460, Instant::ZERO, &TUNABLES);
    let full = FullSegment {
        announced: 1_460,
        seen: 1_460,
    };
    let mut told = Vec::new();
    for at in 0..16u32 {
        if at == 0 {
            window.weigh(1_460, &TUNABLES);
        }
        let unread = at % 8 + 1;
        window.nxt = window.nxt.plus(1_460);
        let used = memory_of(unread * 1_460, unread);
        if window.is_opening() {
            window.grow(1_460, used, full, &TUNABLES);
        }
        told.push(window.advertise(used, 1_460, &TUNABLES).field);
    }
    let linux = [
        66, 69, 72, 75, 74, 73, 72, 71, 77, 79, 78, 77, 76, 75, 74, 73,
    ];
    assert_eq!(told, linux);
}

// Linux: `__tcp_grow_window`. A segment that leaves most of its buffer empty earns less, and a tiny one
// nothing.
// behaviour: A5-14
#[test]
fn badly_filled_buffers_earn_little_and_tiny_ones_nothing() {
    let full = FullSegment {
        announced: 1_460,
        seen: 600,
    };
    let earned = |len: u32, threshold: u32| {
        let mut window = window(7);
        window.set_threshold(threshold);
        window.lower_threshold(threshold);
        window.grow(len, memory_of(len, 1), full, &TUNABLES);
        window.threshold() - threshold
    };
    assert_eq!(earned(1_400, 10_000), 2_920, "it fills its buffer");
    assert_eq!(
        earned(600, 10_000),
        1_200,
        "it does not, but there is much to come"
    );
    assert_eq!(earned(127, 10_000), 0);
}

// Linux: tcp_cleanup_rbuf. What the window would be is not computed while it cannot double: a reader
// who keeps up costs no ACK.
// behaviour: Z1-7
#[test]
fn a_window_beyond_half_of_its_limit_is_not_looked_at() {
    let mut window = window(7);
    let memory = window.memory();
    let half = window.worth(memory) / 2;
    // More than half is promised: nothing is told, whatever was read.
    window.nxt = window.edge().minus(half + 1_000);
    assert!(!window.on_taken(60_000, 0, MSS, &TUNABLES));
    // Less than half: what was read doubles it.
    window.nxt = window.edge().minus(half - 4_000);
    assert!(window.on_taken(1_000, 0, MSS, &TUNABLES));
    // The same window, but half of the buffer is still full.
    assert!(!window.on_taken(1_000, memory / 2, MSS, &TUNABLES));
}

const MAX: u32 = 6_291_456;

/// The application has read; nothing waits, nothing is missing.
fn right_size(window: &mut ReceiveWindow, now: Instant, rtt_micros: u32) {
    if window.is_measured(now, rtt_micros) {
        window.adjust(now, 0, MAX);
    }
}

// Linux: tcp_rcvbuf_grow. Slow start has doubled twice when what was read in a round trip is known.
#[test]
fn the_memory_leaves_room_for_a_peer_that_doubles_its_rate() {
    let mut window = window(7);
    window.begin(1_460, Instant::ZERO, &TUNABLES);
    let space = window.space();
    let at = Instant::from_millis;
    window.on_taken(2 * space, 0, MSS, &TUNABLES);
    right_size(&mut window, at(10), 10_000);
    let worth = window.worth(window.memory());
    let most = 12 * space;
    assert!(worth <= most && worth > most - 2 * MSS, "{worth} of {most}");
}

// Linux: tcp_rcvbuf_grow in tcp_data_queue_ofo.
#[test]
fn what_came_early_does_not_narrow_the_window_behind_it() {
    let mut window = window(7);
    window.begin(1_460, Instant::ZERO, &TUNABLES);
    let (space, early) = (window.space(), 1_000_000);
    window.provide_for_early(early, MAX);
    let most = 2 * space + early;
    let worth = window.worth(window.memory());
    assert!(worth <= most && worth > most - 2 * MSS, "{worth} of {most}");
    window.provide_for_early(early, window.memory() - 1);
    assert!(
        window.worth(window.memory()) > most - 2 * MSS,
        "it never shrinks"
    );
}

// Linux: tcp_rcv_space_adjust.
// behaviour: A11-19, RDV-17, X8-8
#[test]
fn the_memory_follows_what_the_application_takes_per_round_trip() {
    let mut window = window(7);
    let mut now = Instant::ZERO;
    for round in 1u64..20 {
        let taken = window.worth(window.memory());
        window.on_taken(taken, 0, MSS, &TUNABLES);
        now = Instant::from_millis(round * 10);
        right_size(&mut window, now, 10_000);
    }
    assert_eq!(window.memory(), MAX);
    assert!(window.is_opening(), "the threshold follows with data");
    window.on_taken(10, 0, MSS, &TUNABLES);
    let later = now.after(millrace_base::Nanos::from_millis(10));
    right_size(&mut window, later, 10_000);
    assert_eq!(window.memory(), MAX, "it never shrinks");
}

// A repeated SYN-ACK or a cookie, no timestamps, and nothing to send. Linux: tcp_rcv_rtt_measure.
#[test]
fn while_no_round_trip_is_known_the_memory_follows_windows_that_were_taken() {
    let mut window = window(7);
    let before = window.memory();
    let promised = window.size();
    window.on_taken(promised - 1, 0, MSS, &TUNABLES);
    right_size(&mut window, Instant::ZERO, 0);
    assert_eq!(window.memory(), before, "not yet a whole one");
    window.on_taken(1, 0, MSS, &TUNABLES);
    right_size(&mut window, Instant::ZERO, 0);
    assert!(window.memory() > before);
}

// Linux: tcp_clamp_window. behaviour: X8-8
#[test]
fn memory_that_nobody_chose_grows_to_what_came_and_a_chosen_one_lowers_the_threshold() {
    let mut free = window(7);
    free.make_room(200_000, 1_460, &TUNABLES);
    assert_eq!((free.memory(), free.threshold()), (200_000, u32::MAX));
    free.make_room(9_000_000, 1_460, &TUNABLES);
    assert_eq!((free.memory(), free.threshold()), (6_291_456, 2_920));
    let tunables = with_memory(20_000);
    let mut chosen = ReceiveWindow::new(&tunables, Instant::ZERO);
    chosen.make_room(30_000, 1_460, &tunables);
    assert_eq!((chosen.memory(), chosen.threshold()), (20_000, 2_920));
}

// Linux: __tcp_select_window under tcp_under_memory_pressure. A promise is kept, a new one is
// small, and a reader that keeps up is never locked out. Afterwards data open it again.
// behaviour: A5-12, CCW-12
#[test]
fn while_memory_is_short_only_a_few_segments_are_promised() {
    let mut window = window(7);
    let edge = window.edge();
    window.note_memory(true);
    window.advertise(0, MSS, &TUNABLES);
    assert!(window.edge().after_or_eq(edge));
    window.nxt = window.edge();
    assert_eq!(window.advertise(130_000, MSS, &TUNABLES).field, 0);
    assert!(window.on_taken(60_000, 0, MSS, &TUNABLES));
    let told = window.advertise(0, MSS, &TUNABLES);
    assert_eq!(u32::from(told.field) << 7, 5_888);
    assert!(told.tells(Advertised::OPENED));
    window.note_memory(false);
    let full = FullSegment {
        announced: MSS,
        seen: MSS,
    };
    assert!(window.grow(MSS, 2_304, full, &TUNABLES));
    assert_eq!(window.threshold(), 4 * MSS + 2 * MSS);
}

// The pool is everybody's: with four segments unread there is no fifth, however much memory the
// connection itself may still take.
#[test]
fn while_memory_is_short_who_reads_nothing_is_promised_nothing_more() {
    let mut window = window(7);
    window.note_memory(true);
    window.advertise(0, MSS, &TUNABLES);
    window.nxt = window.edge();
    let told = window.advertise(4 * 2_304, MSS, &TUNABLES);
    assert!((told.field, window.size()) == (0, 0) && told.tells(Advertised::CLOSED));
    let told = window.advertise(2_304, MSS, &TUNABLES);
    assert!(told.tells(Advertised::OPENED));
    assert!((2 * MSS..=4 * MSS).contains(&window.size()));
}

// Linux: ICSK_ACK_NOMEM. behaviour: RCV-38
#[test]
fn after_a_refusal_the_promise_is_taken_back_once() {
    let mut window = window(7);
    window.refuse();
    let told = window.advertise(0, MSS, &TUNABLES);
    assert_eq!((told.field, window.size()), (0, 0));
    assert!(told.tells(Advertised::CLOSED));
    let told = window.advertise(0, MSS, &TUNABLES);
    assert!(told.tells(Advertised::OPENED));
}

// RFC 7323 section 2.2.
// behaviour: A5-4
// Seed 2252 of the simulator: a segment that nearly filled the memory took the window away for ever.
// Linux compares with a sign (`window <= free_space - mss`).
#[test]
fn a_threshold_below_a_segment_is_a_window_all_the_same() {
    let tunables = with_memory(4_096);
    let mut window = ReceiveWindow::new(&tunables, Instant::ZERO);
    window.open(SeqNumber::new(0), 1_824, 0);
    window.pass(1_824);
    // Where the memory is worth a segment, and where it is not.
    for memory in [8_192, 4_400] {
        window.set_memory(memory);
        let mut window = window;
        let told = window.advertise(0, 2_300, &tunables);
        assert_eq!(told.field, 1_824, "{memory} bytes");
    }
}

// Seed 1999 of the simulator: a hop with a smaller MTU on the way of a SYN.
#[test]
fn a_syn_that_is_sent_again_offers_what_the_first_one_did() {
    let mut window = ReceiveWindow::new(&TcpTunables::default(), Instant::ZERO);
    assert_eq!(window.offer(8_192), 8_192);
    assert_eq!(window.offer(7_600), 8_192);
}

#[test]
fn without_scaling_the_window_stays_below_64_kib() {
    let mut window = window(0);
    window.set_memory(1_000_000);
    assert_eq!(window.advertise(0, MSS, &TUNABLES).field, 65_535);
}

// Some old peers take the field for a signed number. With scaling they cannot be meant.
// behaviour: X2-8, A5-4
#[test]
fn a_peer_of_signed_windows_is_offered_32_767_bytes_at_most() {
    let tunables = TcpTunables {
        tcp_workaround_signed_windows: true,
        ..TcpTunables::default()
    };
    assert_eq!(tunables.receive_window_offer(1_460), 32_767);
    assert_eq!(TUNABLES.receive_window_offer(1_460), 64_240);
    let told = |scale| {
        let mut window = window(scale);
        window.nxt = window.edge();
        window.advertise(0, MSS, &tunables).field
    };
    assert_eq!(told(0), 32_767);
    assert_eq!(u32::from(told(7)) << 7, 65_536);
}

// What a frame costs in Linux over a tun device, where this was measured.
#[test]
fn buffers_are_charged_as_linux_charges_them() {
    assert_eq!(memory_of(0, 0), 0);
    assert_eq!(
        [1, 540, 1_460].map(|len| memory_of(len, 1)),
        [768, 1_280, 2_304]
    );
    assert_eq!(memory_of(1_000 * 20, 20), 2_304 * 20);
    assert_eq!(memory_of(4_000, 1), 8_448);
    assert_eq!(memory_of(20_000, 1), 20_736);
    assert!(memory_of(100, 100) < 2_304, "small ones are merged there");
}

proptest::proptest! {
    // The way of almost every segment is a short cut through the rules, and no other.
    #[test]
    fn plenty_of_memory_promises_what_the_rules_promise(
        scale in 1u8..=14,
        used in 0u32..200_000,
        threshold in 0u32..100_000,
        ratio in 1u32..=255,
        ahead in 0u32..70_000,
    ) {
        let mut short = window(scale);
        short.set_threshold(threshold);
        short.space_and_ratio = short.space_and_ratio & !0xff | ratio;
        short.nxt = short.nxt.plus(ahead.min(short.size()));
        let mut long = short;
        let told = short.advertise_plenty(used);
        let rules = long.advertise_any(used, MSS, &TUNABLES);
        if let Some(field) = told {
            proptest::prop_assert_eq!(Advertised { field, news: 0 }, rules);
            proptest::prop_assert_eq!(format!("{short:?}"), format!("{long:?}"));
        } else {
            proptest::prop_assert!(used > short.memory / 2 || rules.news != 0 || threshold == 0);
        }
    }
}
