//! The kubelet's end, its start in steps, and the pods that are on the node then.

use std::convert::Infallible;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::life::Life;
use super::{AdmissionError, Kubelet, admission, directory, pod_resources, registration};

impl Kubelet {
    /// Dies as by SIGKILL: every connection is cut, `kubelet.sock` stays behind, nothing is said to
    /// anyone.
    pub async fn stop(&self) {
        let life = self.life().take();
        if let Some(life) = life {
            life.end().await;
            self.shared.manager().died();
        }
    }

    /// Starts a stopped kubelet on the same directory; what the checkpoint says is known again.
    ///
    /// # Errors
    /// As [`Kubelet::start`]; or it is running.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.clean_up()?;
        self.listen().await
    }

    /// [`stop`](Self::stop) and [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// As [`Kubelet::start`].
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        self.start_again().await
    }

    /// The first step of a start: the sockets in the directory are removed. A plugin may notice and
    /// come before the second step, [`listen`](Self::listen).
    ///
    /// # Errors
    /// The file system's, or the kubelet is running.
    pub fn clean_up(&self) -> anyhow::Result<()> {
        if self.life().is_some() {
            bail!("the kubelet is running");
        }
        let directory = self.directory();
        directory::prepare(directory, self.shared.config().version)
            .with_context(|| format!("preparing {}", directory.display()))
    }

    /// The second step: the registration socket is there, whatever has come into the directory.
    ///
    /// # Errors
    /// The sockets', or it is running.
    #[allow(clippy::unused_async, reason = "the twin of stop")]
    pub async fn listen(&self) -> anyhow::Result<()> {
        let mut life = self.life();
        if life.is_some() {
            bail!("the kubelet is running");
        }
        let begun = Life::begin().context("starting the kubelet's thread")?;
        {
            let _inside = begun.handle().enter();
            self.shared.manager().born(&self.shared);
            registration::serve(&self.shared, &self.socket())
                .with_context(|| format!("listening on {}", self.socket().display()))?;
            if let Some(socket) = &self.shared.config().pod_resources {
                pod_resources::serve(&self.shared, socket)
                    .with_context(|| format!("listening on {}", socket.display()))?;
            }
        }
        *life = Some(begun);
        Ok(())
    }

    /// Admits the pods that hold devices once more, as a kubelet does after its start when it has
    /// heard of them. Of those whose containers run it only works out the topology hints; those
    /// whose containers are gone, after a reboot, have to find their devices Healthy, else they
    /// fail for good. Returns those that failed.
    pub fn readmit_pods(&self, containers: Containers) -> Vec<(String, AdmissionError)> {
        admission::readmit(&mut self.shared.manager(), containers)
    }

    /// From now on that much time passes between the answer to a Register and the ListAndWatch call
    /// that follows it.
    pub fn delay_streams(&self, delay: Duration) {
        self.shared.manager().stream_delay = delay;
    }

    /// From now on that much time passes before the answer to a Register that succeeded is sent.
    /// The stream does not wait for that.
    pub fn delay_answers(&self, delay: Duration) {
        self.shared.manager().answer_delay = delay;
    }

    /// From now on plugins are asked for their options as a kubelet before 1.26 asks: with the
    /// socket's path as `:authority`.
    pub fn ask_by_path(&self) {
        self.shared.manager().asks_by_path = true;
    }

    /// Stops all of it between two steps, as SIGSTOP does: its connections stay open. It goes on
    /// when the answer is dropped.
    ///
    /// # Errors
    /// The kubelet is not running.
    pub fn freeze(&self) -> anyhow::Result<Frozen> {
        let life = self.life();
        let life = life.as_ref().context("the kubelet is not running")?;
        let (frozen, thaw) = mpsc::channel::<Infallible>();
        // It blocks the thread that everything of this life is on.
        life.handle().spawn(async move {
            let _: Result<Infallible, _> = thaw.recv();
        });
        Ok(Frozen { _frozen: frozen })
    }
}

/// A kubelet that does nothing until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    _frozen: mpsc::Sender<Infallible>,
}

/// What has become of a pod's containers when it is admitted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containers {
    /// The kubelet alone was restarted.
    Running,
    /// The node was.
    Gone,
}
