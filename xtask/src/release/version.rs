//! Whether a tag, the version of the workspace and the changelog are of one release.

use anyhow::{Context, bail, ensure};

/// The heading of what is not released yet.
const UNRELEASED: &str = "Unreleased";

/// What the changelog says of a version. The tag has to be the version's, everything that is not
/// released has to be under the version, and it has to have a date.
pub(crate) fn notes(version: &str, tag: &str, changelog: &str) -> anyhow::Result<String> {
    ensure!(tag == format!("v{version}"), "the tag of {version} is v{version}, not {tag}");
    let mut sections = sections(changelog);
    let unreleased = sections.next().context("CHANGELOG.md has no section")?;
    ensure!(unreleased.0 == format!("[{UNRELEASED}]"), "it begins with {}", unreleased.0);
    ensure!(
        !unreleased.1.lines().any(|line| line.starts_with("- ")),
        "CHANGELOG.md has entries under [{UNRELEASED}]: they belong under [{version}]"
    );
    let Some((heading, text)) = sections.next() else {
        bail!("CHANGELOG.md has no section [{version}] under [{UNRELEASED}]")
    };
    let date = heading.strip_prefix(&format!("[{version}] - ")).with_context(|| {
        format!("the newest section of CHANGELOG.md is {heading}, not [{version}] - YYYY-MM-DD")
    })?;
    ensure!(is_date(date), "{date} is no date as YYYY-MM-DD");
    let text = text.trim();
    ensure!(text.lines().any(|line| line.starts_with("- ")), "[{version}] has no entries");
    Ok(format!("{text}\n"))
}

/// Headings of the second level, with what is under them.
fn sections(changelog: &str) -> impl Iterator<Item = (&str, &str)> {
    changelog.split("\n## ").skip(1).map(|part| part.split_once('\n').unwrap_or((part, "")))
}

fn is_date(text: &str) -> bool {
    let mut parts = text.split('-').map(|part| (part.len(), part.parse::<u32>().ok()));
    let in_range = |part: Option<(usize, Option<u32>)>, length, most| {
        part.is_some_and(|(len, value)| {
            len == length && value.is_some_and(|value| (1..=most).contains(&value))
        })
    };
    in_range(parts.next(), 4, 9999)
        && in_range(parts.next(), 2, 12)
        && in_range(parts.next(), 2, 31)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "# Changelog\n\nAll.\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-29\n\n\
                         ### Added\n\n- A thing.\n\n## [1.1.0] - 2026-01-02\n\n- Older.\n";

    #[test]
    fn the_notes_are_what_stands_under_the_version() {
        assert_eq!(notes("1.2.0", "v1.2.0", RIGHT).unwrap(), "### Added\n\n- A thing.\n");
    }

    #[test]
    fn a_tag_and_a_changelog_of_another_release_are_refused() {
        for (version, tag, changelog, words) in [
            ("1.2.0", "1.2.0", RIGHT.to_owned(), "not 1.2.0"),
            ("1.3.0", "v1.2.0", RIGHT.to_owned(), "not v1.2.0"),
            ("1.3.0", "v1.3.0", RIGHT.to_owned(), "[1.2.0] - 2026-11-29, not [1.3.0]"),
            ("1.1.0", "v1.1.0", RIGHT.to_owned(), "[1.2.0]"),
            ("1.2.0", "v1.2.0", RIGHT.replace(" - 2026-11-29", ""), "not [1.2.0] - YYYY"),
            ("1.2.0", "v1.2.0", RIGHT.replace("2026-11-29", "2026-13-29"), "no date"),
            ("1.2.0", "v1.2.0", RIGHT.replace("2026-11-29", "29.11.2026"), "no date"),
            ("1.2.0", "v1.2.0", RIGHT.replace("- A thing.\n", ""), "no entries"),
            ("1.2.0", "v1.2.0", RIGHT.replace("d]\n\n", "d]\n\n- New.\n\n"), "belong under"),
            ("1.2.0", "v1.2.0", RIGHT.replace("## [Unreleased]\n\n", ""), "begins with [1.2.0]"),
            ("1.2.0", "v1.2.0", "# Changelog\n".to_owned(), "no section"),
            ("1.2.0", "v1.2.0", "#\n\n## [Unreleased]\n".to_owned(), "no section [1.2.0]"),
        ] {
            let error = notes(version, tag, &changelog).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_changelog_of_this_repository_has_the_form() {
        let text = include_str!("../../../CHANGELOG.md");
        let headings: Vec<&str> = sections(text).map(|(heading, _)| heading).collect();
        assert_eq!(headings.first(), Some(&"[Unreleased]"));
        for heading in &headings[1..] {
            assert!(heading.rsplit_once(" - ").is_some_and(|(_, date)| is_date(date)), "{heading}");
        }
    }
}
