//! The Nodes of a cluster: all of them, page by page, and then each change.

use std::time::Duration;

use crate::api::{ApiError, ApiRequest, ApiServer, Column, Table, TableRow, WatchEvent};
use crate::node::NodeView;
use crate::output::Stop;

/// The Nodes of a page, as kubectl asks for them too.
const PAGE: usize = 500;
/// The most pages: Kubernetes is made for 5,000 Nodes.
const MAX_PAGES: usize = 200;
/// The largest page that is read, in bytes, of which little is kept: etcd takes objects of 1.5 MiB.
const MAX_PAGE: u64 = (PAGE as u64) * (3 << 19);
/// How often the list is begun again whose pages have expired.
const MAX_RESTARTS: usize = 3;
/// The rights that a list and a watch need.
pub(crate) const LIST: &str = "list nodes (a ClusterRole: resources nodes, verbs get, list, watch)";
pub(crate) const WATCH: &str =
    "watch nodes (a ClusterRole: resources nodes, verbs get, list, watch)";
/// The pauses between attempts to watch again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// The Nodes that a selector takes; an empty one takes all.
pub(crate) struct NodeSource<'a> {
    pub(crate) api: &'a ApiServer,
    pub(crate) selector: &'a str,
}

/// All Nodes as they were at one version.
#[derive(Debug)]
pub(crate) struct NodeList {
    pub(crate) nodes: Vec<NodeView>,
    version: String,
}

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Change {
    /// A Node is new or another.
    Is(NodeView),
    /// A Node is gone.
    Gone(String),
    /// These are all that there are: changes were missed.
    All(Vec<NodeView>),
    /// The watch is lost, for this reason, and will be tried again.
    Lost(ApiError),
}

impl NodeSource<'_> {
    /// All Nodes, with one request a page.
    pub(crate) fn list(&self) -> Result<NodeList, ApiError> {
        let mut restarts = 0;
        loop {
            match self.pages() {
                Err(error) if error.code() == Some(410) && restarts < MAX_RESTARTS => restarts += 1,
                list => return list,
            }
        }
    }

    fn pages(&self) -> Result<NodeList, ApiError> {
        let mut nodes = Vec::new();
        let mut next = String::new();
        for _ in 0..MAX_PAGES {
            let request = self.request().with("limit", PAGE.to_string()).with("continue", &*next);
            let page: Table = self.api.read(&request, MAX_PAGE)?;
            if page.kind != "Table" {
                return Err(request.unreadable(format!("it is of kind {}, no Table", page.kind)));
            }
            let columns = &page.column_definitions;
            nodes.extend(page.rows.iter().map(|row| NodeView::of(columns, row)));
            next = page.metadata.next;
            if next.is_empty() {
                return Ok(NodeList { nodes, version: page.metadata.resource_version });
            }
        }
        Err(self.request().unreadable(format!("more than {MAX_PAGES} pages")))
    }

    fn request(&self) -> ApiRequest {
        ApiRequest::get("/api/v1/nodes").table().with("labelSelector", self.selector)
    }

    /// Tells of each change since a list, for good, until `tell` fails. An API server that goes
    /// away is waited for; one that refuses is not.
    pub(crate) fn watch(
        &self,
        list: &NodeList,
        mut tell: impl FnMut(Change) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut watch = NodeWatch { columns: Vec::new(), version: list.version.clone() };
        let mut pause = FIRST_PAUSE;
        loop {
            let before = watch.version.clone();
            let outcome = match self.one_watch(&mut watch, &mut tell)? {
                Err(error) if error.code() == Some(410) => match self.list() {
                    Ok(list) => {
                        watch.version = list.version;
                        tell(Change::All(list.nodes))?;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                outcome => outcome,
            };
            if watch.version != before {
                pause = FIRST_PAUSE;
            }
            match outcome {
                // The server ends each after some minutes.
                Ok(()) => {}
                Err(error) if matches!(error.code(), Some(401 | 403)) => {
                    return Err(error.without(WATCH).into());
                }
                Err(error) => tell(Change::Lost(error))?,
            }
            // Also after one that ended at once: a server in trouble is not asked without a pause.
            self.api.pause(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Watches until that ends, or until `tell` fails.
    fn one_watch(
        &self,
        watch: &mut NodeWatch,
        tell: &mut impl FnMut(Change) -> Result<(), Stop>,
    ) -> Result<Result<(), ApiError>, Stop> {
        let request = self.request().with("resourceVersion", &*watch.version);
        let events = match self.api.watch(request.clone()) {
            Ok(events) => events,
            Err(error) => return Ok(Err(error)),
        };
        for event in events {
            let changes = match event.and_then(|event| watch.take(&request, event)) {
                Ok(changes) => changes,
                Err(error) => return Ok(Err(error)),
            };
            for change in changes {
                tell(change)?;
            }
        }
        Ok(Ok(()))
    }
}

/// Where a watch is.
struct NodeWatch {
    /// Those of the first event: later ones have none.
    columns: Vec<Column>,
    version: String,
}

impl NodeWatch {
    /// What an event says.
    fn take(&mut self, request: &ApiRequest, event: WatchEvent) -> Result<Vec<Change>, ApiError> {
        let table = event.object;
        if event.kind == "ERROR" {
            return Err(request.refused(table.code, &table.message));
        }
        if !table.column_definitions.is_empty() {
            self.columns = table.column_definitions;
        }
        let version = |row: &TableRow| row.object.metadata.resource_version.clone();
        let versions = table.rows.iter().map(version).chain([table.metadata.resource_version]);
        if let Some(version) = versions.into_iter().find(|version| !version.is_empty()) {
            self.version = version;
        }
        let view = |row| NodeView::of(&self.columns, row);
        let changes = table.rows.iter().map(view);
        Ok(match event.kind.as_str() {
            "ADDED" | "MODIFIED" => changes.map(Change::Is).collect(),
            "DELETED" => changes.map(|node| Change::Gone(node.name)).collect(),
            // Bookmarks, and what is new.
            _ => Vec::new(),
        })
    }
}
