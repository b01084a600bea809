//! Numbers of things in English.

/// "1 GPU", "2 GPUs".
pub(super) fn plural(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
