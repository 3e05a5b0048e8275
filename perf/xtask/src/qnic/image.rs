//! The guest's file system: an archive that the kernel unpacks into memory (cpio, "newc").
//!
//! Files of this machine keep their paths, and links stay links: a driver that is there twice under two real paths is
//! loaded twice, and EAL gives up.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, trailer};

use super::bed::Wires;
use super::tools::Tools;
use super::{libraries, settings};
use crate::binaries::Binaries;

/// Where the guest finds the names of its kernel modules, in the order in which they load.
const MODULE_LIST: &str = "/modules";
/// What the guest's kernel must learn: its shell's channel, and handing cards to user space.
const MODULES: [&str; 4] = [
    "virtio_pci",
    "virtio_console",
    "vfio-pci",
    "vfio_iommu_type1",
];
/// Links that may lead to each other on the way to a file.
const LINKS_MAX: usize = 40;

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const PROGRAM: u32 = 0o100_755;

/// What is at a path of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    Link(PathBuf),
    Text(String),
    /// A file of this machine.
    Copy(PathBuf),
}

/// A file system that is being put together. Parents are made as needed.
#[derive(Debug, Default)]
pub(super) struct Image {
    entries: BTreeMap<PathBuf, Entry>,
}

/// The guest's whole file system.
pub(super) fn guest(tools: &Tools, binaries: &Binaries) -> Result<Image> {
    let mut image = Image::default();
    for folder in ["/dev", "/proc", "/sys", "/tmp", "/run", "/mnt"] {
        image.put(Path::new(folder), Entry::Folder);
    }
    image.text("/init", include_str!("guest/init.sh"));
    image.text("/functions.sh", include_str!("guest/functions.sh"));
    for wires in [Wires::Plain, Wires::Trunks] {
        image.text(&settings::path(wires), &settings::text(wires));
    }
    image.host(&tools.busybox)?;
    image.host(Path::new("/bin"))?;
    for program in [&binaries.dataplane, &binaries.control, &binaries.cli] {
        let name = program.file_name().context("a binary without a name")?;
        image.put(
            &Path::new("/millrace").join(name),
            Entry::Copy(program.clone()),
        );
        image.hosts(&libraries::of(program)?)?;
    }
    for driver in libraries::drivers()? {
        image.host(&driver)?;
        image.hosts(&libraries::of(&driver)?)?;
    }
    image.modules(&tools.modules)?;
    Ok(image)
}

impl Image {
    /// Adds a text that may be run.
    fn text(&mut self, path: &str, text: &str) {
        self.put(Path::new(path), Entry::Text(text.to_owned()));
    }

    fn hosts(&mut self, paths: &[PathBuf]) -> Result<()> {
        paths.iter().try_for_each(|path| self.host(path))
    }

    /// Adds what this machine has at an absolute path, with every link on the way to it.
    fn host(&mut self, path: &Path) -> Result<()> {
        let mut wanted = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            let Some(onward) = self.host_step(&wanted)? else {
                return Ok(());
            };
            wanted = onward;
        }
        bail!("{} is behind too many links", path.display())
    }

    /// Adds the parts of a path up to its first link, and says where that leads; `None` when there was none.
    fn host_step(&mut self, path: &Path) -> Result<Option<PathBuf>> {
        let mut here = PathBuf::from("/");
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            if part == Component::RootDir {
                continue;
            }
            if part == Component::ParentDir {
                here.pop();
                continue;
            }
            let parent = here.clone();
            here.push(part);
            let kind = fs::symlink_metadata(&here).with_context(|| here.display().to_string())?;
            if kind.is_symlink() {
                let target = fs::read_link(&here)?;
                self.put(&here, Entry::Link(target.clone()));
                return Ok(Some(parent.join(target).join(parts.as_path())));
            }
            let entry = if kind.is_dir() {
                Entry::Folder
            } else {
                Entry::Copy(here.clone())
            };
            self.put(&here, entry);
        }
        Ok(None)
    }

    fn put(&mut self, path: &Path, entry: Entry) {
        for parent in path
            .ancestors()
            .skip(1)
            .filter(|parent| parent.parent().is_some())
        {
            self.entries
                .entry(parent.to_owned())
                .or_insert(Entry::Folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds the modules of [`MODULES`] and those they need, and the list of them in order.
    fn modules(&mut self, folder: &Path) -> Result<()> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let (index, builtin) = (read("modules.dep")?, read("modules.builtin")?);
        let mut list = String::new();
        for file in load_order(&MODULES, &index, &builtin)? {
            let place = Path::new("/lib-modules").join(&file);
            list.push_str(&format!("{}\n", place.display()));
            self.put(&place, Entry::Copy(folder.join(&file)));
        }
        self.text(MODULE_LIST, &list);
        Ok(())
    }

    /// Writes the archive.
    pub(super) fn write_file(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        self.write(&mut file)?;
        file.flush().context("cannot write the guest's file system")
    }

    fn write(&self, to: &mut impl Write) -> Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let name = path
                .strip_prefix("/")?
                .to_str()
                .context("a name that is not UTF-8")?;
            let (mode, content): (u32, Box<dyn Read>) = match entry {
                Entry::Folder => (FOLDER, Box::new(Cursor::new(Vec::new()))),
                Entry::Link(target) => {
                    let target = target.to_str().context("a link that is not UTF-8")?;
                    (LINK, Box::new(Cursor::new(target.to_owned())))
                }
                Entry::Text(text) => (PROGRAM, Box::new(Cursor::new(text.clone()))),
                Entry::Copy(from) => {
                    let file = File::open(from).with_context(|| from.display().to_string())?;
                    (PROGRAM, Box::new(file))
                }
            };
            let mut content = content;
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            let head = Builder::new(name).ino(number).mode(mode).nlink(1);
            let mut member = head.write(&mut *to, u32::try_from(bytes.len())?);
            member.write_all(&bytes)?;
            member.finish()?;
        }
        trailer(to)?;
        Ok(())
    }
}

/// The files of `wanted` modules, each after those it needs. `index` is `modules.dep`: `file: file file`, where a file's own
/// needs come nearest first. What the kernel has built in needs no file.
fn load_order(wanted: &[&str], index: &str, builtin: &str) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    for module in wanted {
        let line = index.lines().find(|line| {
            line.split_once(':')
                .is_some_and(|(file, _)| names(file, module))
        });
        let Some((file, needs)) = line.and_then(|line| line.split_once(':')) else {
            if builtin.lines().any(|file| names(file, module)) {
                continue;
            }
            bail!("the guest's kernel has no module {module}");
        };
        let needs: Vec<&str> = needs.split_whitespace().collect();
        for file in needs.into_iter().rev().chain([file]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

/// Whether this is the file of a module. `-` and `_` are one letter in such names.
fn names(file: &str, module: &str) -> bool {
    let file = file.rsplit('/').next().unwrap_or_default();
    let plain = |name: &str| name.replace('-', "_");
    file.strip_suffix(".ko")
        .is_some_and(|file| plain(file) == plain(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_need_and_builtin_ones_not_at_all() {
        let index = "kernel/vfio/vfio.ko:\nkernel/pci/vfio-pci-core.ko: kernel/vfio/vfio.ko\n\
                     kernel/pci/vfio-pci.ko: kernel/pci/vfio-pci-core.ko kernel/vfio/vfio.ko\n";
        let builtin = "kernel/drivers/virtio/virtio_pci.ko\n";
        let order = load_order(&["virtio-pci", "vfio_pci", "vfio"], index, builtin);
        assert_eq!(
            order.expect("known"),
            [
                "kernel/vfio/vfio.ko",
                "kernel/pci/vfio-pci-core.ko",
                "kernel/pci/vfio-pci.ko"
            ]
        );
        assert!(load_order(&["igb"], index, builtin).is_err());
    }

    #[test]
    fn an_image_reads_back_with_its_folders_links_and_texts() {
        let mut image = Image::default();
        image.text("/a/b", "text");
        image.put(Path::new("/c"), Entry::Link("a/b".into()));
        let mut bytes = Vec::new();
        image.write(&mut bytes).expect("writes");
        let mut members = Vec::new();
        let mut rest = Cursor::new(bytes);
        loop {
            let mut member = cpio::newc::Reader::new(rest).expect("a member");
            if member.entry().is_trailer() {
                break;
            }
            let mut content = String::new();
            member.read_to_string(&mut content).expect("text");
            members.push((
                member.entry().name().to_owned(),
                member.entry().mode(),
                content,
            ));
            rest = member.finish().expect("goes on");
        }
        let expected = [
            ("a", FOLDER, ""),
            ("a/b", PROGRAM, "text"),
            ("c", LINK, "a/b"),
        ];
        assert_eq!(
            members,
            expected.map(|(name, mode, text)| (name.to_owned(), mode, text.to_owned()))
        );
    }

    #[test]
    fn a_file_behind_links_is_copied_once_under_its_real_path() {
        let folder = std::env::temp_dir().join(format!("qnic-image-{}", std::process::id()));
        fs::create_dir_all(folder.join("real")).expect("makes");
        fs::write(folder.join("real/lib.so.1"), "x").expect("writes");
        std::os::unix::fs::symlink("lib.so.1", folder.join("real/lib.so")).expect("links");
        std::os::unix::fs::symlink("real", folder.join("short")).expect("links");
        let mut image = Image::default();
        image.host(&folder.join("short/lib.so")).expect("adds");
        let copies = image
            .entries
            .values()
            .filter(|entry| matches!(entry, Entry::Copy(_)));
        assert_eq!(copies.count(), 1);
        assert_eq!(
            image.entries[&folder.join("short")],
            Entry::Link("real".into())
        );
        assert_eq!(
            image.entries[&folder.join("real/lib.so")],
            Entry::Link("lib.so.1".into())
        );
        fs::remove_dir_all(folder).expect("removes");
    }
}
