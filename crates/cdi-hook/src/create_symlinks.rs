//! `create-symlinks`: the names under which programs look for the driver's libraries and nodes.

use std::path::Path;

use crate::error::HookError;
use crate::hook::Link;
use crate::root::ContainerRoot;

/// Makes each link, in the place of a file or a link that is there already.
pub(crate) fn create(root: &ContainerRoot, links: &[Link]) -> Result<(), HookError> {
    links.iter().try_for_each(|link| create_one(root, link))
}

fn create_one(root: &ContainerRoot, link: &Link) -> Result<(), HookError> {
    let no_name = || HookError::Usage(format!("{} is no path of a link", link.path.display()));
    let name = link.path.file_name().ok_or_else(no_name)?;
    let parent = link.path.parent().unwrap_or(Path::new("/"));
    let directory =
        root.create_directories(parent).map_err(HookError::file("make the directory", parent))?;
    let target = link.target.as_os_str();
    if directory.is_link_to(name, target) {
        return Ok(());
    }
    directory.replace_with_link(name, target).map_err(HookError::file("make the link", &link.path))
}
