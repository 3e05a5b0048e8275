//! Which lcore owns a flow: one function, asked by the receive side and by the choice of source ports alike.
//!
//! The answer is a pure function of the tuple as this host sees it and of the number of lcores, so a frame can be
//! received by any lcore and still reach its owner, and the backend leg of a session can pick a source port whose
//! replies belong to the lcore that already owns the client leg. It protects nothing: an attacker who chooses tuples can
//! load one lcore, as with any RSS key that is known.

use millrace_base::{Address, FlowTuple, LcoreIndex};

/// The lcore that owns `tuple` (local = this host) among `lcores`, which is at least 1.
#[inline]
pub(crate) fn owner(tuple: FlowTuple, lcores: u16) -> LcoreIndex {
    if lcores <= 1 {
        return LcoreIndex::new(0);
    }
    let ports = (u64::from(tuple.local.port) << 16) | u64::from(tuple.remote.port);
    let mut hash = fold(tuple.local.address).rotate_left(29) ^ fold(tuple.remote.address);
    // Ports are mixed before they meet the addresses, or neighbouring hosts and ports would cancel out.
    hash = mix(hash ^ mix(ports));
    // The high half times the count spreads evenly without a division.
    let spread = (hash >> 32).wrapping_mul(u64::from(lcores)) >> 32;
    LcoreIndex::new(spread as u16)
}

fn fold(address: Address) -> u64 {
    let bits = u128::from_be_bytes(*address.octets());
    mix((bits >> 64) as u64) ^ (bits as u64)
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Endpoint;

    fn tuple(local_port: u16, remote_host: u8, remote_port: u16) -> FlowTuple {
        FlowTuple {
            local: Endpoint::new(Address::v4([10, 8, 0, 100]), local_port),
            remote: Endpoint::new(Address::v4([10, 8, 1, remote_host]), remote_port),
        }
    }

    #[test]
    fn flows_spread_evenly_over_any_number_of_lcores() {
        for lcores in [1u16, 2, 3, 7, 16, 64] {
            let mut load = vec![0u32; usize::from(lcores)];
            for host in 0..32 {
                for port in 0..2_000 {
                    load[owner(tuple(80, host, 32_768 + port), lcores).index()] += 1;
                }
            }
            let mean = 64_000 / u32::from(lcores);
            let (least, most) = (
                load.iter().min().expect("one"),
                load.iter().max().expect("one"),
            );
            assert!(
                *least > mean * 8 / 10 && *most < mean * 12 / 10,
                "{lcores} lcores: {load:?}"
            );
        }
    }

    // A source port for a given lcore is found among a few consecutive ones: what keeps both legs together.
    #[test]
    fn every_lcore_finds_a_source_port_nearby() {
        for lcores in [2u16, 8, 64] {
            for wanted in 0..lcores {
                let found = (1_024..1_024 + lcores * 16)
                    .any(|port| owner(tuple(port, 9, 80), lcores) == LcoreIndex::new(wanted));
                assert!(found, "lcore {wanted} of {lcores}");
            }
        }
    }
}
