//! From an operator's ports to running devices with a queue pair for each lcore, and what the stack is told of them.
//!
//! Who spreads the frames of a port over its queues is decided in `rss.rs`, where their buffers lie in `pools.rs`.

use anyhow::Result;
use millrace_abi::{Name, PortInfo};
use millrace_dpdk::{Eal, Effective, Port, PortConfig, RxQueue, TxOffloads, TxQueue};
use millrace_stack::Offloads;
use tracing::info;

use crate::args::{Args, Idle, PortSpec};
use crate::pools::Pools;
use crate::{rss, tag};

const ETHERNET_HEADER_BYTES: u16 = millrace_wire::ethernet::HEADER_BYTES as u16;

/// A port that runs.
pub(crate) struct StartedPort {
    pub(crate) port: Port,
    pub(crate) rx: Vec<RxQueue>,
    pub(crate) tx: Vec<TxQueue>,
    pub(crate) info: PortInfo,
    pub(crate) offloads: Offloads,
    /// Whether the card is trusted to deliver to the owner of a flow.
    pub(crate) is_trusted: bool,
}

/// Configures, tests and starts all ports.
pub(crate) fn start(
    eal: &Eal,
    args: &Args,
    plan: &rss::Plan,
    pools: &Pools,
    offloads: impl Fn(&Effective) -> Offloads,
) -> Result<Vec<StartedPort>> {
    let queues = args.lcores.len() as u16;
    let wish = |(number, spec): (usize, &PortSpec)| rss::Wanted {
        name: spec.name.clone(),
        device: spec.device_name().to_owned(),
        config: PortConfig {
            rx_queues: queues,
            tx_queues: queues,
            mtu: Some(spec.mtu),
            rx_interrupts: args.idle == Idle::Interrupt,
            ..tag::wishes(spec.vlan)
        },
        pools: pools.of_queues(number),
    };
    let wanted: Vec<rss::Wanted> = args.ports.iter().enumerate().map(wish).collect();
    let started = plan.start(eal, &wanted, &mut pools.of_lcore(0)?)?;
    let ports = args.ports.iter().zip(started);
    let ports = ports.map(|(spec, started)| describe(spec, queues, started, &offloads));
    Ok(ports.collect())
}

/// What control and the stack are told of a port.
fn describe(
    spec: &PortSpec,
    queues: u16,
    started: rss::Started,
    offloads: impl Fn(&Effective) -> Offloads,
) -> StartedPort {
    let rss::Started {
        port,
        rx,
        tx,
        proof,
        is_trusted,
    } = started;
    info!(port = spec.name, "\n{}", port.effective());
    let mac = spec.mac.unwrap_or_else(|| port.mac());
    let offloads = Offloads {
        vlan: spec.vlan,
        ..offloads(port.effective())
    };
    let info = PortInfo {
        name: Name::new(&spec.name),
        driver: Name::new(&port.effective().offered.driver),
        mac: *mac.octets(),
        mtu: usable_mtu(spec, port.effective()),
        queues,
        rss_proof: proof as u8,
        ..PortInfo::default()
    };
    StartedPort {
        port,
        rx,
        tx,
        info,
        offloads,
        is_trusted,
    }
}

/// The MTU the stack works with: what was asked for, less what the device's segmentation needs.
fn usable_mtu(spec: &PortSpec, effective: &Effective) -> u16 {
    let limit = effective
        .segmented_frame_bytes_max()
        .map(|frame| frame.saturating_sub(ETHERNET_HEADER_BYTES))
        .map(|packet| packet.saturating_sub(tag::bytes_in_frame(spec.vlan)));
    limit.map_or(spec.mtu, |limit| limit.min(spec.mtu))
}

/// What is in force on the device, as the stack wants to know it.
pub fn offloads_of(effective: &Effective) -> Offloads {
    let has = |offload: TxOffloads| effective.tx_offloads.contains(offload);
    let tso_bytes_max = effective.tso_bytes_max();
    Offloads {
        ip_checksum: has(TxOffloads::IPV4_CKSUM),
        tcp_checksum: has(TxOffloads::TCP_CKSUM),
        tso: tso_bytes_max > 0,
        tso_bytes_max,
        segments_max: effective.tx_segments_max(),
        even_pieces: effective.needs_even_pieces(),
        // What the operator wants, not what the device offers: the caller fills it in.
        vlan: None,
        vlan_insert: has(TxOffloads::VLAN_INSERT),
    }
}
