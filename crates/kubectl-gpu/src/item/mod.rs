//! What is shown of Nodes: a row for each, or a row for each of their problems.

#[cfg(test)]
mod tests;

use serde::Serialize;
use status::{NodeBrief, Severity, Timestamp, duration};

use crate::node::{NodeView, Summary};

/// The longest cell of a table that is not wide, and of one that is, in characters.
const MAX_CELL: usize = 48;
const MAX_WIDE_CELL: usize = 240;

/// A row, in each format.
pub(crate) trait Item: Serialize + Clone + PartialEq {
    /// What JSON calls all of them.
    const NAME: &'static str;
    /// The headings of a wide table.
    const HEADINGS: &'static [&'static str];
    /// How many of them a table has that is not wide.
    const NARROW: usize;
    /// Whether one that is no longer there is told of, beside those that are.
    const ENDS: bool;

    /// Those of a Node.
    fn of(node: &NodeView) -> Vec<Self>;
    /// The order in which they are listed.
    fn sort(items: &mut [Self]);
    /// The cells of a wide table.
    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String>;
    /// The cells once it is gone.
    fn gone(&self, now: Timestamp, wide: bool) -> Vec<String>;
}

/// A Node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeItem {
    node: String,
    /// As `kubectl get nodes` has it.
    status: String,
    kubelet: String,
    /// What the agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<NodeBrief>,
    /// Why what the agent says cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// When that last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_changed_at: Option<Timestamp>,
}

/// A problem of a Node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProblemItem {
    node: String,
    severity: Severity,
    /// One of a fixed set of words, for programs.
    kind: String,
    title: String,
    /// Which GPUs it is of, in words, and the UUIDs of the first few.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gpus: Vec<String>,
    /// What the table has beside the GPU.
    #[serde(skip)]
    short: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
}

impl Item for NodeItem {
    const NAME: &'static str = "nodes";
    const HEADINGS: &'static [&'static str] = &[
        "NODE", "STATUS", "GPUS", "HEALTHY", "HELD", "PROBLEMS", "DRIVER", "PLUGIN", "CHANGED",
        "KUBELET",
    ];
    const NARROW: usize = 9;
    const ENDS: bool = false;

    fn of(node: &NodeView) -> Vec<Self> {
        let (summary, unreadable) = match &node.summary {
            Summary::Missing => (None, None),
            Summary::Unreadable(why) => (None, Some(why.clone())),
            Summary::Read(brief) => (Some(brief.clone()), None),
        };
        vec![Self {
            node: node.name.clone(),
            status: node.status.clone(),
            kubelet: node.kubelet.clone(),
            summary,
            unreadable,
            summary_changed_at: node.changed,
        }]
    }

    fn sort(_: &mut [Self]) {
        // As the API server has them, by name.
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let brief = self.summary.as_ref();
        let count = |count: Option<usize>| count.map_or_else(none, |count| count.to_string());
        let text = |text: Option<&String>| text.map_or_else(none, |text| cell(text, wide));
        vec![
            self.node.clone(),
            self.status.clone(),
            count(brief.and_then(|brief| brief.gpus)),
            count(brief.map(|brief| brief.healthy)),
            count(brief.and_then(|brief| brief.held)),
            cell(&self.problems(wide), wide),
            text(brief.and_then(|brief| brief.driver.as_ref())),
            text(brief.map(|brief| &brief.plugin)),
            self.summary_changed_at.map_or_else(none, |at| duration(now.since(at))),
            self.kubelet.clone(),
        ]
    }

    fn gone(&self, now: Timestamp, wide: bool) -> Vec<String> {
        Self { status: "Deleted".to_owned(), ..self.clone() }.cells(now, wide)
    }
}

impl NodeItem {
    /// The worst problem and how many more there are; all that are known where it is wide.
    fn problems(&self, wide: bool) -> String {
        let Some(brief) = &self.summary else {
            return match &self.unreadable {
                Some(why) => format!("unreadable summary: {why}"),
                None => "no summary".to_owned(),
            };
        };
        let shown = if wide { brief.problems.len() } else { 1 };
        let titles = brief.problems.iter().take(shown).map(|problem| problem.title.clone());
        let more = brief.problems.len().saturating_sub(shown).saturating_add(brief.more_problems);
        let more = (more > 0).then(|| format!("{more} more"));
        let words: Vec<String> = titles.chain(more).collect();
        if words.is_empty() { none() } else { words.join(", ") }
    }
}

impl Item for ProblemItem {
    const NAME: &'static str = "problems";
    const HEADINGS: &'static [&'static str] =
        &["NODE", "SEVERITY", "GPU", "PROBLEM", "SINCE", "FOR", "KIND", "DRIVER", "UUID"];
    const NARROW: usize = 6;
    const ENDS: bool = true;

    fn of(node: &NodeView) -> Vec<Self> {
        let own = |severity, kind: &str, title: String| Self {
            node: node.name.clone(),
            severity,
            kind: kind.to_owned(),
            short: title.clone(),
            title,
            gpu: None,
            gpus: Vec::new(),
            since: None,
            driver: None,
        };
        let mut items = Vec::new();
        if node.has_gpus() && !node.is_ready() {
            let title = format!("node is {}: its summary may be outdated", node.status);
            items.push(own(Severity::Error, "node_not_ready", title));
        }
        let brief = match &node.summary {
            Summary::Missing => return items,
            Summary::Unreadable(why) => {
                let title = format!("unreadable summary: {why}");
                items.push(own(Severity::Warning, "summary_unreadable", title));
                return items;
            }
            Summary::Read(brief) => brief,
        };
        items.extend(brief.problems.iter().map(|problem| Self {
            gpu: problem.gpu().map(str::to_owned),
            gpus: problem.gpus.clone(),
            short: problem.without_gpu().to_owned(),
            since: problem.since,
            driver: brief.driver.clone(),
            ..own(problem.severity, &problem.kind, problem.title.clone())
        }));
        if brief.more_problems > 0 {
            let title = format!("{} more: kubectl gpu {}", brief.more_problems, node.name);
            items.push(own(Severity::Other, "more_problems", title));
        }
        items
    }

    fn sort(items: &mut [Self]) {
        // Stable: those of one severity keep the order of their nodes.
        items.sort_by_key(|item| item.severity);
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Other => "-",
        };
        vec![
            self.node.clone(),
            severity.to_owned(),
            self.gpu.as_ref().map_or_else(none, |gpu| cell(gpu, wide)),
            cell(&self.short, wide),
            self.since.map_or_else(none, |since| since.clock(now)),
            self.since.map_or_else(none, |since| duration(now.since(since))),
            cell(&self.kind, wide),
            self.driver.as_ref().map_or_else(none, |driver| cell(driver, wide)),
            if self.gpus.is_empty() { none() } else { cell(&self.gpus.join(","), wide) },
        ]
    }

    fn gone(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let mut cells = self.cells(now, wide);
        "over".clone_into(&mut cells[1]);
        cells
    }
}

fn none() -> String {
    "-".to_owned()
}

/// A text that does not push the other columns off the terminal.
fn cell(text: &str, wide: bool) -> String {
    let longest = if wide { MAX_WIDE_CELL } else { MAX_CELL };
    match text.chars().count() > longest {
        true => text.chars().take(longest - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
