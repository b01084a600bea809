//! All nodes: the list, and then each change.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};
use status::{Columns, Timestamp};

use crate::api::ApiServer;
use crate::args::{Format, ViewFlags};
use crate::item::Item;
use crate::node::{NodeView, Summary};
use crate::nodes::{Change, LIST, NodeSource, WATCH};
use crate::output::{Output, Stop, note, print};

/// The version of the form of JSON and YAML. Within one, fields are added and never changed.
const VERSION: u32 = 1;

/// Prints all nodes, and with `--watch` each change.
pub(crate) fn show<I: Item>(
    api: &ApiServer,
    view: &ViewFlags,
    output: &Output,
) -> Result<(), Stop> {
    let source = NodeSource { api, selector: view.selector.as_deref().unwrap_or_default() };
    let list = source.list().map_err(|error| error.without(LIST))?;
    let mut screen = Screen::<I>::new(view, output);
    screen.list(&list.nodes)?;
    if !view.watch {
        return Ok(());
    }
    let mut lost = String::new();
    source.watch(&list, |change| {
        if !matches!(change, Change::Lost(_)) {
            lost.clear();
        }
        match change {
            Change::Is(node) => screen.update(&node),
            Change::Gone(name) => screen.remove(&name),
            Change::All(nodes) => screen.replace(&nodes),
            Change::Lost(error) => {
                let why = error.without(WATCH);
                // Each reason once.
                if why != lost {
                    note(&format!("{why}; will be tried again"));
                }
                lost = why;
                Ok(())
            }
        }
    })
}

/// A change as data.
#[derive(Serialize)]
struct Event<'a, I> {
    /// As those of Kubernetes.
    #[serde(rename = "type")]
    kind: &'static str,
    object: &'a I,
}

/// What has been printed.
struct Screen<'a, I> {
    view: &'a ViewFlags,
    output: &'a Output,
    columns: Columns,
    shown: BTreeMap<String, Vec<I>>,
}

impl<'a, I: Item> Screen<'a, I> {
    fn new(view: &'a ViewFlags, output: &'a Output) -> Self {
        Self { view, output, columns: Columns::default(), shown: BTreeMap::new() }
    }

    /// The items of a node.
    fn items(&self, node: &NodeView) -> Vec<I> {
        if self.view.all || node.has_gpus() { I::of(node) } else { Vec::new() }
    }

    /// Prints all that there is.
    fn list(&mut self, nodes: &[NodeView]) -> Result<(), Stop> {
        let mut all = Vec::new();
        for node in nodes {
            let items = self.items(node);
            all.extend(items.iter().cloned());
            if self.view.watch && !items.is_empty() {
                self.shown.insert(node.name.clone(), items);
            }
        }
        I::sort(&mut all);
        if self.output.is_data() {
            let mut list = Map::new();
            list.insert("version".to_owned(), VERSION.into());
            let items = serde_json::to_value(&all).map_err(|error| error.to_string())?;
            list.insert(I::NAME.to_owned(), items);
            return self.output.print_data(&Value::Object(list));
        }
        note_what_is_missing(nodes, all.len(), I::ENDS);
        let mut rows = Vec::new();
        if !self.view.no_headers && (!all.is_empty() || self.view.watch) {
            rows.push(I::HEADINGS.iter().map(|heading| (*heading).to_owned()).collect());
        }
        let (now, wide) = (now(), self.is_wide());
        rows.extend(all.iter().map(|item| item.cells(now, wide)));
        self.print(rows)
    }

    /// Prints what is another with a node.
    fn update(&mut self, node: &NodeView) -> Result<(), Stop> {
        let items = self.items(node);
        let before = self.shown.remove(&node.name).unwrap_or_default();
        let kind = if before.is_empty() { "ADDED" } else { "MODIFIED" };
        let new = items.iter().filter(|item| !before.contains(item));
        let over = before.iter().filter(|item| !items.contains(item));
        // A row that takes the place of another says enough.
        let over = over.filter(|_| I::ENDS || items.is_empty());
        let changes: Vec<_> =
            new.map(|item| (kind, item)).chain(over.map(|item| ("DELETED", item))).collect();
        self.changes(&changes)?;
        if !items.is_empty() {
            self.shown.insert(node.name.clone(), items);
        }
        Ok(())
    }

    /// Prints that a node is gone.
    fn remove(&mut self, name: &str) -> Result<(), Stop> {
        let before = self.shown.remove(name).unwrap_or_default();
        self.changes(&before.iter().map(|item| ("DELETED", item)).collect::<Vec<_>>())
    }

    /// Prints what is another than it was, where changes were missed.
    fn replace(&mut self, nodes: &[NodeView]) -> Result<(), Stop> {
        let there = |name: &String| nodes.iter().any(|node| node.name == *name);
        let gone: Vec<String> = self.shown.keys().filter(|name| !there(name)).cloned().collect();
        gone.iter().try_for_each(|name| self.remove(name))?;
        nodes.iter().try_for_each(|node| self.update(node))
    }

    fn changes(&mut self, changes: &[(&'static str, &I)]) -> Result<(), Stop> {
        if self.output.is_data() {
            return changes.iter().try_for_each(|(kind, object)| {
                if self.output.format == Format::Yaml {
                    print("---\n")?;
                }
                self.output.print_data(&Event { kind, object: *object })
            });
        }
        let (now, wide) = (now(), self.is_wide());
        let cells = |(kind, item): &(&str, &I)| match *kind {
            "DELETED" => item.gone(now, wide),
            _ => item.cells(now, wide),
        };
        self.print(changes.iter().map(cells).collect())
    }

    /// Prints rows.
    fn print(&mut self, mut rows: Vec<Vec<String>>) -> Result<(), Stop> {
        let shown = if self.is_wide() { I::HEADINGS.len() } else { I::NARROW };
        rows.iter_mut().for_each(|row| row.truncate(shown));
        print(&self.columns.lines(&rows, self.output.style.width))
    }

    fn is_wide(&self) -> bool {
        self.output.style.wide
    }
}

/// Says why the list is empty, and of which nodes nothing is known.
fn note_what_is_missing(nodes: &[NodeView], shown: usize, is_of_problems: bool) {
    let with: Vec<&NodeView> = nodes.iter().filter(|node| node.has_gpus()).collect();
    let silent = with.iter().filter(|node| node.summary == Summary::Missing).count();
    if with.is_empty() && shown == 0 {
        note(&format!(
            "nothing says that a node has GPUs (nodes: {}): the agent does by gpu-node-agent \
             --node-summary; --all shows the others too",
            nodes.len()
        ));
        return;
    }
    if is_of_problems && shown == 0 {
        note(&format!("no problems (nodes with a summary: {})", with.len() - silent));
    }
    if is_of_problems && silent > 0 {
        note(&format!("nodes that have GPUs by their labels, and no summary: {silent}"));
    }
}

fn now() -> Timestamp {
    Timestamp::of(SystemTime::now())
}
