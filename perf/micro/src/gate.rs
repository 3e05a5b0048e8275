//! The function between whose entry and exit callgrind counts.

/// Runs `work` inside the counted region and returns what it returned.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> T {
    let mut work = Some(work);
    let mut result = None;
    measured_region(&mut || result = work.take().map(|work| work()));
    // The region calls its work once.
    result.expect("the work ran")
}

/// What `cargo xtask micro` passes to callgrind's `--toggle-collect`. Never inlined, not generic:
/// the symbol is there under one name. It costs about ten instructions by itself.
#[inline(never)]
fn measured_region(work: &mut dyn FnMut()) {
    work();
}
