//! The tunables of the network namespace, read from `/proc/sys/net`, and the parameters of CUBIC,
//! which the kernel has as a module's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millrace_socket::Sockets;

use crate::host::DISCIPLINE;

/// Where tunables are. Of a namespace's tree the kernel shows each process its own.
const ROOT: &str = "/proc/sys/net";
/// The folders that have some which a host knows.
const FOLDERS: [&str; 3] = ["core", "ipv4", "ipv6"];

/// Where modules have their parameters, and the one that has some which a host knows.
const MODULES: &str = "/sys/module";
const MODULE: &str = "tcp_cubic";

/// The tunables that both the kernel and a host have.
#[derive(Debug, Default)]
pub(crate) struct Tunables {
    known: Vec<Tunable>,
}

#[derive(Debug)]
struct Tunable {
    path: PathBuf,
    name: String,
    /// Of the module, not of the namespace.
    is_parameter: bool,
    /// What the host was told last.
    told: Option<String>,
}

impl Tunables {
    /// Those of this process's namespace that `sockets` has.
    pub(crate) fn new(sockets: &Sockets) -> Self {
        Self::below(Path::new(ROOT), Path::new(MODULES), sockets)
    }

    fn below(root: &Path, modules: &Path, sockets: &Sockets) -> Self {
        // In the order of names, whatever the order of the folder: verdicts must not depend on it.
        let mut known = BTreeMap::new();
        for folder in FOLDERS {
            let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
            for entry in entries.flatten() {
                let leaf = entry.file_name().to_string_lossy().into_owned();
                let name = format!("net.{folder}.{leaf}");
                // The discipline is that of the kernel's links: the host's is its own.
                if name != DISCIPLINE && sockets.sysctl(&name).is_some() {
                    known.insert(name, (entry.path(), false));
                }
            }
        }
        let parameters = fs::read_dir(modules.join(MODULE).join("parameters"));
        for entry in parameters.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            known.insert(name, (entry.path(), true));
        }
        let tunable = |(name, (path, is_parameter))| Tunable {
            path,
            name,
            is_parameter,
            told: None,
        };
        Self {
            known: known.into_iter().map(tunable).collect(),
        }
    }

    /// Tells the host what has changed since it was told last. A value that it does not take (an
    /// algorithm that it lacks) leaves the one before.
    pub(crate) fn refresh(&mut self, sockets: &mut Sockets) {
        for tunable in &mut self.known {
            let Ok(value) = fs::read_to_string(&tunable.path) else {
                continue;
            };
            let value = value.trim();
            if tunable.told.as_deref() == Some(value) {
                continue;
            }
            // Refused values are the kernel's own, not the script's.
            if tunable.is_parameter {
                let _refused = sockets.set_module_parameter(MODULE, &tunable.name, value);
            } else {
                let _refused = sockets.set_sysctl(&tunable.name, value);
            }
            tunable.told = Some(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_socket::HostConfig;

    use super::*;

    #[test]
    fn what_a_namespace_says_is_told_once_and_again_when_it_changes() {
        let root = std::env::temp_dir().join(format!("millrace-tunables-{}", std::process::id()));
        fs::create_dir_all(root.join("ipv4")).expect("a folder");
        let write = |name: &str, value: &str| {
            fs::write(root.join("ipv4").join(name), value).expect("a file");
        };
        write("tcp_sack", "0\n");
        write("tcp_rmem", "4096\t540000\t15728640\n");
        write("tcp_of_another_kernel", "7\n");
        let mut sockets = Sockets::new(HostConfig::default());
        let mut tunables = Tunables::below(&root, &root, &sockets);
        assert_eq!(tunables.known.len(), 2);
        tunables.refresh(&mut sockets);
        assert_eq!(sockets.sysctl("tcp_sack").as_deref(), Some("0"));
        assert_eq!(
            sockets.sysctl("tcp_rmem").as_deref(),
            Some("4096\t540000\t15728640")
        );
        sockets.set_sysctl("tcp_sack", "1").expect("a flag");
        tunables.refresh(&mut sockets);
        assert_eq!(sockets.sysctl("tcp_sack").as_deref(), Some("1"));
        write("tcp_sack", "1\n");
        tunables.refresh(&mut sockets);
        write("tcp_sack", "0\n");
        tunables.refresh(&mut sockets);
        assert_eq!(sockets.sysctl("tcp_sack").as_deref(), Some("0"));
        fs::remove_dir_all(root).expect("ours");
    }
}
