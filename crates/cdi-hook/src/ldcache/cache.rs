//! The loader's cache, in the format `glibc-ld.so.cache1.1` (glibc's sysdeps/generic/dl-cache.h):
//! a header, an entry of 24 bytes for each library, the strings, and extensions. The loader of
//! every glibc from 2.2 on reads it, with a binary search over the names.

mod strings;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use strings::StringTable;

/// A library that the loader is to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The name that programs ask for.
    pub name: Vec<u8>,
    /// Its path in the container.
    pub path: Vec<u8>,
    /// The kind of library.
    pub flags: i32,
    /// The directory below `glibc-hwcaps` in which it is: only some processors get it.
    pub hwcaps: Option<Vec<u8>>,
    /// The level of the x86-64 instruction set that it needs, 0 to 3 for v1 to v4.
    pub isa_level: u32,
}

/// What goes into a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Libraries {
    /// The libraries. Where two have one name the loader takes the first that it can use.
    pub entries: Vec<CacheEntry>,
    /// All directories below `glibc-hwcaps`, also without libraries.
    pub hwcaps: BTreeSet<Vec<u8>>,
}

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
/// `cache_file_new_flags_endian_little`: both architectures are.
const LITTLE_ENDIAN: u8 = 2;
/// Says of an entry that its `hwcap` is an index of a directory below `glibc-hwcaps`.
const HWCAP_EXTENSION: u64 = 1 << 62;
const ISA_LEVEL_SHIFT: u32 = 32;
const ISA_LEVEL_MASK: u32 = (1 << 10) - 1;

const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const SECTION_BYTES: usize = 16;
const TAG_GENERATOR: u32 = 0;
const TAG_HWCAPS: u32 = 1;

/// The bytes of the file. `generator` says who wrote it.
#[must_use]
pub fn bytes(libraries: &Libraries, generator: &str) -> Vec<u8> {
    let mut entries: Vec<&CacheEntry> = libraries.entries.iter().collect();
    // Entries that are equal here stay in their order.
    entries.sort_by(|a, b| order(a, b));
    let used: BTreeSet<&[u8]> = entries.iter().filter_map(|e| e.hwcaps.as_deref()).collect();
    let texts = entries.iter().flat_map(|entry| [&*entry.name, &*entry.path]);
    let start = HEADER_BYTES + entries.len() * ENTRY_BYTES;
    let all = libraries.hwcaps.iter().map(Vec::as_slice);
    let strings = StringTable::new(texts.chain(used.iter().copied()).chain(all), start);
    let end = (start + strings.bytes().len()).next_multiple_of(4);

    let mut out = Vec::with_capacity(end + 256);
    out.extend(MAGIC);
    out.extend(word(entries.len()));
    out.extend(word(strings.bytes().len()));
    out.extend([LITTLE_ENDIAN, 0, 0, 0]);
    out.extend(word(end));
    out.resize(HEADER_BYTES, 0);
    for (at, entry) in entries.iter().enumerate() {
        out.extend(entry.flags.to_le_bytes());
        out.extend(strings.offset(2 * at));
        out.extend(strings.offset(2 * at + 1));
        out.extend([0; 4]);
        out.extend(hwcap(entry, &used).to_le_bytes());
    }
    out.extend(strings.bytes());
    out.resize(end, 0);
    let used: Vec<_> = (0..used.len()).map(|at| strings.offset(2 * entries.len() + at)).collect();
    extensions(&mut out, &used, generator);
    out
}

fn hwcap(entry: &CacheEntry, used: &BTreeSet<&[u8]>) -> u64 {
    let Some(name) = entry.hwcaps.as_deref() else { return 0 };
    let index = used.iter().take_while(|other| **other < name).count() as u64;
    let level = u64::from(entry.isa_level & ISA_LEVEL_MASK) << ISA_LEVEL_SHIFT;
    HWCAP_EXTENSION | level | index
}

/// The sections behind the strings: who wrote the file, and the directories below `glibc-hwcaps`.
fn extensions(out: &mut Vec<u8>, used: &[[u8; 4]], generator: &str) {
    let count = if used.is_empty() { 1 } else { 2 };
    let hwcaps = out.len() + 8 + count * SECTION_BYTES;
    let behind = hwcaps + used.len() * 4;
    out.extend(EXTENSION_MAGIC.to_le_bytes());
    out.extend(word(count));
    let mut section = |tag: u32, offset, size| {
        out.extend(tag.to_le_bytes());
        out.extend([0; 4]);
        out.extend(word(offset));
        out.extend(word(size));
    };
    section(TAG_GENERATOR, behind, generator.len());
    if !used.is_empty() {
        section(TAG_HWCAPS, hwcaps, used.len() * 4);
    }
    used.iter().for_each(|offset| out.extend(offset));
    out.extend(generator.as_bytes());
}

/// A number of the file. What is counted has bounds far below its 32 bits.
fn word(number: usize) -> [u8; 4] {
    (number as u32).to_le_bytes()
}

/// The order of the entries, which the loader's binary search counts on: names from the last to the
/// first, then kinds; those of some processors before the others.
fn order(a: &CacheEntry, b: &CacheEntry) -> Ordering {
    let hwcaps = |entry: &CacheEntry| (entry.hwcaps.is_none(), entry.hwcaps.clone());
    compare_names(&b.name, &a.name)
        .then_with(|| b.flags.cmp(&a.flags))
        .then_with(|| hwcaps(a).cmp(&hwcaps(b)))
}

/// Compares names of libraries as the loader does (glibc's `_dl_cache_libcmp`): digits as numbers,
/// and other than in most orders a digit comes after everything else.
#[must_use]
pub fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.first().copied(), b.first().copied()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let of_numbers = number(&mut a).cmp(&number(&mut b));
                if of_numbers.is_ne() {
                    return of_numbers;
                }
            }
            (Some(x), _) if x.is_ascii_digit() => return Ordering::Greater,
            (_, Some(y)) if y.is_ascii_digit() => return Ordering::Less,
            (None, None) => return Ordering::Equal,
            (x, y) if x == y => (a, b) = (&a[1..], &b[1..]),
            (x, y) => return character(x).cmp(&character(y)),
        }
    }
}

/// The value of a character, as C has it on this architecture; the end of a text is 0.
fn character(byte: Option<u8>) -> i32 {
    let byte = byte.unwrap_or_default();
    if cfg!(target_arch = "x86_64") { i32::from(byte.cast_signed()) } else { i32::from(byte) }
}

/// Takes the digits at the start of a text. One that is too large for the loader wraps there, too.
fn number(text: &mut &[u8]) -> i32 {
    let mut value: i32 = 0;
    while let [digit @ b'0'..=b'9', rest @ ..] = *text {
        value = value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
        *text = rest;
    }
    value
}

#[cfg(test)]
mod tests;
