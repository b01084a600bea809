//! Directories with libraries, links and other files, as bytes say.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::elf::{Elf, native};

/// Where files are made.
const DIRECTORIES: [&str; 6] = [
    "usr/lib",
    "usr/lib64",
    "opt/a",
    "usr/lib/glibc-hwcaps/x86-64-v3",
    "usr/lib/glibc-hwcaps/x86-64-v2",
    "usr/lib/x86_64-linux-gnu",
];
/// Of what names are made.
const WORDS: [&str; 16] = [
    "lib", "ld-", "a", "b", ".so", ".so.", "1", "2", "10", "9", ".", "..", "/", "A", "_", "\u{e9}",
];
/// The most files of a tree.
const FILES: usize = 24;

/// Makes the files that the input says, in place of those of the input before.
pub fn plant(root: &Path, data: &mut dyn Iterator<Item = u8>) {
    for top in ["usr", "opt", "lib64", "lib"] {
        let _ = fs::remove_dir_all(root.join(top));
        let _ = fs::remove_file(root.join(top));
    }
    DIRECTORIES.iter().for_each(|name| fs::create_dir_all(root.join(name)).unwrap());
    let mut configuration = String::new();
    for _ in 0..FILES {
        let Some(what) = data.next() else { break };
        let directory = DIRECTORIES[usize::from(what >> 4) % DIRECTORIES.len()];
        let (name, other) = (word(data), word(data));
        let path = root.join(directory).join(file_name(&name));
        // What cannot be made, as twice the same name, is not there.
        let _ = match what & 7 {
            0..=2 => write_new(&path, &library(&other, data.next().unwrap_or_default())),
            3 => symlink(&other, &path),
            4 => symlink(format!("/{}/{other}", DIRECTORIES[usize::from(what) % 3]), &path),
            5 => fs::create_dir(&path),
            6 => write_new(&path, other.as_bytes()),
            _ => {
                configuration += &format!("/{directory}/{other}\n/{directory}\n");
                Ok(())
            }
        };
    }
    fs::write(root.join("etc/ld.so.conf"), configuration).unwrap();
}

/// Writes a file where there is nothing, and to nowhere that a link leads.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options().write(true).create_new(true).open(path)?.write_all(bytes)
}

/// A name without directories.
fn file_name(text: &str) -> String {
    let name = text.replace('/', "");
    if ["", ".", ".."].contains(&&*name) { "lib.so".to_owned() } else { name }
}

/// Four words, or fewer.
fn word(data: &mut dyn Iterator<Item = u8>) -> String {
    let Some(first) = data.next() else { return "lib.so".to_owned() };
    let second = data.next().unwrap_or_default();
    let parts = [first >> 4, first & 15, second >> 4, second & 15].map(usize::from);
    // Most names are those of libraries.
    let start = if first & 1 == 0 { "lib" } else { "" };
    let name: String = parts.into_iter().map(|part| WORDS[part]).collect();
    format!("{start}{name}").replace('/', if second & 1 == 0 { "" } else { "/" })
}

fn library(soname: &str, kind: u8) -> Vec<u8> {
    let soname = (kind & 1 == 0).then_some(soname);
    let isa_level = (kind & 2 != 0).then_some(u32::from(kind >> 4));
    let mut bytes = Elf { isa_level, ..native(soname) }.bytes();
    if kind & 0xc == 0xc {
        bytes.truncate(usize::from(kind) * 2);
    }
    bytes
}
