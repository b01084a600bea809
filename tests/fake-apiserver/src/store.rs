//! The objects, and who owns which of their fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::apply::{self, Leaf};

/// After the name of an owner by an update: by an apply, the same program is another owner.
pub(crate) const BY_UPDATE: &str = " (update)";

/// An object with the owners of its fields.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) value: Value,
    /// The managers of each field.
    pub(crate) owners: BTreeMap<Leaf, BTreeSet<String>>,
    pub(crate) version: u64,
    pub(crate) writes: u64,
}

impl Object {
    pub(crate) fn new(value: Value) -> Self {
        Self { value, owners: BTreeMap::new(), version: 1, writes: 0 }
    }

    /// The object as it is served, with its managed fields.
    pub(crate) fn served(&self) -> Value {
        let mut value = self.value.clone();
        let mut fields = BTreeMap::<&String, Value>::new();
        for (leaf, owners) in &self.owners {
            for owner in owners {
                apply::add_field(fields.entry(owner).or_default(), leaf);
            }
        }
        let entry = |(owner, fields): (&String, Value)| {
            let (manager, operation) = match owner.strip_suffix(BY_UPDATE) {
                Some(manager) => (manager, "Update"),
                None => (owner.as_str(), "Apply"),
            };
            json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1",
                "fieldsV1": fields})
        };
        let stated = value["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        value["metadata"]["managedFields"] =
            stated.into_iter().chain(fields.into_iter().map(entry)).collect();
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        value
    }

    /// Applies a configuration. The conflicts, if there are some and it is not by force.
    pub(crate) fn apply(
        &mut self,
        manager: &str,
        force: bool,
        configuration: &Value,
    ) -> Result<(), Vec<(Leaf, String)>> {
        let wanted = apply::leaves(configuration);
        let there = apply::leaves(&self.value);
        let mut conflicts = Vec::new();
        for (leaf, value) in &wanted {
            let mut others = self.owners.get(leaf).into_iter().flatten();
            let other = others.find(|owner| *owner != manager);
            if let Some(owner) = other.filter(|_| there.get(leaf) != Some(value)) {
                conflicts.push((leaf.clone(), owner.clone()));
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        for (leaf, _) in conflicts {
            self.owners.remove(&leaf);
        }
        let given_up: Vec<Leaf> = self
            .owners
            .iter()
            .filter(|(leaf, owners)| owners.contains(manager) && !wanted.contains_key(*leaf))
            .map(|(leaf, _)| leaf.clone())
            .collect();
        let before = self.value.clone();
        for leaf in given_up {
            let owners = self.owners.get_mut(&leaf).unwrap();
            owners.remove(manager);
            if owners.is_empty() {
                self.owners.remove(&leaf);
                apply::remove(&mut self.value, &leaf);
            }
        }
        for (leaf, value) in wanted {
            apply::set(&mut self.value, &leaf, value);
            self.owners.entry(leaf).or_default().insert(manager.to_owned());
        }
        self.changed(&before);
        Ok(())
    }

    /// Changes the object as an update or a patch does: who changes a field owns it alone.
    pub(crate) fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        let before = self.value.clone();
        change(&mut self.value);
        let (was, is) = (apply::leaves(&before), apply::leaves(&self.value));
        self.owners.retain(|leaf, _| is.contains_key(leaf));
        for (leaf, _) in is.into_iter().filter(|(leaf, value)| was.get(leaf) != Some(value)) {
            self.owners.insert(leaf, [format!("{manager}{BY_UPDATE}")].into());
        }
        self.changed(&before);
    }

    /// Counts a write, if it has changed something: another one is none for the store.
    pub(crate) fn changed(&mut self, before: &Value) {
        if self.value != *before {
            self.version += 1;
            self.writes += 1;
        }
    }
}
