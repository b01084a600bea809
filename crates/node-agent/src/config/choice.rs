//! The choice of a configuration, as NVIDIA's config manager makes it
//! (`cmd/config-manager/main.go`, v0.20.0). Pure.

use std::collections::BTreeSet;

use crate::args::Fallback;

/// The name that the fallback `named` takes.
const NAMED: &str = "default";

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The configuration of this name, which may not be there.
    Named(String),
    /// None, by the fallback `empty`.
    Empty,
    /// Nothing says which.
    Nothing,
}

/// The configuration for a node with this label, if it has it, among those of these names.
#[must_use]
pub fn choose(
    label: Option<&str>,
    default: &str,
    fallbacks: &[Fallback],
    names: &BTreeSet<String>,
) -> Choice {
    let given = [label.unwrap_or_default(), default];
    if let Some(name) = given.into_iter().find(|name| !name.is_empty()) {
        return Choice::Named(name.to_owned());
    }
    for fallback in fallbacks {
        match fallback {
            Fallback::Named if names.contains(NAMED) => return Choice::Named(NAMED.to_owned()),
            Fallback::Single if names.len() == 1 => {
                return names.first().cloned().map_or(Choice::Nothing, Choice::Named);
            }
            Fallback::Empty => return Choice::Empty,
            Fallback::Named | Fallback::Single => {}
        }
    }
    Choice::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Fallback::{Empty, Named, Single};

    #[test]
    fn the_label_goes_before_the_default_and_that_before_the_fallbacks_in_their_order() {
        type Row<'a> = (Option<&'a str>, &'a str, &'a [Fallback], &'a [&'a str], &'a str);
        let table: [Row<'_>; 10] = [
            (Some("a"), "b", &[Empty], &["b"], "a"),
            (Some(""), "b", &[Empty], &["b"], "b"),
            (None, "b", &[Named], &["default"], "b"),
            (None, "", &[Named, Single], &["default", "x"], "default"),
            (None, "", &[Named, Single], &["x"], "x"),
            (None, "", &[Single, Named], &["default"], "default"),
            (None, "", &[Named, Single, Empty], &["x", "y"], "<empty>"),
            (None, "", &[Empty, Named], &["default"], "<empty>"),
            (None, "", &[Named, Single], &["x", "y"], "<nothing>"),
            (None, "", &[], &["default"], "<nothing>"),
        ];
        for (label, default, fallbacks, names, expected) in table {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            let chosen = match choose(label, default, fallbacks, &names) {
                Choice::Named(name) => name,
                Choice::Empty => "<empty>".to_owned(),
                Choice::Nothing => "<nothing>".to_owned(),
            };
            assert_eq!(chosen, expected, "{label:?} {default:?} {fallbacks:?} {names:?}");
        }
    }
}
