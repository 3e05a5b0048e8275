//! Files that a script's shell commands made, for `sendfile`. They hold zeros.

use std::collections::BTreeMap;

use millrace_socket::Errno;

/// The first descriptor of a file: beyond all descriptors of sockets.
const FD_FIRST: i32 = 100_000;

/// All files, and which are open.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Path and length.
    lengths: BTreeMap<String, usize>,
    /// Descriptor, path and how far it was read.
    open: BTreeMap<i32, (String, usize)>,
    opened: i32,
}

impl Files {
    pub(super) fn write(&mut self, path: &str, length: usize) {
        self.lengths.insert(path.to_owned(), length);
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.lengths.remove(path);
    }

    pub(super) fn open(&mut self, path: &str) -> Result<i32, Errno> {
        if !self.lengths.contains_key(path) {
            return Err(Errno::ENOENT);
        }
        let fd = FD_FIRST + self.opened;
        self.opened += 1;
        self.open.insert(fd, (path.to_owned(), 0));
        Ok(fd)
    }

    /// Whether there was such a descriptor.
    pub(super) fn close(&mut self, fd: i32) -> bool {
        self.open.remove(&fd).is_some()
    }

    /// Bytes at `offset`, or where the last read ended.
    pub(super) fn read(
        &mut self,
        fd: i32,
        offset: Option<i64>,
        bytes: usize,
    ) -> Result<Vec<u8>, Errno> {
        let (path, read) = self.open.get_mut(&fd).ok_or(Errno::EBADF)?;
        let length = self.lengths.get(path).copied().unwrap_or(0);
        let start = match offset {
            Some(offset) => usize::try_from(offset).map_err(|_| Errno::EINVAL)?,
            None => *read,
        };
        let count = bytes.min(length.saturating_sub(start));
        if offset.is_none() {
            *read += count;
        }
        Ok(vec![0; count])
    }
}
