//! The daemon's tasks, each with a name. None of them returns but with an error.

use std::collections::HashMap;
use std::future::Future;

use anyhow::anyhow;
use tokio::task::{Id, JoinSet};

use super::head_start::HeadStart;

/// The tasks; dropping it aborts them.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<anyhow::Error>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts one on this thread, within a [`tokio::task::LocalSet`].
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Error> + 'static,
    ) {
        let id = self.running.spawn_local(task).id();
        self.names.insert(id, name);
    }

    /// Starts one for which nobody waits, after the head start.
    pub(super) fn spawn_after(
        &mut self,
        head_start: &HeadStart,
        name: &'static str,
        task: impl Future<Output = anyhow::Error> + 'static,
    ) {
        self.spawn(name, head_start.clone().then(task));
    }

    /// Waits until one ends, with its error. Nothing is lost when it is dropped before.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.running.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((_, error))) => error,
            Some(Err(panicked)) => {
                let name = self.names.get(&panicked.id()).copied().unwrap_or_default();
                anyhow!(panicked).context(format!("the task \"{name}\" panicked"))
            }
        }
    }

    /// Aborts all of them.
    pub(super) async fn abort(mut self) {
        self.running.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_is_told_by_its_error_and_one_that_panics_by_its_name() {
        LocalSet::new().run_until(fail()).await;
    }

    async fn fail() {
        let mut tasks = Tasks::default();
        tasks.spawn("idle", std::future::pending());
        tasks.spawn("failing", async { anyhow!("no such thing") });
        assert_eq!(tasks.ended().await.to_string(), "no such thing");
        tasks.spawn("faulty", async { panic!("a fault") });
        let error = format!("{:#}", tasks.ended().await);
        assert!(error.starts_with("the task \"faulty\" panicked: ") && error.contains("a fault"));
        tasks.abort().await;
    }
}
