//! Finds libdpdk, compiles the wrappers of its inline functions and generates the bindings.
//!
//! Only the core libraries are linked. Poll-mode drivers and mempool drivers are *not*: EAL loads
//! them from its plug-in folder at start, as it does for `dpdk-dumpcap` and `dpdk-proc-info`. A
//! driver that were linked directly would take its slot in the mempool-ops table in another order
//! than in those tools, and a capture would see nothing (or crash us).

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

/// The oldest release whose headers these bindings were written for.
const DPDK_VERSION_MIN: &str = "22.11";

/// Libraries that may be linked, when the installed release has them (`rte_log` is its own since
/// 24.03).
const CORE_LIBRARIES: [&str; 10] = [
    "rte_eal",
    "rte_ethdev",
    "rte_hash",
    "rte_kvargs",
    "rte_log",
    "rte_mbuf",
    "rte_mempool",
    "rte_pdump",
    "rte_ring",
    "rte_telemetry",
];

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["build.rs", "wrapper.h", "shim.c"] {
        println!("cargo:rerun-if-changed={input}");
    }
    pkg_config::Config::new()
        .atleast_version(DPDK_VERSION_MIN)
        .cargo_metadata(false)
        .probe("libdpdk")?;
    let cflags = pkg_config_words("--cflags")?;
    compile_shim(&cflags);
    generate_bindings(&cflags)?;
    link_core_libraries()
}

fn compile_shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build
        .file("shim.c")
        .include(".")
        .opt_level(3)
        .warnings(true);
    // DPDK's own headers are not clean under -Wextra.
    build.flag_if_supported("-Wno-unused-parameter");
    for flag in cflags {
        build.flag(flag);
    }
    build.compile("millrace_dpdk_shim");
}

fn generate_bindings(cflags: &[String]) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs");
    bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(cflags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .use_core()
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(true)
        .prepend_enum_name(false)
        .allowlist_function("mr_.*")
        .allowlist_function("rte_eal_(init|remote_launch|wait_lcore|hotplug_add)")
        .allowlist_function("rte_(get_main_lcore|get_next_lcore)")
        .allowlist_function("rte_lcore_to_(cpu_id|socket_id)")
        .allowlist_function("rte_(version|strerror|get_tsc_hz)")
        .allowlist_function("rte_log_set_(global_level|level_pattern)")
        .allowlist_function("rte_pdump_init")
        .allowlist_function("rte_eth_dev_rx_intr_(enable|disable|ctl_q)")
        .allowlist_function("rte_epoll_(wait|ctl)")
        .allowlist_function("rte_cpu_get_intrinsics_support")
        .allowlist_function("rte_eth_get_monitor_addr")
        .allowlist_function("rte_power_monitor")
        .allowlist_function("rte_telemetry_register_cmd")
        .allowlist_function("rte_tel_data_(alloc|free|start_dict|start_array)")
        .allowlist_function("rte_tel_data_(add_array_u64|add_dict_container)")
        .allowlist_function("rte_hash_(create|free|add_key_data|del_key)")
        .allowlist_function("rte_hash_lookup_(data|bulk_data)")
        .allowlist_function("rte_mempool_avail_count")
        .allowlist_function("rte_pktmbuf_pool_create_by_ops")
        .allowlist_type("rte_mempool_cache")
        .allowlist_var("rte_eth_fp_ops")
        .allowlist_function("rte_ring_create")
        .allowlist_function("rte_eth_dev_(configure|start|stop|close|info_get|get_name_by_port)")
        .allowlist_function("rte_eth_dev_(get_port_by_name|socket_id|adjust_nb_rx_tx_desc)")
        .allowlist_function("rte_eth_dev_(get_mtu|default_mac_addr_set|is_valid_port)")
        .allowlist_function("rte_eth_dev_rss_(hash_conf_get|reta_update|reta_query)")
        .allowlist_function("rte_eth_dev_(rx|tx)_offload_name")
        .allowlist_function("rte_eth_macaddr_get")
        .allowlist_function("rte_eth_(rx|tx)_queue_setup")
        .allowlist_function("rte_eth_promiscuous_(enable|disable|get)")
        .allowlist_function("rte_eth_stats_(get|reset)")
        .allowlist_function("rte_eth_xstats_(get|get_names)")
        .blocklist_type("mr_count")
        .allowlist_var("MR_.*")
        .allowlist_var("RTE_(MAX_LCORE|MAX_ETHPORTS|ETH_NAME_MAX_LEN|PKTMBUF_HEADROOM)")
        .allowlist_var("RTE_ETH_RETA_GROUP_SIZE")
        .allowlist_var("RTE_EPOLL_PER_THREAD")
        .allowlist_var("RTE_VER_(YEAR|MONTH)")
        .opaque_type(
            "rte_(eth_rxtx_callback|hash|mbuf|mempool|ring|device|intr_handle|pci_.*|tel_data)",
        )
        .generate()?
        .write_to_file(out)?;
    Ok(())
}

fn link_core_libraries() -> Result<(), Box<dyn Error>> {
    let libdir = pkg_config::get_variable("libdpdk", "libdir")?;
    println!("cargo:rustc-link-search=native={libdir}");
    let offered: BTreeSet<String> = pkg_config_words("--libs")?
        .iter()
        .filter_map(|word| word.strip_prefix("-l").map(str::to_owned))
        .collect();
    for library in CORE_LIBRARIES
        .iter()
        .filter(|name| offered.contains(**name))
    {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    Ok(())
}

/// The `pkg-config` crate drops flags it does not know (`-include rte_config.h`, `-march=`), so ask
/// the tool itself.
fn pkg_config_words(what: &str) -> Result<Vec<String>, Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(&tool).args([what, "libdpdk"]).output()?;
    if !output.status.success() {
        return Err(format!("{tool} {what} libdpdk failed: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}
