//! What the interface does not say: the host's addresses, its MTU and the discipline of its queue.
//!
//! Three places may: the flags, the options the tool was started with, and the option lines at the
//! top of its script. Later ones of these do not overrule earlier ones. What nobody says is what
//! the public suite is run with. The discipline (`fq` paces) is what the script's own `tc` asks the
//! kernel for: a link that the kernel does not have here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace_base::Address;

/// Where a host of the suite lives.
const LOCAL_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0xfd3d, 0x0a0b, 0x17d6, 0, 0, 0, 0, 1);
/// The lengths of their subnets.
const PREFIX_V4: u8 = 16;
const PREFIX_V6: u8 = 48;
/// The suite's MTUs: of the same segment size.
const MTU_V4: u16 = 1_500;
const MTU_V6: u16 = 1_520;

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    local: Option<IpAddr>,
    mtu: Option<u16>,
    is_ipv6: Option<bool>,
    discipline: Option<String>,
}

impl Surroundings {
    /// What flags and options of the tool say; `arguments` is its command line without the
    /// program's name.
    pub(crate) fn new(flags: &str, arguments: &[String]) -> Self {
        let mut said = Self::default();
        for flag in flags.split([',', ' ']).filter(|flag| !flag.is_empty()) {
            match flag.split_once('=') {
                Some((name, value)) if said.take(name, value) => {}
                _ => eprintln!("millrace: no flag `{flag}`: local=ADDRESS, mtu=BYTES"),
            }
        }
        let mut words = arguments.iter();
        let mut script = None;
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                if word.ends_with(".pkt") {
                    script.get_or_insert(word);
                }
                continue;
            };
            match option.split_once('=') {
                Some((name, value)) => said.take(name, value),
                None if matches!(option, "local_ip" | "mtu" | "ip_version") => {
                    words.next().is_some_and(|value| said.take(option, value))
                }
                None => false,
            };
        }
        if let Some(text) = script.and_then(|path| std::fs::read_to_string(path).ok()) {
            said.take_script(&text);
        }
        said
    }

    /// The option lines of a script: everything before its first event.
    fn take_script(&mut self, text: &str) {
        let options = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"));
        for (name, value) in options.filter_map(|option| option.split_once('=')) {
            self.take(name, value);
        }
        let commands = text.lines().filter(|line| line.contains("tc qdisc "));
        let mut kinds =
            commands.filter_map(|line| line.split_once(" root ")?.1.split_whitespace().next());
        self.discipline = kinds.next().map(|kind| kind.trim_matches('`').to_owned());
    }

    /// The discipline of the queue, when the script sets one.
    pub(crate) fn discipline(&self) -> Option<&str> {
        self.discipline.as_deref()
    }

    fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "local" | "local_ip" => {
                let address = value.split('/').next().unwrap_or(value);
                self.local = self.local.or(address.parse().ok());
                true
            }
            "mtu" => {
                self.mtu = self.mtu.or(value.parse().ok());
                true
            }
            "ip_version" => {
                self.is_ipv6 = self.is_ipv6.or(Some(value == "ipv6"));
                true
            }
            _ => false,
        }
    }

    /// The host's addresses with the lengths of their subnets.
    pub(crate) fn addresses(&self) -> Vec<(Address, u8)> {
        let (mut v4, mut v6) = (LOCAL_V4, LOCAL_V6);
        match self.local {
            Some(IpAddr::V4(address)) => v4 = address,
            Some(IpAddr::V6(address)) => v6 = address,
            None => {}
        }
        vec![
            (Address::v4(v4.octets()), PREFIX_V4),
            (Address::v6(v6.octets()), PREFIX_V6),
        ]
    }

    /// Bytes of the largest packet, on a link that is known to carry IPv6 or not.
    pub(crate) fn mtu(&self, carries_ipv6: bool) -> u16 {
        let default = if self.is_ipv6.unwrap_or(carries_ipv6) {
            MTU_V6
        } else {
            MTU_V4
        };
        self.mtu.unwrap_or(default)
    }
}

/// The length of the subnet that an address is given which nobody announced.
pub(crate) fn prefix_of(address: Address) -> u8 {
    if address.is_v4() {
        PREFIX_V4
    } else {
        PREFIX_V6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_go_before_options_and_options_before_defaults() {
        let line = arguments("--ip_version=ipv6 --mtu=1520 --local_ip fd3d::7/48 -v x.pkt");
        let said = Surroundings::new("mtu=1400", &line);
        assert_eq!(said.mtu(false), 1_400);
        assert_eq!(
            said.addresses()[1].0,
            Address::v6(Ipv6Addr::new(0xfd3d, 0, 0, 0, 0, 0, 0, 7).octets())
        );
        assert_eq!(said.addresses()[0].0, Address::v4([192, 168, 0, 1]));
    }

    #[test]
    fn without_a_word_the_mtu_follows_the_family() {
        let said = Surroundings::new("", &[]);
        assert_eq!((said.mtu(false), said.mtu(true)), (1_500, 1_520));
        let said = Surroundings::new("", &arguments("--ip_version=ipv4-mapped-ipv6"));
        assert_eq!(said.mtu(true), 1_500);
    }

    #[test]
    fn a_script_has_options_of_its_own() {
        let mut said = Surroundings::default();
        said.take_script("// words\n--mtu=1400\n--tolerance_usecs=1\n 0 socket(...) = 3\n");
        assert_eq!(said.mtu(false), 1_400);
        assert_eq!(said.discipline(), None);
        said.take_script("`x.sh\ntc qdisc replace dev tun0 root fq`\n 0 socket(...) = 3\n");
        assert_eq!(said.discipline(), Some("fq"));
    }
}
