//! The flows of a seed: what its programs do.

use millrace_base::{Instant, Nanos};

use super::FlowPlan;
use crate::dice::Dice;
use crate::program::{Pace, Step, Text};

/// Bytes that all flows of a seed write together, at most about so many.
const BYTES_MAX: u32 = 1_500_000;

/// What the hosts have to be for the flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Anything.
    Plain,
    /// Clients come faster than the servers accept them, and more than wait.
    Crowded,
    /// Few ports, which connections have one after the other.
    Reusing,
    /// Data in the SYN.
    Fast,
    /// Through a balancer.
    Balanced,
}

/// The flows from so many clients, the first at `beginning`.
pub(super) fn draw(dice: &mut Dice, clients: usize, beginning: Instant) -> (Kind, Vec<FlowPlan>) {
    let (kind, needs) = match dice.between(0, 15) {
        // Anything may pass a balancer.
        8 | 9 => (dice.between(0, 7), Kind::Balanced),
        10 => (6, Kind::Crowded),
        11 => (7, Kind::Crowded),
        12 => (8, Kind::Reusing),
        13 => (7, Kind::Fast),
        // Nothing that ends before it has been answered: Linux takes back such a `connect`.
        14 => (dice.pick(&[3, 6]), Kind::Fast),
        15 => (7, Kind::Plain),
        kind => (kind, Kind::Plain),
    };
    let count = match kind {
        // Many at once.
        6 => dice.between(4, 24),
        // One after the other.
        7 | 8 => dice.between(4, 40),
        _ => dice.between(1, 3).max(clients as u32),
    };
    let share = BYTES_MAX / count;
    let mut starts_at = beginning;
    let flow = |number| {
        let (client, server) = match kind {
            0 => bulk(dice, share),
            1 => both_ways(dice, share),
            2 => half_close(dice, share),
            3 => calls(dice, share),
            4 => slow_reader(dice, share.min(100_000)),
            5 => rude(dice, share),
            6 => incast(dice, share),
            7 => brief(dice, share.min(20_000)),
            _ => {
                let client_first = dice.one_in(2);
                waiting_for_the_end(brief(dice, share.min(20_000)), client_first)
            }
        };
        let plan = FlowPlan {
            node: 1 + number as usize % clients,
            starts_at,
            client,
            server,
            broken_off_at: None,
            is_confused: false,
            fast: false,
            may_be_refused: false,
        };
        if kind != 6 {
            starts_at = starts_at.after(dice.below(Nanos::from_millis(300)));
        }
        plan
    };
    (needs, (0..count).map(flow).collect())
}

fn text(steps: Vec<Step>) -> Text {
    Text {
        steps,
        pace: Pace::GREEDY,
    }
}

/// One writes, the other reads. A client writes something in any case: Linux takes back a `connect`
/// that is shut down before its answer has come.
fn bulk(dice: &mut Dice, share: u32) -> (Text, Text) {
    let bytes = u64::from(dice.spread(1, share));
    let writer = text(vec![Step::Write(bytes), Step::ShutDown]);
    let reader = text(vec![Step::AwaitEnd]);
    if dice.one_in(2) {
        (writer, reader)
    } else {
        (text(vec![Step::Write(1), Step::ShutDown]), writer)
    }
}

/// Both write at the same time.
fn both_ways(dice: &mut Dice, share: u32) -> (Text, Text) {
    let mut writer = || {
        let bytes = u64::from(dice.spread(1, share / 2));
        text(vec![Step::Write(bytes), Step::ShutDown])
    };
    (writer(), writer())
}

/// The client writes and ends; then the server answers into the half that is open.
fn half_close(dice: &mut Dice, share: u32) -> (Text, Text) {
    let asked = u64::from(dice.spread(1, share / 2));
    let answered = u64::from(dice.spread(1, share / 2));
    let client = vec![Step::Write(asked), Step::ShutDown];
    let server = vec![Step::AwaitEnd, Step::Write(answered), Step::ShutDown];
    (text(client), text(server))
}

/// Questions and answers on one connection, some with thought between them.
fn calls(dice: &mut Dice, share: u32) -> (Text, Text) {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    let (mut asked, mut answered) = (0, 0);
    let count = dice.between(1, 20);
    for _ in 0..count {
        let question = u64::from(dice.spread(1, 4_000));
        let answer = u64::from(dice.spread(1, share / count));
        (asked, answered) = (asked + question, answered + answer);
        client.extend([Step::Write(question), Step::AwaitBytes(answered)]);
        if dice.one_in(4) {
            let thought = Nanos::from_millis(dice.spread(1, 3_000).into());
            client.push(Step::Pause(thought));
        }
        server.push(Step::AwaitBytes(asked));
        if dice.one_in(4) {
            let thought = Nanos::from_millis(dice.spread(1, 300).into());
            server.push(Step::Pause(thought));
        }
        server.push(Step::Write(answer));
    }
    client.push(Step::ShutDown);
    server.extend([Step::AwaitEnd, Step::ShutDown]);
    (text(client), text(server))
}

/// The client reads slowly: its window closes.
fn slow_reader(dice: &mut Dice, share: u32) -> (Text, Text) {
    let bytes = dice.spread(share / 10, share);
    let reads = dice.between(5, 200);
    let client = Text {
        steps: vec![Step::Write(1), Step::ShutDown],
        pace: Pace {
            bytes: (bytes / reads).max(1) as usize,
            every: Nanos::from_millis(dice.spread(1, 2_000).into()),
        },
    };
    let server = vec![Step::Write(bytes.into()), Step::ShutDown];
    (client, text(server))
}

/// The client goes away: politely with everything written, or in the middle.
fn rude(dice: &mut Dice, share: u32) -> (Text, Text) {
    let bytes = u64::from(dice.spread(1, share));
    let server = text(vec![Step::AwaitEnd]);
    if dice.one_in(2) {
        return (text(vec![Step::Write(bytes), Step::Leave]), server);
    }
    let pause = Nanos::from_millis(dice.spread(1, 3_000).into());
    let client = vec![Step::Write(bytes), Step::Pause(pause), Step::Abort];
    let server = vec![Step::Write(bytes), Step::AwaitEnd];
    (text(client), text(server))
}

/// A small question and its answer, from everybody at once.
fn incast(dice: &mut Dice, share: u32) -> (Text, Text) {
    let answer = u64::from(dice.spread(share / 4, share));
    let client = vec![Step::Write(100), Step::AwaitBytes(answer), Step::ShutDown];
    let server = vec![Step::AwaitBytes(100), Step::Write(answer), Step::ShutDown];
    (text(client), text(server))
}

/// A connection for a few bytes.
fn brief(dice: &mut Dice, share: u32) -> (Text, Text) {
    let (asked, answered) = (dice.spread(1, 2_000), dice.spread(1, share));
    let client = vec![
        Step::Write(asked.into()),
        Step::AwaitBytes(answered.into()),
        Step::ShutDown,
    ];
    let server = vec![
        Step::AwaitBytes(asked.into()),
        Step::Write(answered.into()),
        Step::ShutDown,
    ];
    (text(client), text(server))
}

/// One of the two ends first and has to rest.
fn waiting_for_the_end((mut client, mut server): (Text, Text), client_first: bool) -> (Text, Text) {
    let second = if client_first {
        &mut server
    } else {
        &mut client
    };
    let last = second.steps.len() - 1;
    second.steps.insert(last, Step::AwaitEnd);
    (client, server)
}
