//! What can be told from tokens that are not parsed: those of macros and attributes.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{Attribute, Meta};

/// The paths among tokens, and where each begins.
pub(crate) fn paths(tokens: &TokenStream) -> Vec<(Vec<String>, Span)> {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let colon = |at: usize| match tokens.get(at) {
        Some(TokenTree::Punct(punct)) => punct.as_char() == ':',
        _ => false,
    };
    let mut paths = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) => paths.extend(self::paths(&group.stream())),
            TokenTree::Ident(first) => {
                let mut path = vec![first.to_string()];
                while let (true, true, Some(TokenTree::Ident(word))) =
                    (colon(at), colon(at + 1), tokens.get(at + 2))
                {
                    path.push(word.to_string());
                    at += 3;
                }
                paths.push((path, first.span()));
            }
            _ => {}
        }
    }
    paths
}

/// Whether what has these attributes is compiled for tests alone.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let words = paths(&list.tokens);
            let has = |word: &str| words.iter().any(|(path, _)| path[0] == word);
            has("test") && !has("not")
        }
        _ => false,
    })
}
