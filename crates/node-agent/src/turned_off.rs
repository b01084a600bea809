//! Removes from this Node what functions wrote that are turned off, when the agent starts: as far
//! as the rights of those that are on reach. The rest is for `cleanup`.

use std::sync::Arc;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::api::{ApiRequest, ApiServer};
use crate::args::{Args, DEFAULT_TAINT, Function, LabelOutput};
use crate::cleanup::{Removal, managers};
use crate::retry::{Failure, Retry};
use crate::taint::TAINT_MANAGER;

/// Removes it once, however often that takes. One read of the Node, and a write where there is
/// something.
pub async fn remove_turned_off(args: &Args, api: Arc<ApiServer>, node: &str) {
    let off = turned_off(args);
    // Without one of them that is on, there is no right to read the Node.
    if off.len() == ON_NODE.len() || off.is_empty() {
        return;
    }
    let removal = Removal {
        api,
        namespace: String::new(),
        taint: DEFAULT_TAINT.to_owned(),
        keeps_present: true,
    };
    let mut retry = Retry::of_removing("what functions that are off have written");
    while let Err(failure) = remove(&removal, &off, node).await {
        sleep(retry.failed(&failure).whole).await;
    }
}

/// The functions that write to the Node, and need the right to read it.
const ON_NODE: [Function; 4] =
    [Function::Labels, Function::Condition, Function::Summary, Function::Taint];

fn turned_off(args: &Args) -> Vec<Function> {
    let is_off = |function: &Function| match function {
        Function::Labels => args.label_output() != LabelOutput::Node,
        Function::Condition => args.node_condition.is_empty(),
        Function::Summary => !args.node_summary,
        Function::Taint => args.node_taint.is_empty(),
        Function::NodeFeature | Function::File => false,
    };
    ON_NODE.into_iter().filter(is_off).collect()
}

async fn remove(removal: &Removal, off: &[Function], node: &str) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{node}?resourceVersion=0");
    let object = match removal.api.send(&ApiRequest::get(path)).await {
        Err(error) if matches!(error.code(), Some(403 | 404)) => return Ok(()),
        object => object?,
    };
    let mine = |function: &&Function| {
        // Anybody may have set a taint of this key.
        let by_us = **function != Function::Taint
            || managers(&object).any(|manager| manager == TAINT_MANAGER);
        by_us && removal.is_there(**function, &object)
    };
    for &function in off.iter().filter(mine) {
        let what = function.what();
        match removal.remove(function, node).await {
            Ok(()) => info!("{what}: removed, since the function is off"),
            Err(error) if error.code() == Some(403) => {
                warn!(%error, "{what}: left, since the function is off and its right too; see \
                    `gpu-node-agent cleanup`");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
