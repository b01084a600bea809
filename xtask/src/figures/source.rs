//! One Rust file: its lines of code, its functions and its types, tests aside.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use anyhow::Context;
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// What the figures need to know of one file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// All lines, as an editor counts them.
    pub(crate) lines: usize,
    /// Lines with at least one token that is neither a comment nor part of a test.
    pub(crate) code: usize,
    /// For each function, the lines between the braces of its body; 1 for a body on one line.
    pub(crate) bodies: Vec<usize>,
    /// Names of the structs, enums, unions, traits and type aliases that the file defines.
    pub(crate) types: Vec<String>,
    /// Modules in files of their own that are compiled for tests only.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    /// Reads the text of a file. A file that is not Rust is an error.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        let file = syn::parse_file(text).context("cannot parse")?;
        let mut items = Items::default();
        items.visit_file(&file);
        // The byte order mark and the `#!` line, which syn takes off, are lines without tokens.
        let tokens: TokenStream = text.parse().ok().context("cannot split into tokens")?;
        let mut code = BTreeSet::new();
        lines_of(tokens, &text.lines().collect::<Vec<_>>(), &mut code);
        for range in &items.tests {
            code.retain(|line| !range.contains(line));
        }
        Ok(Self {
            lines: text.lines().count(),
            code: code.len(),
            bodies: items.bodies,
            types: items.types,
            test_modules: items.test_modules,
        })
    }
}

/// Adds the lines on which the tokens stand. A comment of documentation is a token too, and is left
/// out; a string literal counts on each of its lines.
fn lines_of(tokens: TokenStream, text: &[&str], code: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let span = token.span();
        if is_doc_comment(&token, text) {
            // `#`, perhaps `!`, and the group, all with the span of the comment.
            while tokens.next_if(|next| next.span().start() == span.start()).is_some() {}
            continue;
        }
        if let TokenTree::Group(group) = &token {
            code.insert(group.span_open().start().line);
            code.insert(group.span_close().end().line);
            lines_of(group.stream(), text, code);
        } else {
            code.extend(span.start().line..=span.end().line);
        }
    }
}

/// The attribute that stands for a comment has the comment's place, where the text has a slash.
fn is_doc_comment(token: &TokenTree, text: &[&str]) -> bool {
    let TokenTree::Punct(punct) = token else { return false };
    let start = punct.span().start();
    let line = text.get(start.line.saturating_sub(1)).copied().unwrap_or_default();
    punct.as_char() == '#' && line.chars().nth(start.column) == Some('/')
}

/// Collects functions and types, and the lines of what only tests compile.
#[derive(Debug, Default)]
struct Items {
    bodies: Vec<usize>,
    types: Vec<String>,
    tests: Vec<RangeInclusive<usize>>,
    test_modules: Vec<String>,
}

impl Items {
    fn body(&mut self, block: &syn::Block) {
        let (open, close) = (block.brace_token.span.open(), block.brace_token.span.close());
        let lines = close.start().line - open.start().line;
        self.bodies.push(if lines == 0 { 1 } else { lines - 1 });
    }

    /// Notes the lines of something that only tests compile, and says whether it is.
    fn is_test(&mut self, attributes: &[syn::Attribute], whole: proc_macro2::Span) -> bool {
        let test = attributes.iter().any(for_tests);
        if test {
            self.tests.push(whole.start().line..=whole.end().line);
        }
        test
    }
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if self.is_test(attributes(item), item.span()) {
            if let syn::Item::Mod(syn::ItemMod { ident, content: None, .. }) = item {
                self.test_modules.push(ident.to_string());
            }
            return;
        }
        let name = match item {
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            _ => None,
        };
        self.types.extend(name.map(ToString::to_string));
        syn::visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes = match item {
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Const(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !self.is_test(attributes, item.span()) {
            syn::visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.body(&item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.body(&item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, also with other conditions, and the feature `testing` for the tests of others.
fn for_tests(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
    let condition = list.tokens.to_string();
    let words: Vec<&str> =
        condition.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '"').collect();
    list.path.is_ident("cfg")
        && (words.contains(&"test") || words.contains(&"\"testing\""))
        && !words.contains(&"not")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::read(text).unwrap()
    }

    #[test]
    fn comments_blanks_and_documentation_are_no_code() {
        let text = "//! A file.\n\n/// A doc.\n#[doc = \"Code.\"]\n// Why.\nstruct A; // The end.\n\
                    /* More\nof it */\n/** Doc\nof lines */\nstruct B;\n";
        assert_eq!(source(text).code, 3);
    }

    #[test]
    fn a_string_counts_on_all_its_lines_and_a_slash_in_it_is_no_comment() {
        assert_eq!(source("const A: &str = \"one\n// two\nthree\";\n").code, 3);
    }

    #[test]
    fn tests_are_no_code_and_their_functions_and_types_are_not_counted() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    struct T;\n    fn b() {}\n}\n\
                    impl A {\n    #[cfg(test)]\n    fn c() {}\n}\n#[cfg(not(test))]\nfn d() {}\n\
                    #[cfg(any(test, feature = \"testing\"))]\nfn e() {}\n";
        let source = source(text);
        assert_eq!((source.code, source.bodies.len(), source.types.len()), (5, 2, 0));
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_is_named() {
        assert_eq!(source("#[cfg(test)]\nmod tests;\nmod other;\n").test_modules, ["tests"]);
    }

    #[test]
    fn a_body_is_what_stands_between_its_braces() {
        let text = "fn a() {}\nfn b() {\n    1;\n    2;\n}\ntrait T {\n    fn c() {\n    }\n    \
                    fn d();\n}\nimpl T for A {\n    fn c() { 1 }\n}\n";
        assert_eq!(source(text).bodies, [1, 2, 0, 1]);
    }

    #[test]
    fn each_definition_of_a_type_is_noted() {
        let text = "struct A; enum B {} trait C {} type D = A; fn e() { struct F; }\n\
                    impl C for A { type D = B; }\n";
        assert_eq!(source(text).types, ["A", "B", "C", "D", "F"]);
    }
}
