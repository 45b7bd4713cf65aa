//! Making a root ahead, while journals still answer: where it is likely to be needed soon.

use std::sync::{MutexGuard, PoisonError};

use super::broker::Broker;
use super::inner::{Inner, Task};
use crate::run::Expected;

/// A root takes about as long to make as so many tasks to replay.
const LEAD: u64 = 12;

/// What is to be done, or is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Nothing.
    Idle,
    /// A root is to be made.
    Wanted,
    /// A root is being made, at the anchor: that stays where it is.
    Making,
    /// No root is needed any more.
    Over,
}

impl Ahead {
    /// What to begin with.
    pub(super) fn of(expected: Option<&Expected>) -> Self {
        match expected {
            Some(Expected::Task(task)) if *task <= LEAD => Self::Wanted,
            // Who knows where it comes.
            Some(Expected::Role(_)) => Self::Wanted,
            _ => Self::Idle,
        }
    }

    pub(super) fn is_making(self) -> bool {
        self == Self::Making
    }
}

impl Broker<'_> {
    /// Makes roots ahead until [`Self::stop_ahead`] is called.
    pub(crate) fn ahead(&self) {
        let mut inner = self.lock();
        if inner.known.is_empty() {
            // It was made already.
            return;
        }
        loop {
            let idle = |inner: &mut Inner| inner.ahead == Ahead::Idle;
            inner = self.turn.wait_while(inner, idle).unwrap_or_else(PoisonError::into_inner);
            if inner.ahead == Ahead::Over {
                return;
            }
            inner.ahead = Ahead::Idle;
            if inner.live.is_some() || inner.fatal.is_some() || inner.again.is_some() {
                continue;
            }
            let anchor = inner.anchor;
            inner.ahead = Ahead::Making;
            drop(inner);
            let made = self.make(anchor);
            inner = self.lock();
            // What is wrong shows when it is needed.
            inner.live = made.ok();
            if inner.ahead == Ahead::Making {
                inner.ahead = Ahead::Idle;
            }
            self.turn.notify_all();
        }
    }

    /// No root is needed ahead any more.
    pub(crate) fn stop_ahead(&self) {
        let mut inner = self.settled(self.lock());
        inner.ahead = Ahead::Over;
        self.turn.notify_all();
    }

    /// Waits until no root is being made.
    pub(super) fn settled<'b>(&self, inner: MutexGuard<'b, Inner>) -> MutexGuard<'b, Inner> {
        let busy = |inner: &mut Inner| inner.ahead.is_making();
        self.turn.wait_while(inner, busy).unwrap_or_else(PoisonError::into_inner)
    }

    /// A task has begun: has a root made if the run is about to leave what is known. `before` is the task before it.
    pub(super) fn look_ahead(&self, inner: &mut Inner, before: &Task) {
        let is_near = match &self.maker.run.expected {
            Some(Expected::Task(expected)) => (inner.tasks..=inner.tasks + LEAD).contains(expected),
            Some(Expected::Role(role)) => {
                inner.task.role.as_ref() == Some(role) && before.role.as_ref() != Some(role)
            }
            None => false,
        };
        if is_near && !inner.known.is_empty() && inner.live.is_none() && inner.ahead == Ahead::Idle {
            inner.ahead = Ahead::Wanted;
            self.turn.notify_all();
        }
    }
}
