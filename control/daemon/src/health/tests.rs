//! Probes in explicit time.

use super::*;

const TEXT: &str = r#"
[[port]]
name = "p"
device = "net_null0"
addresses = ["10.0.0.1/24"]
[snat]
addresses = ["10.0.0.1"]
[[pool]]
name = "web"
health = { interval_ms = 1000, timeout_ms = 500, rise = 2, fall = 3 }
[[pool.backend]]
name = "a"
address = "10.0.0.2:80"
"#;

fn health(text: &str) -> Health {
    let config = millrace_config::parse("t", text).expect("valid");
    let mut health = Health::new(1);
    health.configure(Instant::ZERO, &config, |_| None);
    health
}

fn key() -> BackendKey {
    let address = millrace_base::Address::v4([10, 0, 0, 2]);
    ("web".to_owned(), Endpoint::new(address, 80))
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Runs probes that end with these outcomes; tells the decisions.
fn run(health: &mut Health, outcomes: &[ProbeOutcome]) -> Vec<bool> {
    let mut changes = Vec::new();
    let mut now = 0;
    for outcome in outcomes {
        let order = loop {
            now += 50;
            if let Some(order) = health.orders(at(now)).pop() {
                break order;
            }
        };
        let judged = health.judge(order.token, *outcome, 7).expect("ours");
        changes.extend(judged.change.map(|change| change.up));
    }
    changes
}

use ProbeOutcome::{Connected, NoResources, Refused, TimedOut, Unreachable};

#[test]
fn a_backend_is_up_until_it_fails_and_down_until_it_rises() {
    let mut health = health(TEXT);
    assert!(health.is_up(&key()));
    assert!(
        run(
            &mut health,
            &[Refused, TimedOut, Connected, Refused, Refused]
        )
        .is_empty()
    );
    assert_eq!(run(&mut health, &[Unreachable]), [false]);
    assert!(!health.is_up(&key()));
    assert_eq!(health.down().count(), 1);
    assert_eq!(
        run(&mut health, &[Connected, Refused, Connected, Connected]),
        [true]
    );
    assert_eq!(health.last(&key()), (Some(Connected), 7));
}

#[test]
fn our_own_lack_of_resources_says_nothing_about_a_backend() {
    let mut health = health(TEXT);
    assert!(run(&mut health, &[Refused, Refused, NoResources, NoResources]).is_empty());
    assert_eq!(run(&mut health, &[Refused]), [false]);
}

#[test]
fn a_backend_that_shall_prove_itself_first_starts_down() {
    let mut health = health(&TEXT.replace("fall = 3", "fall = 3, initial = \"down\""));
    assert!(!health.is_up(&key()));
    assert_eq!(run(&mut health, &[Connected, Connected]), [true]);
}

#[test]
fn probes_are_spread_by_a_tenth_of_the_interval_and_never_overlap() {
    let mut health = health(TEXT);
    let mut times = Vec::new();
    for now in 0..60_000 {
        for order in health.orders(at(now)) {
            assert_eq!((order.timeout_ms, order.target), (500, key().1));
            times.push(now);
            health.judge(order.token, Connected, 1);
        }
    }
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter().all(|gap| (900..=1_100).contains(gap)),
        "{gaps:?}"
    );
    let different: std::collections::BTreeSet<u64> = gaps.into_iter().collect();
    assert!(different.len() > 10, "{different:?}");
}

#[test]
fn a_lost_probe_is_given_up_and_made_again() {
    let mut health = health(TEXT);
    let first = (0..2_000).find_map(|now| health.orders(at(now)).pop().map(|it| (now, it)));
    let (sent, first) = first.expect("one probe");
    let second = (sent + 1..9_000).find_map(|now| health.orders(at(now)).pop().map(|it| (now, it)));
    let (again, second) = second.expect("another");
    assert_eq!((again, health.lost()), (sent + 1_500, 1));
    assert_ne!(first.token, second.token);
    assert_eq!(health.judge(first.token, Refused, 0), None, "too late");
}

#[test]
fn a_reload_keeps_what_is_known_and_another_control_takes_it_over() {
    let mut health = health(TEXT);
    run(&mut health, &[Refused, Refused, Refused]);
    let config = millrace_config::parse("t", &TEXT.replace("rise = 2", "rise = 1")).expect("valid");
    health.configure(at(10_000), &config, |_| None);
    assert!(!health.is_up(&key()));
    let mut successor = Health::new(2);
    successor.configure(Instant::ZERO, &config, |_| Some(true));
    assert!(!successor.is_up(&key()));
    let config = millrace_config::parse("t", &TEXT.replace("rise = 2", "enabled = false"));
    successor.configure(Instant::ZERO, &config.expect("valid"), |_| Some(true));
    assert!(successor.is_up(&key()), "not probed is up");
}

#[test]
fn a_failed_session_brings_the_next_probe_forward() {
    let mut health = health(TEXT);
    let (now, order) = (0..2_000)
        .find_map(|now| health.orders(at(now)).pop().map(|it| (now, it)))
        .expect("one probe");
    health.judge(order.token, Connected, 1);
    health.suspect(at(now + 10), &key());
    assert_eq!(health.orders(at(now + 109)).len(), 0);
    assert_eq!(health.orders(at(now + 110)).len(), 1);
}
