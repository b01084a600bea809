//! In which NVML sessions a GPU was listed, and in which it was absent.

use super::reason::Moment;

/// Where one GPU was listed.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    /// When it was first heard of.
    known_since: Option<Moment>,
    /// The present NVML session, and when it began for the GPU.
    session: Option<(u64, Moment)>,
    is_listed: bool,
    /// The session of the first complete enumeration that lacked the GPU, until one lists it.
    absent_from: Option<u64>,
}

impl Presence {
    pub(super) fn known(&mut self, now: Moment) {
        self.known_since.get_or_insert(now);
    }

    pub(super) fn known_since(&self) -> Moment {
        self.known_since.unwrap_or_default()
    }

    /// Whether the last enumeration listed it.
    pub(super) fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// An enumeration lists it. Returns when the session began, and whether the GPU is back: a
    /// complete enumeration of another session lacked it. Within one session the look-up failed,
    /// which is no return.
    pub(super) fn listed(&mut self, session: u64, now: Moment) -> (Moment, bool) {
        self.known(now);
        self.is_listed = true;
        let is_back = self.absent_from.take().is_some_and(|absent| absent != session);
        (self.enter(session, now), is_back)
    }

    pub(super) fn not_listed(&mut self, session: u64, complete: bool, now: Moment) {
        self.is_listed = false;
        if complete {
            self.absent_from.get_or_insert(session);
        }
        self.enter(session, now);
    }

    fn enter(&mut self, session: u64, now: Moment) -> Moment {
        match self.session {
            Some((same, began)) if same == session => began,
            _ => self.session.insert((session, now)).1,
        }
    }
}
