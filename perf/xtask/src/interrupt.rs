//! SIGINT and SIGTERM become an error at the next wait, so that every `Drop` on the way out runs.
//!
//! Nothing here ends a process: children live in process groups of their own and are ended by the
//! guard that owns them ([`crate::process::Background`]).

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// How long a wait sleeps before it looks at the flag again.
const TICK: Duration = Duration::from_millis(20);

fn flag() -> &'static Arc<AtomicBool> {
    FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)))
}

/// Registers the handlers. Called once, before anything is started.
pub(crate) fn install() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag()))?;
    }
    Ok(())
}

/// Whether somebody asked this process to stop.
pub(crate) fn is_requested() -> bool {
    // The handler stores, every wait loads; the flag guards no other data.
    flag().load(Ordering::Relaxed)
}

/// An error when somebody asked this process to stop.
pub(crate) fn check() -> Result<()> {
    if is_requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, but not past an interrupt.
pub(crate) fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}

/// Asks `ready` again and again until it says yes. The error carries `what` and the last reason.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<(), String>,
) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        let reason = match ready() {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        if Instant::now() >= end {
            bail!("waited {} s for {what}: {reason}", limit.as_secs());
        }
        sleep(Duration::from_millis(100))?;
    }
}
