//! The stack as a shared object for the packetdrill tool, in virtual time.
//!
//! The tool loads `libmillrace_packetdrill.so` with `--so_filename`, asks
//! `packetdrill_interface_init` for a table of functions, and makes the calls of a script through
//! them instead of through the kernel. It is the same stack that the balancer runs, under the
//! sockets of `millrace-socket`.
//!
//! ```text
//!   packetdrill --so_filename=…/libmillrace_packetdrill.so --ip_version=ipv4 script.pkt
//!   LD_PRELOAD=…/libmillrace_packetdrill.so packetdrill --so_filename=… …     code blocks too
//! ```
//!
//! # What it does beyond the table
//!
//! - Time is virtual. `gettimeofday` takes a microsecond, `usleep(x)` takes x + 20 µs, and
//!   `netdev_receive` jumps from deadline to deadline until a packet leaves; nothing else moves it.
//! - A call that blocks in the thread that made the interface moves the time itself. In any other
//!   thread it really sleeps, until the time has come or a packet has let it go. While such a
//!   thread is on its way out the time stands, until it has looked at the clock.
//! - Tunables are those of the network namespace: `/proc/sys/net` is read when a socket is made and
//!   after every child process that has ended (a shell command of the script).
//! - Descriptors begin at 10,000, and each has a placeholder in the kernel's table, so that a
//!   program may `close` one that it got here. That of a listener listens, on the loopback: a script
//!   that looks for its port in `/proc/net/tcp` finds it.
//! - Preloaded, it answers `getsockopt`, `close`, `sendfile` and `times` for its own descriptors;
//!   the kernel answers for all others.
//!
//! The interface does not say which addresses and which MTU the host has. They come from the
//! flags (`--so_flags=local=192.168.0.1,mtu=1500`), else from the options of the tool and of its
//! script, else they are what the suite is run with; an address that a program binds to, or that a
//! packet is sent to, becomes the host's.
//!
//! # What it does not do
//!
//! Signals, descriptors of the kernel in the same `poll`, `ip route`, `nstat` and other commands that
//! are not tunables (of `tc` only the discipline that the script names first), the size of merged
//! packets (`--mss` stays with the tool), UDP.
//!
//! # Unsafe code
//!
//! This is a C boundary, one of the crates that may (decision 0011): in `interface` and `preload`
//! (symbols, the table), `memory` (the program's memory), `kernel` (system calls) and `host` (one
//! `Send`). A panic ends at the boundary as `EIO`.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod boundary;
mod children;
mod host;
mod interface;
mod kernel;
mod layout;
mod memory;
mod preload;
mod registry;
mod surroundings;
mod tunables;

pub use interface::{Interface, packetdrill_interface_init};
pub use preload::{close, getsockopt, sendfile, sendfile64, times};
