//! Which files use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Kind, Link, Target, Tree};

/// The names that each file uses of each other file.
type Uses<'t> = BTreeMap<&'t str, BTreeMap<&'t str, BTreeSet<&'t str>>>;

/// A text for each group of files that use each other in a circle: who uses which names of whom.
pub(crate) fn circles<'t>(tree: &'t Tree, links: &'t [Link<'t>]) -> Vec<String> {
    let uses = uses(tree, links);
    let reached: BTreeMap<_, _> = uses.keys().map(|file| (*file, reached(&uses, file))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|all| all.contains(to));
    let circular = reached.keys().filter(|file| reaches(file, file));
    let groups: BTreeSet<BTreeSet<&str>> = circular
        .map(|file| reached[file].iter().copied().filter(|other| reaches(other, file)).collect())
        .collect();
    groups.iter().map(|group| describe(&uses, group)).collect()
}

/// Who uses what of the file that defines it: a re-export uses nothing.
fn uses<'t>(tree: &'t Tree, links: &'t [Link<'t>]) -> Uses<'t> {
    let mut uses = Uses::new();
    for link in links.iter().filter(|link| link.mention.kind != Kind::Reexport) {
        let (module, name) = match &link.target {
            Target::Item(module, name) => (*module, name.as_str()),
            Target::Module(module) if link.mention.name == "*" => (*module, "*"),
            _ => continue,
        };
        let (from, to) = (tree.file(link.mention.module), tree.file(module));
        if from != to {
            uses.entry(from).or_default().entry(to).or_default().insert(name);
        }
    }
    uses
}

/// The files that a file uses, directly or over others.
fn reached<'t>(uses: &Uses<'t>, from: &'t str) -> BTreeSet<&'t str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        let used = uses.get(file).into_iter().flat_map(BTreeMap::keys);
        next.extend(used.filter(|to| reached.insert(**to)));
    }
    reached
}

fn describe(uses: &Uses<'_>, group: &BTreeSet<&str>) -> String {
    let mut text = format!("{} files use each other in a circle:", group.len());
    for from in group {
        for (to, names) in uses[from].iter().filter(|(to, _)| group.contains(*to)) {
            let names: Vec<_> = names.iter().copied().collect();
            text += &format!("\n  {from} -> {to}: {}", names.join(", "));
        }
    }
    text
}
