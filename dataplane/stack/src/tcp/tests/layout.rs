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
        iss,
        orphan
    );
    let expected = [
        ("tuple", 16),
        ("una", 56),
        ("window", 64),
        ("snd_wnd", 100),
        ("receive", 112),
        ("send", 128),
        ("timestamps", 184),
        ("ack", 198),
        ("received_at", 212),
        ("sent_at", 218),
        ("timers", 224),
        ("reassembly", 244),
        ("rtt", 250),
        ("congestion", 264),
        ("recovery", 296),
        ("options", 324),
        ("iss", 340),
        ("orphan", 353),
    ];
    assert_eq!(layout, expected);
    assert_eq!(size_of::<Connection>(), 360);
    assert_eq!(size_of::<Slot>(), 400);
    assert_eq!(millrace_base::Slab::<Slot>::SLOT_BYTES, 408);
}
