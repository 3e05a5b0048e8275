//! Two ports back to back: what one sends the other receives, by pointer, in this process.
//!
//! The fastest and the most repeatable peer there is (about 25 cycles per frame and direction): a
//! generator or a fake network card on the other side sees the very mbufs, may write `hash.rss` and
//! checksum verdicts the way hardware does and may look at the transmit flags. `--vdev net_ring0`
//! alone only makes a loop.

use core::ffi::{c_char, c_uint, c_void};
use core::mem;
use std::ffi::CString;

use millrace_dpdk_sys as sys;

use crate::eal::{Eal, PlugError};
use crate::error::Errno;
use crate::port::Device;

/// `rte_eth_from_rings`. It lives in the driver, which we do not link (see `dpdk-sys/build.rs`):
/// EAL has loaded it.
type FromRings = unsafe extern "C" fn(
    name: *const c_char,
    rx: *const *mut sys::rte_ring,
    rx_count: c_uint,
    tx: *const *mut sys::rte_ring,
    tx_count: c_uint,
    socket: c_uint,
) -> i32;

/// The ABI number in the driver's file name counts years from .11 to .11: 22.11 to 23.07 are 23.
const ABI: u32 = sys::RTE_VER_YEAR + (sys::RTE_VER_MONTH >= 11) as u32;

/// The driver's bound on queues (`RTE_PMD_RING_MAX_RX_RINGS`).
const QUEUES_MAX: u16 = 16;

/// `RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ`: one handle per queue makes one producer and
/// one consumer.
const FLAGS: c_uint = 1 | 2 | 4;

impl Eal {
    /// Makes two connected devices of `queues` (1 to 16) queues each; a queue holds `frames` frames
    /// under way.
    ///
    /// Queue *i* of one is queue *i* of the other. The rings, and frames left in them, stay until
    /// the process ends.
    pub fn plug_ring_pair(
        &self,
        name: &str,
        queues: u16,
        frames: u32,
    ) -> Result<(Device, Device), PlugError> {
        if !(1..=QUEUES_MAX).contains(&queues) {
            return Err(PlugError::Other(Errno::new(libc::EINVAL)));
        }
        let from_rings = find_from_rings().ok_or(PlugError::NoDevice)?;
        let rings = |direction: char| -> Result<Vec<*mut sys::rte_ring>, PlugError> {
            (0..queues)
                .map(|queue| ring(&format!("{name}{direction}{queue}"), frames))
                .collect()
        };
        let (forth, back) = (rings('f')?, rings('b')?);
        let plug = |end: char, rx: &[*mut sys::rte_ring], tx: &[*mut sys::rte_ring]| {
            let name = format!("{name}{end}");
            let c_name = CString::new(name.as_str()).map_err(|_| PlugError::NulByte)?;
            let count = c_uint::from(queues);
            // SAFETY: EAL runs, the name ends in NUL, each array holds `queues` live rings; all of
            // them are copied.
            let port =
                unsafe { from_rings(c_name.as_ptr(), rx.as_ptr(), count, tx.as_ptr(), count, 0) };
            if port < 0 {
                return Err(PlugError::Other(Errno::last()));
            }
            Device::by_name(self, &format!("net_ring_{name}")).map_err(|_| PlugError::NoDevice)
        };
        Ok((plug('a', &back, &forth)?, plug('b', &forth, &back)?))
    }
}

fn ring(name: &str, frames: u32) -> Result<*mut sys::rte_ring, PlugError> {
    let name = CString::new(name).map_err(|_| PlugError::NulByte)?;
    // SAFETY: the name ends in NUL and is copied.
    let ring = unsafe { sys::rte_ring_create(name.as_ptr(), frames, -1, FLAGS) };
    if !ring.is_null() {
        return Ok(ring);
    }
    let errno = Errno::last();
    Err(if errno.number() == libc::EEXIST {
        PlugError::Exists
    } else {
        PlugError::Other(errno)
    })
}

fn find_from_rings() -> Option<FromRings> {
    let library = CString::new(format!("librte_net_ring.so.{ABI}")).ok()?;
    // SAFETY: only looks for a library that is loaded already; runs no code of it.
    let handle: *mut c_void =
        unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: the handle is live (and never closed) and the symbol's name ends in NUL.
    let symbol = unsafe { libc::dlsym(handle, c"rte_eth_from_rings".as_ptr()) };
    // SAFETY: a function of this name in this library has had this type since DPDK 16.11; NULL
    // becomes `None`.
    unsafe { mem::transmute::<*mut c_void, Option<FromRings>>(symbol) }
}
