//! Our loader's cache is that of glibc's ldconfig, byte by byte, for trees of many kinds.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cdi_hook::ldcache;
use cdi_hook::root::ContainerRoot;
use support::elf::{Elf, library, native};
use support::{Bundle, cache_entries};

type Plant = fn(&Bundle);

const TREES: &[(&str, Plant)] = &[
    ("nothing at all", |_| {}),
    ("libraries with their links", |tree| {
        for name in ["libz", "liba", "libcuda", "libm"] {
            with_link(tree, "usr/lib", name, "1", "1.2.3");
        }
        tree.link("usr/lib/libz.so", "libz.so.1");
    }),
    ("configuration in parts", |tree| {
        let text = "# a comment\n  include /etc/ld.so.conf.d/*.conf  # more\n/opt/z/\n\n\
                    /opt/none\n/opt/a=libc6\n";
        tree.write("etc/ld.so.conf", text);
        tree.write("etc/ld.so.conf.d/20.conf", "/opt/b");
        tree.write("etc/ld.so.conf.d/10.conf", "/opt/c/// \ninclude sub/*.list\n");
        tree.write("etc/ld.so.conf.d/sub/x.list", "/opt/d\n/opt/b\n");
        tree.write("etc/ld.so.conf.d/.hidden.conf", "/opt/hidden\n");
        tree.write("etc/ld.so.conf.d/10.conf.bak", "/opt/bak\n");
        for directory in ["a", "b", "c", "d", "z", "hidden", "bak"] {
            with_link(tree, &format!("opt/{directory}"), "libsame", "1", "1.0");
            with_link(tree, &format!("opt/{directory}"), &format!("lib{directory}"), "1", "1.0");
        }
    }),
    ("links that lack", |tree| {
        for n in 0..30 {
            let soname = format!("libnvidia-{n}.so.1");
            tree.write(&format!("usr/lib/libnvidia-{n}.so.580.95.05"), library(&soname));
        }
        tree.link("usr/lib/libnvidia-3.so.1", "libnvidia-4.so.580.95.05");
        tree.write("usr/lib/libnvidia-5.so.1", library("libother.so.2"));
    }),
    ("libraries for some processors", |tree| {
        for (level, versions) in
            [("x86-64-v3", ["1.2", "1.3"]), ("x86-64-v2", ["1.1", "1.1"]), ("empty", ["", ""])]
        {
            fs::create_dir_all(tree.root().join("usr/lib/glibc-hwcaps").join(level)).unwrap();
            for version in versions.iter().filter(|version| !version.is_empty()) {
                let path = format!("usr/lib/glibc-hwcaps/{level}/libfast.so.{version}");
                tree.write(&path, library("libfast.so.1"));
            }
        }
        tree.link("usr/lib/glibc-hwcaps/x86-64-v3/libfast.so.1", "libfast.so.1.3");
        with_link(tree, "usr/lib", "libfast", "1", "1.0");
        with_link(tree, "usr/lib", "libslow", "1", "1.0");
    }),
    ("two architectures", |tree| {
        tree.write("etc/ld.so.conf", "/usr/lib32\n/usr/libx32\n");
        let old = Elf { machine: 3, is_64: false, ..native(Some("libboth.so.1")) };
        tree.write("usr/lib32/libboth.so.1", old.bytes());
        let x32 = Elf { machine: 62, is_64: false, ..native(Some("libboth.so.1")) };
        tree.write("usr/libx32/libboth.so.1", x32.bytes());
        tree.write("usr/lib/x86_64-linux-gnu/libboth.so.1", library("libboth.so.1"));
        tree.write(
            "usr/lib64/libarm.so.1",
            Elf { machine: 40, ..native(Some("libarm.so.1")) }.bytes(),
        );
    }),
    ("a merged usr", |tree| {
        for name in ["lib", "lib64"] {
            fs::create_dir_all(tree.root().join("usr").join(name)).unwrap();
            tree.link(name, format!("usr/{name}"));
        }
        tree.write("etc/ld.so.conf", "/usr/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu\n");
        with_link(tree, "usr/lib/x86_64-linux-gnu", "libc", "6", "2.36");
        with_link(tree, "usr/lib64", "libd", "6", "2.36");
        with_link(tree, "usr/lib", "libe", "6", "2.36");
    }),
    ("names with numbers", |tree| {
        for name in [
            "libfoo.so.9",
            "libfoo.so.10",
            "libfoo.so.2",
            "libFoo.so.1",
            "libfoo1.so",
            "libfoo.so",
            "libfoo10.so.1",
            "libfoo9.so.1",
            "libfoo_.so.1",
            "lib_foo.so.1",
            "ld-foo.so.1",
            "libfoo-1.so.1",
            "libfoo++.so.6",
            "libf\u{e9}.so.1",
        ] {
            tree.write(&format!("usr/lib/{name}"), library(name));
        }
    }),
    ("what is no library", |tree| {
        tree.write("usr/lib/libscript.so", "GROUP ( /lib/libc.so.6 )");
        tree.write("usr/lib/libempty.so.1", "");
        tree.write("usr/lib/libshort.so.1", &library("libshort.so.1")[..40]);
        tree.write(
            "usr/lib/libprogram.so.1",
            Elf { kind: 2, ..native(Some("libprogram.so.1")) }.bytes(),
        );
        tree.write("usr/lib/other.so.1", library("other.so.1"));
        tree.write("usr/lib/libno.txt", library("libno.so.1"));
        tree.write("usr/lib/libx.so.1.#prelink#", library("libx.so.1"));
        fs::create_dir_all(tree.root().join("usr/lib/libdirectory.so.1")).unwrap();
        tree.link("usr/lib/libtodirectory.so.1", "libdirectory.so.1");
        with_link(tree, "usr/lib", "libgood", "1", "1.0");
    }),
    ("several files of one name", |tree| {
        tree.write("usr/lib/libv.so.1.9", library("libv.so.1"));
        tree.write("usr/lib/libv.so.1.10", library("libv.so.1"));
        tree.link("usr/lib/libother.so.2", "libv.so.1.9");
        tree.link("usr/lib/libv.so", "libv.so.1.9");
        tree.write("usr/lib/libnone.so.3", native(None).bytes());
        tree.link("usr/lib/libnone.so", "libnone.so.3");
        tree.link("usr/lib/libaway.so.1", "/opt/away/libaway.so.1");
        tree.write("opt/away/libaway.so.1", library("libaway.so.1"));
    }),
    ("levels of the instruction set", |tree| {
        for (directory, level) in [("x86-64-v2", 2), ("x86-64-v3", 4), ("x86-64-v4", 12)] {
            let library = Elf { isa_level: Some(level), ..native(Some("libisa.so.1")) };
            tree.write(&format!("usr/lib/glibc-hwcaps/{directory}/libisa.so.1"), library.bytes());
            tree.write(
                &format!("usr/lib/libisa{level}.so.1"),
                Elf { soname: None, ..library }.bytes(),
            );
        }
    }),
    ("a driver of 400 libraries", |tree| {
        tree.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
        tree.write(
            "etc/ld.so.conf.d/00.conf",
            "/usr/lib/x86_64-linux-gnu\n/usr/local/nvidia/lib64\n",
        );
        for n in 0..400 {
            let directory = ["usr/lib/x86_64-linux-gnu", "usr/local/nvidia/lib64"][n % 2];
            with_link(tree, directory, &format!("libnv{n}"), "1", "580.95.05");
        }
    }),
];

fn with_link(tree: &Bundle, directory: &str, name: &str, major: &str, version: &str) {
    let soname = format!("{name}.so.{major}");
    tree.write(&format!("{directory}/{name}.so.{version}"), library(&soname));
    tree.link(&format!("{directory}/{soname}"), format!("{name}.so.{version}"));
}

/// The program, where this system is one of glibc.
fn ldconfig() -> Option<PathBuf> {
    ["/sbin/ldconfig", "/usr/sbin/ldconfig"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

/// Who wrote a cache, from its section for that.
fn generator(cache: &[u8]) -> String {
    let word = |at: usize| u32::from_le_bytes(cache[at..at + 4].try_into().unwrap()) as usize;
    let section = word(32) + 8;
    assert_eq!(word(section), 0, "the first section says who wrote the file");
    let at = word(section + 8);
    String::from_utf8(cache[at..at + word(section + 12)].to_vec()).unwrap()
}

/// The names in all directories, with where links lead.
fn names(root: &Path) -> Vec<String> {
    let found = support::snapshot(root)
        .into_iter()
        .map(|(path, (.., link))| format!("{:?} {link:?}", path.strip_prefix(root).unwrap()));
    found.filter(|name| !name.contains("etc/ld.so.cache") && !name.contains("var")).collect()
}

#[test]
fn a_cache_is_that_of_ldconfig() {
    let Some(ldconfig) = ldconfig() else {
        println!("there is no ldconfig here to compare with");
        return;
    };
    for (what, plant) in TREES {
        let (theirs, ours) = (Bundle::new(), Bundle::new());
        for tree in [&theirs, &ours] {
            fs::create_dir_all(tree.root().join("etc")).unwrap();
            plant(tree);
        }
        let done = Command::new(&ldconfig).arg("-r").arg(theirs.root()).output().unwrap();
        assert!(done.status.success(), "{what}: {done:?}");
        let expected = fs::read(theirs.root().join("etc/ld.so.cache")).unwrap();
        let root = ContainerRoot::open(&ours.root()).unwrap();
        let mut notes = Vec::new();
        let cache = ldcache::build(&root, &[], &generator(&expected), &mut notes);
        assert_eq!(notes, Vec::<String>::new(), "{what}");
        assert_eq!(cache_entries(&cache), cache_entries(&expected), "{what}");
        assert!(cache == expected, "{what}: the bytes differ");
        assert_eq!(names(&ours.root()), names(&theirs.root()), "{what}");
    }
}
