//! Whether a shell command has run: child processes that have ended.

use crate::kernel;

/// What was known at the last look.
#[derive(Debug)]
pub(crate) struct Children {
    pages: libc::c_long,
}

impl Children {
    pub(crate) fn new() -> Self {
        Self {
            pages: kernel::pages_of_children(),
        }
    }

    /// Whether a child has ended since the last look.
    pub(crate) fn have_ended(&mut self) -> bool {
        let before = self.pages;
        self.pages = kernel::pages_of_children();
        self.pages != before
    }
}
