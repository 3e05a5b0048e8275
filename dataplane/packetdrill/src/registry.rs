//! Which hosts there are.
//!
//! What C code holds as `userdata` is a host's number, not its address: a wrong one names nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::Host;
use crate::memory::Place;

/// Hosts by number, and the next number.
static HOSTS: Mutex<Hosts> = Mutex::new(Hosts {
    by_number: BTreeMap::new(),
    next: 1,
});

struct Hosts {
    by_number: BTreeMap<u64, Arc<Host>>,
    next: u64,
}

/// Names a host in C code.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
#[allow(unreachable_pub, reason = "part of the C signatures")]
pub struct Handle(Place);

fn hosts() -> MutexGuard<'static, Hosts> {
    HOSTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a host its number.
pub(crate) fn add(host: Host) -> Handle {
    let mut hosts = hosts();
    let number = hosts.next;
    hosts.next += 1;
    hosts.by_number.insert(number, Arc::new(host));
    Handle(Place::from_word(number))
}

/// The host of a number.
pub(crate) fn find(handle: Handle) -> Option<Arc<Host>> {
    hosts().by_number.get(&handle.0.to_word()).cloned()
}

/// The host that was made last and still is: whose descriptors preloaded functions mean.
pub(crate) fn latest() -> Option<Arc<Host>> {
    let hosts = hosts();
    hosts.by_number.values().next_back().cloned()
}

/// Forgets a host; calls that it is in the middle of go on.
pub(crate) fn remove(handle: Handle) -> Option<Arc<Host>> {
    hosts().by_number.remove(&handle.0.to_word())
}
