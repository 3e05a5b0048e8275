//! One EAL for all tests of a process: it can be started only once.
//!
//! Ordinary memory, no PCI, no files: runs anywhere, without root and without huge pages.
#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use millrace_dpdk::{Eal, EalArgs, LcoreCpu, LogLevel, MbufPool, Memory, Mempool, MempoolConfig};

static EAL: OnceLock<Eal> = OnceLock::new();
static NAMES: AtomicU32 = AtomicU32::new(0);

pub(crate) fn eal() -> &'static Eal {
    EAL.get_or_init(|| {
        let args = EalArgs {
            // Both on one CPU, so that a machine with a single one will do.
            lcores: vec![LcoreCpu { lcore: 0, cpu: 0 }, LcoreCpu { lcore: 1, cpu: 0 }],
            memory: Memory::Ordinary { mebibytes: 256 },
            file_prefix: Some(format!("millrace-test-{}", std::process::id())),
            log_level: LogLevel::Warning,
            extra: vec!["--no-telemetry".to_owned()],
            ..EalArgs::default()
        };
        // A thread of its own: EAL pins its caller to a CPU.
        std::thread::spawn(move || Eal::start(&args))
            .join()
            .expect("no panic")
            .expect("EAL starts")
    })
}

/// A name nobody else in the process uses.
pub(crate) fn unique(stem: &str) -> String {
    format!("{stem}{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn pool(count: u32) -> Mempool {
    let name = unique("pool");
    let config = MempoolConfig {
        name: &name,
        count,
        cache: 0,
        ..MempoolConfig::default()
    };
    Mempool::new(eal(), &config).expect("pool")
}

pub(crate) fn mbuf_pool(bufs: u32, views: u32) -> MbufPool {
    let name = unique("pool");
    let config = MempoolConfig {
        name: &name,
        count: bufs,
        cache: 0,
        ..MempoolConfig::default()
    };
    MbufPool::create(eal(), &config, views).expect("pools")
}
