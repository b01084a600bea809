//! Where labels go.

mod file;
mod node;
mod node_feature;

pub use file::{FeatureFile, label_lines};
pub(crate) use file::{on_scratch_thread, replace};
pub use node::{LABEL_MANAGER, NodeLabels};
pub use node_feature::{NodeFeature, node_feature_path};
