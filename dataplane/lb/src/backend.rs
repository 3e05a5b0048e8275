//! Backends as this lcore sees them: where they are, whether control calls them healthy, how many
//! sessions they have.
//!
//! Rows are indexed by the backend's stable id, so that a session's account survives every reload:
//! a row that the newest snapshot does not name is merely never picked. Health is control's
//! verdict; the dataplane only obeys and reports. Counts are this lcore's own: nothing is shared
//! with the others.

use millrace_abi::limits::BACKENDS_MAX;
use millrace_abi::{BackendCounters, BackendState, ProbeOutcome};
use millrace_base::{Address, BackendId, Endpoint};

use crate::limits::WEIGHT_MAX;
use crate::snat::Headroom;

/// One backend and its account on this lcore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backend {
    /// Where it listens.
    pub(crate) endpoint: Endpoint,
    /// Its share of the pool, `0 ..= WEIGHT_MAX`; 0 takes nothing.
    pub(crate) weight: u16,
    /// Control's verdict.
    pub(crate) state: BackendState,
    /// The snapshot that named it last; a row of an older one is gone.
    pub(crate) generation: u32,
    /// The smooth round robin's running score (`pick/round_robin.rs`).
    pub(crate) score: i32,
    /// Which source address has its turn (`snat`).
    pub(crate) address_cursor: u32,
    /// Source ports towards it, as of the last look (`report.rs`).
    pub(crate) headroom: Headroom,
    /// Sessions that are connecting to it or connected.
    pub(crate) active: u32,
    /// Sessions that were connected.
    pub(crate) sessions: u64,
    /// Attempts to connect that failed.
    pub(crate) connect_failures: u64,
    /// Bytes that went from clients to it.
    pub(crate) bytes_in: u64,
    /// Bytes that came from it.
    pub(crate) bytes_out: u64,
    /// Sessions that it reset after it had accepted them.
    pub(crate) resets: u64,
    /// Why an attempt failed, until control was told (`report.rs`).
    pub(crate) unreported: Option<ProbeOutcome>,
}

impl Backend {
    /// A row that no snapshot has named.
    const UNKNOWN: Self = Self {
        endpoint: Endpoint::new(Address::UNSPECIFIED_V6, 0),
        weight: 0,
        state: BackendState::Down,
        generation: 0,
        score: 0,
        address_cursor: 0,
        headroom: Headroom {
            capacity: 0,
            used: 0,
        },
        active: 0,
        sessions: 0,
        connect_failures: 0,
        bytes_in: 0,
        bytes_out: 0,
        resets: 0,
        unreported: None,
    };

    fn counters(&self) -> BackendCounters {
        BackendCounters {
            sessions_active: u64::from(self.active),
            sessions_total: self.sessions,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            connect_failures: self.connect_failures,
            resets: self.resets,
            ports_used: u64::from(self.headroom.used),
            ports_capacity: u64::from(self.headroom.capacity),
        }
    }
}

/// All backends, by stable id.
#[derive(Debug)]
pub(crate) struct Backends {
    rows: Vec<Backend>,
    generation: u32,
}

impl Backends {
    pub(crate) fn new() -> Self {
        let mut rows = Vec::with_capacity(BACKENDS_MAX);
        rows.resize(BACKENDS_MAX, Backend::UNKNOWN);
        Self {
            rows,
            generation: 0,
        }
    }

    /// Starts a new snapshot: what is not set again until the next one is gone.
    pub(crate) fn begin(&mut self) {
        // Generation 0 marks rows that were never set.
        self.generation = self.generation.wrapping_add(1).max(1);
    }

    /// Sets a row of the current snapshot. Refuses (`false`) an id out of range or set twice in one
    /// snapshot.
    ///
    /// An id that moved to another endpoint starts with a fresh score; its active count stays,
    /// because the sessions that it counts still end.
    #[must_use = "a refused row must be counted"]
    pub(crate) fn set(
        &mut self,
        id: BackendId,
        endpoint: Endpoint,
        weight: u16,
        state: BackendState,
        address_cursor: u32,
    ) -> bool {
        let generation = self.generation;
        let Some(row) = self.rows.get_mut(id.index()) else {
            return false;
        };
        if row.generation == generation {
            return false;
        }
        let weight = weight.min(WEIGHT_MAX);
        if row.endpoint != endpoint {
            row.endpoint = endpoint;
            row.address_cursor = address_cursor;
            row.score = 0;
        }
        row.weight = weight;
        row.state = state;
        row.generation = generation;
        true
    }

    pub(crate) fn get_mut(&mut self, id: BackendId) -> Option<&mut Backend> {
        self.rows.get_mut(id.index())
    }

    /// The row, if a new session may go there.
    pub(crate) fn eligible(&mut self, id: BackendId) -> Option<&mut Backend> {
        let generation = self.generation;
        self.rows.get_mut(id.index()).filter(|row| {
            row.generation == generation && row.weight > 0 && row.state == BackendState::Up
        })
    }

    /// The next backend of the present snapshot at or behind `index`.
    pub(crate) fn next_present(&mut self, index: usize) -> Option<(usize, &mut Backend)> {
        let generation = self.generation;
        let rows = self.rows.iter_mut().enumerate().skip(index);
        let mut present = rows.filter(|(_, row)| row.generation == generation);
        present.next()
    }

    /// The accounts of all backends that some snapshot has named.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (BackendId, BackendCounters)> {
        let known = self
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.generation != 0);
        known.map(|(index, row)| (BackendId::new(index as u16), row.counters()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8) -> Endpoint {
        Endpoint::new(Address::v4([10, 9, 0, last]), 80)
    }

    #[test]
    fn an_account_survives_a_reload_and_even_the_absence_of_its_backend() {
        let mut backends = Backends::new();
        let id = BackendId::new(7);
        backends.begin();
        assert!(backends.set(id, endpoint(1), 3, BackendState::Up, 0));
        backends.get_mut(id).expect("row").active = 5;
        backends.begin();
        assert!(backends.eligible(id).is_none(), "gone from the snapshot");
        assert_eq!(backends.get_mut(id).map(|row| row.active), Some(5));
        backends.begin();
        assert!(backends.set(id, endpoint(1), 3, BackendState::Up, 0));
        assert_eq!(backends.eligible(id).map(|row| row.active), Some(5));
    }

    #[test]
    fn a_second_row_of_one_id_and_an_id_out_of_range_are_refused() {
        let mut backends = Backends::new();
        backends.begin();
        assert!(backends.set(BackendId::new(1), endpoint(1), 1, BackendState::Up, 0));
        assert!(!backends.set(BackendId::new(1), endpoint(2), 1, BackendState::Up, 0));
        assert!(!backends.set(
            BackendId::new(u16::MAX),
            endpoint(2),
            1,
            BackendState::Up,
            0
        ));
        assert_eq!(
            backends.get_mut(BackendId::new(1)).map(|b| b.endpoint),
            Some(endpoint(1))
        );
    }

    #[test]
    fn down_draining_and_weightless_backends_take_nothing() {
        let mut backends = Backends::new();
        backends.begin();
        for (id, weight, state) in [
            (0, 1, BackendState::Down),
            (1, 1, BackendState::Draining),
            (2, 0, BackendState::Up),
        ] {
            assert!(backends.set(BackendId::new(id), endpoint(1), weight, state, 0));
            assert!(backends.eligible(BackendId::new(id)).is_none());
        }
    }
}
