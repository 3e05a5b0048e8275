//! The TCP probe: an lcore connects through its own stack and closes at once. Here is what its
//! outcome says.

use millrace_abi::ProbeOutcome;

/// What an outcome says about the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It serves.
    Good,
    /// It does not.
    Bad,
    /// Nothing: the trouble is ours.
    Nothing,
}

/// Judges an outcome.
pub(super) const fn verdict(outcome: ProbeOutcome) -> Verdict {
    match outcome {
        ProbeOutcome::Connected => Verdict::Good,
        ProbeOutcome::Refused | ProbeOutcome::TimedOut | ProbeOutcome::Unreachable => Verdict::Bad,
        ProbeOutcome::NoResources => Verdict::Nothing,
    }
}

/// The word an operator reads.
pub(crate) const fn word(outcome: ProbeOutcome) -> &'static str {
    match outcome {
        ProbeOutcome::Connected => "connected",
        ProbeOutcome::Refused => "refused",
        ProbeOutcome::TimedOut => "timed out",
        ProbeOutcome::Unreachable => "unreachable",
        ProbeOutcome::NoResources => "no resources",
    }
}
