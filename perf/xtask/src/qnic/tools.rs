//! What must be there before a guest can start: QEMU with the card, busybox, a kernel. Fetched when missing, or a reason.
//!
//! QEMU emulates the 82576 since version 8; Debian 12 has 7.2, and 10 in its backports. The kernel is the smallest stock
//! one ("cloud"), downloaded and unpacked below cargo's build folder; it is not installed, and neither is anything else
//! that this machine would start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::setup::packages;

const QEMU: &str = "qemu-system-x86_64";
const BUSYBOX: &str = "/bin/busybox";
/// The package that always depends on the newest kernel without drivers of real machines.
const KERNEL: &str = "linux-image-cloud-amd64";
const BACKPORTS: &str = "/etc/apt/sources.list.d/bookworm-backports.sources";
const QUICK: Duration = Duration::from_secs(60);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);

/// Everything a guest is made of, besides our own binaries.
pub(super) struct Tools {
    pub(super) busybox: PathBuf,
    /// A compressed kernel as a boot loader takes it.
    pub(super) kernel: PathBuf,
    /// The folder `lib/modules/VERSION` that belongs to it.
    pub(super) modules: PathBuf,
}

/// The tools, or why there are none.
pub(super) fn ready(folder: &Path) -> Result<Result<Tools, String>> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(Err("the guest is an x86-64 machine, this one is not".into()));
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(Err("network namespaces and taps need root".into()));
    }
    let fetched = fetch(folder);
    crate::interrupt::check()?;
    // What cannot be fetched (no network, another distribution) is a reason to skip, not a defect of ours.
    Ok(fetched.map_err(|error| format!("{error:#}")))
}

fn fetch(folder: &Path) -> Result<Tools> {
    if !has_card() {
        install_qemu().context("no QEMU that emulates the card (igb, since 8.0)")?;
        if !has_card() {
            bail!("the QEMU that was installed does not emulate the card (igb, since 8.0)");
        }
    }
    if !Path::new(BUSYBOX).exists() {
        packages::install(&["busybox-static"], None).context("no busybox")?;
    }
    let kernel = match unpacked(folder)? {
        Some(kernel) => kernel,
        None => {
            download_kernel(folder).context("no kernel for the guest")?;
            unpacked(folder)?.context("the kernel package holds no kernel")?
        }
    };
    Ok(kernel)
}

fn has_card() -> bool {
    let mut ask = Command::new(QEMU);
    process::finish(ask.args(["-device", "help"]), QUICK)
        .is_ok_and(|said| said.stdout.contains("name \"igb\""))
}

fn install_qemu() -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_bookworm = release
        .lines()
        .any(|line| line == "VERSION_CODENAME=bookworm");
    if !is_bookworm {
        return packages::install(&["qemu-system-x86"], None);
    }
    let mut policy = Command::new("apt-cache");
    let policy = process::must(policy.arg("policy"), QUICK)?;
    if !policy.contains("bookworm-backports/main") {
        let mirror = mirror_of(&policy).context("apt has no source for Debian 12")?;
        println!("qnic: adding {BACKPORTS} ({mirror}): Debian 12 itself has no QEMU with the card");
        let text = format!(
            "Types: deb\nURIs: {mirror}\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        fs::write(BACKPORTS, text).context(BACKPORTS)?;
    }
    packages::install(&["qemu-system-x86"], Some("bookworm-backports"))
}

/// The mirror that `apt-cache policy` names for Debian 12 itself.
fn mirror_of(policy: &str) -> Option<&str> {
    let mut words = policy.lines().map(str::split_whitespace);
    words.find_map(|mut words| {
        let (_, mirror) = (words.next()?, words.next()?);
        (words.next()? == "bookworm/main").then_some(mirror)
    })
}

fn download_kernel(folder: &Path) -> Result<()> {
    let package = match newest_kernel() {
        Ok(package) => package,
        Err(_) => {
            // A fresh container has no package lists at all.
            packages::update()?;
            newest_kernel()?
        }
    };
    println!("qnic: downloading {package} (unpacked below the build folder, not installed) …");
    let scratch = folder.join("kernel.new");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let mut download = Command::new("apt-get");
    download.current_dir(&scratch).args([
        "-q",
        "-o",
        "APT::Sandbox::User=root",
        "download",
        &package,
    ]);
    process::must(&mut download, DOWNLOAD_LIMIT)?;
    let archive = files_in(&scratch)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .context("apt-get downloaded nothing")?;
    let mut unpack = Command::new("dpkg-deb");
    process::must(unpack.arg("-x").arg(&archive).arg(&scratch), DOWNLOAD_LIMIT)?;
    let version = version_in(&scratch)?.context("no modules in the package")?;
    let mut index = Command::new(BUSYBOX);
    index.args(["depmod", "-b"]).arg(&scratch).arg(&version);
    process::must(&mut index, QUICK)?;
    fs::remove_file(archive)?;
    // Whole or not at all: the name appears last.
    let kernel = folder.join("kernel");
    let _ = fs::remove_dir_all(&kernel);
    fs::rename(&scratch, &kernel).context("cannot move the kernel into place")
}

fn newest_kernel() -> Result<String> {
    let mut ask = Command::new("apt-cache");
    let said = process::must(ask.args(["depends", KERNEL]), QUICK)?;
    dependency(&said)
        .map(str::to_owned)
        .with_context(|| format!("apt knows no package behind {KERNEL}"))
}

/// The first kernel that `apt-cache depends` names.
fn dependency(said: &str) -> Option<&str> {
    said.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
}

/// The kernel in the folder, when one was unpacked there.
fn unpacked(folder: &Path) -> Result<Option<Tools>> {
    let root = folder.join("kernel");
    if !root.exists() {
        return Ok(None);
    }
    let Some(version) = version_in(&root)? else {
        return Ok(None);
    };
    let kernel = root.join(format!("boot/vmlinuz-{version}"));
    Ok(kernel.exists().then(|| Tools {
        busybox: BUSYBOX.into(),
        kernel,
        modules: root.join("lib/modules").join(version),
    }))
}

/// The version of the modules below an unpacked package.
fn version_in(root: &Path) -> Result<Option<String>> {
    let names = files_in(&root.join("lib/modules"))?;
    let name = names.first().and_then(|path| path.file_name());
    Ok(name.and_then(|name| name.to_str()).map(str::to_owned))
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_the_release_is_found_and_not_that_of_its_updates() {
        let policy = "Package files:\n 100 /var/lib/dpkg/status\n     release a=now\n \
                      500 http://security.example/debian-security bookworm-security/main amd64 Packages\n \
                      500 http://mirror.example/debian bookworm-updates/main amd64 Packages\n     origin x\n \
                      500 http://mirror.example/debian bookworm/main amd64 Packages\n";
        assert_eq!(mirror_of(policy), Some("http://mirror.example/debian"));
        assert_eq!(mirror_of("nothing"), None);
    }

    #[test]
    fn the_kernel_behind_the_meta_package_is_found() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependency(said), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
    }
}
