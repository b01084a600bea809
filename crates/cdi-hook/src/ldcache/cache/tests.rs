use std::cmp::Ordering::{Equal, Greater, Less};

use proptest::prelude::*;

use super::*;

fn entry(name: &str, directory: &str) -> CacheEntry {
    let path = format!("{directory}/{name}").into_bytes();
    CacheEntry { name: name.into(), path, flags: 0x303, hwcaps: None, isa_level: 0 }
}

#[test]
fn names_compare_with_their_numbers() {
    for (a, b, expected) in [
        ("libc.so.6", "libc.so.6", Equal),
        ("libc.so.10", "libc.so.9", Greater),
        ("libc.so.1", "libc.so.x", Greater),
        ("libc.so", "libc.so.1", Less),
        ("libc.so.01", "libc.so.1", Equal),
        ("libA.so", "liba.so", Less),
        ("lib1", "lib", Greater),
    ] {
        assert_eq!(compare_names(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        assert_eq!(compare_names(b.as_bytes(), a.as_bytes()), expected.reverse(), "{b} {a}");
    }
}

/// Reads a cache as the loader does: entries in order, with their strings.
fn read(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(&bytes[..20], MAGIC);
    let text = |at: usize| {
        let end = at + bytes[at..].iter().position(|byte| *byte == 0).unwrap();
        bytes[at..end].to_vec()
    };
    let entry = |n| {
        let at = HEADER_BYTES + n * ENTRY_BYTES;
        (text(word(at + 4)), text(word(at + 8)))
    };
    (0..word(20)).map(entry).collect()
}

proptest! {
    #[test]
    fn every_library_is_found_again_in_the_loaders_order(
        names in prop::collection::vec("lib[a-c0-2]{0,4}\\.so(\\.[0-9]{1,2})?", 0..40),
    ) {
        let entries: Vec<_> = names.iter().enumerate()
            .map(|(n, name)| entry(name, ["/usr/lib", "/opt/lib"][n % 2])).collect();
        let libraries = Libraries { entries: entries.clone(), ..Libraries::default() };
        let found = read(&bytes(&libraries, "test"));
        prop_assert!(found.is_sorted_by(|a, b| compare_names(&a.0, &b.0).is_ge()));
        let mut expected: Vec<_> = entries.into_iter().map(|e| (e.name, e.path)).collect();
        let mut all = found;
        expected.sort();
        all.sort();
        prop_assert_eq!(all, expected);
    }

    #[test]
    fn names_are_ordered(a in "[a-b0-1.]{0,6}", b in "[a-b0-1.]{0,6}", c in "[a-b0-1.]{0,6}") {
        let (a, b, c) = (a.as_bytes(), b.as_bytes(), c.as_bytes());
        prop_assert_eq!(compare_names(a, b), compare_names(b, a).reverse());
        if compare_names(a, b).is_le() && compare_names(b, c).is_le() {
            prop_assert!(compare_names(a, c).is_le());
        }
    }
}
