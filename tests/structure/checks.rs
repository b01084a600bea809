//! The checks of modules, restricted paths, type names and dependencies.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules;
use crate::tree::{Kind, Link, Target, Tree};

/// What was found, and the places of each.
pub(crate) type Found<What, Place = String> = BTreeMap<What, BTreeSet<Place>>;

/// The modules of which one uses another that it may not, and the places and reasons.
pub(crate) fn forbidden_uses(tree: &Tree, links: &[Link<'_>]) -> Found<(String, String)> {
    let mut found = Found::new();
    for link in links {
        // A single word in code is a variable, even if a crate or a module has that name too.
        let is_word = link.mention.kind == Kind::Inline && link.mention.path.len() == 1;
        if is_word && matches!(link.target, Target::Module(_)) {
            continue;
        }
        let from = rules::place(tree.file(link.mention.module));
        let defined = match link.target {
            Target::Module(module) | Target::Item(module, _) => Some(module),
            Target::Outside(_) => None,
        };
        // A re-export is used, and so is what it leads to.
        for module in link.via.iter().copied().chain(defined) {
            let to = rules::place(tree.file(module));
            if let Err((from, to, why)) = rules::may_use(&from, &to) {
                let path = link.mention.path.join("::");
                let position = format!("{}: {path}: {why}", tree.position(link.mention));
                found.entry((from, to)).or_default().insert(position);
            }
        }
    }
    found
}

/// The paths of other crates that stand where they may not.
pub(crate) fn restricted_paths(tree: &Tree, links: &[Link<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    for link in links {
        let Target::Outside(path) = &link.target else { continue };
        let place = rules::place(tree.file(link.mention.module));
        for why in rules::RESTRICTIONS.iter().filter_map(|rule| rule.refuses(&place, path)) {
            found.push(format!("{}: {}: {why}", tree.position(link.mention), path.join("::")));
        }
    }
    found
}

/// The public type names that stand for more than one thing in a crate, and these things.
pub(crate) fn duplicate_types(tree: &Tree, links: &[Link<'_>]) -> Found<(String, String)> {
    let declared = tree.types.iter().map(|(module, name)| (*module, name, *module, name));
    let exported = links.iter().filter_map(|link| match &link.target {
        Target::Item(module, item) if link.mention.kind == Kind::Reexport => {
            Some((link.mention.module, &link.mention.name, *module, item))
        }
        _ => None,
    });
    let mut found: Found<_, (usize, &String)> = Found::new();
    for (at, name, module, item) in declared.chain(exported) {
        let is_type = name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
        if is_type {
            let name = (rules::crate_of(tree.file(at)), name.clone());
            found.entry(name).or_default().insert((module, item));
        }
    }
    found.retain(|_, things| things.len() > 1);
    let file = |(module, item): (usize, &String)| format!("{} ({item})", tree.file(module));
    found.into_iter().map(|(name, things)| (name, things.into_iter().map(file).collect())).collect()
}

/// The dependencies of a Cargo.toml beside thiserror. Those of tests are left out.
pub(crate) fn impure_dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let tables = ["dependencies", "build-dependencies", "target"];
    let tables = tables.iter().filter_map(|name| manifest.get(*name)?.as_table());
    let names = tables.flat_map(|table| table.keys()).filter(|name| *name != "thiserror");
    names.map(|name| format!("crates/device depends on {name}")).collect()
}
