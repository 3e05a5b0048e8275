//! Tunables, the link's properties, and questions.

use millrace_socket::{RouteAttributes, SocketAddress};

use super::Host;
use crate::kernel::{Applied, Setting};

const SOL_SOCKET: i32 = 1;
const SO_ACCEPTCONN: i32 = 30;

impl Host {
    pub(super) fn set(&mut self, setting: &Setting) -> Applied {
        match setting {
            Setting::Tunable { name, value, .. } => match self.sockets.set_sysctl(name, value) {
                Ok(()) => Applied::Yes,
                Err(error) => Applied::No(format!("{name}={value}: {error:?}")),
            },
            Setting::ModuleParameter {
                module,
                name,
                value,
            } => match self.sockets.set_module_parameter(module, name, value) {
                Ok(()) => Applied::Yes,
                Err(error) => Applied::No(format!("{name} of {module} = {value}: {error:?}")),
            },
            Setting::Discipline(name) => {
                let set = self.sockets.set_sysctl("net.core.default_qdisc", name);
                let why = format!("the link has no queueing discipline `{name}`");
                yes_or(set.is_ok(), &why)
            }
            Setting::FlushMetrics => {
                self.sockets.flush_metrics();
                Applied::Yes
            }
            Setting::Route {
                advertised_mss,
                mtu,
                is_mtu_locked,
                initial_window,
                initial_receive_window,
                rto_min_ms,
                window,
                is_quick_ack,
                is_ecn,
            } => {
                let attributes = RouteAttributes {
                    is_mtu_locked: *is_mtu_locked,
                    advertised_mss: advertised_mss.unwrap_or(0),
                    initial_cwnd: initial_window.map_or(0, |n| u8::try_from(n).unwrap_or(u8::MAX)),
                    initial_rwnd: initial_receive_window
                        .map_or(0, |n| u16::try_from(n).unwrap_or(u16::MAX)),
                    rto_min_ms: rto_min_ms.unwrap_or(0),
                    window: window.unwrap_or(0),
                    quick_ack: *is_quick_ack,
                    ecn: *is_ecn,
                };
                self.sockets.set_route(mtu.unwrap_or(0), attributes);
                Applied::Yes
            }
            Setting::Offload { feature, is_on } => {
                let is_known = matches!(feature.as_str(), "tso" | "gso" | "gro");
                yes_or(
                    is_known && !is_on,
                    "the link takes packets as the wire has them",
                )
            }
            Setting::WriteFile { path, bytes } => {
                self.files.write(path, *bytes);
                Applied::Yes
            }
            Setting::RemoveFile(path) => {
                self.files.remove(path);
                Applied::Yes
            }
            Setting::HasListener(port) => {
                yes_or(self.has_listener(*port), "no socket listens there")
            }
            Setting::MarkCounters => {
                let marks = &mut self.marks;
                self.sockets.netstat(|name, value| {
                    marks.insert(name, value);
                });
                Applied::Yes
            }
            Setting::HasGrown(name) => self.has_grown(name),
        }
    }

    fn has_listener(&mut self, port: u16) -> bool {
        /// Scripts open a handful of descriptors.
        const FDS_MAX: i32 = 1_024;
        (0..FDS_MAX).any(|fd| {
            let listens = self
                .sockets
                .getsockopt(self.now, fd, SOL_SOCKET, SO_ACCEPTCONN, 4);
            let address = self.sockets.getsockname(fd);
            listens.is_ok_and(|value| value.first() == Some(&1))
                && address.is_ok_and(|address: SocketAddress| address.port() == port)
        })
    }

    fn has_grown(&mut self, wanted: &str) -> Applied {
        let mut found = None;
        self.sockets.netstat(|name, value| {
            if name == wanted {
                found = Some((name, value));
            }
        });
        let Some((name, value)) = found else {
            return Applied::No(format!("the stack has no counter `{wanted}`"));
        };
        let before = self.marks.insert(name, value).unwrap_or(0);
        yes_or(value > before, &format!("`{wanted}` has not grown"))
    }
}

fn yes_or(holds: bool, why: &str) -> Applied {
    if holds {
        Applied::Yes
    } else {
        Applied::No(why.to_owned())
    }
}
