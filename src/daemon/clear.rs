//! A person's word that a GPU is repaired: from the control socket or a file, to the task that owns
//! the inventory, and back with what it changed.

use std::time::Duration;

use device::health::{Cause, CauseKind, Clearable, GpuPart, NodeObservation};
use device::inventory::Inventory;
use device::names::{QuotedText, Uuid};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::control::Answer;
use crate::host::quarantine_dir::GpuNames;

/// Words that may wait.
const WAITING: usize = 16;
/// How long the task may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A person's word, and where the answer goes.
pub(super) struct ClearRequest {
    gpu: String,
    cause: Option<String>,
    answer: oneshot::Sender<Result<Answer, NotClearable>>,
}

/// Why nothing is cleared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotClearable {
    /// NVML has listed no GPU since the plugin started.
    #[error("the GPUs of this node are not known yet; try again once NVML has listed them")]
    NotYet,
    /// The task did not get to it in time. It may do so yet.
    #[error("the plugin did not get to it within {} s; try again", DEADLINE.as_secs())]
    Late,
    /// It will not be cleared later either.
    #[error("{0}")]
    Refused(String),
}

/// Passes a person's word on to the task that owns the inventory.
#[derive(Clone)]
pub(super) struct Clearing(mpsc::Sender<ClearRequest>);

impl Clearing {
    /// The sender of words and their receiver.
    pub(super) fn channel() -> (Self, mpsc::Receiver<ClearRequest>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Clears, and returns once it is done.
    pub(super) async fn clear(
        &self,
        gpu: String,
        cause: Option<String>,
    ) -> Result<Answer, NotClearable> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.0.send(ClearRequest { gpu, cause, answer }).await.ok()?;
            answered.await.ok()
        };
        let answer = tokio::time::timeout(DEADLINE, asked).await;
        answer.ok().flatten().unwrap_or(Err(NotClearable::Late))
    }
}

impl ClearRequest {
    /// What is to be observed for it, and what that takes back.
    pub(super) fn resolve(
        &self,
        inventory: &Inventory,
    ) -> Result<(NodeObservation, Clearable), NotClearable> {
        let gpu = find(inventory, &self.gpu)?;
        let cause = self.cause.as_deref().map(kind).transpose()?;
        let clearable = inventory.node_health().clearable(&gpu, cause);
        if clearable.is_empty() {
            return Err(NotClearable::Refused(nothing_to_clear(inventory, &gpu, cause)));
        }
        Ok((NodeObservation::Clear { gpu, cause }, clearable))
    }

    /// Answers it, once the inventory is as the answer says.
    pub(super) fn answer(self, result: Result<(NodeObservation, Clearable), NotClearable>) {
        let answer = match result {
            Ok((NodeObservation::Clear { gpu, .. }, clearable)) => Ok(cleared(&gpu, &clearable)),
            Ok(_) => return,
            Err(why) => Err(why),
        };
        // Whoever asked may have gone.
        let _ = self.answer.send(answer);
    }
}

/// Logs what was taken back, and says it.
fn cleared(gpu: &Uuid, clearable: &Clearable) -> Answer {
    let causes = clearable.causes.iter().map(|cause| cause.summary().to_string());
    let degradations = clearable.degradations.iter().map(ToString::to_string);
    let causes: Vec<String> = causes.chain(degradations).collect();
    let forgotten = clearable.forgets;
    let words = causes.join(" | ");
    info!(gpu.uuid = %gpu, causes = words, forgotten, "a person says that the GPU is repaired");
    Answer::Cleared { gpu: gpu.to_string(), causes, forgotten }
}

/// The GPU of this name: one that NVML has listed, or a UUID of which health is kept.
fn find(inventory: &Inventory, name: &str) -> Result<Uuid, NotClearable> {
    // Before the first enumeration every GPU would count as not listed, and be forgotten.
    if inventory.gpu_counts().enumerated.is_none() {
        return Err(NotClearable::NotYet);
    }
    let named = GpuNames::of(inventory).find(name).cloned();
    let kept = || inventory.node_health().gpus().keys().find(|gpu| gpu.as_str() == name).cloned();
    named.or_else(kept).ok_or_else(|| {
        let mut known: Vec<_> =
            inventory.gpus().iter().map(|(uuid, gpu)| (gpu.index, uuid.as_str())).collect();
        known.sort_unstable();
        let known: Vec<_> = known.iter().map(|(at, uuid)| format!("{at} ({uuid})")).collect();
        let (name, known) = (QuotedText::new(name), known.join(", "));
        NotClearable::Refused(format!("{name} is no GPU of this node; its GPUs are {known}"))
    })
}

fn kind(word: &str) -> Result<CauseKind, NotClearable> {
    CauseKind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let (word, kinds) = (QuotedText::new(word), CauseKind::ALL.map(CauseKind::as_str));
        NotClearable::Refused(format!("{word} is no kind of cause; they are {}", kinds.join(", ")))
    })
}

/// Why there is nothing to clear: the GPU is Healthy, or by something else Unhealthy.
fn nothing_to_clear(inventory: &Inventory, gpu: &Uuid, cause: Option<CauseKind>) -> String {
    let health = inventory.node_health().health_of(gpu, GpuPart::Whole);
    let of_kind = cause.map(|kind| format!(" of kind {}", kind.as_str())).unwrap_or_default();
    let nothing = format!("{gpu} has no cause{of_kind} that can be cleared");
    if health.is_healthy() {
        return format!("{nothing}: it is Healthy");
    }
    let of = |cause: &Cause| format!("{} ({})", cause.summary(), cause.as_str());
    let causes: Vec<_> = health.reasons().iter().map(|reason| of(&reason.cause)).collect();
    format!("{nothing}; it is Unhealthy by: {}", causes.join(" | "))
}

#[cfg(test)]
mod tests {
    use device::allocation::AllocationPolicy;
    use device::health::{Moment, NodeHealth, NvmlError, Observation, ReturnCode, Scope, Xid};
    use device::injection::Injector;
    use device::inventory::InventoryEvent;
    use device::layout::Layout;
    use device::testing::node;

    use super::*;

    fn resolve(
        inventory: &Inventory,
        gpu: &str,
        cause: Option<&str>,
    ) -> Result<(NodeObservation, Clearable), NotClearable> {
        let (gpu, cause) = (gpu.to_owned(), cause.map(str::to_owned));
        ClearRequest { gpu, cause, answer: oneshot::channel().0 }.resolve(inventory)
    }

    fn refusal(inventory: &Inventory, gpu: &str, cause: Option<&str>) -> String {
        resolve(inventory, gpu, cause).unwrap_err().to_string()
    }

    /// Two GPUs, with this observed of the second.
    fn with(observation: Observation) -> Inventory {
        let mut inventory = node(2);
        let gpu = "GPU-1".parse().unwrap();
        let event = InventoryEvent::Health(NodeObservation::Gpu(gpu, observation));
        inventory.apply(Moment::default(), event);
        inventory
    }

    #[test]
    fn a_gpu_is_cleared_by_any_of_its_names() {
        let inventory = with(Observation::Xid { xid: Xid(95), scope: Scope::Gpu });
        for name in ["GPU-1", "1"] {
            for cause in [None, Some("xid")] {
                let (observation, clearable) = resolve(&inventory, name, cause).unwrap();
                assert_eq!(clearable.causes.len(), 1);
                assert!(matches!(observation, NodeObservation::Clear { gpu, .. }
                    if gpu.as_str() == "GPU-1"));
            }
        }
    }

    #[test]
    fn a_refusal_says_what_there_is() {
        let inventory = with(Observation::Xid { xid: Xid(95), scope: Scope::Gpu });
        let text = refusal(&inventory, "7", None);
        assert!(
            text.contains("\"7\" is no GPU") && text.contains("0 (GPU-0), 1 (GPU-1)"),
            "{text}"
        );
        let text = refusal(&inventory, "1", Some("Xid"));
        assert!(text.contains("\"Xid\" is no kind") && text.contains("xid, reset_req"), "{text}");
        let text = refusal(&inventory, "1", Some("lost"));
        assert!(text.contains("no cause of kind lost") && text.contains("(xid)"), "{text}");
        let text = refusal(&inventory, "0", None);
        assert!(text.ends_with("it is Healthy"), "{text}");
        let (layout, injector) = (Layout::default(), Injector::default());
        let (health, allocation) = (NodeHealth::default(), AllocationPolicy::default());
        let unknown = Inventory::new(layout, injector, health, allocation);
        assert_eq!(resolve(&unknown, "0", None), Err(NotClearable::NotYet));
    }

    #[test]
    fn what_a_reading_states_is_named_and_not_cleared() {
        let error = NvmlError { call: "nvmlDeviceGetMemoryInfo", code: ReturnCode(999) };
        let mut inventory = with(Observation::Failed(error.clone()));
        for _ in 0..5 {
            let gpu = "GPU-1".parse().unwrap();
            let failed = Observation::Failed(error.clone());
            let event = InventoryEvent::Health(NodeObservation::Gpu(gpu, failed));
            inventory.apply(Moment::default(), event);
        }
        let text = refusal(&inventory, "1", None);
        assert!(text.contains("Unhealthy by: NVML calls about the GPU fail"), "{text}");
    }
}
