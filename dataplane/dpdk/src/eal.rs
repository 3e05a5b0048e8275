//! The environment abstraction layer: started once per process, and the proof that it was.
//!
//! Everything else in this crate asks for an [`Eal`], which only [`Eal::start`] makes. There is no
//! way to stop it again: `rte_eal_cleanup` would pull the memory from under every pool and mbuf, so
//! it is the end of the process that cleans up. With `in_memory` (the default) nothing is left
//! behind even after `kill -9`, except the telemetry socket.

use core::ffi::{c_char, c_int};
use core::sync::atomic::{AtomicBool, Ordering};
use std::ffi::CString;

use millrace_dpdk_sys as sys;

use crate::error::Errno;
use crate::lcore::LcoreCpu;
use crate::vdev::Vdev;

/// Where packet memory comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Huge pages, at most this many MiB; `None` takes what is needed. Needed for real devices and
    /// for speed.
    HugePages {
        /// MiB to reserve at start.
        mebibytes: Option<u32>,
    },
    /// Ordinary pages, this many MiB. Runs anywhere without privileges, 1.7 to 3 times slower, no
    /// DMA.
    Ordinary {
        /// MiB to reserve at start; cannot grow.
        mebibytes: u32,
    },
}

/// Which PCI devices EAL may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PciDevices {
    /// None: the bus is not even scanned.
    None,
    /// Only these addresses (`0000:03:00.0`).
    Allow(Vec<String>),
    /// Every one that is bound to a user-space driver.
    All,
}

/// What addresses the devices are given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Iova {
    /// Whatever EAL finds best for the buses it sees.
    Automatic,
    /// Virtual addresses: needs an IOMMU, or devices that do not do DMA.
    Virtual,
    /// Physical addresses: needs root.
    Physical,
}

/// How much DPDK says on standard error and to syslog. Ordered: later ones say more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Normal but worth knowing. DPDK's own default.
    Notice,
    /// Progress.
    Info,
    /// Everything.
    Debug,
}

/// What EAL is started with. `Default` is a test: no PCI, huge pages in memory, notices only.
#[derive(Clone, Debug)]
pub struct EalArgs {
    /// What stands for `argv[0]`: names the process in logs.
    pub program: String,
    /// The lcores and the CPUs they are pinned to; empty takes every CPU the process may use.
    pub lcores: Vec<LcoreCpu>,
    /// The lcore that calls [`Eal::start`]; `None` takes the lowest.
    pub main_lcore: Option<u16>,
    /// Where packet memory comes from.
    pub memory: Memory,
    /// No files: any number of such processes at once, no secondary processes (so no
    /// `dpdk-dumpcap`).
    pub in_memory: bool,
    /// One region of memory, one file descriptor: vhost-user and zero-copy memif need it.
    pub single_file_segments: bool,
    /// Separates the run-time files, and the telemetry socket, of several DPDK processes. Default
    /// `rte`.
    pub file_prefix: Option<String>,
    /// Virtual devices to create at start; more can be added later by [`Eal::plug`].
    pub vdevs: Vec<Vdev>,
    /// PCI devices to take.
    pub pci: PciDevices,
    /// What addresses the devices are given.
    pub iova: Iova,
    /// How much DPDK says.
    pub log_level: LogLevel,
    /// More arguments, as `rte_eal_init` takes them, for what has no field here.
    ///
    /// They are the operator's: one that contradicts a field above wins or loses as EAL decides.
    pub extra: Vec<String>,
}

/// Why EAL did not start. The process should say so and exit: EAL cannot be started a second time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EalError {
    /// EAL was started before in this process.
    #[error("EAL runs already in this process")]
    AlreadyStarted,
    /// An argument holds a NUL byte.
    #[error("the EAL argument {argument:?} holds a NUL byte")]
    NulByte {
        /// The argument.
        argument: String,
    },
    /// Permissions: huge pages, `/dev/vfio`, the run-time folder.
    #[error(
        "EAL lacks a permission (huge-page mount, /dev/vfio or run-time folder); its log says which"
    )]
    Permission,
    /// Another primary process with the same file prefix, or a busy bus.
    #[error("EAL found a resource taken: is another process running with this file prefix?")]
    Busy,
    /// An argument was not understood.
    #[error("EAL refused its arguments: {arguments:?}")]
    Arguments {
        /// What was passed.
        arguments: Vec<String>,
    },
    /// Not enough huge pages or memory.
    #[error("EAL found not enough memory; are huge pages reserved?")]
    Memory,
    /// Something else.
    #[error("EAL did not start: {0}")]
    Other(Errno),
}

/// Why a device could not be plugged or unplugged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlugError {
    /// There is a device of this name.
    #[error("a device of this name exists already")]
    Exists,
    /// There is no such device, or no driver for it in the driver folder.
    #[error("no such device, or no driver for it in EAL's driver folder")]
    NoDevice,
    /// The name or an argument holds a NUL byte.
    #[error("the device name or its arguments hold a NUL byte")]
    NulByte,
    /// Something else: the driver's log says what.
    #[error("the driver refused: {0}")]
    Other(Errno),
}

/// The proof that EAL runs. Costs nothing to copy.
#[derive(Clone, Copy, Debug)]
pub struct Eal {
    capture: bool,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Default for EalArgs {
    fn default() -> Self {
        Self {
            program: "millrace".to_owned(),
            lcores: Vec::new(),
            main_lcore: None,
            memory: Memory::HugePages { mebibytes: None },
            in_memory: true,
            single_file_segments: false,
            file_prefix: None,
            vdevs: Vec::new(),
            pci: PciDevices::None,
            iova: Iova::Automatic,
            log_level: LogLevel::Notice,
            extra: Vec::new(),
        }
    }
}

impl EalArgs {
    /// The argument list `rte_eal_init` gets, `argv[0]` included.
    pub fn to_argv(&self) -> Vec<String> {
        let mut argv = vec![self.program.clone()];
        if !self.lcores.is_empty() {
            let map: Vec<String> = self.lcores.iter().map(LcoreCpu::to_string).collect();
            argv.push(format!("--lcores={}", map.join(",")));
        }
        argv.extend(self.main_lcore.map(|lcore| format!("--main-lcore={lcore}")));
        match self.memory {
            Memory::HugePages { mebibytes } => argv.extend(mebibytes.map(|mib| format!("-m{mib}"))),
            Memory::Ordinary { mebibytes } => {
                argv.extend(["--no-huge".to_owned(), format!("-m{mebibytes}")]);
            }
        }
        argv.extend(self.in_memory.then(|| {
            // EAL refuses --in-memory beside --no-huge, whose memory has no files anyway; the rest
            // of it is this.
            let is_huge = matches!(self.memory, Memory::HugePages { .. });
            if is_huge {
                "--in-memory"
            } else {
                "--no-shconf"
            }
            .to_owned()
        }));
        argv.extend(
            self.single_file_segments
                .then(|| "--single-file-segments".to_owned()),
        );
        argv.extend(
            self.file_prefix
                .iter()
                .map(|prefix| format!("--file-prefix={prefix}")),
        );
        match &self.pci {
            PciDevices::None => argv.push("--no-pci".to_owned()),
            PciDevices::Allow(addresses) => {
                argv.extend(addresses.iter().map(|address| format!("--allow={address}")));
            }
            PciDevices::All => {}
        }
        match self.iova {
            Iova::Automatic => {}
            Iova::Virtual => argv.push("--iova-mode=va".to_owned()),
            Iova::Physical => argv.push("--iova-mode=pa".to_owned()),
        }
        argv.push(format!("--log-level={}", self.log_level.name()));
        argv.extend(
            self.vdevs
                .iter()
                .map(|vdev| format!("--vdev={}", vdev.devargs())),
        );
        argv.extend(self.extra.iter().cloned());
        argv
    }
}

impl LogLevel {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Error => 4,
            Self::Warning => 5,
            Self::Notice => 6,
            Self::Info => 7,
            Self::Debug => 8,
        }
    }
}

impl Eal {
    /// Starts EAL: reserves memory, loads the drivers, creates and probes devices, starts and pins
    /// one thread per lcore, and pins the calling thread to the main lcore. Takes from 50 ms to
    /// some seconds.
    ///
    /// Packet capture (`rte_pdump`) and telemetry are on. `SIGPIPE` is ignored from here on: a
    /// vhost-user peer that dies would otherwise take us along (the virtio-user driver writes to
    /// its socket).
    pub fn start(args: &EalArgs) -> Result<Self, EalError> {
        let arguments = args.to_argv();
        let mut argv = Vec::with_capacity(arguments.len() + 1);
        for argument in &arguments {
            let text = CString::new(argument.as_str()).map_err(|_| EalError::NulByte {
                argument: argument.clone(),
            })?;
            // Leaked: EAL keeps pointers into its arguments for as long as it runs.
            argv.push(text.into_raw());
        }
        let count = c_int::try_from(argv.len()).map_err(|_| EalError::Arguments {
            arguments: arguments.clone(),
        })?;
        argv.push(core::ptr::null_mut());
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyStarted);
        }
        ignore_sigpipe();
        let argv: *mut *mut c_char = Box::leak(argv.into_boxed_slice()).as_mut_ptr();
        // SAFETY: `argv` holds `count` writable NUL-terminated strings and a final NULL, all of
        // which live for ever, and the swap above makes this the only call in the process.
        let status = unsafe { sys::rte_eal_init(count, argv) };
        if status < 0 {
            return Err(EalError::from_errno(Errno::last(), arguments));
        }
        // SAFETY: EAL runs. A failure only means that nobody can capture.
        let capture = unsafe { sys::rte_pdump_init() } == 0;
        Ok(Self { capture })
    }

    /// Whether `dpdk-dumpcap` and `dpdk-pdump` can attach (also needs `in_memory: false`).
    pub fn is_capture_ready(&self) -> bool {
        self.capture
    }

    /// Creates a virtual device now. Its name is the device's; open it by
    /// [`Device::by_name`](crate::Device::by_name).
    pub fn plug(&self, vdev: &Vdev) -> Result<(), PlugError> {
        let name = CString::new(vdev.name()).map_err(|_| PlugError::NulByte)?;
        let arguments = CString::new(vdev.arguments()).map_err(|_| PlugError::NulByte)?;
        // SAFETY: EAL runs; all three strings end in NUL and are copied.
        let status = unsafe {
            sys::rte_eal_hotplug_add(c"vdev".as_ptr(), name.as_ptr(), arguments.as_ptr())
        };
        Errno::check(status)
            .map(drop)
            .map_err(PlugError::from_errno)
    }

    /// Changes how much DPDK says.
    pub fn set_log_level(&self, level: LogLevel) {
        // SAFETY: sets an integer.
        unsafe { sys::rte_log_set_global_level(level.number()) };
    }

    /// Changes how much the components matching a pattern (`pmd.net.*`, `lib.eal`) say. `false`:
    /// not a pattern.
    pub fn set_log_level_of(&self, pattern: &str, level: LogLevel) -> bool {
        let Ok(pattern) = CString::new(pattern) else {
            return false;
        };
        // SAFETY: the pattern ends in NUL and is copied.
        unsafe { sys::rte_log_set_level_pattern(pattern.as_ptr(), level.number()) == 0 }
    }

    /// DPDK's name and release, as in `DPDK 22.11.11`.
    pub fn version(&self) -> String {
        // SAFETY: returns a static string.
        let text = unsafe { core::ffi::CStr::from_ptr(sys::rte_version()) };
        text.to_string_lossy().into_owned()
    }
}

impl EalError {
    fn from_errno(errno: Errno, arguments: Vec<String>) -> Self {
        match errno.number() {
            libc::EACCES | libc::EPERM => Self::Permission,
            libc::EAGAIN | libc::EBUSY => Self::Busy,
            libc::EALREADY => Self::AlreadyStarted,
            libc::EINVAL => Self::Arguments { arguments },
            libc::ENOMEM => Self::Memory,
            _ => Self::Other(errno),
        }
    }
}

impl PlugError {
    fn from_errno(errno: Errno) -> Self {
        match errno.number() {
            libc::EEXIST => Self::Exists,
            libc::ENODEV | libc::ENOENT => Self::NoDevice,
            _ => Self::Other(errno),
        }
    }
}

fn ignore_sigpipe() {
    // SAFETY: replaces a signal disposition by "ignore"; no handler runs.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_arguments_become_the_documented_flags() {
        let args = EalArgs {
            lcores: vec![LcoreCpu { lcore: 0, cpu: 0 }, LcoreCpu { lcore: 1, cpu: 3 }],
            main_lcore: Some(1),
            memory: Memory::Ordinary { mebibytes: 64 },
            file_prefix: Some("t".to_owned()),
            vdevs: vec![Vdev::null("net_null0")],
            pci: PciDevices::Allow(vec!["0000:00:05.0".to_owned()]),
            iova: Iova::Virtual,
            log_level: LogLevel::Error,
            extra: vec!["--no-telemetry".to_owned()],
            ..EalArgs::default()
        };
        let expected = "millrace --lcores=0@0,1@3 --main-lcore=1 --no-huge -m64 --no-shconf \
             --file-prefix=t \
             --allow=0000:00:05.0 --iova-mode=va --log-level=error --vdev=net_null0 --no-telemetry";
        assert_eq!(args.to_argv().join(" "), expected);
    }

    #[test]
    fn a_nul_byte_is_refused_before_eal_is_touched() {
        let args = EalArgs {
            extra: vec!["a\0b".to_owned()],
            ..EalArgs::default()
        };
        let refused = Eal::start(&args).err();
        assert_eq!(
            refused,
            Some(EalError::NulByte {
                argument: "a\0b".to_owned()
            })
        );
    }
}
