//! Takes a symbol out of a shared library's dynamic symbol table, so that `dlsym` does not find it.

use anyhow::{Context, bail, ensure};

const SECTION_SYMBOLS: u32 = 11;
const SECTION_RELOCATIONS: u32 = 4;
/// Of a section header: a 64-bit file has 64 bytes for each.
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 24;

/// Makes the symbol undefined and without a value. Hash tables and names stay as they are, so every
/// other symbol is found as before. What the library itself refers to by that symbol is bound to
/// the old place.
pub(super) fn undefine(file: &mut [u8], symbol: &str) -> anyhow::Result<()> {
    ensure!(file.starts_with(b"\x7fELF\x02\x01"), "not a 64-bit little-endian ELF file");
    let relative = match word(file, 18, 2)? {
        // x86-64 and aarch64: the relocation that means "this library's base plus a number".
        62 => 8,
        183 => 1027,
        machine => bail!("machine {machine} is not known here"),
    };
    let sections = sections(file)?;
    let table = sections
        .iter()
        .find(|section| section.kind == SECTION_SYMBOLS)
        .context("no dynamic symbols")?;
    let names = sections.get(table.link).context("the symbols have no names")?;

    let found = (0..table.size / SYMBOL).find(|index| {
        let name = word(file, table.offset + index * SYMBOL, 4).map(|name| names.offset + name);
        name.is_ok_and(|name| file.get(name..).is_some_and(|text| is_text(text, symbol)))
    });
    let index = found.with_context(|| format!("no symbol {symbol}"))?;
    let place = table.offset + index * SYMBOL;
    let value = word(file, place + 8, 8)?;
    ensure!(value != 0, "{symbol} is undefined already");
    // st_info keeps the kind; the section index and the value become 0.
    file[place + 6..place + 16].fill(0);

    for section in sections.iter().filter(|section| section.kind == SECTION_RELOCATIONS) {
        for place in (section.offset..section.offset + section.size).step_by(RELOCATION) {
            if word(file, place + 12, 4)? == index {
                let addend = value.wrapping_add(word(file, place + 16, 8)?) as u64;
                file[place + 8..place + 16].copy_from_slice(&u64::to_le_bytes(relative));
                file[place + 16..place + 24].copy_from_slice(&addend.to_le_bytes());
            }
        }
    }
    Ok(())
}

struct Section {
    kind: u32,
    offset: usize,
    size: usize,
    link: usize,
}

fn sections(file: &[u8]) -> anyhow::Result<Vec<Section>> {
    let (start, count) = (word(file, 40, 8)?, word(file, 60, 2)?);
    (0..count)
        .map(|index| {
            let header = start + index * SECTION_HEADER;
            Ok(Section {
                kind: u32::try_from(word(file, header + 4, 4)?)?,
                offset: word(file, header + 24, 8)?,
                size: word(file, header + 32, 8)?,
                link: word(file, header + 40, 4)?,
            })
        })
        .collect()
}

fn is_text(bytes: &[u8], text: &str) -> bool {
    bytes.strip_prefix(text.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

/// A little-endian number of up to 8 bytes.
fn word(file: &[u8], offset: usize, length: usize) -> anyhow::Result<usize> {
    let bytes = file.get(offset..offset + length).context("the file ends early")?;
    let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number).context("a number too large")
}
