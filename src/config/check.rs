//! Checks files with configurations, and starts nothing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::checks::Purpose;
use super::embedded::{self, Embedded};
use super::file::{FileText, read_start};
use super::load::load_lossy;
use super::report::{ConfigReport, Context, Diagnostic, Origin};
use super::sources::Sources;

/// The name of standard input.
const STANDARD_INPUT: &str = "-";
/// The version of the schema of [`json`].
const SCHEMA_VERSION: u32 = 1;

/// A configuration that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedConfig {
    /// Its file.
    pub file: PathBuf,
    /// The path of its key in the file; `None`: it is the file.
    pub key: Option<String>,
    /// What is wrong with it.
    pub report: ConfigReport,
}

impl CheckedConfig {
    /// Whether there is no mistake, and where `strict` no warning either.
    #[must_use]
    pub fn passes(&self, strict: bool) -> bool {
        let ConfigReport { mistakes, warnings, .. } = &self.report;
        mistakes.is_empty() && (!strict || warnings.is_empty())
    }

    /// The result in lines, the first of which names the configuration.
    #[must_use]
    pub fn text(&self) -> String {
        let file = self.file.display();
        let name = match &self.key {
            Some(key) => format!("{file}, {key}"),
            None => file.to_string(),
        };
        let result = if self.report.mistakes.is_empty() { "no mistakes" } else { "refused" };
        format!("{name}: {result}\n{}", self.report)
    }
}

/// The content of a file, or of standard input for `-`; of one that is too large, more than a
/// config file may have. A person waits for it, so that it may be a pipe.
///
/// # Errors
/// It cannot be read; why.
pub fn read(file: &Path) -> Result<Vec<u8>, String> {
    let content = match file.to_str() {
        Some(STANDARD_INPUT) => read_start(io::stdin().lock()),
        _ => File::open(file).and_then(read_start),
    };
    content.map_err(|error| error.to_string())
}

/// Checks the configuration in a file, or each of those in a ConfigMap or in the values of a Helm
/// chart, with the flags and the environment of `sources`.
#[must_use]
pub fn check(
    sources: &Sources,
    file: &Path,
    content: Result<Vec<u8>, String>,
) -> Vec<CheckedConfig> {
    let mut sources = sources.clone();
    sources.set_config_file(file.to_string_lossy().into_owned());
    let text = content.as_ref().ok().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let embedded = text.map(embedded::find).unwrap_or_default();
    let checked = |key, report| CheckedConfig { file: file.to_owned(), key, report };
    if embedded.is_empty() {
        let no_config = text.and_then(embedded::without_keys);
        let text = FileText { path: file.to_owned(), content };
        let mut report = load_lossy(&sources, Some(&text), Purpose::Check).1;
        if let Some((line, problem)) = no_config.filter(|_| report.mistakes.is_empty()) {
            let mut context = Context { report, ..Context::default() };
            context.mistake(Origin::File { line }, "", "", problem);
            report = context.report;
        }
        return vec![checked(None, report)];
    }
    embedded
        .into_iter()
        .map(|one| checked(Some(one.key.clone()), check_embedded(&sources, file, one)))
        .collect()
}

fn check_embedded(sources: &Sources, file: &Path, embedded: Embedded) -> ConfigReport {
    let Embedded { key, text, line, has_lines } = embedded;
    let text = match text {
        Ok(text) if has_lines => "\n".repeat(lines_above(line, &text)) + &text,
        Ok(text) => text,
        Err(problem) => {
            let mut context = Context::default();
            context.report.file = Some(file.to_owned());
            context.mistake(Origin::File { line }, key, "", problem);
            return context.report;
        }
    };
    let text = FileText { path: file.to_owned(), content: Ok(text.into_bytes()) };
    let mut report = load_lossy(sources, Some(&text), Purpose::Check).1;
    if !has_lines {
        report.mistakes.iter_mut().chain(&mut report.warnings).for_each(|of| place(of, line));
    }
    report
}

/// How many lines of its file are above a block, whose first line with a text is this one.
fn lines_above(first: u32, text: &str) -> usize {
    let empty = text.bytes().take_while(|byte| *byte == b'\n').count();
    usize::try_from(first).unwrap_or(0).saturating_sub(1 + empty)
}

/// Gives a line of a text that stands on one line of its file as the latter.
fn place(diagnostic: &mut Diagnostic, of_file: u32) {
    if let Origin::File { line } = &mut diagnostic.origin {
        let of_text = std::mem::replace(line, of_file);
        diagnostic.problem += &format!(" (line {of_text} of the text)");
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'r> {
    schema_version: u32,
    valid: bool,
    configurations: Vec<Entry<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'r> {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'r str>,
    valid: bool,
    mistakes: Vec<Item<'r>>,
    warnings: Vec<Item<'r>>,
    /// Those beyond what anybody reads.
    more_mistakes: usize,
    more_warnings: usize,
}

/// A mistake or a warning.
#[derive(Serialize)]
struct Item<'r> {
    /// `file, line 3`, `flag --mig-strategy`, `environment MIG_STRATEGY`, `default`.
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'r str,
    problem: &'r str,
}

/// The results as JSON.
#[must_use]
pub fn json(checked: &[CheckedConfig], strict: bool) -> String {
    let document = Document {
        schema_version: SCHEMA_VERSION,
        valid: checked.iter().all(|one| one.passes(strict)),
        configurations: checked.iter().map(|one| entry(one, strict)).collect(),
    };
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn entry(checked: &CheckedConfig, strict: bool) -> Entry<'_> {
    let CheckedConfig { file, key, report } = checked;
    Entry {
        file: file.display().to_string(),
        key: key.as_deref(),
        valid: checked.passes(strict),
        mistakes: report.mistakes.iter().map(item).collect(),
        warnings: report.warnings.iter().map(item).collect(),
        more_mistakes: report.more_mistakes,
        more_warnings: report.more_warnings,
    }
}

fn item(diagnostic: &Diagnostic) -> Item<'_> {
    let Diagnostic { origin, key, value, problem } = diagnostic;
    let line = if let Origin::File { line } = origin { Some(*line) } else { None };
    Item { source: origin.to_string(), line, key, value, problem }
}
