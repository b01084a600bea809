//! How calls go wrong.

use serde::{Deserialize, Serialize};

/// What becomes of some calls in place of their usual answer. One of the node counts for every
/// call, one of a GPU for the calls on it and on what is on it, one of a MIG device for those on
/// it. In each place the first that fits a call counts, in this order: noise, then abort, then
/// delay, then hang, then answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The function's exported name. Without a `_v2` it stands for all versions, and `*` for any
    /// text. `nvmlDeviceGetFieldValues/230` is one field value, which can be answered only.
    pub call: String,
    /// So many calls go by first. Each process counts for itself, as long as the rule is there.
    #[serde(skip_serializing_if = "is_default")]
    pub after: u32,
    /// It counts for so many calls; absent: for all.
    #[serde(skip_serializing_if = "is_default")]
    pub times: Option<u32>,
    /// The return code.
    #[serde(skip_serializing_if = "is_default")]
    pub answer: Option<u32>,
    /// What is answered with success, where a function answers one text or number: a UUID, a name,
    /// a count, an index, a version. `{n}` in it is the number of the call.
    #[serde(skip_serializing_if = "is_default")]
    pub value: Option<String>,
    /// The call takes so much longer, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_ms: u64,
    /// The call does not return while the rule is there; then it goes on.
    #[serde(skip_serializing_if = "is_default")]
    pub hang: bool,
    /// The whole process ends, as in a library that is not of one piece.
    #[serde(skip_serializing_if = "is_default")]
    pub abort: bool,
    /// So many bytes go to standard output first, and as many to standard error, as from a library
    /// that is being debugged.
    #[serde(skip_serializing_if = "is_default")]
    pub noise: u32,
    /// What else stands still during a delay or a hang.
    #[serde(skip_serializing_if = "is_default")]
    pub blocks: Blocks,
}

/// What a call that is held up holds up itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    /// Nothing.
    #[default]
    Nothing,
    /// All calls on the GPU that the rule is of.
    Gpu,
    /// Every call of the process, `nvmlInit` and `nvmlShutdown` too: a global lock of the driver.
    All,
}

impl Rule {
    /// The call answers this code.
    #[must_use]
    pub fn answer(call: &str, code: u32) -> Self {
        Self { answer: Some(code), ..Self::of(call) }
    }

    /// The call answers this text or number.
    #[must_use]
    pub fn value(call: &str, value: impl ToString) -> Self {
        Self { value: Some(value.to_string()), ..Self::of(call) }
    }

    /// The call hangs.
    #[must_use]
    pub fn hang(call: &str) -> Self {
        Self { hang: true, ..Self::of(call) }
    }

    /// The call takes so many milliseconds longer.
    #[must_use]
    pub fn delay(call: &str, milliseconds: u64) -> Self {
        Self { delay_ms: milliseconds, ..Self::of(call) }
    }

    /// The call ends the process.
    #[must_use]
    pub fn abort(call: &str) -> Self {
        Self { abort: true, ..Self::of(call) }
    }

    /// The call writes so many bytes to both standard streams.
    #[must_use]
    pub fn noise(call: &str, bytes: u32) -> Self {
        Self { noise: bytes, ..Self::of(call) }
    }

    /// The same for so many calls alone.
    #[must_use]
    pub fn times(self, calls: u32) -> Self {
        Self { times: Some(calls), ..self }
    }

    /// The same once so many calls have gone by.
    #[must_use]
    pub fn after(self, calls: u32) -> Self {
        Self { after: calls, ..self }
    }

    /// The same, and it holds up others.
    #[must_use]
    pub fn blocking(self, blocks: Blocks) -> Self {
        Self { blocks, ..self }
    }

    /// Whether the rule is about this function.
    pub(crate) fn fits(&self, function: &str) -> bool {
        matches(&self.call, function) || matches(&self.call, unversioned(function))
    }

    fn of(call: &str) -> Self {
        Self { call: call.to_owned(), ..Self::default() }
    }
}

/// Whether a text is as the pattern says.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    let mut starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    starts.any(|start| matches(rest, &text[start..]))
}

/// The function's name without a `_v2` at its end.
fn unversioned(function: &str) -> &str {
    match function.rsplit_once("_v") {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => function,
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn a_rule_is_about_a_name_all_its_versions_or_a_pattern() {
        let fits = |call: &str, function: &str| Rule::hang(call).fits(function);
        assert!(fits("nvmlInit_v2", "nvmlInit_v2") && fits("nvmlInit", "nvmlInit_v2"));
        assert!(!fits("nvmlInit_v2", "nvmlInit") && !fits("nvmlInit", "nvmlInitWithFlags"));
        assert!(fits("*", "nvmlInit") && fits("nvml*Get*", "nvmlDeviceGetUUID"));
        assert!(fits("nvmlDeviceGetHandleBy*", "nvmlDeviceGetHandleByIndex_v2"));
        assert!(!fits("nvml*Set", "nvmlDeviceGetUUID") && !fits("*GetUUID*x", "nvmlDeviceGetUUID"));
    }
}
