//! The lines that a process writes, kept in memory as they come.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// One line and when it was read.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) at: Instant,
    pub(super) text: Arc<str>,
}

/// All lines so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(watch::Sender<Vec<Line>>);

impl Lines {
    /// Reads a pipe to its end.
    pub(super) async fn collect(self, pipe: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while pipe.read_until(b'\n', &mut bytes).await? > 0 {
            let line = Line {
                at: Instant::now(),
                text: String::from_utf8_lossy(&bytes).trim_end().into(),
            };
            self.0.send_modify(|lines| lines.push(line));
            bytes.clear();
        }
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<Line> {
        self.0.borrow().clone()
    }

    /// Waits for a line, from the `from`th on, that fulfils the condition.
    pub(super) async fn wait_for(
        &self,
        from: usize,
        timeout: Duration,
        condition: impl Fn(&str) -> bool,
    ) -> Option<Line> {
        let find =
            |lines: &Vec<Line>| lines.iter().skip(from).find(|line| condition(&line.text)).cloned();
        let mut lines = self.0.subscribe();
        let reached =
            tokio::time::timeout(timeout, lines.wait_for(|lines| find(lines).is_some())).await;
        reached.ok()?.ok().and_then(|lines| find(&lines))
    }

    /// Passes each line on as it comes, those before now included, until `end` ends.
    pub(super) fn follow(
        &self,
        mut show: impl FnMut(&str) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut lines = self.0.subscribe();
        let mut shown = 0;
        async move {
            loop {
                let fresh: Vec<Line> = lines.borrow_and_update()[shown..].to_vec();
                shown += fresh.len();
                fresh.iter().for_each(|line| show(&line.text));
                if lines.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
