//! Patterns as of `include /etc/ld.so.conf.d/*.conf` (glob(7)), matched beneath a container's root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::limits;
use crate::root::ContainerRoot;

/// What may still be looked at for patterns, in entries of directories. Who has none left finds
/// nothing.
#[derive(Debug)]
pub struct Budget(pub usize);

/// What to open a directory costs, in entries.
const OPEN_COST: usize = 16;

/// The paths that a pattern stands for, in order, `most` of them at most.
pub fn paths(
    root: &ContainerRoot,
    pattern: &Path,
    most: usize,
    budget: &mut Budget,
) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.components().take(limits::PATH_COMPONENTS) {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) if name.as_bytes().iter().any(|byte| b"*?[".contains(byte)) => {
                let directories = std::mem::take(&mut found);
                for directory in directories {
                    found.extend(matching(root, &directory, name, budget));
                }
                found.truncate(most);
            }
            other => found.iter_mut().for_each(|path| path.push(other)),
        }
    }
    found.sort();
    found
}

fn matching(
    root: &ContainerRoot,
    directory: &Path,
    pattern: &OsStr,
    budget: &mut Budget,
) -> Vec<PathBuf> {
    let wanted = |name: &OsStr| {
        // A leading dot has to be there in words.
        (pattern.as_bytes()[0] == b'.' || name.as_bytes()[0] != b'.')
            && matches(pattern.as_bytes(), name.as_bytes())
    };
    budget.0 = budget.0.saturating_sub(OPEN_COST);
    if budget.0 == 0 {
        return Vec::new();
    }
    let Ok(found) = root.entries(directory, budget.0, wanted) else { return Vec::new() };
    budget.0 = budget.0.saturating_sub(found.count);
    found.entries.into_iter().map(|entry| directory.join(entry.name)).collect()
}

/// Whether a name is of a pattern. It takes at most as many steps as both lengths multiplied.
#[must_use]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and where it has matched up to.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = one(pattern, p, name[n]) {
            (p, n) = (next, n + 1);
        } else if let Some((after, upto)) = star {
            star = Some((after, upto + 1));
            (p, n) = (after, upto + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Where the pattern goes on, if its part at `at` matches a byte.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match set(&pattern[at + 1..], byte) {
            Some((true, length)) => Some(at + 1 + length),
            Some((false, _)) => None,
            // Without an end it is a bracket.
            None => (byte == b'[').then_some(at + 1),
        },
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (literal == byte).then_some(at + 1),
    }
}

/// Whether a byte is in the set whose text begins here, and the length of the text with its end.
fn set(text: &[u8], byte: u8) -> Option<(bool, usize)> {
    let is_negated = matches!(text.first(), Some(b'!' | b'^'));
    let start = usize::from(is_negated);
    // A bracket at the start belongs to the set.
    let end = start + 1 + text.get(start + 1..)?.iter().position(|byte| *byte == b']')?;
    let mut members = &text[start..end];
    let mut is_in = false;
    while let [first, rest @ ..] = members {
        if let [b'-', last, rest @ ..] = rest {
            is_in |= (*first..=*last).contains(&byte);
            members = rest;
        } else {
            is_in |= *first == byte;
            members = rest;
        }
    }
    Some((is_in != is_negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_those_of_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbY", false),
            ("?", "", false),
            ("??", "ab", true),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("[a", "a", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 255]));
    }
}
