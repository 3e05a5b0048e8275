//! The wire: raw IP packets in and out.

use millrace_base::{Address, Instant};

use super::{Host, State};
use crate::surroundings;

impl Host {
    /// A packet arrives.
    pub(crate) fn deliver(&self, packet: &[u8]) {
        self.with(|state| {
            if let Some(address) = destination(packet) {
                state.answer_to(address);
            }
            let now = state.now;
            state.sockets().packet_in(now, packet);
        });
    }

    /// The next packet that left, and when; `None` when the stack stays silent.
    pub(crate) fn next_packet(&self) -> Option<(Instant, Vec<u8>)> {
        self.wait_for(|state| state.sockets().packet_out())
    }
}

impl State {
    /// Makes an address the host's: nobody else is on its side of the link.
    pub(crate) fn answer_to(&mut self, address: Address) {
        if !address.is_v4() {
            self.carry_ipv6();
        }
        let now = self.now;
        let sockets = self.sockets();
        if !address.is_unspecified() && !sockets.has_address(address) {
            sockets.add_address(now, address, surroundings::prefix_of(address));
        }
    }

    /// The link is one of IPv6: the suite's MTU for it is another.
    pub(crate) fn carry_ipv6(&mut self) {
        if self.carries_ipv6 {
            return;
        }
        self.carries_ipv6 = true;
        let (now, mtu) = (self.now, self.surroundings.mtu(true));
        self.sockets().set_mtu(now, mtu);
    }
}

/// Where an IP packet goes to.
fn destination(packet: &[u8]) -> Option<Address> {
    match packet.first()? >> 4 {
        4 => Some(Address::v4(packet.get(16..20)?.try_into().ok()?)),
        6 => Some(Address::v6(packet.get(24..40)?.try_into().ok()?)),
        _ => None,
    }
}
