//! One claim per file; this file is the list.

mod bad_configuration_changes_nothing;
mod capture_shows_no_error_of_ours;
mod dead_backend_is_skipped;
mod each_leg_runs_its_congestion_control;
mod half_closed_sessions_deliver_all;
mod iperf_never_stalls;
mod killing_control_changes_nothing;
mod load_brings_no_socket_error;
mod load_generator_talks_to_kernels;
mod lossy_wires_deliver_all;
mod malformed_frames_are_dropped_and_counted;
mod mixed_mtus_deliver_all;
mod no_request_fails;
mod reload_adds_a_backend;
mod requests_alternate;
mod sigterm_drains_and_ends;
mod slow_reader_holds_the_sender_back;
mod stalled_readers_starve_nobody;
mod stock_dumpcap_captures;
mod stock_telemetry_client_is_answered;
mod transfers_arrive_intact;
mod virtual_addresses_answer_ping;
mod vlan_ports_talk_only_in_their_vlan;

use super::Case;
use super::bed::Wanted;
use super::config_file::Device;

/// Every case.
pub(crate) const ALL: &[&Case] = &[
    &virtual_addresses_answer_ping::CASE,
    &requests_alternate::CASE,
    &no_request_fails::CASE,
    &no_request_fails::BRIEF,
    &transfers_arrive_intact::CASE,
    &transfers_arrive_intact::BRIEF,
    &half_closed_sessions_deliver_all::CASE,
    &load_brings_no_socket_error::CASE,
    &load_brings_no_socket_error::BRIEF,
    &load_generator_talks_to_kernels::CASE,
    &iperf_never_stalls::CASE,
    &slow_reader_holds_the_sender_back::CASE,
    &stalled_readers_starve_nobody::CASE,
    &lossy_wires_deliver_all::FRONT_CASE,
    &lossy_wires_deliver_all::BACK_CASE,
    &mixed_mtus_deliver_all::FRONT_CASE,
    &mixed_mtus_deliver_all::BACK_CASE,
    &mixed_mtus_deliver_all::BOTH_CASE,
    &vlan_ports_talk_only_in_their_vlan::CASE,
    &capture_shows_no_error_of_ours::CASE,
    &malformed_frames_are_dropped_and_counted::CASE,
    &dead_backend_is_skipped::CASE,
    &reload_adds_a_backend::CASE,
    &each_leg_runs_its_congestion_control::CASE,
    &bad_configuration_changes_nothing::CASE,
    &killing_control_changes_nothing::CASE,
    &stock_telemetry_client_is_answered::CASE,
    &stock_dumpcap_captures::CASE,
    &sigterm_drains_and_ends::CASE,
];

/// The device that runs everything.
const AF_PACKET: &[Device] = &[Device::AfPacket];
/// The devices that run the brief forms.
const OTHERS: &[Device] = &[Device::Tap, Device::AfXdp];
/// All of them.
const EVERY: &[Device] = &[Device::AfPacket, Device::Tap, Device::AfXdp];

/// Good wires, the usual settings.
fn plain() -> Wanted {
    Wanted::default()
}
