//! What the device counted.

use core::ffi::{CStr, c_uint};

use millrace_dpdk_sys as sys;

use crate::error::Errno;

/// The counters every driver has, since start or the last reset.
///
/// How well they are kept is the driver's affair: software devices leave several at zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames the device took for sending.
    pub tx_frames: u64,
    /// Bytes received, without the frame check sequence.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped by the device because no descriptor was free: we were too slow.
    pub rx_missed: u64,
    /// Frames received damaged.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames lost because the pool was empty.
    pub rx_no_buffer: u64,
}

/// The driver's own counters by name; the names are read once.
#[derive(Clone, Debug, Default)]
pub(crate) struct XstatNames(Vec<String>);

impl PortStats {
    pub(crate) fn query(port: u16) -> Result<Self, Errno> {
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: writes the struct.
        Errno::check(unsafe { sys::rte_eth_stats_get(port, &raw mut stats) })?;
        Ok(Self {
            rx_frames: stats.ipackets,
            tx_frames: stats.opackets,
            rx_bytes: stats.ibytes,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_buffer: stats.rx_nombuf,
        })
    }
}

impl XstatNames {
    pub(crate) fn query(port: u16) -> Self {
        // SAFETY: with a NULL table the call only counts.
        let count = unsafe { sys::rte_eth_xstats_get_names(port, core::ptr::null_mut(), 0) };
        let count = usize::try_from(count).unwrap_or(0);
        let mut names = vec![sys::rte_eth_xstat_name { name: [0; _] }; count];
        // SAFETY: the table has room for the size given.
        let filled =
            unsafe { sys::rte_eth_xstats_get_names(port, names.as_mut_ptr(), size(names.len())) };
        names.truncate(usize::try_from(filled).unwrap_or(0));
        let text = |name: &sys::rte_eth_xstat_name| {
            // SAFETY: the driver writes a NUL-terminated name into the array.
            let name = unsafe { CStr::from_ptr(name.name.as_ptr()) };
            name.to_string_lossy().into_owned()
        };
        Self(names.iter().map(text).collect())
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    /// The values now, in the order of the names; one the driver leaves out is 0.
    pub(crate) fn values(&self, port: u16) -> Result<Vec<u64>, Errno> {
        let mut table = vec![sys::rte_eth_xstat::default(); self.0.len()];
        // SAFETY: the table has room for the size given.
        let filled =
            unsafe { sys::rte_eth_xstats_get(port, table.as_mut_ptr(), size(table.len())) };
        let filled = usize::try_from(Errno::check(filled)?).unwrap_or(0);
        table.truncate(filled);
        let mut values = vec![0; self.0.len()];
        for xstat in table {
            if let Some(value) = usize::try_from(xstat.id)
                .ok()
                .and_then(|id| values.get_mut(id))
            {
                *value = xstat.value;
            }
        }
        Ok(values)
    }
}

fn size(len: usize) -> c_uint {
    c_uint::try_from(len).unwrap_or(c_uint::MAX)
}
