//! One listing of connections in progress: pages asked of every lcore, rows collected until there
//! are enough.
//!
//! One listing runs at a time; it ends when every lcore is through, when there are enough rows, or
//! when no lcore has answered for `SILENCE_MAX`.

use millrace_abi::{Command, ConnectionRow};
use millrace_base::{Instant, Nanos};

/// Rows asked of one lcore at a time: a small part of its event ring, which other events share.
const PAGE_ROWS: u32 = 256;
/// How long an lcore may let us wait.
const SILENCE_MAX: Nanos = Nanos::from_secs(2);

/// A listing in progress.
#[derive(Debug)]
pub(crate) struct Listing {
    token: u64,
    limit: usize,
    rows: Vec<(u16, ConnectionRow)>,
    lcores: Vec<Page>,
    deadline: Instant,
    truncated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Wanted(u64),
    Asked,
    Done,
}

impl Listing {
    /// Begins a listing of at most `limit` rows over this many lcores. The token must differ from
    /// the last one's.
    pub(crate) fn new(token: u64, limit: usize, lcores: usize, now: Instant) -> Self {
        Self {
            token,
            limit,
            rows: Vec::new(),
            lcores: vec![Page::Wanted(0); lcores],
            deadline: now.after(SILENCE_MAX),
            truncated: false,
        }
    }

    /// What must be asked now, by lcore.
    pub(crate) fn commands(&mut self) -> Vec<(usize, Command)> {
        let mut commands = Vec::new();
        for (lcore, page) in self.lcores.iter_mut().enumerate() {
            if let Page::Wanted(cursor) = *page {
                let command = Command::ListConnections {
                    token: self.token,
                    cursor,
                    limit: PAGE_ROWS,
                };
                commands.push((lcore, command));
                *page = Page::Asked;
            }
        }
        commands
    }

    /// An lcore sent a row.
    pub(crate) fn row(&mut self, now: Instant, lcore: u16, row: ConnectionRow) {
        if row.token != self.token {
            return;
        }
        self.deadline = now.after(SILENCE_MAX);
        if self.rows.len() < self.limit {
            self.rows.push((lcore, row));
        } else {
            self.truncated = true;
        }
    }

    /// An lcore finished a page.
    pub(crate) fn page_end(&mut self, now: Instant, lcore: u16, token: u64, next_cursor: u64) {
        if token != self.token {
            return;
        }
        self.deadline = now.after(SILENCE_MAX);
        let full = self.rows.len() >= self.limit;
        if let Some(page) = self.lcores.get_mut(usize::from(lcore)) {
            *page = match next_cursor {
                0 => Page::Done,
                _ if full => {
                    self.truncated = true;
                    Page::Done
                }
                cursor => Page::Wanted(cursor),
            };
        }
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_due(now) || self.lcores.iter().all(|page| *page == Page::Done)
    }

    /// The rows with their lcores, and whether some are missing.
    pub(crate) fn finish(self) -> (Vec<(u16, ConnectionRow)>, bool) {
        let silent = self.lcores.iter().any(|page| *page != Page::Done);
        (self.rows, self.truncated || silent)
    }
}
