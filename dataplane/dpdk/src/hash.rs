//! `rte_hash`, DPDK's own cuckoo hash table: what our flow table is measured beside.
//!
//! Nothing on the packet path uses it. Keys are byte strings of one length, values are numbers; the hash is CRC32, as in
//! DPDK's examples on x86.

use core::ffi::c_void;
use core::fmt;
use core::ptr::{self, NonNull};
use std::ffi::CString;

use millrace_dpdk_sys as sys;

use crate::eal::Eal;
use crate::error::Errno;

/// Keys of one bulk lookup at most (`RTE_HASH_LOOKUP_BULK_MAX`).
pub const HASH_BULK_MAX: usize = 64;

/// A table from keys of `KEY` bytes to numbers, for one thread.
pub struct HashTable<const KEY: usize>(NonNull<sys::rte_hash>);

// SAFETY: the table belongs to its handle alone; nothing in it is bound to a thread.
unsafe impl<const KEY: usize> Send for HashTable<KEY> {}

impl<const KEY: usize> HashTable<KEY> {
    /// A table with room for `entries`, in EAL's memory. `name` is unique in the process and short (26 bytes).
    pub fn new(_: &Eal, name: &str, entries: u32) -> Result<Self, Errno> {
        let invalid = || Errno::new(libc::EINVAL);
        let name = CString::new(name).map_err(|_| invalid())?;
        let parameters = sys::rte_hash_parameters {
            name: name.as_ptr(),
            entries,
            key_len: u32::try_from(KEY).map_err(|_| invalid())?,
            hash_func: Some(sys::mr_hash_crc),
            socket_id: 0,
            ..sys::rte_hash_parameters::default()
        };
        // SAFETY: EAL runs; the parameters and the name are read during the call only.
        let table = unsafe { sys::rte_hash_create(&raw const parameters) };
        NonNull::new(table).map(Self).ok_or_else(Errno::last)
    }

    /// Enters a key, or gives it another value.
    pub fn insert(&mut self, key: &[u8; KEY], value: u64) -> Result<(), Errno> {
        let value = ptr::without_provenance_mut::<c_void>(value as usize);
        // SAFETY: the table is live and ours alone; the key has the table's length and is copied; the value is a number
        // that nobody follows as a pointer.
        let status = unsafe { sys::rte_hash_add_key_data(self.raw(), key.as_ptr().cast(), value) };
        Errno::check(status).map(drop)
    }

    /// A key's value.
    #[inline]
    pub fn get(&self, key: &[u8; KEY]) -> Option<u64> {
        let mut value = ptr::null_mut();
        // SAFETY: the table is live, the key has its length, one pointer is written.
        let place =
            unsafe { sys::rte_hash_lookup_data(self.raw(), key.as_ptr().cast(), &raw mut value) };
        (place >= 0).then_some(value.addr() as u64)
    }

    /// The values of up to [`HASH_BULK_MAX`] keys at once, which hide each other's cache misses. Returns a bit for each
    /// key that was found; the values of the others are left alone. Keys beyond the bound, or beyond `values`, are not
    /// looked for.
    #[inline]
    pub fn get_bulk(&self, keys: &[&[u8; KEY]], values: &mut [u64]) -> u64 {
        let count = keys.len().min(values.len()).min(HASH_BULK_MAX);
        let mut pointers = [ptr::null(); HASH_BULK_MAX];
        for (pointer, key) in pointers.iter_mut().zip(keys) {
            *pointer = key.as_ptr().cast::<c_void>();
        }
        let mut found = [ptr::null_mut(); HASH_BULK_MAX];
        let mut hits = 0;
        // SAFETY: the table is live; `count` (at most 64) pointers to keys of its length, room for as many values.
        let status = unsafe {
            sys::rte_hash_lookup_bulk_data(
                self.raw(),
                pointers.as_mut_ptr(),
                count as u32,
                &raw mut hits,
                found.as_mut_ptr(),
            )
        };
        if status < 0 {
            return 0;
        }
        for (at, (value, found)) in values.iter_mut().zip(&found).enumerate().take(count) {
            if hits >> at & 1 == 1 {
                *value = found.addr() as u64;
            }
        }
        hits
    }

    /// Takes a key out; whether it was there.
    pub fn remove(&mut self, key: &[u8; KEY]) -> bool {
        // SAFETY: the table is live and ours alone; the key has its length.
        unsafe { sys::rte_hash_del_key(self.raw(), key.as_ptr().cast()) >= 0 }
    }

    fn raw(&self) -> *mut sys::rte_hash {
        self.0.as_ptr()
    }
}

impl<const KEY: usize> Drop for HashTable<KEY> {
    fn drop(&mut self) {
        // SAFETY: the last use of a live table.
        unsafe { sys::rte_hash_free(self.raw()) };
    }
}

impl<const KEY: usize> fmt::Debug for HashTable<KEY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HashTable").field(&KEY).finish()
    }
}
