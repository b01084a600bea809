//! The report as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;
use status::escaped;

use super::finding::{Finding, Group, Level, Report, Verdict};

/// The version of the JSON document's schema.
const SCHEMA_VERSION: u32 = 1;
/// The longest line of text, in columns, where there is no terminal to be filled; and the most and
/// the fewest columns of one that are.
const WIDTH: usize = 110;
const WIDEST: usize = 120;
const NARROWEST: usize = 40;
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

/// How text is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextStyle {
    /// Whether in colour.
    pub colour: bool,
    /// For a terminal of so many columns; `None`: for no terminal.
    pub width: Option<usize>,
}

/// The report as text.
#[must_use]
pub fn text(report: &Report, style: TextStyle) -> String {
    let width = style.width.map_or(WIDTH, |width| width.clamp(NARROWEST, WIDEST));
    let mut writer = TextWriter { report, colour: style.colour, width, text: String::new() };
    let mut group = None;
    for finding in &report.findings {
        if group != Some(finding.group) {
            let gap = if group.is_some() { "\n" } else { "" };
            let head = writer.painted(heading(finding.group), "1");
            let _ = writeln!(writer.text, "{gap}{head}");
            group = Some(finding.group);
        }
        writer.finding(finding);
    }
    writer.summary();
    writer.text
}

struct TextWriter<'r> {
    report: &'r Report,
    colour: bool,
    width: usize,
    text: String,
}

impl TextWriter<'_> {
    fn finding(&mut self, finding: &Finding) {
        let (word, paint) = match finding.follows {
            Some(_) => ("follows", "2"),
            None => level(finding.level),
        };
        let begin = format!("  {}  ", self.painted(&format!("{word:<7}"), paint));
        self.paragraph(&begin, INDENT, &format!("{}: {}", finding.checked, finding.seen));
        let after = finding.follows.and_then(|id| self.checked_by(id));
        let after = after.map(|checked| format!("what is told under \"{checked}\""));
        let after = after.unwrap_or_default();
        let parts = match finding.follows {
            Some(_) => vec![("fix", &after)],
            None => vec![("why", &finding.why), ("fix", &finding.fix)],
        };
        for (label, words) in parts {
            if !words.is_empty() {
                let begin = format!("{:INDENT$}{} ", "", self.painted(label, "2"));
                self.paragraph(&begin, INDENT + label.len() + 1, words);
            }
        }
    }

    /// What the problem with this id is about.
    fn checked_by(&self, id: &str) -> Option<String> {
        let is_it = |of: &&Finding| of.id == id && of.level == Level::Problem;
        Some(self.report.findings.iter().find(is_it)?.checked.clone())
    }

    /// `words` after `begin`, broken into lines that begin at column `indent`.
    fn paragraph(&mut self, begin: &str, indent: usize, words: &str) {
        self.text.push_str(begin);
        let mut column = indent;
        for (n, word) in words.split_whitespace().enumerate() {
            // Much of it is text from elsewhere, which must not control the terminal.
            let word = &*escaped(word);
            let length = word.chars().count();
            if n > 0 && column + 1 + length > self.width {
                let _ = write!(self.text, "\n{:indent$}", "");
                column = indent;
            } else if n > 0 {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(word);
            column += length;
        }
        self.text.push('\n');
    }

    fn summary(&mut self) {
        let report = self.report;
        let levels = [
            (report.count(Level::Problem), "problem", "problems"),
            (report.consequences(), "that follows", "that follow"),
            (report.count(Level::Unknown), "not checked", "not checked"),
            (report.count(Level::Warning), "warning", "warnings"),
            (report.count(Level::Ok), "fine", "fine"),
        ];
        let counted = levels.map(|(count, one, many)| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {many}")),
        });
        let counted: Vec<String> = counted.into_iter().flatten().collect();
        let counted = self.painted(&counted.join(", "), "1");
        let _ = writeln!(self.text, "\n{counted}");
        match (report.verdict(), report.first_problem()) {
            (Verdict::Problems, Some(first)) => {
                self.paragraph(BEGIN, BEGIN.len(), &format!("{}: {}", first.checked, first.seen));
            }
            (Verdict::Unchecked, _) => self.text.push_str(
                "Nothing was found that keeps GPUs from pods; not everything could be checked.\n",
            ),
            _ => self.text.push_str("Nothing was found that keeps GPUs from pods.\n"),
        }
    }

    fn painted(&self, text: &str, paint: &str) -> String {
        if self.colour { format!("\x1b[{paint}m{text}\x1b[0m") } else { text.to_owned() }
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
