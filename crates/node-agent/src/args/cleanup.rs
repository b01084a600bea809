//! What `cleanup` takes.

use clap::ValueEnum;

/// What is removed, and from where.
#[derive(Debug, Clone, clap::Args)]
pub struct CleanupArgs {
    /// From every node of the cluster instead of --node-name; files stay.
    #[arg(long)]
    pub all_nodes: bool,

    /// What these functions wrote alone, which are turned off while others stay on. Of the labels
    /// nvidia.com/gpu.present stays then. Without it all, and the taint and the file where
    /// --node-taint and --labels=file name them.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub functions: Vec<Function>,
}

/// A function that leaves something behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Function {
    /// Labels of the Node.
    Labels,
    /// The NodeFeature object.
    #[value(name = "nodefeature")]
    NodeFeature,
    /// The condition of the Node.
    Condition,
    /// The annotation of the Node.
    Summary,
    /// The taint of the key that --node-taint names.
    Taint,
    /// The file of --output-file.
    File,
}

impl Function {
    /// What it writes, for log lines.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Labels => "the labels",
            Self::NodeFeature => "the NodeFeature object",
            Self::Condition => "the condition",
            Self::Summary => "the summary",
            Self::Taint => "the taint",
            Self::File => "the file",
        }
    }
}
