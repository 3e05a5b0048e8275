//! Scripts: any text is a script or an error with a place, and a script ends.

use millrace_script::{Script, Variant};

/// Parses `data` as a script in each address variant.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    for variant in Variant::ALL {
        if let Err(error) = Script::parse("fuzz.pkt", text, variant) {
            assert!(!error.to_string().is_empty(), "a refusal says why");
        }
    }
}
