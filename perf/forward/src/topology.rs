//! Which port sends what another received, as testpmd's `--port-topology`.

use core::str::FromStr;

/// Which port sends what another received. Every port sends for exactly one other, so a transmit
/// queue has one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Topology {
    /// 0 and 1, 2 and 3, and so on; an odd one out is its own pair.
    #[default]
    Paired,
    /// 0 to 1, 1 to 2, and the last to 0.
    Chained,
    /// Each to itself.
    Loop,
}

impl Topology {
    /// The port that sends what `port` (below `ports`) received.
    pub fn sender_for(self, port: usize, ports: usize) -> usize {
        match self {
            Self::Paired => Some(port ^ 1).filter(|peer| *peer < ports).unwrap_or(port),
            Self::Chained => Some(port.saturating_add(1))
                .filter(|peer| *peer < ports)
                .unwrap_or(0),
            Self::Loop => port,
        }
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "paired" => Ok(Self::Paired),
            "chained" => Ok(Self::Chained),
            "loop" => Ok(Self::Loop),
            _ => Err(format!(
                "no topology {word:?}; there are: paired chained loop"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_sends_for_exactly_one() {
        for topology in [Topology::Paired, Topology::Chained, Topology::Loop] {
            for ports in 1..=7 {
                let mut senders: Vec<usize> = (0..ports)
                    .map(|port| topology.sender_for(port, ports))
                    .collect();
                senders.sort_unstable();
                assert_eq!(senders, Vec::from_iter(0..ports), "{topology:?} of {ports}");
            }
        }
    }

    #[test]
    fn the_shapes_are_testpmds() {
        let map = |topology: Topology| [0, 1, 2].map(|port| topology.sender_for(port, 3));
        assert_eq!(map(Topology::Paired), [1, 0, 2]);
        assert_eq!(map(Topology::Chained), [1, 2, 0]);
        assert_eq!(map(Topology::Loop), [0, 1, 2]);
    }
}
