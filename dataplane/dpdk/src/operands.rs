//! Devices and lcores as programs take them on their command line. It reads words; it starts nothing.

use core::str::FromStr;

use crate::lcore::LcoreCpu;
use crate::vdev::Vdev;

/// What names a device: a PCI address looks like `[0000:]03:00.0`, anything else is a virtual device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceName {
    /// The address, domain included.
    Pci(String),
    /// `net_tap0` with its arguments.
    Virtual(Vdev),
}

/// Lcores and their CPUs: `0@1,1@1`, or `0-1` for lcore N on CPU N.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LcoreList(pub Vec<LcoreCpu>);

impl DeviceName {
    /// Every text names a device; whether it exists shows when EAL starts.
    pub fn parse(text: &str) -> Self {
        let is_hex = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit());
        let address = text.split_once('.').and_then(|(front, function)| {
            let parts: Vec<&str> = front.split(':').collect();
            let domain = match parts.as_slice() {
                [_, _] => "0000:",
                [_, _, _] => "",
                _ => return None,
            };
            let is_pci = parts.iter().all(|part| is_hex(part)) && is_hex(function);
            is_pci.then(|| Self::Pci(format!("{domain}{text}")))
        });
        address.unwrap_or_else(|| Self::Virtual(Vdev::parse(text)))
    }

    /// The name DPDK gives the device.
    pub fn name(&self) -> &str {
        match self {
            Self::Pci(address) => address,
            Self::Virtual(vdev) => vdev.name(),
        }
    }
}

impl FromStr for LcoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| {
            word.parse::<u16>()
                .map_err(|_| format!("{word:?} is no lcore or CPU number"))
        };
        let mut lcores = Vec::new();
        for word in text.split(',') {
            if let Some((lcore, cpu)) = word.split_once('@') {
                lcores.push((number(lcore)?, number(cpu)?));
            } else {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                lcores.extend((number(first)?..=number(last)?).map(|both| (both, both)));
            }
        }
        let lcores = lcores
            .into_iter()
            .map(|(lcore, cpu)| LcoreCpu { lcore, cpu });
        Ok(Self(lcores.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        let pci = |text: &str| DeviceName::Pci(text.to_owned());
        assert_eq!(DeviceName::parse("0000:03:00.1"), pci("0000:03:00.1"));
        assert_eq!(DeviceName::parse("03:00.1"), pci("0000:03:00.1"));
        let with_path = "net_memif0,socket=/tmp/a.b:c";
        assert_eq!(
            DeviceName::parse(with_path),
            DeviceName::Virtual(Vdev::parse(with_path))
        );
    }

    #[test]
    fn lcores_are_pairs_or_ranges() {
        let lcores = |text: &str| text.parse::<LcoreList>().map(|lcores| lcores.0);
        let pair = |lcore, cpu| LcoreCpu { lcore, cpu };
        assert_eq!(lcores("0@1,1@1"), Ok(vec![pair(0, 1), pair(1, 1)]));
        assert_eq!(
            lcores("0-1,4"),
            Ok(vec![pair(0, 0), pair(1, 1), pair(4, 4)])
        );
        assert!(lcores("0,x").is_err());
    }
}
