//! The cache of the dynamic loader, /etc/ld.so.cache.

use std::path::PathBuf;

/// Begins the part of /etc/ld.so.cache that glibc has written since 2.2 (elf/cache.c, struct
/// cache_file_new).
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Sizes of its header and of an entry, in bytes.
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// The paths of a library in an ld.so.cache, of libraries for this machine's architecture. A cache
/// that is truncated or invalid has none.
pub(super) fn cached(cache: &[u8], soname: &str) -> Vec<PathBuf> {
    // FLAG_ELF_LIBC6 with FLAG_X8664_LIB64 or FLAG_AARCH64_LIB64 (sysdeps/generic/ldconfig.h).
    let machine: u32 = if cfg!(target_arch = "aarch64") { 0x0a03 } else { 0x0303 };
    let Some(start) = cache.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Vec::new();
    };
    let cache = &cache[start..];
    (0..number(cache, MAGIC.len()).unwrap_or(0) as usize)
        .map_while(|n| entry(cache, HEADER + n * ENTRY))
        .filter(|(flags, name, _)| *flags == machine && *name == soname)
        .map(|(_, _, path)| PathBuf::from(path))
        .collect()
}

/// The flags, name and path of the entry at an offset.
fn entry(cache: &[u8], at: usize) -> Option<(u32, &str, &str)> {
    let text = |at| string(cache, number(cache, at)? as usize);
    Some((number(cache, at)?, text(at + 4)?, text(at + 8)?))
}

fn number(cache: &[u8], at: usize) -> Option<u32> {
    cache.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
}

fn string(cache: &[u8], at: usize) -> Option<&str> {
    let text = cache.get(at..)?;
    std::str::from_utf8(&text[..text.iter().position(|byte| *byte == 0)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SONAME: &str = "libnvidia-ml.so.1";

    /// A cache as ldconfig writes it: flags, name and path of each library.
    fn cache(libraries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut entries = Vec::new();
        let first = HEADER + libraries.len() * ENTRY;
        for (flags, name, path) in libraries {
            let mut add = |text: &str| {
                let at = first + strings.len();
                strings.extend(text.bytes().chain([0]));
                u32::try_from(at).unwrap().to_ne_bytes()
            };
            entries.extend(
                flags.to_ne_bytes().into_iter().chain(add(name)).chain(add(path)).chain([0; 12]),
            );
        }
        let mut cache = b"ld.so-1.7.0\0an older part".to_vec();
        cache.extend(MAGIC);
        cache.extend(u32::try_from(libraries.len()).unwrap().to_ne_bytes());
        cache.extend([0; HEADER - MAGIC.len() - 4]);
        cache.into_iter().chain(entries).chain(strings).collect()
    }

    #[test]
    fn the_cache_gives_the_libraries_of_this_machine_only() {
        let bytes = cache(&[
            (0x0303, SONAME, "/opt/driver/64/libnvidia-ml.so.1"),
            (0x0003, SONAME, "/opt/driver/32/libnvidia-ml.so.1"),
            (0x0303, "libc.so.6", "/lib/libc.so.6"),
        ]);
        let expected: Vec<PathBuf> = if cfg!(target_arch = "x86_64") {
            vec!["/opt/driver/64/libnvidia-ml.so.1".into()]
        } else {
            vec![]
        };
        assert_eq!(cached(&bytes, SONAME), expected);
        for cut in 0..bytes.len() {
            assert!(cached(&bytes[..cut], SONAME).len() <= expected.len());
        }
        assert!(cached(b"", SONAME).is_empty());
    }
}
