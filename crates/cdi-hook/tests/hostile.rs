//! Images that are made to have a hook read, write or run what is not theirs, or never end.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, inotify, renameat_with};
use support::elf::library;
use support::{Bundle, cache_entries, snapshot};

const CALLS: &[&[&str]] = &[
    &["create-symlinks", "--link", "libcuda.so.1::/usr/lib/libcuda.so"],
    &["create-symlinks", "--link", "../card0::/dev/dri/by-path/pci-0000:17:00.0-card"],
    &["enable-cuda-compat", "--host-driver-version=1.0"],
    &["update-ldcache", "--folder", "/usr/lib", "--folder", "/opt/nvidia"],
    &["chmod", "--mode", "755", "--path", "/dev/dri"],
    &["disable-device-node-modification"],
    &["update-application-profile"],
];

type Plant = fn(&Bundle);

const IMAGES: &[(&str, Plant)] = &[
    ("a directory that is a link out", |image| {
        for name in ["etc", "usr", "dev", "opt"] {
            image.link(name, image.outside());
        }
    }),
    ("a directory that is a link up", |image| {
        for name in ["etc", "usr", "dev", "opt"] {
            image.link(name, "../../../outside");
        }
    }),
    ("files that are links out", |image| {
        let victim = image.outside().join("victim");
        for name in ["ld.so.cache", "ld.so.conf", "ld.so.conf.d/00-nvcr-gpu-device-plugin.conf"] {
            image.link(&format!("etc/{name}"), &victim);
        }
        image.link("usr/lib/libcuda.so", &victim);
        image.link("usr/lib/liba.so.1", "../../../../../outside/liba.so.1");
        image.link("etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf", &victim);
    }),
    ("configuration that names what is outside", |image| {
        let outside = image.outside();
        let outside = outside.display();
        let up = "/../../../../../../../../..";
        let text = format!(
            "{outside}\n{up}{outside}\ninclude {outside}/*.conf\ninclude {up}{outside}/*.conf\n\
                            include ../../../../../outside/*.conf\n"
        );
        image.write("etc/ld.so.conf", text);
    }),
    ("links in circles", |image| {
        image.link("usr/lib", "lib");
        image.link("etc/ld.so.conf", "ld.so.conf");
        image.link("opt/nvidia", "/opt/nvidia");
        image.write("etc/x.conf", "include /etc/x.conf\n");
    }),
    ("configuration in circles", |image| {
        let text = "include /etc/ld.so.conf.d/*.conf\n".repeat(100);
        image.write("etc/ld.so.conf", &text);
        for n in 0..100 {
            image.write(&format!("etc/ld.so.conf.d/{n}.conf"), &text);
        }
    }),
    ("FIFOs", |image| {
        for name in
            ["etc/ld.so.conf", "usr/lib/libfifo.so.1", "etc/ld.so.conf.d/a.conf", "opt/nvidia"]
        {
            fifo(image, name);
        }
    }),
    ("sockets", |image| {
        fs::create_dir_all(image.root().join("usr/lib")).unwrap();
        let _listener = UnixListener::bind(image.root().join("usr/lib/libs.so.1")).unwrap();
    }),
    ("device nodes", |image| {
        // Where they may not be made, the image cannot have them either.
        node(image, "etc/ld.so.conf", "1", "8");
        node(image, "usr/lib/libnode.so.1", "1", "5");
        node(image, "usr/local/cuda/compat/libcuda.so.999.1", "1", "5");
    }),
    ("files of great size", |image| {
        sparse(image, "etc/ld.so.conf", b"/opt/sparse\n");
        sparse(image, "usr/lib/libsparse.so.1", &library("libsparse.so.1"));
        sparse(image, "usr/lib/libzero.so.1", b"");
        sparse(image, "etc/ld.so.cache", b"");
    }),
    ("more files than are read", |image| {
        let directory = image.root().join("srv");
        fs::create_dir_all(&directory).unwrap();
        let first = directory.join("lib.so.0");
        fs::write(&first, library("lib.so.0")).unwrap();
        for n in 1..40_000 {
            fs::hard_link(&first, directory.join(format!("lib{n}.so"))).unwrap();
        }
        image.write("etc/ld.so.conf", "/srv\ninclude /etc/ld.so.conf.d/*.conf\n");
    }),
    ("directories in the place of files", |image| {
        for name in ["etc/ld.so.cache", "etc/ld.so.conf", "usr/lib/libcuda.so", "usr/lib/liba.so.1"]
        {
            fs::create_dir_all(image.root().join(name).join("below")).unwrap();
        }
    }),
    ("files in the place of directories", |image| {
        for name in ["etc", "usr", "dev", "opt", "proc"] {
            image.write(name, "no directory");
        }
    }),
    ("programs that ought not to run", |image| {
        let marker = image.outside().join("it-ran");
        let script = format!("#!/bin/sh\ntouch {}\n", marker.display());
        for name in [
            "sbin/ldconfig",
            "sbin/ldconfig.real",
            "usr/sbin/ldconfig",
            "usr/bin/nvidia-smi",
            "bin/sh",
        ] {
            image.write(name, &script);
            let path = image.root().join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(0o6755)).unwrap();
        }
        image.write("etc/ld.so.cache", "old");
        let path = image.root().join("etc/ld.so.cache");
        fs::set_permissions(path, fs::Permissions::from_mode(0o6777)).unwrap();
    }),
    ("libraries that lie about themselves", |image| {
        for (n, name) in
            ["../../../outside/x", "/etc/passwd", ".", "..", "", "a\nb"].into_iter().enumerate()
        {
            image.write(&format!("usr/lib/liblie{n}.so"), library(name));
        }
    }),
    ("an empty image", |_| {}),
];

fn fifo(image: &Bundle, path: &str) {
    let path = image.root().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn node(image: &Bundle, path: &str, major: &str, minor: &str) {
    let path = image.root().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = Command::new("mknod").arg(path).args(["c", major, minor]).output();
}

fn sparse(image: &Bundle, path: &str, start: &[u8]) {
    image.write(path, start);
    let file = File::options().write(true).open(image.root().join(path)).unwrap();
    file.set_len(1 << 30).unwrap();
}

/// What lies outside: what an image would like to have read, written or run.
fn fill_outside(image: &Bundle) {
    let outside = image.outside();
    support::write(&outside, "victim", "a file of the host");
    support::write(&outside, "host.conf", "/opt/host\n");
    support::write(&outside, "liba.so.1", library("libofhost.so.1"));
    support::write(&outside, "lib/libb.so.1.0", library("libb.so.1"));
}

#[test]
fn no_image_reaches_what_is_outside() {
    for (what, plant) in IMAGES {
        for with_glibc in [true, false] {
            let image = Bundle::new();
            plant(&image);
            fill_outside(&image);
            if with_glibc {
                let loader = image.root().join("lib64/ld-linux-x86-64.so.2");
                fs::create_dir_all(loader.parent().unwrap()).unwrap();
                fs::write(loader, "a loader").unwrap();
                support::write(&image.root(), "lib/ld-linux-aarch64.so.1", "a loader");
            }
            let before = snapshot(&image.outside());
            let reader = Readers::of(&image.outside());
            for call in CALLS {
                let done = image.bounded_program(call);
                // It ends by itself, with success or an error in words.
                let code = done.status.code();
                assert!(matches!(code, Some(0 | 1)), "{what}: {call:?}: {done:?}");
                assert!(code == Some(0) || !done.stderr.is_empty(), "{what}: {call:?}");
            }
            assert_eq!(reader.count(), 0, "{what}: something outside was opened");
            assert_eq!(snapshot(&image.outside()), before, "{what}");
            for (name, path) in cache(&image) {
                assert!(
                    !name.contains("ofhost") && !path.contains("outside"),
                    "{what}: {name} {path}"
                );
            }
        }
    }
}

/// The entries of the loader's cache, if the image got one.
fn cache(image: &Bundle) -> Vec<(String, String)> {
    let cache = fs::read(image.root().join("etc/ld.so.cache")).unwrap_or_default();
    if cache.starts_with(b"glibc-ld.so.cache1.1") { cache_entries(&cache) } else { Vec::new() }
}

#[test]
fn too_many_files_do_not_hide_the_drivers() {
    let image = Bundle::new().with_glibc();
    let (_, plant) = IMAGES.iter().find(|(what, _)| what.starts_with("more files")).unwrap();
    plant(&image);
    image.write("opt/nvidia/libcuda.so.580.1", library("libcuda.so.1"));
    let done = image.program(&["update-ldcache", "--folder", "/opt/nvidia"]);
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("more libraries than are looked at"));
    let found = cache(&image)
        .into_iter()
        .any(|(name, path)| name == "libcuda.so.1" && path == "/opt/nvidia/libcuda.so.1");
    assert!(found);
}

/// A directory and a link out of the image change places all the time, and nothing ever lands
/// where the link leads.
#[test]
fn a_directory_that_is_swapped_meanwhile_leads_nowhere_else() {
    let image = Bundle::new().with_glibc();
    fill_outside(&image);
    for n in 0..20 {
        image.write(&format!("usr/lib/libnv{n}.so.580.1"), library(&format!("libnv{n}.so.1")));
        support::write(
            &image.outside(),
            &format!("libnv{n}.so.580.1"),
            library(&format!("libnv{n}.so.1")),
        );
    }
    let outside = image.outside();
    let before = snapshot(&outside);
    let (inner, trap) = (image.root().join("usr/lib"), image.root().join("usr/trap"));
    symlink("../../../outside", &trap).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &inner, CWD, &trap, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..100 {
            for call in &CALLS[..4] {
                let done = image.program(call);
                assert!(matches!(done.status.code(), Some(0 | 1)), "{done:?}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(snapshot(&outside), before);
}

/// Who opens what is in a directory, or looks through it.
struct Readers(OwnedFd);

impl Readers {
    fn of(directory: &Path) -> Self {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let flags = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS;
        for place in [directory.to_owned(), directory.join("lib")] {
            inotify::add_watch(&events, &place, flags).unwrap();
        }
        Self(events)
    }

    fn count(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        std::iter::from_fn(|| events.next().ok().map(drop)).count()
    }
}

#[test]
fn a_reader_of_what_is_outside_would_be_seen() {
    let image = Bundle::new();
    fill_outside(&image);
    let readers = Readers::of(&image.outside());
    assert_eq!(readers.count(), 0);
    fs::read(image.outside().join("victim")).unwrap();
    assert_ne!(readers.count(), 0);
    fs::read(image.outside().join("lib/libb.so.1.0")).unwrap();
    assert_ne!(readers.count(), 0);
}
