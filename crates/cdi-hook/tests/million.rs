//! An image with a million files where a hook looks for libraries and configuration.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Instant;

use support::elf::{library, native};
use support::{Bundle, cache_entries};

/// Files in one directory, in each of many, and of the loader's configuration: a million together.
const IN_ONE: usize = 600_000;
const DIRECTORIES: usize = 200;
const IN_EACH: usize = 1_000;
const CONF: usize = 200_000;
/// No file has more names than this; ext4 has a limit of 65,000.
const NAMES: usize = 50_000;
/// The longest name that a file can have, so that the names take as much memory as they can.
const NAME_BYTES: usize = 255;

#[test]
#[ignore = "to make a million files takes from some seconds to a minute"]
fn a_million_files_take_bounded_time_and_memory() {
    let image = Bundle::new().with_glibc();
    let root = image.root();
    image.write("opt/nvidia/libcuda.so.580.1", library("libcuda.so.1"));
    plant(&root.join("srv"), IN_ONE);
    let mut conf = String::from("/srv\n");
    for n in 0..DIRECTORIES {
        plant(&root.join(format!("srv{n}")), IN_EACH);
        conf += &format!("/srv{n}\n");
    }
    image.write("etc/ld.so.conf", conf + "include /etc/ld.so.conf.d/*.conf\n");
    let parts = root.join("etc/ld.so.conf.d");
    fs::create_dir_all(&parts).unwrap();
    (0..CONF).for_each(|n| drop(fs::File::create(parts.join(format!("{n}.conf"))).unwrap()));

    let begun = Instant::now();
    let done = image.bounded_program(&["update-ldcache", "--folder", "/opt/nvidia"]);
    println!("update-ldcache with a million files: {:.2?}", begun.elapsed());
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr);
    for note in ["more libraries than are looked at", "names more than is read"] {
        assert!(said.contains(note), "{said}");
    }
    let cache = cache_entries(&fs::read(root.join("etc/ld.so.cache")).unwrap());
    assert!(cache.iter().any(|(name, _)| name == "libcuda.so.1"));
}

/// Makes files in a directory, of which every second one is a library.
fn plant(directory: &Path, count: usize) {
    fs::create_dir_all(directory).unwrap();
    let mut first = None;
    for n in 0..count {
        let path = directory.join(format!("lib{n:0>width$}.so", width = NAME_BYTES - 6));
        if n % 2 == 0 {
            fs::File::create(path).unwrap();
        } else if n / 2 % NAMES == 0 {
            // Without a name of its own each of its names counts as one.
            fs::write(&path, native(None).bytes()).unwrap();
            first = Some(path);
        } else {
            fs::hard_link(first.as_ref().unwrap(), path).unwrap();
        }
    }
}
