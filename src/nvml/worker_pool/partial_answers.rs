//! The answers of a thread that works through several GPUs, until it gets stuck.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The answers so far. The thread adds to them; the pool takes them, and stops the thread from
/// adding more when it replaces it.
pub(super) struct PartialAnswers<T>(Arc<Mutex<Answers<T>>>);

struct Answers<T> {
    answers: Vec<T>,
    closed: bool,
}

impl<T> Clone for PartialAnswers<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialAnswers<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Answers { answers: Vec::new(), closed: false })))
    }

    /// Does the job for each item, until the answers are closed.
    pub(super) fn collect<I>(&self, items: Vec<I>, job: impl Fn(I) -> T) {
        for item in items {
            let answer = job(item);
            let mut answers = self.lock();
            if answers.closed {
                return;
            }
            answers.answers.push(answer);
        }
    }

    /// Accepts no more answers if the thread `is_stuck`, which is asked under the lock: either the
    /// thread adds its answer in time, or it is replaced.
    pub(super) fn close_if(&self, is_stuck: impl FnOnce() -> bool) -> bool {
        let mut answers = self.lock();
        answers.closed = is_stuck();
        answers.closed
    }

    pub(super) fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.lock().answers)
    }

    fn lock(&self) -> MutexGuard<'_, Answers<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
