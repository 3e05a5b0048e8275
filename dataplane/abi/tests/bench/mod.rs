//! A place for a region that is removed with the test.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use millrace_abi::{
    CounterKind, CounterSpec, LcoreInfo, Name, OpenError, PortInfo, Region, RegionConfig,
};

/// A directory of its own on tmpfs.
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let base = Path::new("/dev/shm");
        let base = if base.is_dir() {
            base.to_owned()
        } else {
            std::env::temp_dir()
        };
        let directory = base.join(format!("millrace-abi-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a writable tmpfs");
        Self { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("region")
    }

    pub(crate) fn create(&self, lcores: usize) -> Region {
        let lcores = vec![
            LcoreInfo {
                cpu: 1,
                numa_node: 0,
                tsc_hz: 2_000_000_000
            };
            lcores
        ];
        let config = RegionConfig {
            lcores: &lcores,
            ports: &ports(),
            counters: COUNTERS,
        };
        Region::create(&self.path(), config).expect("a region")
    }

    pub(crate) fn open(&self) -> Result<Region, OpenError> {
        Region::open(&self.path())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn ports() -> [PortInfo; 2] {
    let front = PortInfo {
        name: Name::new("front"),
        mtu: 1500,
        queues: 1,
        ..Default::default()
    };
    [
        front,
        PortInfo {
            name: Name::new("back"),
            ..front
        },
    ]
}

pub(crate) const COUNTERS: &[CounterSpec<'static>] = &[
    CounterSpec {
        name: "InSegs",
        help: "Segments received.",
        kind: CounterKind::Counter,
    },
    CounterSpec {
        name: "CurrEstab",
        help: "Connections now.",
        kind: CounterKind::Gauge,
    },
];
