//! Reads source files into the tree: their modules, names and paths, without those of tests.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream};
use syn::visit::{self, Visit};
use syn::{
    Attribute, ExprUnsafe, ImplItem, Item, ItemConst, ItemEnum, ItemImpl, ItemMod, ItemStatic,
    ItemStruct, ItemTrait, ItemType, ItemUnion, ItemUse, Macro, Meta, Safety, UseTree,
    VisRestricted, Visibility,
};

use crate::tokens::{self, is_test};
use crate::tree::{Kind, Mention, Name, Tree};

/// Reads a file and the files of its `mod` lines, and returns the file's module.
pub(crate) fn read(tree: &mut Tree, root: &Path, path: &Path, parent: Option<usize>) -> usize {
    let text = fs::read_to_string(path).unwrap();
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    tree.files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
    let module = tree.add_module(tree.files.len() - 1, parent);
    let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    };
    Reader { tree, root, folder, module }.visit_file(&syntax);
    module
}

struct Reader<'t> {
    tree: &'t mut Tree,
    root: &'t Path,
    /// Where the files of the module's children are.
    folder: PathBuf,
    module: usize,
}

impl Reader<'_> {
    fn mention(&mut self, path: Vec<String>, at: Span, kind: Kind, name: &str) {
        let (module, line, name) = (self.module, at.start().line, name.to_owned());
        self.tree.mentions.push(Mention { module, line, path, kind, name });
    }

    fn import(&mut self, tree: &UseTree, mut path: Vec<String>, kind: Kind) {
        let (word, name) = match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                return self.import(&tree.tree, path, kind);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, path.clone(), kind));
            }
            UseTree::Name(tree) => (&tree.ident, tree.ident.to_string()),
            UseTree::Rename(tree) => (&tree.ident, tree.rename.to_string()),
            UseTree::Glob(glob) => {
                path.push("*".to_owned());
                self.tree.modules[self.module].globs.push(path.clone());
                return self.mention(path, glob.star_token.spans[0], kind, "*");
            }
        };
        let name = match path.last() {
            // `a::{self}` imports `a`.
            Some(module) if word == "self" && name == "self" => module.clone(),
            _ => name,
        };
        if word != "self" {
            path.push(word.to_string());
        }
        let import = Name::Import { path: path.clone(), private: kind == Kind::Use };
        self.tree.add_name(self.module, name.clone(), import);
        self.mention(path, word.span(), kind, &name);
    }

    fn tokens(&mut self, tokens: &TokenStream) {
        for (path, at) in tokens::paths(tokens) {
            match path[0] == "unsafe" {
                true => self.unsafe_code(at),
                false => self.mention(path, at, Kind::Inline, ""),
            }
        }
    }

    /// Unsafe code counts as a path, so that the same rules apply to it.
    fn unsafe_code(&mut self, at: Span) {
        self.mention(vec!["unsafe".to_owned(), "code".to_owned()], at, Kind::Inline, "");
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name, public_type): (&[Attribute], _, _) = match item {
            Item::Enum(ItemEnum { attrs, ident, vis, .. })
            | Item::Struct(ItemStruct { attrs, ident, vis, .. })
            | Item::Trait(ItemTrait { attrs, ident, vis, .. })
            | Item::Type(ItemType { attrs, ident, vis, .. })
            | Item::Union(ItemUnion { attrs, ident, vis, .. }) => {
                (attrs, Some(ident), matches!(vis, Visibility::Public(_)))
            }
            Item::Const(ItemConst { attrs, ident, .. })
            | Item::Static(ItemStatic { attrs, ident, .. }) => (attrs, Some(ident), false),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident), false),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref(), false),
            Item::Impl(ItemImpl { attrs, .. })
            | Item::Mod(ItemMod { attrs, .. })
            | Item::Use(ItemUse { attrs, .. }) => (attrs, None, false),
            _ => (&[], None, false),
        };
        if is_test(attributes) {
            return;
        }
        if let Some(name) = name {
            self.tree.add_name(self.module, name.to_string(), Name::Item);
            if public_type {
                self.tree.types.push((self.module, name.to_string()));
            }
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_test(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        if name == "tests" {
            return;
        }
        let within = self.folder.join(&name);
        let child = match &item.content {
            Some((_, items)) => {
                let file = self.tree.modules[self.module].file;
                let module = self.tree.add_module(file, Some(self.module));
                let mut child = Reader { tree: self.tree, root: self.root, folder: within, module };
                items.iter().for_each(|item| child.visit_item(item));
                module
            }
            None => {
                let files = [within.with_extension("rs"), within.join("mod.rs")];
                let file = files.iter().find(|file| file.exists());
                let file = file.unwrap_or_else(|| panic!("none of {files:?} is there"));
                read(self.tree, self.root, file, Some(self.module))
            }
        };
        self.tree.add_name(self.module, name, Name::Module(child));
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let private = matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, Vec::new(), if private { Kind::Use } else { Kind::Reexport });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.mention(words, path.segments[0].ident.span(), Kind::Inline, "");
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        visit::visit_macro(self, invoked);
        self.tokens(&invoked.tokens);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        visit::visit_attribute(self, attribute);
        if let Meta::List(list) = &attribute.meta {
            self.tokens(&list.tokens);
        }
    }

    fn visit_expr_unsafe(&mut self, block: &'ast ExprUnsafe) {
        self.unsafe_code(block.unsafe_token.span);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_safety(&mut self, safety: &'ast Safety) {
        if let Safety::Unsafe(word) = safety {
            self.unsafe_code(word.span);
        }
    }

    /// The path in `pub(super)` says who may use a thing, and uses nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}
