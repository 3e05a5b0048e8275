//! What the balancer counts: one table makes the field, the exported name and the help text.
//!
//! One writer, plain integers. Names are ready for Prometheus; a name that ends in `_total` only
//! ever grows, the others are gauges. Per-backend and per-listener accounts live in their tables.

macro_rules! counters {
    ($( #[doc = $help:literal] $field:ident = $name:literal, )+) => {
        /// All counters of one balancer, that is of one lcore.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $( #[doc = $help] pub $field: u64, )+
        }

        impl Counters {
            /// Calls `visit` with the name, the help text and the value of every counter, in a
            /// fixed order.
            pub fn for_each(&self, mut visit: impl FnMut(&'static str, &'static str, u64)) {
                $( visit($name, $help.trim_ascii(), self.$field); )+
            }
        }
    };
}

/// Adds one, or an amount: `count!(counters.retries)`, `count!(counters.bytes_in, bytes)`.
macro_rules! count {
    ($counters:ident . $($field:ident).+) => {
        $counters.$($field).+ = $counters.$($field).+.wrapping_add(1)
    };
    ($counters:ident . $($field:ident).+, $amount:expr) => {
        $counters.$($field).+ = $counters.$($field).+.wrapping_add($amount)
    };
}
pub(crate) use count;

counters! {
    /// Sessions that exist now.
    sessions_active = "millrace_sessions_active",
    /// Sessions that wait for a backend now.
    sessions_connecting = "millrace_sessions_connecting",
    /// Clients accepted.
    sessions_accepted = "millrace_sessions_accepted_total",
    /// Sessions that reached a backend.
    sessions_established = "millrace_sessions_established_total",
    /// Sessions that both sides ended with a FIN.
    sessions_completed = "millrace_sessions_completed_total",
    /// Sessions ended by a reset from the client.
    sessions_reset_by_client = "millrace_sessions_reset_by_client_total",
    /// Sessions ended by a reset from the backend after it had accepted.
    sessions_reset_by_backend = "millrace_sessions_reset_by_backend_total",
    /// Sessions ended because the client no longer answered.
    sessions_client_lost = "millrace_sessions_client_lost_total",
    /// Sessions ended because the backend no longer answered.
    sessions_backend_lost = "millrace_sessions_backend_lost_total",
    /// Sessions ended because no byte passed for the idle timeout.
    sessions_idle = "millrace_sessions_idle_total",
    /// Sessions reset because the lcore left and waited no longer.
    sessions_drained = "millrace_sessions_drained_total",
    /// Sessions that used up their attempts to reach a backend.
    sessions_unserved = "millrace_sessions_unserved_total",
    /// Clients refused because the session table was full.
    refused_sessions_max = "millrace_refused_sessions_max_total",
    /// Clients refused because their listener or its pool is not in the present tables.
    refused_no_pool = "millrace_refused_no_pool_total",
    /// Clients refused because no backend was up.
    refused_no_backend = "millrace_refused_no_backend_total",
    /// Clients refused because the lcore was draining.
    refused_draining = "millrace_refused_draining_total",
    /// Clients gone before they were given a session.
    clients_gone_early = "millrace_clients_gone_early_total",
    /// Attempts to connect to a backend.
    connects = "millrace_backend_connects_total",
    /// Attempts that went to another backend after a failure.
    retries = "millrace_backend_retries_total",
    /// Attempts that the backend refused with a reset.
    connects_refused = "millrace_backend_connects_refused_total",
    /// Attempts that were not answered in time.
    connects_timed_out = "millrace_backend_connects_timed_out_total",
    /// Attempts to a backend without a route or a neighbour.
    connects_unreachable = "millrace_backend_connects_unreachable_total",
    /// Attempts that failed for want of connections in the stack.
    connects_no_resources = "millrace_backend_connects_no_resources_total",
    /// Attempts that found no free source port of this lcore.
    snat_exhausted = "millrace_snat_exhausted_total",
    /// Attempts to a backend whose address family has no SNAT address.
    snat_no_family = "millrace_snat_no_family_total",
    /// Pairs of source address and backend whose ports are accounted for.
    snat_pairs = "millrace_snat_pairs",
    /// Connections whose pair found no account: the pool of pairs is too small.
    snat_untracked = "millrace_snat_untracked_total",
    /// Bytes moved from clients to backends.
    bytes_in = "millrace_bytes_in_total",
    /// Bytes moved from backends to clients.
    bytes_out = "millrace_bytes_out_total",
    /// Times that a direction stopped because its destination's send buffer was full.
    splices_blocked = "millrace_splices_blocked_total",
    /// Health probes started.
    probes_started = "millrace_probes_started_total",
    /// Health probes that found their target accepting.
    probes_connected = "millrace_probes_connected_total",
    /// Health probes that failed in any way.
    probes_failed = "millrace_probes_failed_total",
    /// Table snapshots adopted.
    tables_adopted = "millrace_tables_adopted_total",
    /// Records of snapshots that were skipped because they made no sense.
    records_invalid = "millrace_table_records_invalid_total",
    /// Commands that were not understood or had no room.
    commands_refused = "millrace_commands_refused_total",
    /// Events of connections that nobody owns: a bug if it grows.
    events_unowned = "millrace_events_unowned_total",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_counter_has_a_name_of_its_own_and_a_help_text_that_fits_the_region() {
        let mut names = HashSet::new();
        Counters::default().for_each(|name, help, value| {
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("millrace_") && name.len() < 64, "{name}");
            assert!(help.ends_with('.') || help.contains(": "), "{help}");
            assert!(help.len() < 160, "{help}");
            assert_eq!(value, 0);
        });
        assert!(names.len() > 30);
    }
}
