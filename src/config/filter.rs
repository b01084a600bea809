//! Which GPUs are offered: terms that include and terms that exclude, by index, UUID, PCI bus id or
//! model. What is excluded is reserved for the system.
//!
//! One syntax for the flag `--devices`, the variable `DEVICES` and the file's key `devices`: a list
//! of terms, each `3`, `0-3`, `GPU-<uuid>`, `0000:1b:00.0` or `model=PATTERN` with `*` for anything
//! (`index=`, `uuid=` and `pci=` may stand before the others), and a `!` before a term that takes
//! away. In a file also `devices: {include: [...], exclude: [...]}`.

use device::layout::filter::{DeviceFilter, Pattern, Term};
use device::layout::sharing::DeviceRef;

use super::nearest::nearest;
use super::raw::{self, Item, Raw, Read, text_number};
use super::tree::{Key, Node, Value};

/// A text that is no term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a GPU: an index (3), a range (0-3), a UUID (GPU-...), a PCI bus id (0000:1b:00.0) or \
        model=PATTERN is asked for{hint}"
)]
pub struct NotATerm {
    hint: String,
}

/// Reads one term, without the mark that takes away.
pub(super) fn term(text: &str) -> Result<Term, NotATerm> {
    let (kind, value) = text
        .split_once('=')
        .map_or((None, text), |(kind, value)| (Some(kind.trim()), value.trim()));
    let term = match kind {
        Some("index") => index(value),
        Some("uuid") => uuid(value),
        Some("pci") => value.parse().ok().map(Term::PciBusId),
        Some("model") => (!value.is_empty()).then(|| Term::Model(Pattern::new(value))),
        Some(_) => None,
        None => {
            index(value).or_else(|| uuid(value)).or_else(|| value.parse().ok().map(Term::PciBusId))
        }
    };
    term.ok_or_else(|| NotATerm { hint: hint(kind, value) })
}

fn index(text: &str) -> Option<Term> {
    let plain =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (plain(first)?, plain(last)?);
            (first <= last).then_some(Term::Index(first, last))
        }
        None => plain(text).map(|index| Term::Index(index, index)),
    }
}

fn uuid(text: &str) -> Option<Term> {
    text.starts_with("GPU-").then(|| text.parse().ok().map(Term::Uuid)).flatten()
}

fn hint(kind: Option<&str>, value: &str) -> String {
    match kind {
        Some(kind) => nearest(kind, ["index", "uuid", "pci", "model"]).map_or_else(
            || format!("; {kind:?} is no kind of term"),
            |near| format!("; is {near}=... meant?"),
        ),
        None if value.starts_with("MIG-") => "; MIG devices follow their GPU".to_owned(),
        None if value.contains(['*', ' ']) => "; is model=... meant?".to_owned(),
        None => String::new(),
    }
}

/// The filter that a flag, a variable or the file's key `devices` states.
pub(super) fn filter(raw: Raw<'_>) -> Read<DeviceFilter> {
    let terms = match raw {
        Raw::Node(Node { value: Value::Map(entries), .. }) => {
            raw::all(entries.iter().map(|(key, node)| side(key, node)))?
                .into_iter()
                .flatten()
                .collect()
        }
        raw => items(raw)?,
    };
    let mut filter = DeviceFilter::default();
    let added = terms.into_iter().map(|item| {
        let (list, text) = match item.text.strip_prefix('!') {
            Some(text) => (&mut filter.exclude, text.trim()),
            None => (&mut filter.include, item.text.as_str()),
        };
        let term = self::term(text);
        item.read(|whole| match term {
            Ok(term) => {
                list.push(term);
                Ok(())
            }
            Err(error) => raw::wrong_text(whole, error.to_string()),
        })
    });
    raw::all(added).map(|_| filter)
}

/// The terms of `include` or `exclude`, the latter with the mark that takes away.
fn side(key: &Key, node: &Node) -> Read<Vec<Item>> {
    let exclude = key.name.eq_ignore_ascii_case("exclude");
    if !exclude && !key.name.eq_ignore_ascii_case("include") {
        return raw::wrong(format!("key {:?}", key.name), "is not include or exclude");
    }
    let mark = |mut item: Item| {
        if exclude && !item.text.starts_with('!') {
            item.text.insert(0, '!');
        }
        item.under(if exclude { "exclude" } else { "include" })
    };
    Ok(items(Raw::Node(node))?.into_iter().map(mark).collect())
}

/// The terms of a list. A single text is split at commas, in a file too.
fn items(raw: Raw<'_>) -> Read<Vec<Item>> {
    let mut items = match raw {
        Raw::Node(node) if !matches!(node.value, Value::List(_)) => {
            raw::split(raw::node_text(node)?).collect::<Vec<_>>()
        }
        raw => raw::list(raw)?,
    };
    items.retain(|item| !item.text.is_empty());
    Ok(items)
}

/// Reads a device as the file's key `devices` of a shared resource names it.
pub(super) fn device_ref(text: &str) -> Result<DeviceRef, &'static str> {
    const ASKED: &str = "is not a GPU index (0), a MIG index (0:1) or a UUID (GPU-..., MIG-...)";
    if text.starts_with("GPU-") || text.starts_with("MIG-") {
        return text.parse().map(DeviceRef::Uuid).map_err(|_| ASKED);
    }
    match text.split_once(':') {
        Some((gpu, mig)) => {
            text_number(gpu).zip(text_number(mig)).map(|(gpu, mig)| DeviceRef::Mig(gpu, mig))
        }
        None => text_number(text).map(DeviceRef::Gpu),
    }
    .ok_or(ASKED)
}
