//! Who this process is to the kernel, which a denied permission depends on.

use std::sync::LazyLock;

/// The longest security context that is shown, in characters.
const LONGEST_CONTEXT: usize = 256;

static OF_PROCESS: LazyLock<String> = LazyLock::new(|| {
    let user = format!("user {}", rustix::process::geteuid().as_raw());
    // SELinux has it there, and AppArmor (proc_pid_attr(5)).
    let context = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    match context.trim_matches(|c: char| c == '\0' || c.is_whitespace()) {
        "" => user,
        context => {
            let context: String = context.chars().take(LONGEST_CONTEXT).collect();
            format!("{user} in the security context {context}")
        }
    }
});

/// "user 0 in the security context system_u:system_r:container_t:s0", read once: whoever must not
/// wait for a file asks a first time before.
#[must_use]
pub fn of_process() -> &'static str {
    &OF_PROCESS
}
