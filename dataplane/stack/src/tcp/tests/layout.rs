//! The memory of a connection, field by field: a change of it is seen in the diff.

use core::mem::offset_of;

use millrace_base::{HEADROOM_BYTES_DEFAULT, Lists};
use millrace_wire::ethernet;

use crate::connections::{BERTH_BYTES, DESK_BYTES};
use crate::flow_table::TUPLE_BYTES;
use crate::limits::HEADER_BYTES_MAX;
use crate::table::Slot;
use crate::tcp::connection::Connection;
use crate::tcp::dormant::Dormant;
use crate::tcp::run::FRAME_CHUNKS_MAX;
use crate::wheel::TIMER_BYTES;

// DESIGN decision 5: fixed layout, what every segment touches in the first cache lines. This is a
// connection at work.
#[test]
fn the_layout_of_a_connection_is_known() {
    macro_rules! offsets {
        ($($field:ident),*) => { vec![$((stringify!($field), offset_of!(Connection, $field))),*] };
    }
    let layout = offsets!(
        tuple,
        una,
        window,
        snd_wnd,
        receive,
        send,
        timestamps,
        ack,
        received_at,
        sent_at,
        timers,
        reassembly,
        rtt,
        congestion,
        recovery,
        options,
        orphan
    );
    let expected = [
        ("tuple", 12),
        ("una", 52),
        ("window", 60),
        ("snd_wnd", 92),
        ("receive", 104),
        ("send", 120),
        ("timestamps", 152),
        ("ack", 166),
        ("received_at", 180),
        ("sent_at", 186),
        ("timers", 192),
        ("reassembly", 212),
        ("rtt", 218),
        ("congestion", 244),
        ("recovery", 272),
        ("options", 288),
        ("orphan", 314),
    ];
    assert_eq!(layout, expected);
    assert_eq!(size_of::<Connection>(), 316);
    assert_eq!(size_of::<Slot>(), 356);
    assert_eq!(DESK_BYTES, 360);
}

// What has to stay of a connection between two requests.
#[test]
fn the_layout_of_a_connection_at_rest_is_known() {
    macro_rules! offsets {
        ($($field:ident),*) => { vec![$((stringify!($field), offset_of!(Dormant, $field))),*] };
    }
    let layout = offsets!(state, tuple, una, rtt, congestion, extra);
    let expected = [
        ("state", 0),
        ("tuple", 6),
        ("una", 42),
        ("rtt", 134),
        ("congestion", 152),
        ("extra", 194),
    ];
    assert_eq!(layout, expected);
    assert_eq!(size_of::<Dormant>(), 198);
}

// The aim of DESIGN decision 5, and everything counted: its berth with the generation, its place in the
// flow table, its timer, and its places in the lists of those that may send and of those with news.
#[test]
fn an_idle_established_connection_has_256_bytes_at_most() {
    let lists = 2 * Lists::<()>::LINK_BYTES;
    let parts = [BERTH_BYTES, TUPLE_BYTES, TIMER_BYTES, lists];
    assert_eq!(parts, [216, 8, 16, 16]);
    assert!(parts.into_iter().sum::<usize>() <= 256);
}

// The page that answers how header and data lie in memory says what is so. behaviour: SKB-18
#[test]
fn the_page_on_memory_has_the_numbers_of_the_code() {
    let page = include_str!("../../../../docs/memory-and-queues.md");
    let headers_min = ethernet::HEADER_BYTES + 20 + 20;
    let says = [
        format!("{HEADROOM_BYTES_DEFAULT} bytes of headroom, then the frame as it came"),
        format!(
            "headroom {HEADROOM_BYTES_DEFAULT} ->|<- headers {headers_min}..{HEADER_BYTES_MAX} ->"
        ),
        format!("{HEADER_BYTES_MAX} bytes are the longest header there is"),
        format!("a run of up to {FRAME_CHUNKS_MAX} chunks\n  and 65,535 bytes"),
    ];
    for sentence in says {
        assert!(
            page.contains(&sentence),
            "the page does not say: {sentence}"
        );
    }
}
