//! What a file has that this version of the plugin does not know: of a newer version, which this
//! one was put back for. It is written again beside what this version says, so that the newer one
//! finds it when it comes back.

use std::collections::BTreeMap;
use std::fmt;

use device::names::Uuid;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::document::MEMBERS;

/// The most that is kept, in bytes of JSON.
const MOST_BYTES: usize = 64 << 10;

/// Parts of a document that this version does not know.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Unknown {
    /// The boot of the node: like all that is in the document they count for no other one.
    boot: String,
    members: Map<String, Value>,
    /// Causes of GPUs.
    causes: BTreeMap<Uuid, Vec<Value>>,
}

impl Unknown {
    /// The members of a document, and causes in it; of too much, the first.
    pub(super) fn of(
        boot: &str,
        members: Map<String, Value>,
        causes: BTreeMap<Uuid, Vec<Value>>,
    ) -> Self {
        let mut left = MOST_BYTES;
        let mut fits = |name: &str, value: &Value| {
            let rest = left.checked_sub(name.len() + value.to_string().len());
            left = rest.unwrap_or(0);
            rest.is_some()
        };
        let mut unknown = Self { boot: boot.to_owned(), ..Self::default() };
        for (uuid, causes) in causes {
            let causes: Vec<_> =
                causes.into_iter().filter(|cause| fits(uuid.as_str(), cause)).collect();
            if !causes.is_empty() {
                unknown.causes.insert(uuid, causes);
            }
        }
        let members = members.into_iter().filter(|(name, value)| fits(name, value));
        unknown.members = members.collect();
        unknown
    }

    /// Adds them to a document of the same boot.
    pub(super) fn add_to(&self, document: &mut Value) {
        if document["boot"] != self.boot.as_str() {
            return;
        }
        let Some(document) = document.as_object_mut() else { return };
        for (name, value) in &self.members {
            document.entry(name).or_insert_with(|| value.clone());
        }
        let Some(gpus) = document.get_mut("gpus").and_then(Value::as_object_mut) else { return };
        for (uuid, causes) in &self.causes {
            let of_gpu = gpus.entry(uuid.as_str()).or_insert_with(|| Value::Array(Vec::new()));
            of_gpu
                .as_array_mut()
                .into_iter()
                .for_each(|known| known.extend(causes.iter().cloned()));
        }
    }
}

/// The members of a document that this version does not know.
///
/// # Errors
/// It is no object.
pub(super) fn members(text: &[u8]) -> serde_json::Result<Map<String, Value>> {
    serde_json::Deserializer::from_slice(text).deserialize_map(Members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            // What this version knows is long, and read elsewhere.
            if MEMBERS.contains(&name.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else {
                members.insert(name, map.next_value()?);
            }
        }
        Ok(members)
    }
}
