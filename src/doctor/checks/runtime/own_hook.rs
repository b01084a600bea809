//! The plugin's own hook program on the host, which container runtimes run as root.

use crate::doctor::facts::{Facts, OwnHookFacts};
use crate::doctor::finding::{Check, Finding, Group};

const DIRECTORY: Check =
    Check::new(Group::Runtime, "runtime.hook.directory", "the directory of the hook program");
const PROGRAM: Check =
    Check::new(Group::Runtime, "runtime.hook.program", "the plugin's own hook program");

/// Whether the program can be called, and is what the plugin has installed.
pub(super) fn own_hook(facts: &Facts) -> Vec<Finding> {
    let Some(hook) = &facts.runtimes.hooks.own else { return Vec::new() };
    let directory = directory(hook);
    // Of a program that is not called anyway nothing else matters.
    let program = hook.problem.is_none().then(|| program(hook));
    [directory].into_iter().chain(program).collect()
}

fn directory(hook: &OwnHookFacts) -> Finding {
    let path = hook.directory.display();
    let Some(problem) = &hook.problem else {
        return DIRECTORY.ok(format!("{path} is root's alone, and programs run from it"));
    };
    DIRECTORY
        .warning(format!("{path}: {problem}"))
        .why(
            "runtimes run the program in it as root, so the plugin calls none from there, and \
             containers lack links and the loader's cache",
        )
        .fix(
            "on the node: chown root:root DIRECTORY && chmod 755 DIRECTORY, on a file system \
             without noexec, mounted at the same path in the plugin's container, as the chart \
             does; or name another one with --cdi-hook-dir",
        )
}

fn program(hook: &OwnHookFacts) -> Finding {
    let program = match &hook.program {
        Ok(program) => program,
        Err(why) => {
            return PROGRAM
                .unknown(why)
                .why("whether the program on the node is that of this version cannot be seen")
                .fix("run the doctor in the plugin's pod, whose image has the program");
        }
    };
    let path = program.path.display();
    match &program.difference {
        None => PROGRAM.ok(format!("{path}, as this version has it")),
        Some(_) if !program.is_there => PROGRAM
            .warning(format!("{path} is not there"))
            .why(
                "this version of the plugin has not installed it: it does not run, or cannot write",
            )
            .fix(
                "start the plugin with a strategy cdi-*; its finding cdi_incomplete says what \
                 keeps it from writing",
            ),
        Some(difference) => PROGRAM
            .problem(format!("{path}: {difference}"))
            .why("runtimes run it as root for every container with a GPU: somebody has changed it")
            .fix(
                "find out who writes to the directory; the plugin installs the program again \
                 within 60 s, or at its start",
            ),
    }
}
