//! What has to hold for input of any kind, for one input each. The programs in `fuzz/` look for an
//! input for which it does not; a plain test runs them on the seeds.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod any_tree;
#[path = "../support/elf.rs"]
mod elf;
mod tree;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use cdi_hook::ldcache::{self, conf, glob};
use cdi_hook::root::ContainerRoot;
use cdi_hook::{Hook, Host, StateSource, limits, run};
use rustix::fs::{MemfdFlags, memfd_create};

pub use tree::cache;

/// Checks what has to hold for one input.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 4] =
    [("elf", elf), ("conf", conf), ("cache", cache), ("state", state)];

/// A library of any content is read or refused, and always in the same way.
pub fn elf(data: &[u8]) {
    let mut file = File::from(memfd_create("library", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(data).unwrap();
    let found = ldcache::elf::read(&file);
    assert_eq!(ldcache::elf::read(&file), found);
    if let Some(library) = found {
        let name = library.soname.unwrap_or_default();
        assert!(name.len() <= limits::NAME_BYTES && !name.contains(&0));
        assert!(library.isa_level < u32::BITS);
    }
}

/// The loader's configuration of any content: `ld.so.conf` and files that it may include, with
/// zeros between them. Each directory is one of the container's, and there are not too many.
pub fn conf(data: &[u8]) {
    thread_local!(static IMAGE: Image = Image::with_directories());
    IMAGE.with(|image| {
        let mut parts = data.split(|byte| *byte == 0);
        for name in ["etc/ld.so.conf", "etc/ld.so.conf.d/a.conf", "etc/ld.so.conf.d/b.conf"] {
            fs::write(image.root.join(name), parts.next().unwrap_or_default()).unwrap();
        }
        let (pattern, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let matches = glob::matches(pattern, name);
        assert!(glob::matches(&[b"*", pattern].concat(), name) || !matches);
        let root = ContainerRoot::open(&image.root).unwrap();
        let driver = Path::new("/opt/driver");
        let found = conf::directories(&root, &[driver], &mut Vec::new());
        assert!(found.iter().any(|path| path == driver));
        // Those of the call and those of the system come on top.
        assert!(found.len() <= limits::DIRECTORIES + 1 + 6);
        for path in found {
            assert!(path.is_absolute() && path.as_os_str().len() <= limits::CONF_PATH_BYTES);
            assert!(!path.as_os_str().as_encoded_bytes().contains(&0));
        }
    });
}

/// What a runtime hands over, and a container's configuration, of any content, with a zero between
/// them: an answer or an error.
pub fn state(data: &[u8]) {
    thread_local!(static IMAGE: Image = Image::with_directories());
    IMAGE.with(|image| {
        let mut parts = data.splitn(2, |byte| *byte == 0);
        let (state, config) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        fs::write(image.bundle().join("config.json"), config).unwrap();
        let bundle = format!("{:?}", image.bundle());
        let state = String::from_utf8_lossy(state).replace("BUNDLE", &bundle);
        // It opens the root that is named, and changes nothing there.
        let hook = Hook::CreateSymlinks(Vec::new());
        let _ = run(&hook, StateSource::Input, &mut state.as_bytes(), &Host::default());
    });
}

/// A container's root in a bundle.
struct Image {
    _directory: tempfile::TempDir,
    root: PathBuf,
}

impl Image {
    fn with_directories() -> Self {
        // In memory, where there is such a place.
        let place = ["/dev/shm", "/tmp"].into_iter().find(|place| Path::new(place).is_dir());
        let directory = tempfile::tempdir_in(place.unwrap()).unwrap();
        let root = directory.path().join("bundle/rootfs");
        for name in ["etc/ld.so.conf.d", "usr/lib", "opt/a", "opt/b"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        Self { _directory: directory, root }
    }

    fn bundle(&self) -> &Path {
        self.root.parent().unwrap()
    }
}
