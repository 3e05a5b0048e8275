//! The region file: created by the dataplane, opened and verified by control.
//!
//! The dataplane builds the region under a temporary name and renames it, so control finds a
//! complete one or none. Control believes nothing it has not checked: magic, version, layout hash,
//! checksum, readiness, counts, size. Both then keep their own copy of what they checked; the
//! header is not read again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use millrace_base::{BackendId, ListenerId};

use crate::ABI_VERSION;
use crate::counters::{BackendCounters, CounterDescription, CounterSpec, ListenerCounters};
use crate::info::{ControlState, LcoreInfo, LcoreState, PortInfo, PortState};
use crate::layout::{
    Fnv, HEADER_WORDS, Header, LAYOUT_HASH, LcoreBlock, READY_OFFSET, Shared, block_offset,
    region_bytes,
};
use crate::limits::{COUNTERS_MAX, LCORES_MAX, PORTS_MAX};
use crate::mapping::{self, Mapping, Projection, Role};
use crate::plain::{words_of, words_of_mut};
use crate::sync::Ordering;

/// "MILLRACE" read as bytes.
const MAGIC: u64 = u64::from_ne_bytes(*b"MILLRACE");
const READY: u64 = u64::from_ne_bytes(*b"  READY ");
const CLOSED: u64 = u64::from_ne_bytes(*b" CLOSED ");

/// What the dataplane knows about itself when it creates the region.
#[derive(Clone, Copy, Debug)]
pub struct RegionConfig<'a> {
    /// The worker lcores, 1 to `LCORES_MAX`.
    pub lcores: &'a [LcoreInfo],
    /// The ports in configuration order, at most `PORTS_MAX`.
    pub ports: &'a [PortInfo],
    /// The counters every lcore keeps, at most `COUNTERS_MAX`; a counter's index is its place here.
    pub counters: &'a [CounterSpec<'a>],
}

/// A mapped region. Clones share the mapping; it is unmapped when the last clone and the last
/// handle are gone.
#[derive(Clone, Debug)]
pub struct Region {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Projection<Shared>,
    pub(crate) blocks: Vec<Projection<LcoreBlock>>,
    pub(crate) role: Role,
    /// Which handles this opening has given out: one per lcore, or one for control.
    pub(crate) taken: Vec<AtomicBool>,
    pub(crate) port_states_taken: AtomicBool,
    mapping: MappingFile,
    header: Header,
    path: PathBuf,
}

struct MappingFile(Arc<Mapping>);

impl core::fmt::Debug for MappingFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.file().fmt(f)
    }
}

/// Why the region could not be created.
#[derive(Debug)]
pub enum CreateError {
    /// A living dataplane has the region at this path.
    InUse,
    /// No lcore, or more of something than its bound.
    Count {
        /// What there are too many (or too few) of.
        what: &'static str,
        /// How many were asked for.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The operating system refused.
    Io {
        /// What was being done.
        step: &'static str,
        /// What it said.
        error: io::Error,
    },
}

/// Why a region could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// There is no such file: no dataplane runs here.
    Missing,
    /// Too few bytes for a header.
    TooShort {
        /// The file's length in bytes.
        bytes: u64,
    },
    /// Not a region of ours.
    ForeignMagic {
        /// The first eight bytes.
        found: u64,
    },
    /// Made by a dataplane of another version of the interface.
    OtherVersion {
        /// Its `ABI_VERSION`.
        found: u32,
    },
    /// The same version, but its structures lie differently: another build.
    OtherLayout {
        /// Its layout hash.
        found: u64,
    },
    /// The header was altered after it was written.
    Damaged,
    /// Created but not finished: its dataplane died while starting.
    HalfInitialised,
    /// Its dataplane left.
    Closed,
    /// A count in the header is out of range.
    BadCount {
        /// What is counted.
        what: &'static str,
        /// The count.
        found: u32,
    },
    /// The file, the header and the counts do not agree about the size.
    SizeMismatch {
        /// What the counts ask for, in bytes.
        expected: u64,
        /// What the header says, in bytes.
        header: u64,
        /// What the file has, in bytes.
        file: u64,
    },
    /// The operating system refused.
    Io(io::Error),
}

impl Region {
    /// Creates the region, complete, at `path`. The caller is the dataplane and holds that role
    /// until its last handle is gone.
    pub fn create(path: &Path, config: RegionConfig<'_>) -> Result<Self, CreateError> {
        check_count("lcores", config.lcores.len(), 1, LCORES_MAX)?;
        check_count("ports", config.ports.len(), 0, PORTS_MAX)?;
        check_count("counters", config.counters.len(), 0, COUNTERS_MAX)?;
        refuse_living(path)?;

        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CreateError::Io {
                    step: "remove the unfinished region",
                    error,
                });
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(step("create the region file"))?;
        let total_bytes = region_bytes(config.lcores.len());
        mapping::allocate(&file, total_bytes).map_err(step("reserve the region's memory"))?;
        if !mapping::try_lock(&file, Role::Dataplane).map_err(step("lock the region"))? {
            return Err(CreateError::InUse);
        }
        let header = header_of(&config, total_bytes).map_err(step("draw a boot identifier"))?;
        let mapping =
            Mapping::new(file, total_bytes, true).map_err(step("map the region into memory"))?;
        let region = Self::assemble(mapping, header, path.to_owned(), Role::Dataplane)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
            .map_err(step("map the region into memory"))?;
        region.describe(&config);
        // Pairs with the rename and `open`'s reading: everything above is written before the region
        // is called ready.
        region.inner.shared.ready.store(READY, Ordering::Release);
        fs::rename(&temporary, path).map_err(step("rename the region into place"))?;
        Ok(region)
    }

    /// Whether a region could be created at `path`: a living dataplane keeps its own. For the
    /// beginning of a boot, before anything is taken from the machine.
    pub fn check_free(path: &Path) -> Result<(), CreateError> {
        refuse_living(path)
    }

    /// Opens and verifies the region at `path`. The caller is control, or somebody who only looks.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Missing);
            }
            Err(error) => return Err(OpenError::Io(error)),
        };
        let header = verify(&file)?;
        // `verify` found `total_bytes` to be the size of a region of at most `LCORES_MAX` lcores.
        let mapping =
            Mapping::new(file, header.total_bytes as usize, false).map_err(OpenError::Io)?;
        Self::assemble(mapping, header, path.to_owned(), Role::Control)
            .ok_or_else(|| OpenError::Io(io::ErrorKind::InvalidData.into()))
    }

    /// The dataplane leaves: marks the region closed and unlinks it, unless another dataplane has
    /// replaced it.
    pub fn remove(self) -> io::Result<()> {
        if self.inner.role != Role::Dataplane {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.inner.shared.ready.store(CLOSED, Ordering::Release);
        if self.is_current() {
            fs::remove_file(&self.inner.path)
        } else {
            Ok(())
        }
    }

    /// How many lcores there are; they are numbered from 0.
    pub fn lcore_count(&self) -> usize {
        self.inner.blocks.len()
    }

    /// How many ports there are; they are numbered from 0.
    pub fn port_count(&self) -> usize {
        self.inner.header.ports as usize
    }

    /// A number that no other start of a dataplane has.
    pub fn boot_id(&self) -> u64 {
        self.inner.header.boot_id
    }

    /// The dataplane's process; meaningless across PID namespaces.
    pub fn dataplane_pid(&self) -> u64 {
        self.inner.header.pid
    }

    /// When the dataplane started, in nanoseconds since the Unix epoch.
    pub fn start_unix_nanos(&self) -> u64 {
        self.inner.header.start_unix_nanos
    }

    /// Whether the dataplane that made this region still lives. Asked of the kernel; a system call.
    pub fn is_dataplane_alive(&self) -> bool {
        self.inner.role == Role::Dataplane
            || mapping::is_locked(self.inner.mapping.0.file(), Role::Dataplane).unwrap_or(false)
    }

    /// Whether the path still names this region: no other dataplane has replaced it. Two system
    /// calls.
    pub fn is_current(&self) -> bool {
        let here = self.inner.mapping.0.file().metadata();
        let there = fs::metadata(&self.inner.path);
        match (here, there) {
            (Ok(here), Ok(there)) => (here.dev(), here.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// Whether the dataplane has said that it leaves.
    pub fn is_closed(&self) -> bool {
        self.inner.shared.ready.load(Ordering::Acquire) == CLOSED
    }

    /// A port's description.
    pub fn port_info(&self, port: usize) -> Option<PortInfo> {
        (port < self.port_count()).then(|| self.inner.shared.ports[port].load())
    }

    /// A port's statistics and link.
    pub fn port_state(&self, port: usize) -> Option<PortState> {
        (port < self.port_count()).then(|| self.inner.shared.port_states[port].0.load())
    }

    /// An lcore's description.
    pub fn lcore_info(&self, lcore: usize) -> Option<LcoreInfo> {
        (lcore < self.lcore_count()).then(|| self.inner.shared.lcores[lcore].load())
    }

    /// What an lcore did so far.
    pub fn lcore_state(&self, lcore: usize) -> Option<LcoreState> {
        self.inner
            .blocks
            .get(lcore)
            .map(|block| block.state.0.load())
    }

    /// Control's sign of life.
    pub fn control_state(&self) -> ControlState {
        self.inner.shared.control.0.load()
    }

    /// The counters' descriptions, in the order of their indices.
    pub fn counters(&self) -> Vec<CounterDescription> {
        let count = self.inner.header.counters as usize;
        self.inner.shared.counters[..count]
            .iter()
            .map(|row| row.load())
            .collect()
    }

    /// An lcore's counter; 0 when there is no such lcore or counter.
    pub fn counter(&self, lcore: usize, index: usize) -> u64 {
        self.inner
            .blocks
            .get(lcore)
            .map_or(0, |block| block.counters.load(index))
    }

    /// An lcore's counters about a backend; zeros when there is no such lcore or backend.
    pub fn backend_counters(&self, lcore: usize, backend: BackendId) -> BackendCounters {
        let block = self.inner.blocks.get(lcore);
        let record = block.and_then(|block| block.backends.get(backend.index()));
        record.map(|record| record.load()).unwrap_or_default()
    }

    /// A backend's counters, summed over the lcores.
    pub fn backend_total(&self, backend: BackendId) -> BackendCounters {
        (0..self.lcore_count())
            .map(|lcore| self.backend_counters(lcore, backend))
            .fold(BackendCounters::default(), BackendCounters::plus)
    }

    /// An lcore's counters about a listener; zeros when there is no such lcore or listener.
    pub fn listener_counters(&self, lcore: usize, listener: ListenerId) -> ListenerCounters {
        let block = self.inner.blocks.get(lcore);
        let record = block.and_then(|block| block.listeners.get(listener.index()));
        record.map(|record| record.load()).unwrap_or_default()
    }

    /// A listener's counters, summed over the lcores.
    pub fn listener_total(&self, listener: ListenerId) -> ListenerCounters {
        (0..self.lcore_count())
            .map(|lcore| self.listener_counters(lcore, listener))
            .fold(ListenerCounters::default(), ListenerCounters::plus)
    }

    pub(crate) fn file(&self) -> &File {
        self.inner.mapping.0.file()
    }

    fn assemble(mapping: Arc<Mapping>, header: Header, path: PathBuf, role: Role) -> Option<Self> {
        let shared = mapping.project::<Shared>(0)?;
        let lcores = header.lcores as usize;
        let blocks: Option<Vec<_>> = (0..lcores)
            .map(|lcore| mapping.project(block_offset(lcore)))
            .collect();
        let taken = (0..lcores).map(|_| AtomicBool::new(false)).collect();
        let mapping = MappingFile(mapping);
        let inner = Inner {
            shared,
            blocks: blocks?,
            role,
            taken,
            port_states_taken: AtomicBool::new(false),
            mapping,
            header,
            path,
        };
        Some(Self {
            inner: Arc::new(inner),
        })
    }

    fn describe(&self, config: &RegionConfig<'_>) {
        let shared = &self.inner.shared;
        for (record, info) in shared.ports.iter().zip(config.ports) {
            record.store(info);
        }
        for (record, info) in shared.lcores.iter().zip(config.lcores) {
            record.store(info);
        }
        for (record, spec) in shared.counters.iter().zip(config.counters) {
            record.store(&spec.describe());
        }
        shared.header.store(&self.inner.header);
    }
}

impl Header {
    fn checksum(&self) -> u64 {
        let words = words_of(self);
        words[..HEADER_WORDS - 1]
            .iter()
            .fold(Fnv::new(), |hash, word| hash.number(*word))
            .0
    }
}

fn header_of(config: &RegionConfig<'_>, total_bytes: usize) -> io::Result<Header> {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // The counts were checked against bounds far below 2^32; nanoseconds fit 64 bits until the year
    // 2554.
    let mut header = Header {
        magic: MAGIC,
        version: ABI_VERSION,
        lcores: config.lcores.len() as u32,
        layout_hash: LAYOUT_HASH,
        total_bytes: total_bytes as u64,
        ports: config.ports.len() as u32,
        counters: config.counters.len() as u32,
        boot_id: mapping::random_u64()?,
        start_unix_nanos: since_epoch.map_or(0, |since| since.as_nanos() as u64),
        pid: u64::from(std::process::id()),
        checksum: 0,
    };
    header.checksum = header.checksum();
    Ok(header)
}

fn check_count(
    what: &'static str,
    count: usize,
    min: usize,
    max: usize,
) -> Result<(), CreateError> {
    if (min..=max).contains(&count) {
        Ok(())
    } else {
        Err(CreateError::Count { what, count, max })
    }
}

/// A region whose dataplane lives must not be replaced: its control would lose it.
fn refuse_living(path: &Path) -> Result<(), CreateError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => match mapping::is_locked(&file, Role::Dataplane) {
            Ok(false) => Ok(()),
            Ok(true) => Err(CreateError::InUse),
            Err(error) => Err(CreateError::Io {
                step: "ask who holds the region",
                error,
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CreateError::Io {
            step: "look at the previous region",
            error,
        }),
    }
}

/// Checks everything that can be checked before the file is mapped.
fn verify(file: &File) -> Result<Header, OpenError> {
    let file_bytes = file.metadata().map_err(OpenError::Io)?.len();
    let mut bytes = [0; READY_OFFSET + 8];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(OpenError::TooShort { bytes: file_bytes });
        }
        result => result.map_err(OpenError::Io)?,
    }
    let mut header = Header::default();
    let (chunks, _) = bytes.as_chunks::<8>();
    for (word, chunk) in words_of_mut(&mut header).iter_mut().zip(chunks) {
        *word = u64::from_ne_bytes(*chunk);
    }
    let ready = chunks.last().map_or(0, |chunk| u64::from_ne_bytes(*chunk));

    if header.magic != MAGIC {
        return Err(OpenError::ForeignMagic {
            found: header.magic,
        });
    }
    if header.version != ABI_VERSION {
        return Err(OpenError::OtherVersion {
            found: header.version,
        });
    }
    if header.layout_hash != LAYOUT_HASH {
        return Err(OpenError::OtherLayout {
            found: header.layout_hash,
        });
    }
    if header.checksum != header.checksum() {
        return Err(OpenError::Damaged);
    }
    match ready {
        READY => {}
        CLOSED => return Err(OpenError::Closed),
        _ => return Err(OpenError::HalfInitialised),
    }
    verify_size(&header, file_bytes)?;
    Ok(header)
}

fn verify_size(header: &Header, file_bytes: u64) -> Result<(), OpenError> {
    for (what, found, max) in [
        ("lcores", header.lcores, LCORES_MAX),
        ("ports", header.ports, PORTS_MAX),
        ("counters", header.counters, COUNTERS_MAX),
    ] {
        if found as usize > max || (what == "lcores" && found == 0) {
            return Err(OpenError::BadCount { what, found });
        }
    }
    let expected = region_bytes(header.lcores as usize) as u64;
    if header.total_bytes != expected || file_bytes != expected {
        return Err(OpenError::SizeMismatch {
            expected,
            header: header.total_bytes,
            file: file_bytes,
        });
    }
    Ok(())
}

fn step(step: &'static str) -> impl Fn(io::Error) -> CreateError {
    move |error| CreateError::Io { step, error }
}

impl core::fmt::Display for CreateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::InUse => f.write_str("another dataplane runs with this region"),
            Self::Count { what, count, max } => write!(f, "{count} {what}, the limit is {max}"),
            Self::Io { step, error } => write!(f, "cannot {step}: {error}"),
        }
    }
}

impl core::error::Error for CreateError {}

impl OpenError {
    /// Whether the dataplane may be well, but was built from other sources than we were: waiting does
    /// not help.
    pub fn is_other_build(&self) -> bool {
        matches!(self, Self::OtherVersion { .. } | Self::OtherLayout { .. })
    }
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing => f.write_str("no region: the dataplane does not run"),
            Self::TooShort { bytes } => write!(f, "a file of {bytes} bytes is no region"),
            Self::ForeignMagic { found } => write!(f, "not a region: begins with {found:#018x}"),
            Self::OtherVersion { found } => {
                write!(
                    f,
                    "the dataplane is another build: it speaks version {found}, we speak {ABI_VERSION}"
                )
            }
            Self::OtherLayout { found } => write!(
                f,
                "the dataplane is another build: layout {found:#018x}, ours is {LAYOUT_HASH:#018x}"
            ),
            Self::Damaged => f.write_str("the region's header is damaged"),
            Self::HalfInitialised => f.write_str("the dataplane died while it made the region"),
            Self::Closed => f.write_str("the dataplane has left"),
            Self::BadCount { what, found } => write!(f, "the region claims {found} {what}"),
            Self::SizeMismatch {
                expected,
                header,
                file,
            } => write!(
                f,
                "the region should have {expected} bytes, its header says {header}, it has {file}"
            ),
            Self::Io(error) => write!(f, "cannot open the region: {error}"),
        }
    }
}

impl core::error::Error for OpenError {}

#[cfg(test)]
mod tests;
