//! What counters say, and what is made of three bits of one.

use super::*;
use crate::tcp::ecn::NOT_ECT;
use proptest::prelude::*;

const MSS: u32 = 1_000;

fn feedback(ace: u32, segments: u32) -> Feedback {
    Feedback {
        ace: ((CEP_INIT + ace) & ACE_MASK) as u8,
        option: None,
        segments,
        bytes: segments * MSS,
        mss: MSS,
        is_counted: true,
        sent: 0,
    }
}

/// An option that says that so many bytes came as ECT(0) and as CE.
fn told(ect_0: u32, ce: u32) -> Option<AccEcn> {
    Some(AccEcn::new(true, &[1, ce, ect_0 + 1]))
}

// RFC 9768 section 3.2.2: the field begins at 5 and counts packets, with or without data.
#[test]
fn the_field_counts_marked_packets_from_five() {
    let mut counters = AccurateEcn::default();
    assert_eq!(counters.ace(), 5);
    counters.count(CE, 1, 0);
    assert_eq!(counters.ace(), 6);
    counters.count(CE, 2, 2_000);
    assert_eq!((counters.ace(), counters.untold), (0, 3));
    counters.count(ECT_0, 1, 500);
    counters.count(ECT_1, 1, 70);
    counters.count(NOT_ECT, 1, 900);
    assert_eq!(counters.received, [70, 500, 2_000]);
    assert_eq!(counters.received_ce, 3);
}

// RFC 9768 section 3.2.3: what was sent as nothing capable is not counted, and the counters of both
// ECTs do not begin with 0.
#[test]
fn an_option_has_the_counters_that_have_changed() {
    let mut counters = AccurateEcn::default();
    assert_eq!(counters.option(3), AccEcn::new(true, &[1, 0, 1]));
    assert!(counters.count(ECT_1, 1, 10));
    assert_eq!(counters.counters_min, 1);
    assert!(counters.count(CE, 1, 20));
    assert_eq!((counters.counters_min, counters.demanded), (2, 2));
    assert!(!counters.count(CE, 1, 20), "the same again");
    counters.on_told(Instant::ZERO);
    assert_eq!((counters.counters_min, counters.demanded), (0, 1));
    counters.count(ECT_0, 1, 30);
    assert_eq!(counters.counters_min, 3);
    assert_eq!(counters.option(3), AccEcn::new(true, &[11, 40, 31]));
}

// Linux: once in 2^22 bytes of a codepoint.
#[test]
fn a_counter_that_goes_far_demands_an_option() {
    let mut counters = AccurateEcn::default();
    counters.count(ECT_0, 1, 1);
    counters.demanded = 0;
    for _ in 0..4_194 {
        counters.count(ECT_0, 1, 1_000);
    }
    assert_eq!(counters.demanded, 0);
    counters.count(ECT_0, 1, 1_000);
    assert_eq!(counters.demanded, 1);
}

// RFC 9768 section 3.2.3.2.4: a counter of 0 was erased on the way.
#[test]
fn counters_that_begin_with_zero_are_not_believed() {
    let seen = |counters: &[u32]| {
        let mut ours = AccurateEcn::default();
        ours.judge(&AccEcn::new(true, counters));
        ours.seen
    };
    assert_eq!(seen(&[]), OptionSeen::Empty);
    assert_eq!(seen(&[1]), OptionSeen::Counters);
    assert_eq!(seen(&[1, 0, 1]), OptionSeen::Counters);
    assert_eq!(seen(&[0, 0, 1]), OptionSeen::Failed);
    assert_eq!(seen(&[1, 0, 0]), OptionSeen::Failed);
    let mut late = AccurateEcn::default();
    let mut silent = feedback(0, 1);
    late.take_feedback(&silent, 0);
    assert_eq!(late.seen, OptionSeen::None);
    silent.sent = FIRST_OPTION_BYTES_MAX;
    late.take_feedback(&silent, 0);
    assert_eq!(late.seen, OptionSeen::Failed, "too late");
    silent.option = told(0, 9_000);
    late.take_feedback(&silent, 0);
    assert_eq!(late.delivered, [0; 3]);
}

// A few segments cannot have made the field cycle.
#[test]
fn the_field_alone_says_how_many_of_seven_were_marked() {
    for marked in 0..=7u32 {
        for known in [0, 3, 8, 250] {
            let mut counters = AccurateEcn::default();
            let told = feedback(known + marked, 7);
            assert_eq!(counters.take_feedback(&told, known), marked);
        }
    }
}

// RFC 9768 section 3.2.2.5.2: without an option, the largest number of marks that the field allows.
#[test]
fn without_an_option_a_field_that_may_have_cycled_has() {
    let taken = |ace, segments| AccurateEcn::default().take_feedback(&feedback(ace, segments), 0);
    assert_eq!(taken(5, 9), 5);
    assert_eq!(taken(5, 13), 13);
    assert_eq!(taken(5, 16), 13);
    assert_eq!(taken(0, 8), 8);
    assert_eq!(taken(0, 7), 0);
}

// The bytes of the option say whether it has.
#[test]
fn the_bytes_of_an_option_tell_whether_the_field_has_cycled() {
    let taken = |ace: u32, segments: u32, marked_bytes: u32| {
        let mut counters = AccurateEcn {
            believed: ECT_0,
            seen: OptionSeen::Counters,
            ..AccurateEcn::default()
        };
        let mut told = feedback(ace, segments);
        let bytes = segments * MSS;
        told.option = self::told(bytes - marked_bytes, marked_bytes);
        counters.take_feedback(&told, 0)
    };
    assert_eq!(taken(0, 8, 0), 0, "no byte was marked");
    assert_eq!(taken(0, 8, 8_000), 8);
    assert_eq!(taken(5, 13, 5_000), 5);
    assert_eq!(taken(5, 13, 13_000), 13);
    // 16 or more: in proportion.
    assert_eq!(taken(1, 32, 1_000), 1);
    assert_eq!(taken(1, 32, 9_000), 9);
    assert_eq!(taken(1, 32, 17_000), 17);
    assert_eq!(taken(0, 32, 32_000), 32);
}

// Linux: what comes between two options is of the codepoint that the last one told of.
#[test]
fn bytes_between_two_options_are_believed_to_be_like_those_before() {
    let mut counters = AccurateEcn::default();
    let mut first = feedback(0, 2);
    first.option = told(2_000, 0);
    counters.take_feedback(&first, 0);
    assert_eq!(
        (counters.delivered, counters.believed),
        ([0, 2_000, 0], ECT_0)
    );
    counters.take_feedback(&feedback(0, 2), 0);
    assert_eq!(counters.delivered, [0, 4_000, 0]);
    let mut both = feedback(1, 2);
    both.option = told(5_000, 1_000);
    counters.take_feedback(&both, 0);
    assert_eq!(counters.delivered, [0, 5_000, 1_000]);
    assert_eq!(counters.believed, CE, "the one that was not expected");
    let mut back = feedback(1, 2);
    back.option = told(4_000, 1_000);
    counters.take_feedback(&back, 1);
    assert_eq!(
        counters.believed, 0,
        "a counter that goes back says nothing"
    );
}

#[test]
fn the_order_of_an_option_says_which_counter_is_whose() {
    let mut counters = AccurateEcn::default();
    let mut one = feedback(0, 1);
    one.option = Some(AccEcn::new(false, &[11, 20, 31]));
    counters.take_feedback(&one, 0);
    assert_eq!(counters.delivered, [30, 10, 20]);
}

// Counters have 24 bits, and ours go on.
#[test]
fn a_counter_that_wraps_goes_on() {
    let mut counters = AccurateEcn::default();
    let mut sum = 0u32;
    for step in 1..=40u32 {
        sum += 1_000_000;
        let mut one = feedback(0, 1);
        one.option = Some(AccEcn::new(true, &[1, sum, 1]));
        counters.take_feedback(&one, 0);
        assert_eq!(counters.delivered, [0, 0, step * 1_000_000]);
    }
}

proptest! {
    // What one end counts is what the other has understood, whatever was marked, while no ACK
    // reports more than seven segments; with options also when some ACKs are lost.
    #[test]
    fn both_ends_agree_on_what_was_marked(
        rounds in prop::collection::vec((prop::collection::vec(any::<bool>(), 1..8), any::<bool>()), 1..200)
    ) {
        let (mut receiver, mut sender) = (AccurateEcn::default(), AccurateEcn::default());
        let (mut known, mut truth) = (0u32, 0u32);
        for (marks, has_option) in rounds {
            for marked in &marks {
                receiver.count(if *marked { CE } else { ECT_0 }, 1, MSS);
                truth += u32::from(*marked);
            }
            let segments = marks.len() as u32;
            let told = Feedback {
                ace: receiver.ace(),
                option: has_option.then(|| receiver.option(3)),
                ..feedback(0, segments)
            };
            known += sender.take_feedback(&told, known);
            prop_assert_eq!(known, truth);
            if has_option {
                prop_assert_eq!(sender.delivered, receiver.received);
            }
        }
    }

    // However many segments one ACK reports: never more marks than segments, and the field holds.
    #[test]
    fn an_ack_never_reports_more_marks_than_segments(
        known in any::<u32>(), ace in 0u8..8, segments in 0u32..10_000,
        option in prop::option::of((any::<bool>(), prop::collection::vec(any::<u32>(), 0..4))),
        believed in 0u8..4, is_counted in any::<bool>(),
    ) {
        let mut counters = AccurateEcn {
            believed,
            seen: OptionSeen::Counters,
            ..AccurateEcn::default()
        };
        let told = Feedback {
            ace,
            option: option.map(|(order_1, counters)| AccEcn::new(order_1, &counters)),
            is_counted,
            ..feedback(0, segments)
        };
        let marked = counters.take_feedback(&told, known);
        let field = known.wrapping_add(marked).wrapping_add(CEP_INIT) & ACE_MASK;
        prop_assert_eq!(field, u32::from(ace));
        prop_assert!(marked <= segments.max(ACE_MASK));
    }
}
