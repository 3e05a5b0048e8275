//! Seeds that failed once, and some that any change meets first.

use millrace_sim::{Seed, listed, play};

fn passes(seed: Seed) {
    if let Err(failure) = play(seed) {
        panic!(
            "seed {seed} at {} us: {} (cargo xtask sim --replay {seed})",
            failure.at_micros, failure.what
        );
    }
}

#[test]
fn every_seed_that_failed_once_passes() {
    for seed in listed(include_str!("../seeds.txt")).expect("a list of seeds") {
        passes(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in [1, 2, 3] {
        let (once, again) = (play(Seed::newest(seed)), play(Seed::newest(seed)));
        assert_eq!(once, again, "seed {seed}");
    }
}
