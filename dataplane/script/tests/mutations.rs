//! Broken scripts: the parser answers every text with a script or an error, and never panics.

use millrace_script::{Script, Variant};
use proptest::prelude::*;

const SAMPLE: &str = include_str!("samples/everything.pkt");

/// Pieces of the language, to be put where they do not belong.
const PIECES: &[&str] = &[
    "...",
    "+0",
    "0~+",
    "*",
    "<",
    ">",
    "%{",
    "}%",
    "`",
    "\"",
    "\\",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "=",
    "|",
    ",",
    "-",
    "--",
    "/*",
    "//",
    "::",
    "1:2(1)",
    "ack",
    "win",
    "<...>",
    "TS val",
    "0x",
    "99999999999999999999",
    "-1",
    "1e9",
    ".5",
    "assert",
    "not not",
    "((((",
    "sysctl",
    "||",
    "é",
];

/// One change of a text.
#[derive(Clone, Debug)]
enum Mutation {
    Cut {
        at: usize,
        length: usize,
    },
    Insert {
        at: usize,
        piece: usize,
    },
    Swap {
        from: usize,
        length: usize,
        to: usize,
    },
    Flip {
        at: usize,
        byte: u8,
    },
    Repeat {
        at: usize,
        length: usize,
        times: usize,
    },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || 0..SAMPLE.len();
    prop_oneof![
        (at(), 1_usize..80).prop_map(|(at, length)| Mutation::Cut { at, length }),
        (at(), 0..PIECES.len()).prop_map(|(at, piece)| Mutation::Insert { at, piece }),
        (at(), 1_usize..40, at()).prop_map(|(from, length, to)| Mutation::Swap {
            from,
            length,
            to
        }),
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip { at, byte }),
        (at(), 1_usize..4, 1_usize..300).prop_map(|(at, length, times)| Mutation::Repeat {
            at,
            length,
            times
        }),
    ]
}

fn mutated(mutations: &[Mutation]) -> String {
    let mut bytes = SAMPLE.as_bytes().to_vec();
    let part = |bytes: &[u8], at: usize, length: usize| {
        bytes
            .get(at..bytes.len().min(at + length))
            .unwrap_or(&[])
            .to_vec()
    };
    for mutation in mutations {
        let size = bytes.len();
        match *mutation {
            Mutation::Cut { at, length } if at < size => {
                bytes.drain(at..size.min(at + length));
            }
            Mutation::Insert { at, piece } if at <= size => {
                bytes.splice(at..at, PIECES[piece].bytes());
            }
            Mutation::Swap { from, length, to } if to <= size => {
                let moved = part(&bytes, from, length);
                bytes.splice(to..to, moved);
            }
            Mutation::Flip { at, byte } if at < size => bytes[at] = byte,
            Mutation::Repeat { at, length, times } if at <= size => {
                let repeated = part(&bytes, at, length).repeat(times);
                bytes.splice(at..at, repeated);
            }
            // The place is gone: an earlier change cut it away.
            Mutation::Cut { .. }
            | Mutation::Insert { .. }
            | Mutation::Swap { .. }
            | Mutation::Flip { .. }
            | Mutation::Repeat { .. } => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // A failure prints the changes that led to it, and their seed is kept.
    #[test]
    fn a_mutated_script_never_panics(mutations in prop::collection::vec(mutation(), 1..8)) {
        let text = mutated(&mutations);
        for variant in Variant::ALL {
            if let Err(error) = Script::parse("mutated.pkt", &text, variant) {
                let lines = u32::try_from(text.lines().count()).expect("few");
                prop_assert!(error.at.line >= 1 && error.at.line <= lines + 1, "{error}");
            }
        }
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        let _ = Script::parse("any.pkt", &text, Variant::Ipv4);
        let _ = Script::parse("any.pkt", &format!("0 %{{{text}}}%"), Variant::Ipv4);
        let _ = Script::parse("any.pkt", &format!("0 `{text}`"), Variant::Ipv4);
        let _ = Script::parse("any.pkt", &format!("0 > {text}"), Variant::Ipv4);
        let _ = Script::parse("any.pkt", &format!("0 f({text}) = 0"), Variant::Ipv4);
    }
}

#[test]
fn deep_nesting_is_refused_instead_of_overflowing_the_stack() {
    for (open, close) in [("[", "]"), ("{", "}"), ("f(", ")"), ("{a=", "}")] {
        let text = format!(
            "0 f({}1{}) = 0",
            open.repeat(100_000),
            close.repeat(100_000)
        );
        let error = Script::parse("deep.pkt", &text, Variant::Ipv4).expect_err("is too deep");
        assert!(error.message.contains("too deep"), "{error}");
    }
    for open in ["(", "-", "~", "not "] {
        let text = format!("0 %{{ assert {}1 }}%", open.repeat(100_000));
        let error = Script::parse("deep.pkt", &text, Variant::Ipv4).expect_err("is too deep");
        assert!(error.message.contains("too deep"), "{error}");
    }
}
