//! What a step tells while it works.

/// Something to tell a person or a log while a step works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEvent {
    /// What is being done now, in a few words: "installing 161 packages".
    Phase(String),
    /// How far the phase is.
    Progress {
        /// Done so far.
        done: u64,
        /// Of how many.
        total: u64,
        /// Whether these are bytes (else: things).
        bytes: bool,
    },
    /// Something a person must see even when all goes well.
    Warning(String),
    /// A line of a tool's output, for the log.
    Line(String),
}

/// Where a step's events go. Called from any thread.
pub type StepSink<'a> = &'a (dyn Fn(StepEvent) + Sync);
