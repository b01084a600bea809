//! A list as a table (meta.k8s.io/v1 Table): of each object the columns that `kubectl get` prints,
//! and the metadata. Of that only what this program shows is kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;
use status::bounded;

use crate::names::{GPU_LABELS, SUMMARY};

/// The longest text that is kept, in bytes; of a longer one, the beginning. It is more than is read
/// of a summary.
const MAX_TEXT: usize = 20 << 10;

/// A table, or, as the object of an event, a Status that says what is wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Table {
    pub(crate) kind: String,
    pub(crate) metadata: ListMeta,
    pub(crate) column_definitions: Vec<Column>,
    pub(crate) rows: Vec<TableRow>,
    /// The HTTP status code, of a Status.
    pub(crate) code: u16,
    pub(crate) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    /// Where the next page begins; empty: there is none.
    #[serde(rename = "continue")]
    pub(crate) next: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TableRow {
    pub(crate) cells: Vec<Value>,
    pub(crate) object: RowObject,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RowObject {
    pub(crate) metadata: ObjectMeta,
}

/// The metadata of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectMeta {
    pub(crate) name: String,
    pub(crate) resource_version: String,
    pub(crate) labels: KeptTexts,
    pub(crate) annotations: KeptTexts,
    pub(crate) managed_fields: Vec<ManagedFields>,
}

/// Who wrote fields, and when last.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ManagedFields {
    pub(crate) manager: String,
    pub(crate) time: Option<String>,
}

/// Those of an object's labels or annotations that this program knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeptTexts(BTreeMap<&'static str, String>);

impl KeptTexts {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Table {
    /// The cell of a row in the column of this name.
    pub(crate) fn cell<'a>(columns: &[Column], row: &'a TableRow, name: &str) -> &'a str {
        let at = columns.iter().position(|column| column.name == name);
        at.and_then(|at| row.cells.get(at)?.as_str()).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for KeptTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeptTextsVisitor)
    }
}

struct KeptTextsVisitor;

impl<'de> Visitor<'de> for KeptTextsVisitor {
    type Value = KeptTexts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels or annotations")
    }

    fn visit_unit<E: de::Error>(self) -> Result<KeptTexts, E> {
        Ok(KeptTexts::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeptTexts, A::Error> {
        let mut kept = KeptTexts::default();
        while let Some(name) = map.next_key::<String>()? {
            let mut known = GPU_LABELS.iter().map(|(label, _)| *label).chain([SUMMARY]);
            match known.find(|known| *known == name) {
                Some(name) => drop(kept.0.insert(name, beginning(map.next_value()?))),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(kept)
    }
}

/// A text of at most [`MAX_TEXT`] bytes.
fn beginning(text: String) -> String {
    if text.len() <= MAX_TEXT {
        return text;
    }
    // Not the memory of the rest.
    bounded(&text, MAX_TEXT).to_owned()
}
