//! The product's sources as a tree of modules: which names each has, and every path in it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::{reader, resolve};

/// The modules of all crates of the product, found by following `mod` lines from their roots.
#[derive(Default)]
pub(crate) struct Tree {
    /// The source files, as paths from the repository's root.
    pub(crate) files: Vec<String>,
    pub(crate) modules: Vec<Module>,
    pub(crate) mentions: Vec<Mention>,
    /// Every type declared `pub`, with its module.
    pub(crate) types: Vec<(usize, String)>,
    /// The root modules of the library crates.
    pub(crate) crates: BTreeMap<String, usize>,
}

/// A module. What its functions import counts as imported by the module.
#[derive(Default)]
pub(crate) struct Module {
    /// Its file, or the file that it is a part of.
    pub(crate) file: usize,
    /// The root module of its crate.
    pub(crate) root: usize,
    pub(crate) parent: Option<usize>,
    pub(crate) names: HashMap<String, Vec<Name>>,
    pub(crate) globs: Vec<Vec<String>>,
}

/// What a name stands for in a module.
pub(crate) enum Name {
    Item,
    Module(usize),
    Import { path: Vec<String>, private: bool },
}

/// How a path is used.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Use,
    Reexport,
    Inline,
}

/// A path that stands in a module.
pub(crate) struct Mention {
    pub(crate) module: usize,
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    pub(crate) kind: Kind,
    /// The name that an import gives it, `*` for a glob, and nothing for other paths.
    pub(crate) name: String,
}

/// What a path leads to.
pub(crate) enum Target {
    Module(usize),
    /// An item of a module; one that the module does not declare comes from a macro in it.
    Item(usize, String),
    /// Something of another crate.
    Outside(Vec<String>),
}

/// A path and one thing that it leads to.
pub(crate) struct Link<'t> {
    pub(crate) mention: &'t Mention,
    pub(crate) target: Target,
    /// The other modules whose imports it follows on the way.
    pub(crate) via: Vec<usize>,
}

impl Tree {
    /// Reads the crate at `root` and the crates in its folder `crates`.
    pub(crate) fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut packages = vec![root.to_owned()];
        for entry in fs::read_dir(root.join("crates")).into_iter().flatten() {
            packages.push(entry.unwrap().path());
        }
        for package in packages {
            let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
            let manifest: toml::Table = manifest.parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap().replace('-', "_");
            for entry in ["src/lib.rs", "src/main.rs"].map(|entry| package.join(entry)) {
                if entry.exists() {
                    let module = reader::read(&mut tree, root, &entry, None);
                    tree.crates.entry(name.clone()).or_insert(module);
                }
            }
        }
        tree
    }

    pub(crate) fn add_module(&mut self, file: usize, parent: Option<usize>) -> usize {
        let id = self.modules.len();
        let root = parent.map_or(id, |parent| self.modules[parent].root);
        self.modules.push(Module { file, root, parent, ..Module::default() });
        id
    }

    pub(crate) fn add_name(&mut self, module: usize, name: String, what: Name) {
        self.modules[module].names.entry(name).or_default().push(what);
    }

    /// Whether a module is another one or a part of it.
    pub(crate) fn is_within(&self, module: usize, whole: usize) -> bool {
        let parent = self.modules[module].parent;
        module == whole || parent.is_some_and(|parent| self.is_within(parent, whole))
    }

    /// The file of a module.
    pub(crate) fn file(&self, module: usize) -> &str {
        &self.files[self.modules[module].file]
    }

    /// Where a path stands.
    pub(crate) fn position(&self, mention: &Mention) -> String {
        format!("{}:{}", self.file(mention.module), mention.line)
    }

    /// Everything that the paths lead to.
    pub(crate) fn links(&self) -> Vec<Link<'_>> {
        let links = self.mentions.iter().flat_map(|mention| {
            let found = resolve::resolve(self, mention.module, &mention.path).into_iter();
            found.map(move |(target, mut via)| {
                via.retain(|module| *module != mention.module);
                Link { mention, target, via }
            })
        });
        // A word that the module does not name is a local variable or from the prelude.
        let is_local = |link: &Link<'_>| {
            link.mention.kind == Kind::Inline
                && matches!(&link.target, Target::Outside(path) if path.len() == 1)
        };
        links.filter(|link| !is_local(link)).collect()
    }
}
