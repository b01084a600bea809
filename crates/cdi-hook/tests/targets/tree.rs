//! The loader's cache of a tree of any files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cdi_hook::ldcache::{self, cache::compare_names};
use cdi_hook::root::ContainerRoot;

use super::Image;
use super::any_tree::plant;

/// Makes a tree as the input says, and reads its cache as strictly as a loader might.
pub fn cache(data: &[u8]) {
    thread_local!(static IMAGE: Image = Image::with_directories());
    IMAGE.with(|image| {
        plant(&image.root, &mut data.iter().copied());
        let root = ContainerRoot::open(&image.root).unwrap();
        let folders = [Path::new("/opt/a")];
        let bytes = ldcache::build(&root, &folders, "fuzz", &mut Vec::new());
        let entries = read(&bytes);
        let is_sorted = entries.is_sorted_by(|a, b| compare_names(&a.0, &b.0).is_ge());
        assert!(is_sorted, "{entries:?}");
        for (name, path) in &entries {
            let path = Path::new(OsStr::from_bytes(path));
            assert!(path.is_absolute() && !name.is_empty() && !name.contains(&b'/'));
            assert!(root.file(path).is_ok(), "{} is no file", path.display());
        }
    });
}

/// The (name, path) of each entry. A cache of which anything is out of place is a failure.
fn read(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(&bytes[..20], b"glibc-ld.so.cache1.1");
    let (count, length) = (word(20), word(24));
    let strings = 48 + count * 24..48 + count * 24 + length;
    let text = |at: usize| {
        assert!(strings.contains(&at));
        let end = bytes[at..strings.end].iter().position(|byte| *byte == 0).unwrap();
        bytes[at..at + end].to_vec()
    };
    let extensions = word(32);
    assert!(extensions % 4 == 0 && extensions >= strings.end);
    assert_eq!(word(extensions), 0xeaa4_2174);
    let mut ends = BTreeSet::new();
    for section in 0..word(extensions + 4) {
        let at = extensions + 8 + section * 16;
        let (start, size) = (word(at + 8), word(at + 12));
        assert!(bytes.get(start..start + size).is_some());
        ends.insert(start + size);
    }
    assert_eq!(ends.last(), Some(&bytes.len()));
    (0..count).map(|n| (text(word(52 + n * 24)), text(word(56 + n * 24)))).collect()
}
