//! Records against segments and time.

use super::*;
use millrace_base::{Address, Endpoint, HeapBuf};

const LIMITED: TimeWaitVerdict = TimeWaitVerdict::Limited {
    in_fin_wait2: false,
};

fn tuple(remote_port: u16) -> FlowTuple {
    FlowTuple {
        local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
        remote: Endpoint::new(Address::v4([10, 0, 0, 2]), remote_port),
    }
}

fn record(remote_port: u16) -> TimeWaitRecord {
    TimeWaitRecord {
        tuple: tuple(remote_port),
        snd_nxt: SeqNumber::new(5_000),
        rcv_nxt: SeqNumber::new(9_000),
        rcv_wnd: 64_000,
        rcv_scale: 7,
        timestamps: true,
        ts_recent: 700,
        ts_recent_at: 0,
        ts_offset: 0,
        ack_now: false,
        fin_wait2_secs: 0,
    }
}

fn segment(flags: TcpFlags, seq: u32, stamp: u32) -> Segment<HeapBuf> {
    let timestamps = Some(Timestamps {
        value: stamp,
        echo: 0,
    });
    Segment {
        seq: SeqNumber::new(seq),
        ack: SeqNumber::new(5_000),
        flags,
        window: 100,
        traffic_class: 0,
        options: TcpOptions {
            timestamps,
            ..TcpOptions::default()
        },
        payload: None,
        payload_len: 0,
    }
}

fn insert(records: &mut TimeWaits, record: TimeWaitRecord) -> Option<u32> {
    records.insert(Instant::ZERO, record, false, &TcpTunables::default())
}

fn one() -> (TimeWaits, u32) {
    let mut records = TimeWaits::new(2);
    let index = insert(&mut records, record(1)).expect("room");
    (records, index)
}

// behaviour: A26-8, A26-20, A26-24, A26-25, STA-35
#[test]
fn a_retransmitted_fin_is_acknowledged_again_and_starts_the_minute_anew() {
    let (mut records, index) = one();
    let now = Instant::from_millis(10_000);
    let fin = segment(TcpFlags::FIN | TcpFlags::ACK, 8_999, 700);
    assert_eq!(
        records.on_segment(index, now, &fin).0,
        TimeWaitVerdict::Acknowledge
    );
    let (to, ack) = records.acknowledgment(index, now).expect("alive");
    assert_eq!(
        (to, ack.seq.value(), ack.ack.value(), ack.window),
        (tuple(1), 5_000, 9_000, 500)
    );
    assert_eq!(
        ack.options.timestamps,
        Some(Timestamps {
            value: 10_000,
            echo: 700
        })
    );
    let again = now.after(Nanos::from_millis(100));
    assert_eq!(
        records.on_segment(index, again, &fin).0,
        TimeWaitVerdict::Acknowledge,
        "a FIN is in no war of ACKs"
    );
    let old_ack = segment(TcpFlags::ACK, 8_000, 700);
    for verdict in [TimeWaitVerdict::Acknowledge, LIMITED] {
        assert_eq!(records.on_segment(index, again, &old_ack).0, verdict);
    }
    assert_eq!(records.next_deadline(), again.after(TIMEWAIT_LEN));
}

// behaviour: A26-18
#[test]
fn a_reset_at_rcv_nxt_ends_the_record_and_one_elsewhere_does_nothing() {
    let (mut records, index) = one();
    let wrong = segment(TcpFlags::RST, 9_001, 700);
    assert_eq!(
        records.on_segment(index, Instant::ZERO, &wrong).0,
        TimeWaitVerdict::Silence
    );
    let right = segment(TcpFlags::RST, 9_000, 700);
    assert_eq!(
        records.on_segment(index, Instant::ZERO, &right).0,
        TimeWaitVerdict::Killed
    );
    assert_eq!(records.len(), 0);
    assert_eq!(records.next_deadline(), Instant::NEVER);
}

// RFC 6191 section 2. behaviour: A26-21
// behaviour: MAY-2, A26-17
#[test]
fn only_a_syn_with_a_newer_timestamp_or_sequence_number_reopens() {
    let (mut records, index) = one();
    let isn = SeqNumber::new(5_000 + 65_537);
    let mut judge = |flags, seq, stamp| {
        let segment = segment(flags, seq, stamp);
        records.on_segment(index, Instant::ZERO, &segment).0
    };
    assert_eq!(
        judge(TcpFlags::SYN, 1, 701),
        TimeWaitVerdict::Reopen { isn }
    );
    assert_eq!(
        judge(TcpFlags::SYN, 9_001, 700),
        TimeWaitVerdict::Reopen { isn }
    );
    assert_eq!(
        judge(TcpFlags::SYN, 9_001, 699),
        TimeWaitVerdict::Acknowledge
    );
    assert_eq!(judge(TcpFlags::SYN, 9_000, 700), LIMITED);
    let synack = TcpFlags::SYN | TcpFlags::ACK;
    assert_eq!(judge(synack, 9_001, 701), LIMITED);
}

// Linux: tcp_twsk_unique.
// behaviour: SHLD-4
#[test]
fn a_record_with_timestamps_gives_way_to_a_connect_after_a_second_of_rest() {
    let (mut records, index) = one();
    let tunables = TcpTunables::default();
    let at = Instant::from_millis;
    assert_eq!(records.inherit(index, at(1_000), &tunables), None);
    let inherited = Inherited {
        iss: SeqNumber::new(5_000 + 65_537),
        ts_recent: 700,
        ts_recent_at: 0,
    };
    let later = at(1_001);
    assert_eq!(records.inherit(index, later, &tunables), Some(inherited));
    let off = TcpTunables {
        tcp_tw_reuse: false,
        ..tunables
    };
    assert_eq!(records.inherit(index, later, &off), None);
    // The peer's FIN comes again: the rest starts anew.
    let fin = segment(TcpFlags::FIN | TcpFlags::ACK, 8_999, 700);
    let _ = records.on_segment(index, at(500), &fin);
    assert_eq!(records.inherit(index, at(1_500), &tunables), None);
    assert!(records.inherit(index, at(1_501), &tunables).is_some());
    let mut without = record(2);
    without.timestamps = false;
    let index = insert(&mut records, without).expect("room");
    assert_eq!(records.inherit(index, at(59_000), &tunables), None);
}

// behaviour: A26-19, STA-37, X4-17
#[test]
fn records_expire_in_the_order_of_their_last_refresh() {
    let (mut records, first) = one();
    let second = insert(&mut records, record(2)).expect("room");
    assert_eq!(insert(&mut records, record(3)), None, "the table is full");
    let ack = segment(TcpFlags::ACK, 9_000, 700);
    let now = Instant::from_millis(1_000);
    assert_eq!(
        records.on_segment(first, now, &ack).0,
        TimeWaitVerdict::Silence
    );
    assert_eq!(records.expire(Instant::from_millis(59_999)), None);
    assert_eq!(
        records
            .expire(Instant::from_millis(60_000))
            .map(|gone| (gone.tuple, gone.index)),
        Some((tuple(2), second))
    );
    assert_eq!(records.expire(Instant::from_millis(60_000)), None);
    let last = records.expire(Instant::from_millis(61_000));
    assert_eq!(last.map(|gone| gone.index), Some(first));
    assert_eq!(records.next_deadline(), Instant::NEVER);
}

// Records of FIN_WAIT2 live as long as each says, whatever came before them.
#[test]
fn fin_wait2_ends_when_each_record_says() {
    let mut records = TimeWaits::new(4);
    let waiting = |port, seconds| TimeWaitRecord {
        fin_wait2_secs: seconds,
        ..record(port)
    };
    for (port, seconds) in [(1, 60), (2, 5), (3, 20)] {
        insert(&mut records, waiting(port, seconds)).expect("room");
    }
    for (port, seconds) in [(2u16, 5u64), (3, 20), (1, 60)] {
        let due = Instant::from_millis(seconds * 1_000);
        assert_eq!(records.next_deadline(), due);
        assert_eq!(
            records.expire(Instant::from_millis(seconds * 1_000 - 1)),
            None
        );
        assert_eq!(
            records.expire(due).map(|gone| gone.tuple),
            Some(tuple(port))
        );
    }
    assert_eq!(
        (records.waiting, records.next_deadline()),
        (0, Instant::NEVER)
    );
}

// Linux: `tcp_twsk_unique` refuses while the peer has not closed.
#[test]
fn a_record_in_fin_wait2_gives_no_tuple_away() {
    let mut records = TimeWaits::new(1);
    let tunables = TcpTunables::default();
    let state = TimeWaitRecord {
        fin_wait2_secs: 60,
        ..record(1)
    };
    let index = records.insert(Instant::ZERO, state, true, &tunables);
    let index = index.expect("room");
    let later = Instant::from_millis(30_000);
    assert_eq!(records.inherit(index, later, &tunables), None);
    let fin = segment(TcpFlags::FIN | TcpFlags::ACK, 9_000, 701);
    let (verdict, _) = records.on_segment(index, later, &fin);
    assert_eq!(verdict, TimeWaitVerdict::Acknowledge);
    assert_eq!(records.inherit(index, later, &tunables), None, "it rests");
    let rested = Instant::from_millis(31_002);
    let inherited = records.inherit(index, rested, &tunables).expect("rested");
    assert_eq!((inherited.ts_recent, inherited.ts_recent_at), (701, 30));
}

// What a port allocator counts with: each tuple is told free once, and taken back if its peer
// goes on.
#[test]
fn an_opened_tuple_is_told_free_once_after_its_rest() {
    let mut records = TimeWaits::new(2);
    let tunables = TcpTunables::default();
    let index = records.insert(Instant::ZERO, record(1), true, &tunables);
    let index = index.expect("room");
    let at = Instant::from_millis;
    assert_eq!(records.rest(at(1_000)), None);
    let due = records.next_deadline();
    assert_eq!(records.rest(due), Some(tuple(1)));
    assert_eq!(due, at(1_000).after(Nanos::new(1)));
    assert_eq!(records.rest(at(2_000)), None, "once");
    let fin = segment(TcpFlags::FIN | TcpFlags::ACK, 8_999, 700);
    let (_, change) = records.on_segment(index, at(3_000), &fin);
    assert_eq!(change, Some(TupleChange::Resting(tuple(1))));
    assert_eq!(records.rest(at(4_000)), None);
    assert_eq!(records.rest(at(4_001)), Some(tuple(1)));
    let gone = records.expire(at(63_000)).expect("a minute after the last");
    assert!(!gone.untold);
}

#[test]
fn tuples_that_never_rest_are_told_at_their_end_and_accepted_ones_never() {
    let mut records = TimeWaits::new(4);
    let tunables = TcpTunables::default();
    let mut without = record(1);
    without.timestamps = false;
    let opened = records.insert(Instant::ZERO, without, true, &tunables);
    let accepted = records.insert(Instant::ZERO, record(2), false, &tunables);
    assert_eq!(records.rest(Instant::from_millis(59_000)), None);
    assert!(records.remove(opened.expect("room")).expect("alive").untold);
    assert!(
        !records
            .remove(accepted.expect("room"))
            .expect("alive")
            .untold
    );
    let index = records
        .insert(Instant::ZERO, record(3), true, &tunables)
        .expect("room");
    let reset = segment(TcpFlags::RST, 9_000, 700);
    let (_, change) = records.on_segment(index, Instant::ZERO, &reset);
    assert_eq!(change, Some(TupleChange::Free(tuple(3))));
}
