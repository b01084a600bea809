//! Parts of files that are made from the program or from `Cargo.toml`.
//!
//! A part stands between a line with `begin generated: NAME` and a line with `end generated: NAME`,
//! each in a comment of the file's language. The two lines stay.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::project;

/// A part of a file, and what makes it.
struct Part {
    /// The file, below the root of the repository.
    file: &'static str,
    name: &'static str,
    /// Makes the text from the root of the repository.
    make: fn(&Path) -> anyhow::Result<String>,
}

const PARTS: &[Part] = &[
    Part { file: "SECURITY.md", name: "contact", make: project::security_contact },
    Part { file: "docs/configuration.md", name: "settings", make: settings },
    Part { file: "docs/xids.md", name: "xids", make: xids },
];

/// The settings as Markdown, by the program that takes them.
fn settings(root: &Path) -> anyhow::Result<String> {
    printed(root, &["config", "reference"])
}

/// The classes of Xids and the Xids as Markdown, by the program that judges by them.
fn xids(root: &Path) -> anyhow::Result<String> {
    printed(root, &["xid", "--markdown"])
}

/// What the program prints.
fn printed(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let run = ["run", "--quiet", "--package", "gpu-device-plugin", "--"];
    let output =
        Command::new(env!("CARGO")).current_dir(root).args(run).args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Writes every part, or fails with a diff where `check` is set and a file has another text.
pub(crate) fn generate(root: &Path, check: bool) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for part in PARTS {
        let (file, made) = (root.join(part.file), (part.make)(root)?);
        if !regenerate(&file, part.name, &made, check)? {
            stale.push(part.file);
        }
    }
    ensure!(stale.is_empty(), "run `cargo xtask docs`: {} is not up to date", stale.join(", "));
    Ok(())
}

/// Replaces one part of a file, unless it has that text already. With `check` it changes nothing,
/// prints the difference, and returns whether there is none.
fn regenerate(file: &Path, name: &str, made: &str, check: bool) -> anyhow::Result<bool> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let replaced = replace(&text, name, made).with_context(|| file.display().to_string())?;
    if replaced == text {
        return Ok(true);
    }
    if check {
        print_difference(file, &replaced)?;
        return Ok(false);
    }
    fs::write(file, replaced).with_context(|| file.display().to_string())?;
    println!("{} is new in {}", name, file.display());
    Ok(true)
}

/// The text with another one between the two lines that name the part.
fn replace(text: &str, name: &str, made: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("begin generated: {name}"), format!("end generated: {name}"));
    let has = |line: &str, marker: &str| {
        // A name is not the beginning of another name.
        let goes_on = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        line.split_once(marker).is_some_and(|(_, rest)| !rest.starts_with(goes_on))
    };
    let (mut out, mut inside, mut parts) = (String::new(), false, 0);
    for line in text.split_inclusive('\n') {
        if has(line, &end) {
            ensure!(inside, "`{end}` comes before `{begin}`");
            inside = false;
        }
        if !inside {
            out.push_str(line);
        }
        if has(line, &begin) {
            ensure!(!inside, "`{begin}` comes twice");
            (inside, parts) = (true, parts + 1);
            out.push_str(made.trim_end());
            out.push('\n');
        }
    }
    ensure!(!inside, "there is no line with `{end}`");
    match parts {
        1 => Ok(out),
        0 => bail!("there is no line with `{begin}`"),
        _ => bail!("`{begin}` comes twice"),
    }
}

fn print_difference(file: &Path, made: &str) -> anyhow::Result<()> {
    let other = tempfile::NamedTempFile::new().context("cannot make a file")?;
    fs::write(other.path(), made).context("cannot write a file")?;
    // Its exit code says that there is a difference, which is known.
    Command::new("git")
        .args(["--no-pager", "diff", "--no-index", "--"])
        .args([file, other.path()])
        .status()
        .context("cannot run git")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "before\n<!-- begin generated: a -->\nold\n<!-- end generated: a -->\nafter\n";

    #[test]
    fn what_stands_between_the_lines_is_replaced_and_nothing_else() {
        let new =
            "before\n<!-- begin generated: a -->\nnew\nlines\n<!-- end generated: a -->\nafter\n";
        assert_eq!(replace(TEXT, "a", "new\nlines\n").unwrap(), new);
        assert_eq!(replace(new, "a", "new\nlines").unwrap(), new);
    }

    #[test]
    fn another_part_is_left_alone() {
        let text = format!("{TEXT}# begin generated: a-b\nkept\n# end generated: a-b\n");
        let replaced = replace(&text, "a", "new").unwrap();
        assert!(replaced.contains("new") && replaced.contains("kept"), "{replaced}");
    }

    #[test]
    fn a_missing_or_doubled_line_is_an_error() {
        let texts = [
            "text\n".to_owned(),
            "begin generated: a\n".to_owned(),
            "end generated: a\n".to_owned(),
            "begin generated: a\nbegin generated: a\nend generated: a\n".to_owned(),
            format!("{TEXT}{TEXT}"),
        ];
        for text in texts {
            assert!(replace(&text, "a", "new").is_err(), "{text}");
        }
    }

    #[test]
    fn a_check_changes_nothing_and_says_that_the_text_differs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), TEXT).unwrap();
        assert!(!regenerate(file.path(), "a", "new", true).unwrap());
        assert_eq!(fs::read_to_string(file.path()).unwrap(), TEXT);
        assert!(regenerate(file.path(), "a", "new", false).unwrap());
        assert!(regenerate(file.path(), "a", "new", true).unwrap());
    }
}
