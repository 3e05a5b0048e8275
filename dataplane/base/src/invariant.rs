//! The middle assertion tier: true by construction, checked in tests, survived in production.

/// Checks what must hold in every reachable state.
///
/// With debug assertions (tests, simulation, fuzzing, the `checked` profile) a violation panics with the condition.
/// In production it evaluates to `false`, and the caller counts a bug, gives up *this* connection and goes on: the
/// blast radius of a mistake is one flow.
///
/// ```
/// fn halve(even: u32) -> Option<u32> {
///     millrace_base::invariant!(even % 2 == 0).then_some(even / 2)
/// }
/// assert_eq!(halve(4), Some(2));
/// ```
#[macro_export]
macro_rules! invariant {
    ($condition:expr $(, $($context:tt)+)?) => {{
        let holds: bool = $condition;
        debug_assert!(holds $(, $($context)+)?);
        holds
    }};
}
