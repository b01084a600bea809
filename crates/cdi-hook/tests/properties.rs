//! What holds for files of any content. `PROPTEST_CASES` says how many are tried.
#![allow(clippy::unwrap_used)]

mod support;

use cdi_hook::ldcache::elf;
use proptest::prelude::*;
use support::elf::{Elf, library, native};
use support::{Bundle, cache_entries};

fn read_elf(bytes: &[u8]) -> Option<elf::Library> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    elf::read(&file)
}

proptest! {
    /// A fuzz target: a library with some bytes changed, or cut, is read or refused.
    #[test]
    fn no_library_does_harm(
        changes in prop::collection::vec((0..400_usize, any::<u8>()), 0..12),
        length in 0..420_usize,
        is_64: bool,
    ) {
        let elf = Elf { is_64, isa_level: Some(4), ..native(Some("liba.so.1")) };
        let mut bytes = elf.bytes();
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        bytes.truncate(length);
        if let Some(found) = read_elf(&bytes) {
            prop_assert!(found.soname.is_none_or(|name| name.len() <= 255 && !name.contains(&0)));
        }
    }

    /// Another one: configuration of all kinds.
    #[test]
    fn no_configuration_does_harm(
        lines in prop::collection::vec("(include |hwcap )?[/a-z.*?\\[\\]=# -]{0,20}", 0..20),
    ) {
        let image = Bundle::new().with_glibc();
        image.write("etc/ld.so.conf", lines.join("\n"));
        image.write("usr/lib/libcuda.so.1", library("libcuda.so.1"));
        let hook = cdi_hook::Hook::UpdateLdcache(vec!["/usr/lib".into()]);
        image.run(&hook).unwrap();
        let cache = std::fs::read(image.root().join("etc/ld.so.cache")).unwrap();
        prop_assert!(cache_entries(&cache).iter().any(|(name, _)| name == "libcuda.so.1"));
    }
}
