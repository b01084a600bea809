//! Which GPUs are offered: terms that include and terms that exclude, by index, UUID, PCI bus id or
//! model. What is excluded is reserved for the system.
//!
//! One syntax for the flag `--devices`, the variable `DEVICES` and the file's key `devices`: a list
//! of terms, each `3`, `0-3`, `GPU-<uuid>`, `0000:1b:00.0` or `model=PATTERN` with `*` for anything
//! (`index=`, `uuid=` and `pci=` are optional), and a `!` before a term that
//! excludes. In a file also `devices: {include: [...], exclude: [...]}`.

use device::layout::filter::{DeviceFilter, Pattern, Term};
use device::layout::sharing::DeviceRef;

use super::nearest::nearest;
use super::print;
use super::tree::{Key, Node, Value};
use super::value::{self, Item, Parsed, RawValue, text_number};

/// Reads one term, without the mark that excludes.
fn term(text: &str) -> Result<Term, String> {
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
    let expected = "is not a GPU: expected an index (3), a range (0-3), a UUID (GPU-...), a PCI \
        bus id (0000:1b:00.0) or model=PATTERN";
    term.ok_or_else(|| format!("{expected}{}", hint(kind, value)))
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
pub(super) fn device_filter(raw: RawValue<'_>) -> Parsed<DeviceFilter> {
    let terms = match raw {
        RawValue::Node(Node { value: Value::Map(entries), .. }) => {
            let lists = entries.iter().map(|(key, node)| list(key, node));
            value::collect(lists)?.into_iter().flatten().collect()
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
        item.parse(|whole| match term {
            Ok(term) => {
                list.push(term);
                Ok(())
            }
            Err(problem) => value::invalid_text(whole, problem),
        })
    });
    value::collect(added).map(|_| filter)
}

/// The terms of a filter as a list.
pub(super) fn print_filter(filter: &DeviceFilter) -> String {
    let excluded = filter.exclude.iter().map(|term| format!("!{term}"));
    print::flow(filter.include.iter().map(Term::to_string).chain(excluded))
}

/// The terms of `include` or `exclude`, the latter with the mark that excludes.
fn list(key: &Key, node: &Node) -> Parsed<Vec<Item>> {
    let exclude = key.name.eq_ignore_ascii_case("exclude");
    if !exclude && !key.name.eq_ignore_ascii_case("include") {
        return value::invalid(format!("key {:?}", key.name), "is not include or exclude");
    }
    let mark = |mut item: Item| {
        if exclude && !item.text.starts_with('!') {
            item.text.insert(0, '!');
        }
        item.under(if exclude { "exclude" } else { "include" })
    };
    Ok(items(RawValue::Node(node))?.into_iter().map(mark).collect())
}

/// The terms of a list. A single text is split at commas, in a file too.
fn items(raw: RawValue<'_>) -> Parsed<Vec<Item>> {
    let mut items = match raw {
        RawValue::Node(node) if !matches!(node.value, Value::List(_)) => {
            value::split(value::node_text(node)?).collect::<Vec<_>>()
        }
        raw => value::list(raw)?,
    };
    items.retain(|item| !item.text.is_empty());
    Ok(items)
}

/// Reads a device as the file's key `devices` of a shared resource names it.
pub(super) fn device_ref(text: &str) -> Parsed<DeviceRef> {
    let device = if text.starts_with("GPU-") || text.starts_with("MIG-") {
        text.parse().ok().map(DeviceRef::Uuid)
    } else if let Some((gpu, mig)) = text.split_once(':') {
        text_number(gpu).zip(text_number(mig)).map(|(gpu, mig)| DeviceRef::Mig(gpu, mig))
    } else {
        text_number(text).map(DeviceRef::Gpu)
    };
    let problem = "is not a GPU index (0), a MIG index (0:1) or a UUID (GPU-..., MIG-...)";
    device.map_or_else(|| value::invalid_text(text, problem), Ok)
}
