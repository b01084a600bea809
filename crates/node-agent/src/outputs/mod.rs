//! Where labels go.

mod file;
mod node;
mod node_feature;

pub use file::{FeatureFile, label_lines};
pub(crate) use file::{on_scratch_thread, replace};
pub(crate) use node::give_up_labels;
pub use node::{LABEL_MANAGER, NodeLabels};
pub use node_feature::{NodeFeature, node_feature_path};
