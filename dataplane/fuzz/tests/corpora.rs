//! What fuzzing found interesting, and what it broke once, played without an engine.

use std::fs;
use std::path::Path;

use millrace_fuzz::TARGETS;

/// Inputs of one folder, by name.
fn inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.expect("a folder that can be read").path())
        .map(|path| {
            let bytes = fs::read(&path).expect("a file that can be read");
            (path.display().to_string(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn every_target_survives_its_corpus() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let inputs = inputs(&corpora.join(target.name));
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for (name, bytes) in inputs {
            println!("{name}");
            (target.run)(&bytes);
        }
    }
}

#[test]
fn no_input_and_garbage_break_nothing() {
    for target in TARGETS {
        (target.run)(&[]);
        let mut state = 0x9e37_79b9_u32;
        for len in 0..200 {
            let bytes: Vec<u8> = core::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .take(len)
            .collect();
            (target.run)(&bytes);
        }
    }
}
