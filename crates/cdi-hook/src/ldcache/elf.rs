//! What the loader's cache says of a library, read from its ELF header, its dynamic section and its
//! note of properties (the generic ABI, and the processor supplements). A file is never trusted:
//! each offset and size in it has a bound, and what does not fit is no library.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::limits;

/// What a library is (glibc's sysdeps/generic/ldconfig.h, `FLAG_*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The kind of library, as the cache says it.
    pub flags: i32,
    /// The name that programs ask for, if the library has one.
    pub soname: Option<Vec<u8>>,
    /// The level of the x86-64 instruction set that it needs, 0 to 3 for v1 to v4.
    pub isa_level: u32,
}

const ELF_LIBC6: i32 = 3;
const X8664_LIB64: i32 = 0x0300;
const X8664_LIBX32: i32 = 0x0800;
const AARCH64_LIB64: i32 = 0x0a00;

const EM_386: u64 = 3;
const EM_X86_64: u64 = 62;
const EM_AARCH64: u64 = 183;
const ET_DYN: u64 = 3;
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_GNU_PROPERTY: u64 = 0x6474_e553;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const NT_GNU_PROPERTY_TYPE_0: u64 = 5;
const X86_ISA_1_NEEDED: u64 = 0xc000_8002;

/// Reads a library; `None`: it is none, or none for this machine.
#[must_use]
pub fn read(file: &File) -> Option<Library> {
    // The header and the segments of almost every library.
    let mut start = [0; 1024];
    let length = read_up_to(file, &mut start, 0)?;
    Image { file, start: &start[..length], is_64: *start.get(4)? == 2 }.library()
}

/// A file, of which the first bytes are here already.
struct Image<'a> {
    file: &'a File,
    start: &'a [u8],
    is_64: bool,
}

/// A part of a file that goes into memory, or has a meaning of its own.
#[derive(Clone, Copy)]
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

impl Image<'_> {
    fn library(&self) -> Option<Library> {
        let header = self.start.get(..if self.is_64 { 64 } else { 52 })?;
        // The magic number, a known class, little-endian, the one version.
        if header[..4] != *b"\x7fELF" || !(1..=2).contains(&header[4]) || header[5..7] != [1, 1] {
            return None;
        }
        if number(header, 16, 2)? != ET_DYN {
            return None;
        }
        let flags = flags(number(header, 18, 2)?, self.is_64)?;
        let segments = self.segments(header)?;
        let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
        let soname = self.soname(*dynamic, &segments)?;
        let note = segments.iter().find(|segment| segment.kind == PT_GNU_PROPERTY);
        let isa_level = note.and_then(|note| self.isa_level(*note)).unwrap_or_default();
        Some(Library { flags, soname, isa_level })
    }

    fn segments(&self, header: &[u8]) -> Option<Vec<Segment>> {
        let (offset, size, count) = if self.is_64 {
            (number(header, 32, 8)?, number(header, 54, 2)?, number(header, 56, 2)?)
        } else {
            (number(header, 28, 4)?, number(header, 42, 2)?, number(header, 44, 2)?)
        };
        let is_right_size = size == if self.is_64 { 56 } else { 32 };
        let count = usize::try_from(count).ok().filter(|count| *count <= limits::ELF_SEGMENTS)?;
        if !is_right_size {
            return None;
        }
        let table = self.bytes(offset, count * usize::try_from(size).ok()?)?;
        table.chunks_exact(usize::try_from(size).ok()?).map(|entry| self.segment(entry)).collect()
    }

    fn segment(&self, entry: &[u8]) -> Option<Segment> {
        let kind = number(entry, 0, 4)?;
        let word = |at_64, at_32| {
            if self.is_64 { number(entry, at_64, 8) } else { number(entry, at_32, 4) }
        };
        Some(Segment { kind, offset: word(8, 4)?, address: word(16, 8)?, size: word(32, 16)? })
    }

    /// The name that the dynamic section points to; the outer `None`: the section makes no sense.
    fn soname(&self, dynamic: Segment, segments: &[Segment]) -> Option<Option<Vec<u8>>> {
        let size = usize::try_from(dynamic.size).ok()?;
        let table = self.bytes(dynamic.offset, size.min(limits::ELF_DYNAMIC_BYTES))?;
        let word = if self.is_64 { 8 } else { 4 };
        let (mut strings, mut name) = (None, None);
        for entry in table.chunks_exact(2 * word) {
            let value = number(entry, word, word)?;
            match number(entry, 0, word)? {
                DT_NULL => break,
                DT_STRTAB => strings = Some(value),
                DT_SONAME => name = Some(value),
                _ => {}
            }
        }
        let Some(name) = name else { return Some(None) };
        let offset = offset_of(strings?, segments)?.checked_add(name)?;
        let bytes = self.bytes_up_to(offset, limits::NAME_BYTES + 1)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(Some(bytes[..end].to_owned()))
    }

    /// The level of the instruction set in the note of properties.
    fn isa_level(&self, note: Segment) -> Option<u32> {
        let size = usize::try_from(note.size).ok().filter(|s| *s <= limits::ELF_NOTE_BYTES)?;
        let bytes = self.bytes(note.offset, size)?;
        let (name, content) = (number(&bytes, 0, 4)?, number(&bytes, 4, 4)?);
        let is_ours = name == 4
            && number(&bytes, 8, 4)? == NT_GNU_PROPERTY_TYPE_0
            && bytes.get(12..16)? == b"GNU\0";
        let mut rest = bytes.get(16..16 + usize::try_from(content).ok()?).filter(|_| is_ours)?;
        while rest.len() >= 8 {
            let (kind, size) = (number(rest, 0, 4)?, usize::try_from(number(rest, 4, 4)?).ok()?);
            if kind == X86_ISA_1_NEEDED && size == 4 {
                // A bit for each level, of which the highest counts.
                return number(rest, 8, 4)?.checked_ilog2();
            }
            let align = if self.is_64 { 8 } else { 4 };
            rest = rest.get(8 + size.checked_next_multiple_of(align)?..)?;
        }
        None
    }

    /// Bytes of the file, all of them.
    fn bytes(&self, offset: u64, length: usize) -> Option<Cow<'_, [u8]>> {
        self.bytes_up_to(offset, length).filter(|bytes| bytes.len() == length)
    }

    /// Bytes of the file, as many as there are.
    fn bytes_up_to(&self, offset: u64, length: usize) -> Option<Cow<'_, [u8]>> {
        let here = usize::try_from(offset).ok().and_then(|at| self.start.get(at..)?.get(..length));
        if let Some(here) = here {
            return Some(Cow::Borrowed(here));
        }
        let mut bytes = vec![0; length];
        let there = read_up_to(self.file, &mut bytes, offset)?;
        bytes.truncate(there);
        Some(Cow::Owned(bytes))
    }
}

/// Where in the file an address is.
fn offset_of(address: u64, segments: &[Segment]) -> Option<u64> {
    let holds = |segment: &&Segment| {
        segment.kind == PT_LOAD
            && address.checked_sub(segment.address).is_some_and(|into| into < segment.size)
    };
    let segment = segments.iter().find(holds)?;
    segment.offset.checked_add(address - segment.address)
}

/// What the cache says of libraries for a machine; `None`: the loader here cannot use them.
fn flags(machine: u64, is_64: bool) -> Option<i32> {
    let is_arm = cfg!(target_arch = "aarch64");
    match (machine, is_64) {
        (EM_X86_64, true) if !is_arm => Some(X8664_LIB64 | ELF_LIBC6),
        (EM_X86_64, false) if !is_arm => Some(X8664_LIBX32 | ELF_LIBC6),
        // ldconfig has another number for one that needs no libc.so.6. The loader takes both.
        (EM_386, false) if !is_arm => Some(ELF_LIBC6),
        (EM_AARCH64, true) if is_arm => Some(AARCH64_LIB64 | ELF_LIBC6),
        _ => None,
    }
}

/// A little-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Reads until the buffer is full or the file ends, and says how much.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> Option<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset.checked_add(done as u64)?) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(done)
}
