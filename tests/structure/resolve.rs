//! Follows paths to what they lead to, as the compiler does: through imports, re-exports and globs.

use crate::tree::{Name, Target, Tree};

/// What a path in a module leads to, and the modules whose imports it follows on the way. A path
/// may lead to several things, such as a module and a function of the same name.
pub(crate) fn resolve(tree: &Tree, module: usize, path: &[String]) -> Vec<(Target, Vec<usize>)> {
    let mut search = Search { tree, trail: Vec::new(), found: Vec::new() };
    search.start(module, path);
    search.found
}

struct Search<'t> {
    tree: &'t Tree,
    /// The imports that are being followed: a module, and the path that it imports.
    trail: Vec<(usize, &'t [String])>,
    found: Vec<(Target, Vec<usize>)>,
}

impl<'t> Search<'t> {
    fn reach(&mut self, target: Target) {
        self.found.push((target, self.trail.iter().map(|(module, _)| *module).collect()));
    }

    /// Follows a path from the module in which it stands.
    fn start(&mut self, from: usize, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let tree = self.tree;
        if first == "crate" {
            self.walk(from, tree.modules[from].root, rest);
        } else if first == "self" || first == "super" {
            self.walk(from, from, path);
        } else if !self.look_up(from, from, first, rest) {
            match tree.crates.get(first) {
                Some(root) => self.walk(from, *root, rest),
                None => self.reach(Target::Outside(path.to_vec())),
            }
        }
    }

    /// Follows the rest of a path, which stands in `from`, from a module that it has led to.
    fn walk(&mut self, from: usize, module: usize, path: &[String]) {
        match path.split_first() {
            Some((first, rest)) if first == "self" => self.walk(from, module, rest),
            Some((first, rest)) if first == "super" => {
                let parent = self.tree.modules[module].parent;
                self.walk(from, parent.unwrap_or(module), rest);
            }
            Some((first, rest)) if first != "*" => {
                if !self.look_up(from, module, first, rest) {
                    self.reach(Target::Item(module, first.clone()));
                }
            }
            _ => self.reach(Target::Module(module)),
        }
    }

    /// Follows a name of a module, as it is seen from `from`; whether that led anywhere.
    fn look_up(&mut self, from: usize, module: usize, name: &str, rest: &[String]) -> bool {
        let before = self.found.len();
        let tree = self.tree;
        let names = tree.modules[module].names.get(name).map_or(&[][..], Vec::as_slice);
        // More of a path can follow a module, but not a function of the same name.
        let more = !rest.is_empty() && names.iter().any(|what| matches!(what, Name::Module(_)));
        for what in names {
            match what {
                Name::Module(child) => self.walk(from, *child, rest),
                _ if more => {}
                Name::Item => self.reach(Target::Item(module, name.to_owned())),
                Name::Import { path, private } if !private || tree.is_within(from, module) => {
                    self.follow(module, path, |search| {
                        search.start(module, &[path.as_slice(), rest].concat());
                    });
                }
                Name::Import { .. } => {}
            }
        }
        if self.found.len() == before {
            for glob in &tree.modules[module].globs {
                self.follow(module, glob, |search| search.look_behind(module, glob, name, rest));
            }
        }
        self.found.len() > before
    }

    /// Follows a name into the module that a glob of this module opens.
    fn look_behind(&mut self, module: usize, glob: &[String], name: &str, rest: &[String]) {
        let trail = self.trail.clone();
        let mut behind = Search { tree: self.tree, trail, found: Vec::new() };
        behind.start(module, glob);
        for (target, _) in behind.found {
            if let Target::Module(opened) = target {
                self.look_up(module, opened, name, rest);
            }
        }
    }

    /// Follows an import, but not in a circle.
    fn follow(&mut self, module: usize, import: &'t [String], follow: impl FnOnce(&mut Self)) {
        if !self.trail.contains(&(module, import)) {
            self.trail.push((module, import));
            follow(self);
            self.trail.pop();
        }
    }
}
