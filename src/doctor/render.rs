//! The report as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;
use status::escaped;

use super::finding::{Finding, Group, Level, Report, Verdict};

/// The version of the JSON document's schema.
const SCHEMA_VERSION: u32 = 1;
/// The longest line of text, in columns.
const WIDTH: usize = 110;
/// Before the problem to begin with.
const BEGIN: &str = "Begin with: ";
/// The column at which the text of a finding begins.
const INDENT: usize = 11;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'r> {
    schema_version: u32,
    version: &'r str,
    verdict: Verdict,
    problems: usize,
    warnings: usize,
    unknown: usize,
    findings: &'r [Finding],
}

/// The report as JSON, with the version of its schema.
#[must_use]
pub fn json(report: &Report) -> String {
    let document = Document {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        verdict: report.verdict(),
        problems: report.count(Level::Problem),
        warnings: report.count(Level::Warning),
        unknown: report.count(Level::Unknown),
        findings: &report.findings,
    };
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

/// The report as text, with colour or without.
#[must_use]
pub fn text(report: &Report, colour: bool) -> String {
    let mut text = String::new();
    let mut group = None;
    for finding in &report.findings {
        if group != Some(finding.group) {
            let gap = if group.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{}", painted(heading(finding.group), "1", colour));
            group = Some(finding.group);
        }
        one(&mut text, finding, colour);
    }
    summary(&mut text, report, colour);
    text
}

fn one(text: &mut String, finding: &Finding, colour: bool) {
    let (word, paint) = level(finding.level);
    let begin = format!("  {}  ", painted(&format!("{word:<7}"), paint, colour));
    paragraph(text, &begin, INDENT, &format!("{}: {}", finding.checked, finding.seen));
    for (label, words) in [("why", &finding.why), ("fix", &finding.fix)] {
        if !words.is_empty() {
            let begin = format!("{:INDENT$}{} ", "", painted(label, "2", colour));
            paragraph(text, &begin, INDENT + label.len() + 1, words);
        }
    }
}

/// `words` after `begin`, broken into lines that begin at column `indent`.
fn paragraph(text: &mut String, begin: &str, indent: usize, words: &str) {
    text.push_str(begin);
    let mut column = indent;
    for (n, word) in words.split_whitespace().enumerate() {
        // Much of it is text from elsewhere, which must not control the terminal.
        let word = &*escaped(word);
        let length = word.chars().count();
        if n > 0 && column + 1 + length > WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if n > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

fn summary(text: &mut String, report: &Report, colour: bool) {
    let levels = [
        (Level::Problem, "problem", "problems"),
        (Level::Unknown, "not checked", "not checked"),
        (Level::Warning, "warning", "warnings"),
        (Level::Ok, "fine", "fine"),
    ];
    let counted = levels.map(|(level, one, many)| match report.count(level) {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    });
    let counted: Vec<String> = counted.into_iter().flatten().collect();
    let _ = writeln!(text, "\n{}", painted(&counted.join(", "), "1", colour));
    match (report.verdict(), report.first_problem()) {
        (Verdict::Problems, Some(first)) => {
            paragraph(text, BEGIN, BEGIN.len(), &format!("{}: {}", first.checked, first.seen));
        }
        (Verdict::Unchecked, _) => text.push_str(
            "Nothing was found that keeps GPUs from pods; not everything could be checked.\n",
        ),
        _ => text.push_str("Nothing was found that keeps GPUs from pods.\n"),
    }
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Configuration => "Configuration",
        Group::Driver => "Driver",
        Group::Gpus => "GPUs",
        Group::Kubelet => "Kubelet",
        Group::Runtime => "Container runtime",
        Group::Node => "Node",
    }
}

/// The word for a level, and its colour (ECMA-48, SGR).
fn level(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Ok => ("ok", "32"),
        Level::Warning => ("warning", "33"),
        Level::Unknown => ("unknown", "35"),
        Level::Problem => ("PROBLEM", "31;1"),
    }
}

fn painted(text: &str, paint: &str, colour: bool) -> String {
    if colour { format!("\x1b[{paint}m{text}\x1b[0m") } else { text.to_owned() }
}
