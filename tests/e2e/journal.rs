//! The calls of NVML as the fake library writes them down.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use simnode::node::{Node, PluginOptions};

/// The file that the fake library writes its calls to.
pub(crate) struct Journal(PathBuf);

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// By [`simnode::node::monotonic`].
    pub(crate) at: Duration,
    /// The function, and the UUID of the GPU or `-`.
    pub(crate) text: String,
}

impl Journal {
    pub(crate) fn of(node: &Node) -> Self {
        Self(node.root().join("journal"))
    }

    /// The plugin, its library keeping this journal.
    pub(crate) fn kept_by(&self, options: PluginOptions) -> PluginOptions {
        options.env("FAKE_NVML_JOURNAL", &self.0).env("FAKE_NVML_JOURNAL_CALLS", "1")
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.text().lines().filter_map(call).collect()
    }

    /// How often a function was called so far.
    pub(crate) fn count(&self, function: &str) -> usize {
        let is_it = |call: &Call| call.text.split(' ').next() == Some(function);
        self.calls().into_iter().filter(is_it).count()
    }

    /// The last `nvmlShutdown` and the call after it; None until there is one.
    pub(crate) fn shutdown_and_next(&self) -> Option<(Call, Call)> {
        let calls = self.calls();
        let shutdown = calls.iter().rposition(|call| call.text == "nvmlShutdown -")?;
        Some((calls[shutdown].clone(), calls.get(shutdown + 1)?.clone()))
    }
}

/// `<ns> call <function> <uuid or ->`
fn call(line: &str) -> Option<Call> {
    let (at, text) = line.split_once(" call ")?;
    Some(Call { at: Duration::from_nanos(at.parse().ok()?), text: text.to_owned() })
}
