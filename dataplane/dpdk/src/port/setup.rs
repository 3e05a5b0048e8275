//! From wishes to a configured device: the calls between `rte_eth_dev_info_get` and
//! `rte_eth_dev_start`.

use millrace_base::MacAddress;
use millrace_dpdk_sys as sys;

use crate::error::Errno;
use crate::mempool::Mempool;
use crate::port::{
    Capabilities, Claim, Effective, PortConfig, PortError, RssTypes, RxOffloads, Step, TxOffloads,
};

/// Drivers that insert a VLAN tag by moving the frame's bytes (`rte_vlan_insert`), which fails for a frame that a send
/// queue still holds: it would be lost. The stack writes the tag itself there.
const TAGS_IN_PLACE: [&str; 4] = [
    "net_af_packet",
    "net_vhost",
    "net_virtio",
    "net_virtio_user",
];

/// Wishes and offers brought together; what only the running device knows is filled in later.
pub(super) fn intersect(
    name: &str,
    mac: MacAddress,
    wanted: &PortConfig,
    offered: Capabilities,
) -> Effective {
    let wanted_types = wanted.rss.as_ref().map_or(RssTypes::NONE, |rss| rss.types);
    let rss_types = if wanted.rx_queues > 1 {
        wanted_types & offered.rss_types
    } else {
        RssTypes::NONE
    };
    let mut rx_offloads = wanted.rx_offloads & offered.rx_offloads;
    if rss_types.is_empty() {
        // ethdev refuses a configuration that reports hashes and computes none.
        rx_offloads = rx_offloads.without(RxOffloads::RSS_HASH);
    }
    let mut tx_offloads = (wanted.tx_offloads & offered.tx_offloads).without(TxOffloads::FORBIDDEN);
    if TAGS_IN_PLACE.contains(&offered.driver.as_str()) {
        tx_offloads = tx_offloads.without(TxOffloads::VLAN_INSERT);
    }
    Effective {
        name: name.to_owned(),
        wanted: wanted.clone(),
        rx_descriptors: wanted.rx_descriptors,
        tx_descriptors: wanted.tx_descriptors,
        mtu: wanted.mtu,
        rx_offloads,
        tx_offloads,
        rss_types,
        promiscuous: false,
        mac,
        offered,
    }
}

/// The key to set: the wanted one at the device's length, or nothing for a device that takes none.
pub(super) fn rss_key(config: &PortConfig, offered: &Capabilities) -> Result<Vec<u8>, PortError> {
    let Some(rss) = &config.rss else {
        return Ok(Vec::new());
    };
    let needed = offered.rss_key_bytes;
    match rss.key.get(..needed) {
        Some(key) => Ok(key.to_vec()),
        None => Err(PortError::RssKey {
            given: rss.key.len(),
            needed,
        }),
    }
}

impl Claim {
    /// Hands the configuration to the driver; returns the MTU that it took.
    pub(super) fn apply(&self, effective: &Effective) -> Result<Option<u16>, PortError> {
        let key = &self.rss_key;
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.offloads = effective.rx_offloads.bits();
        conf.txmode.offloads = effective.tx_offloads.bits();
        conf.intr_conf
            .set_rxq(u32::from(effective.wanted.rx_interrupts));
        conf.lpbk_mode = u32::from(effective.wanted.loopback);
        if !effective.rss_types.is_empty() {
            conf.rxmode.mq_mode = sys::MR_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = effective.rss_types.bits();
            if !key.is_empty() {
                // Only read, in spite of its type.
                conf.rx_adv_conf.rss_conf.rss_key = key.as_ptr().cast_mut();
                conf.rx_adv_conf.rss_conf.rss_key_len = u8::try_from(key.len()).unwrap_or(u8::MAX);
            }
        }
        let PortConfig {
            rx_queues,
            tx_queues,
            mtu,
            ..
        } = effective.wanted;
        let mut configure = |mtu: u16| {
            conf.rxmode.mtu = u32::from(mtu);
            // SAFETY: the port does not run; the structure is copied during the call. The copy keeps the
            // pointer to the key, which stays where it is as long as the claim on the port does.
            Errno::check(unsafe {
                sys::rte_eth_dev_configure(self.port, rx_queues, tx_queues, &raw const conf)
            })
        };
        let refused = |errno| self.refused(Step::Configure, errno);
        if let Some(mtu) = mtu {
            match configure(mtu) {
                Ok(_) => return Ok(Some(mtu)),
                // af_packet: 1518 bytes per frame are wired in, though it carries longer ones.
                Err(errno) if errno.number() == libc::EINVAL => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
        configure(0).map_err(refused)?;
        if mtu.is_some() {
            return Ok(None);
        }
        let mut now = 0;
        // SAFETY: writes the number.
        let status = unsafe { sys::rte_eth_dev_get_mtu(self.port, &raw mut now) };
        Ok((status == 0).then_some(now))
    }

    pub(super) fn set_up_queues(
        &self,
        effective: &mut Effective,
        info: &sys::rte_eth_dev_info,
        pools: &[Mempool],
    ) -> Result<(), PortError> {
        let (mut rx, mut tx) = (
            effective.wanted.rx_descriptors,
            effective.wanted.tx_descriptors,
        );
        // SAFETY: the port is configured; both numbers are changed in place.
        let status =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.port, &raw mut rx, &raw mut tx) };
        self.check(Step::Descriptors, status)?;
        (effective.rx_descriptors, effective.tx_descriptors) = (rx, tx);
        // SAFETY: reads an integer of an existing port.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.port) }.cast_unsigned();
        let mut rx_conf = info.default_rxconf;
        rx_conf.offloads = effective.rx_offloads.bits();
        for queue in 0..effective.wanted.rx_queues {
            let pool = match pools {
                [one] => Some(one),
                each => each.get(usize::from(queue)),
            };
            let pool = pool.ok_or(PortError::NoPool { queue })?.as_ptr();
            // SAFETY: the port is configured with more queues than `queue`; the pool lives for
            // ever.
            let status = unsafe {
                sys::rte_eth_rx_queue_setup(self.port, queue, rx, socket, &raw const rx_conf, pool)
            };
            if status == -libc::ENOMEM || status == -libc::ENOSPC {
                return Err(PortError::SmallBuffers {
                    name: self.name.clone(),
                    queue,
                });
            }
            self.check(Step::RxQueue, status)?;
        }
        let mut tx_conf = info.default_txconf;
        tx_conf.offloads = effective.tx_offloads.bits();
        for queue in 0..effective.wanted.tx_queues {
            // SAFETY: the port is configured with more queues than `queue`.
            let status = unsafe {
                sys::rte_eth_tx_queue_setup(self.port, queue, tx, socket, &raw const tx_conf)
            };
            self.check(Step::TxQueue, status)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::RssConfig;

    fn takes_key_of(rss_key_bytes: usize) -> Capabilities {
        Capabilities {
            driver: "net_test".to_owned(),
            rx_queues_max: 16,
            tx_queues_max: 16,
            rx_descriptors: (32, 4_096),
            tx_descriptors: (32, 4_096),
            rx_offloads: RxOffloads::RSS_HASH | RxOffloads::SCATTER,
            tx_offloads: TxOffloads::MULTI_SEGS | TxOffloads::FORBIDDEN,
            rss_types: RssTypes::IPV4_TCP | RssTypes::IPV6_UDP,
            rss_key_bytes,
            reta_entries: 128,
            mtu: (68, 9_000),
            rx_frame_bytes_max: 9_018,
            tx_segments_max: 8,
            interface_index: None,
        }
    }

    fn wants(rx_queues: u16, key_bytes: usize) -> PortConfig {
        let key = (0..=u8::MAX).take(key_bytes).collect();
        let rss = Some(RssConfig {
            types: RssTypes::TCP,
            key,
        });
        // Whoever builds the set from raw bits still does not get the fast free.
        let tx_offloads = TxOffloads::from_bits(u64::MAX);
        PortConfig {
            rx_queues,
            rss,
            tx_offloads,
            ..PortConfig::default()
        }
    }

    #[test]
    fn a_long_key_is_cut_to_the_device_and_a_short_one_refused() {
        let key = |given, needed| rss_key(&wants(2, given), &takes_key_of(needed));
        assert_eq!(key(52, 40), Ok((0..40).collect()));
        assert_eq!(key(40, 0), Ok(vec![]));
        assert_eq!(
            key(40, 52),
            Err(PortError::RssKey {
                given: 40,
                needed: 52
            })
        );
    }

    #[test]
    fn wishes_meet_offers_and_hashes_need_several_queues() {
        let intersect = |config: PortConfig| {
            intersect(
                "net_test0",
                MacAddress::default(),
                &config,
                takes_key_of(40),
            )
        };
        let many = intersect(wants(2, 40));
        assert_eq!(many.rss_types, RssTypes::IPV4_TCP);
        assert_eq!(many.rx_offloads, RxOffloads::RSS_HASH);
        assert_eq!(many.tx_offloads, TxOffloads::MULTI_SEGS);
        let single = intersect(wants(1, 40));
        assert!(single.rss_types.is_empty() && single.rx_offloads.is_empty());
    }

    // A frame that the send queue holds cannot be moved by four bytes, and af_packet then frees it unsent.
    #[test]
    fn a_driver_that_tags_by_moving_bytes_is_not_asked_to() {
        let in_force = |driver: &str| {
            let offered = Capabilities {
                driver: driver.to_owned(),
                tx_offloads: TxOffloads::VLAN_INSERT | TxOffloads::MULTI_SEGS,
                ..takes_key_of(40)
            };
            intersect("test0", MacAddress::default(), &wants(1, 40), offered).tx_offloads
        };
        assert!(in_force("net_e1000_igb").contains(TxOffloads::VLAN_INSERT));
        assert_eq!(in_force("net_af_packet"), TxOffloads::MULTI_SEGS);
    }
}
