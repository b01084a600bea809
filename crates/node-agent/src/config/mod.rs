//! Which configuration the plugin runs on, by a label of the Node: nothing but its name is handed
//! over, or for a plugin that is told by a file, that file.

mod choice;
mod directory;
mod manager;
mod name;

pub use choice::{Choice, choose};
pub use manager::{ConfigLink, manage};
pub use name::NameFile;
