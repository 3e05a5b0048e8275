//! The memory of a connection, field by field: a change of it is seen in the diff.

use core::mem::offset_of;

use crate::table::Slot;
use crate::tcp::connection::Connection;

// DESIGN decision 5: fixed layout, what every segment touches in the first cache lines.
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
        ("congestion", 232),
        ("recovery", 260),
        ("options", 276),
        ("orphan", 302),
    ];
    assert_eq!(layout, expected);
    assert_eq!(size_of::<Connection>(), 304);
    assert_eq!(size_of::<Slot>(), 344);
    assert_eq!(millrace_base::Slab::<Slot>::SLOT_BYTES, 348);
}
