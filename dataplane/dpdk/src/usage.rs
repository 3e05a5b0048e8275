//! How busy each lcore is, for DPDK's own tools.
//!
//! Lcores write their cycles here some times a second; the telemetry socket answers
//! `/millrace/lcore/usage` with three arrays: `lcore_ids`, `total_cycles`, `busy_cycles`, as
//! `/eal/lcore/usage` does in later releases. That one needs `rte_lcore_register_usage_cb`, which
//! came with DPDK 23.03; a command of our own works with every release since 22.11.

use core::ffi::{c_char, c_int};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use millrace_dpdk_sys as sys;

use crate::eal::Eal;
use crate::error::Errno;
use crate::lcore::Lcore;

/// What `dpdk-telemetry.py` is asked for.
const COMMAND: &core::ffi::CStr = c"/millrace/lcore/usage";
const HELP: &core::ffi::CStr =
    c"Busy and total TSC cycles of every lcore that counts them. No parameters.";

/// One lcore's words, alone in their cache lines: each lcore writes its own.
#[repr(align(128))]
struct Cell {
    busy: AtomicU64,
    total: AtomicU64,
}

static CELLS: [Cell; sys::RTE_MAX_LCORE as usize] = [const {
    Cell {
        busy: AtomicU64::new(0),
        total: AtomicU64::new(0),
    }
}; sys::RTE_MAX_LCORE as usize];

/// Where one lcore says how busy it is.
#[derive(Debug)]
pub struct LcoreUsage(usize);

impl Eal {
    /// The place where this lcore's cycles are told.
    pub fn usage_of(&self, lcore: Lcore) -> LcoreUsage {
        LcoreUsage(usize::from(lcore.number()))
    }

    /// Lets telemetry clients ask for what `LcoreUsage::set` was told. Once per process.
    pub fn tell_usage(&self) -> Result<(), Errno> {
        // SAFETY: EAL runs; both strings are static and end in NUL, the callback is a function of
        // the expected type that lives for ever.
        let status = unsafe {
            sys::rte_telemetry_register_cmd(COMMAND.as_ptr(), Some(answer), HELP.as_ptr())
        };
        Errno::check(status).map(drop)
    }
}

impl LcoreUsage {
    /// Tells the cycles spent with work, and all cycles, since the lcore started. Two stores.
    pub fn set(&mut self, busy_cycles: u64, total_cycles: u64) {
        if let Some(cell) = CELLS.get(self.0) {
            // Readers want two numbers of about the same moment, no more: nothing is ordered by them.
            cell.busy.store(busy_cycles, Ordering::Relaxed);
            cell.total.store(total_cycles, Ordering::Relaxed);
        }
    }
}

/// Lcores that have told something, with busy and total cycles.
fn told() -> impl Iterator<Item = (u64, u64, u64)> {
    (0u64..).zip(&CELLS).filter_map(|(lcore, cell)| {
        let total = cell.total.load(Ordering::Relaxed);
        (total > 0).then(|| (lcore, cell.busy.load(Ordering::Relaxed), total))
    })
}

/// The telemetry callback; runs on a thread of DPDK's.
unsafe extern "C" fn answer(
    _command: *const c_char,
    _parameters: *const c_char,
    data: *mut sys::rte_tel_data,
) -> c_int {
    let Some(data) = NonNull::new(data) else {
        return -libc::EINVAL;
    };
    // SAFETY: telemetry lends us its record for the length of this call.
    unsafe { sys::rte_tel_data_start_dict(data.as_ptr()) };
    for (name, pick) in [
        (c"lcore_ids", (|row| row.0) as fn((u64, u64, u64)) -> u64),
        (c"total_cycles", |row| row.2),
        (c"busy_cycles", |row| row.1),
    ] {
        // SAFETY: allocates a record, or fails with NULL.
        let Some(list) = NonNull::new(unsafe { sys::rte_tel_data_alloc() }) else {
            return -libc::ENOMEM;
        };
        // SAFETY: `list` is ours and fresh.
        unsafe { sys::rte_tel_data_start_array(list.as_ptr(), sys::MR_TEL_U64) };
        for row in told() {
            // SAFETY: `list` is an array of 64-bit numbers; a full one refuses more.
            unsafe { sys::rte_tel_data_add_array_u64(list.as_ptr(), pick(row)) };
        }
        // SAFETY: `data` is a dictionary, the name is static, and with `keep` 0 telemetry frees
        // `list` with `data`.
        let status = unsafe {
            sys::rte_tel_data_add_dict_container(data.as_ptr(), name.as_ptr(), list.as_ptr(), 0)
        };
        if status < 0 {
            // SAFETY: the dictionary did not take it, so it is still ours.
            unsafe { sys::rte_tel_data_free(list.as_ptr()) };
            return status;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lcores_that_counted_are_told() {
        let mut usage = LcoreUsage(7);
        usage.set(30, 100);
        LcoreUsage(usize::MAX).set(1, 1);
        let rows: Vec<_> = told().collect();
        assert_eq!(rows, [(7, 30, 100)]);
    }
}
