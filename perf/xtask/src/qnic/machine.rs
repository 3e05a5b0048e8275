//! QEMU's arguments: an emulated PC with four CPUs, an IOMMU and two 82576 cards.
//!
//! Emulated in software throughout (TCG): KVM of a cloud machine may be there and not run a stock kernel, and what is
//! checked here is frames, not time. The cards reach memory through the IOMMU, as they would under vfio on a server.

use std::path::PathBuf;

/// CPUs of the guest: one for each lcore of the dataplane.
pub(super) const CPUS: usize = 4;
/// The file system, 512 MiB of huge pages, and what a kernel needs.
const MEMORY_MIB: u32 = 1_536;
/// PCI addresses of the cards: the first function behind the first and the second root port.
pub(super) const CARDS: [&str; 2] = ["0000:01:00.0", "0000:02:00.0"];

/// The guest's kernel trusts no measurement of time that a busy machine can spoil. At boot it compares clocks over a few
/// milliseconds; when this machine takes the CPU away meanwhile, the result is a panic ("timer doesn't work"), or a TSC that
/// is believed to tick several times too slowly, under which every timer of the guest comes far too early or late.
const KERNEL: [&str; 6] = [
    "console=ttyS0 quiet panic=-1 mitigations=off intel_iommu=on",
    // The timer of an emulated machine works: not a thing to find out in 10 ms.
    "no_timer_check",
    // Ticks at a rate that it names itself; the TSC's has to be measured.
    "clocksource=hpet",
    "tsc=unstable",
    // Who waits long here waits for this machine, and tells nothing by complaining over a slow console.
    "nowatchdog",
    "rcupdate.rcu_cpu_stall_suppress=1",
];

/// A card and the tap that is its cable.
pub(super) struct Card {
    /// The tap, which QEMU makes.
    pub(super) tap: &'static str,
    /// Its own address.
    pub(super) mac: &'static str,
}

/// A machine to start.
pub(super) struct Machine<'a> {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) cards: &'a [Card; 2],
    /// Where the socket of the guest's shell appears.
    pub(super) shell: PathBuf,
    /// Where the guest's console is written.
    pub(super) console: PathBuf,
}

impl Machine<'_> {
    /// The arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = [
            "-nodefaults -no-user-config -no-reboot -display none",
            // vfio wants remapped interrupts; nothing else of a PC is needed.
            "-machine q35,usb=off,vmport=off,smbus=off,sata=off",
            "-accel tcg,thread=multi -cpu max",
            "-device intel-iommu,intremap=on,caching-mode=on",
            "-device virtio-serial-pci,id=shell-bus",
            "-device virtserialport,bus=shell-bus.0,chardev=shell,name=shell",
        ]
        .iter()
        .flat_map(|line| line.split(' '))
        .map(str::to_owned)
        .collect();
        let mut pair = |name: &str, value: String| words.extend([name.to_owned(), value]);
        pair("-smp", CPUS.to_string());
        pair("-m", MEMORY_MIB.to_string());
        pair("-kernel", self.kernel.display().to_string());
        pair("-initrd", self.initrd.display().to_string());
        pair("-append", KERNEL.join(" "));
        pair("-serial", format!("file:{}", self.console.display()));
        // The machine waits until somebody listens: no word of it is lost.
        let shell = self.shell.display();
        pair(
            "-chardev",
            format!("socket,id=shell,path={shell},server=on,wait=on"),
        );
        for (number, Card { tap, mac }) in (1..).zip(self.cards) {
            // With headers of offloads at the tap (vnet_hdr) a large frame crosses whole, as the card was given it. Without,
            // QEMU cuts it itself, and forgets PSH and FIN on the last piece.
            pair(
                "-netdev",
                format!("tap,id=cable{number},ifname={tap},script=no,downscript=no,vnet_hdr=on"),
            );
            pair(
                "-device",
                format!("pcie-root-port,id=slot{number},chassis={number},slot={number}"),
            );
            pair(
                "-device",
                format!("igb,netdev=cable{number},bus=slot{number},mac={mac}"),
            );
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_value_and_every_card_its_cable_and_slot() {
        let cards = ["f", "b"].map(|tap| Card {
            tap,
            mac: "02:00:00:00:00:01",
        });
        let machine = Machine {
            kernel: "/k".into(),
            initrd: "/i".into(),
            cards: &cards,
            shell: "/s".into(),
            console: "/c".into(),
        };
        let words = machine.arguments();
        let of = |name: &str| -> Vec<&str> {
            let pairs = words.windows(2).filter(|pair| pair[0] == name);
            pairs.map(|pair| pair[1].as_str()).collect()
        };
        assert_eq!(of("-smp"), ["4"]);
        assert_eq!(of("-accel"), ["tcg,thread=multi"]);
        assert!(of("-append")[0].contains(" no_timer_check clocksource=hpet tsc=unstable "));
        assert_eq!(of("-netdev").len(), 2);
        assert!(of("-netdev")[1].starts_with("tap,id=cable2,ifname=b,"));
        let devices = of("-device");
        for card in [
            "igb,netdev=cable1,bus=slot1,",
            "igb,netdev=cable2,bus=slot2,",
        ] {
            assert_eq!(devices.iter().filter(|it| it.starts_with(card)).count(), 1);
        }
    }
}
