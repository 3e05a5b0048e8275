//! Watching a world from outside while it is played: what tables are made of.

use millrace_base::{Instant, Nanos};
use millrace_socket::TcpInfo;

use super::{PORT, SERVER, World};
use crate::link::Tally;

impl World {
    /// The server listens: the first thing that happens.
    pub(crate) fn open_up(&mut self) {
        self.nodes[SERVER].host.listen(self.now, PORT);
    }

    /// Plays until an instant, or until every program has ended; whether that is so.
    pub(crate) fn play_until(&mut self, at: Instant) -> Result<bool, String> {
        while !self.is_over() {
            let next = self.next_deadline();
            if next > at {
                self.now = self.now.max(at);
                return Ok(false);
            }
            self.step(next)?;
        }
        Ok(true)
    }

    /// Bytes of a flow that its server has read.
    pub(crate) fn read(&self, flow: usize) -> u64 {
        let server = &self.flows[flow].server;
        server.as_ref().map_or(0, |program| program.read)
    }

    /// When everything that the client of a flow wrote had been read, from when it began.
    pub(crate) fn took(&self, flow: usize) -> Option<Nanos> {
        let flow = &self.flows[flow];
        let ended = flow.server.as_ref()?.finished_at?;
        Some(ended.since(flow.plan.starts_at))
    }

    /// The connection of a flow's client, while it has one.
    pub(crate) fn info(&self, flow: usize) -> Option<TcpInfo> {
        let flow = &self.flows[flow];
        let conn = flow.client.as_ref()?.conn()?;
        self.nodes[flow.plan.node].host.info(conn)
    }

    /// A counter of a host, by its MIB name.
    pub(crate) fn counter(&self, node: usize, name: &str) -> u64 {
        self.nodes[node].host.counter(name).unwrap_or(0)
    }

    /// What became of the packets on their way to a node.
    pub(crate) fn towards(&self, node: usize) -> Tally {
        self.nodes[node].down.tally
    }
}
