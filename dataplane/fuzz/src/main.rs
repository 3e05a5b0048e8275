//! One target for libFuzzer: which one, the variable `MILLRACE_FUZZ_TARGET` says. `cargo xtask fuzz`
//! builds and starts this; by hand it takes libFuzzer's own arguments.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::{Target, target};

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("MILLRACE_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("MILLRACE_FUZZ_TARGET: no target {name:?}"))
    });
    (target.run)(data);
});
