//! The kernel module's version against the library's, from two sources: NVML does not report every
//! mismatch itself.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Driver;
const ID: &str = "driver.versions";
const CHECKED: &str = "one version of module and library";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    versions(facts).map(|(module, library)| compare(module, library)).into_iter().collect()
}

/// The versions of module and library, where both are known.
fn versions(facts: &Facts) -> Option<(&str, &str)> {
    let answer = facts.driver_answer()?;
    let module = facts.module.version.as_deref().filter(|version| *version != "unknown")?;
    let library = answer.library_version.as_deref().map(of_driver);
    Some((module, library.or(answer.driver_version.as_deref())?))
}

/// NVML puts CUDA's major version before the driver's: "13.580.95.05".
fn of_driver(library: &str) -> &str {
    match library.split_once('.') {
        Some((cuda, driver)) if cuda.len() <= 2 && driver.contains('.') => driver,
        _ => library,
    }
}

fn compare(module: &str, library: &str) -> Finding {
    if module == library {
        return Finding::ok(GROUP, ID, CHECKED, format!("{module} and {library}"));
    }
    let seen = format!("the module is {module}, the library {library}");
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why(
            "programs in containers get the library of one driver while the kernel has the module \
             of another",
        )
        .fix(
            "reboot the node, or unload the old module and load the new one; install no second \
             driver beside it",
        )
}
