//! Shared libraries of a few hundred bytes, which loaders' tools take for real ones.

/// What a library says of itself.
#[derive(Clone, Copy)]
pub struct Elf<'a> {
    pub soname: Option<&'a str>,
    pub machine: u16,
    pub is_64: bool,
    pub kind: u16,
    pub isa_level: Option<u32>,
}

/// A library for the machine that the tests run on.
pub fn library(soname: &str) -> Vec<u8> {
    native(Some(soname)).bytes()
}

pub fn native(soname: Option<&str>) -> Elf<'_> {
    let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    Elf { soname, machine, is_64: true, kind: 3, isa_level: None }
}

impl Elf<'_> {
    pub fn bytes(self) -> Vec<u8> {
        let (header, segment, word) = if self.is_64 { (64, 56, 8) } else { (52, 32, 4) };
        let segments = if self.isa_level.is_some() { 3 } else { 2 };
        let dynamic = header + segments * segment;
        let strings = dynamic + 5 * 2 * word;
        let text = format!("\0libc.so.6\0{}\0", self.soname.unwrap_or_default());
        let note = (strings + text.len()).next_multiple_of(8);
        let size = note + 32;

        let mut out = b"\x7fELF".to_vec();
        out.extend([if self.is_64 { 2 } else { 1 }, 1, 1]);
        out.resize(16, 0);
        out.extend(self.kind.to_le_bytes());
        out.extend(self.machine.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        self.word(&mut out, 0);
        self.word(&mut out, header);
        self.word(&mut out, 0);
        out.extend(0_u32.to_le_bytes());
        for number in [header, segment, segments, 0, 0, 0] {
            out.extend((number as u16).to_le_bytes());
        }
        self.segment(&mut out, 1, 0, size);
        self.segment(&mut out, 2, dynamic, strings - dynamic);
        if self.isa_level.is_some() {
            self.segment(&mut out, 0x6474_e553, note, 32);
        }
        let name = if self.soname.is_some() { 14 } else { 0x6fff_fef5 };
        for (tag, value) in [(1, 1), (5, strings), (10, text.len()), (name, 11), (0, 0)] {
            self.word(&mut out, tag);
            self.word(&mut out, value);
        }
        out.extend(text.as_bytes());
        out.resize(note, 0);
        for number in [4, 16, 5, u32::from_le_bytes(*b"GNU\0"), 0xc000_8002, 4] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.isa_level.unwrap_or_default().to_le_bytes());
        out.resize(size, 0);
        out
    }

    fn word(self, out: &mut Vec<u8>, value: usize) {
        let bytes = (value as u64).to_le_bytes();
        out.extend(&bytes[..if self.is_64 { 8 } else { 4 }]);
    }

    fn segment(self, out: &mut Vec<u8>, kind: u32, offset: usize, size: usize) {
        out.extend(kind.to_le_bytes());
        if self.is_64 {
            out.extend(4_u32.to_le_bytes());
        }
        for value in [offset, offset, offset, size, size] {
            self.word(out, value);
        }
        if !self.is_64 {
            out.extend(4_u32.to_le_bytes());
        }
        self.word(out, 8);
    }
}
