//! How a unit is.

use zbus::OwnedVariant;
use zbus::Variant;

use crate::manager::Properties;

/// Whether a unit is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Active {
    /// It is, or it is reloading.
    Active,
    /// It is about to be.
    Activating,
    /// It is about to stop.
    Deactivating,
    /// It failed.
    Failed,
    /// It isn't.
    #[default]
    Inactive,
}

impl Active {
    /// systemd's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Failed => "failed",
            Self::Inactive => "inactive",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "active" | "reloading" | "refreshing" => Self::Active,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "failed" => Self::Failed,
            _ => Self::Inactive,
        }
    }
}

/// What systemd says of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitStatus {
    /// Its name.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, …
    pub load: String,
    /// Whether it is active.
    pub active: Active,
    /// More exactly: `running`, `auto-restart`, `listening`, …
    pub sub: String,
    /// Of a service: `notify`, `simple`, …
    pub kind: String,
    /// How it ended the last time: `success`, `exit-code`, `timeout`, …
    pub result: String,
    /// What its main process ended with: an exit code, or a signal's number.
    pub exit: i32,
    /// What it says of itself.
    pub text: String,
    /// Whether a condition of it didn't hold when it was started the last time: then it is right not to be up.
    pub unmet: bool,
    /// How often systemd started it again.
    pub restarts: u32,
    /// Its main process; 0: none.
    pub pid: u32,
    /// The bytes that it uses; `None` where nobody counts.
    pub memory: Option<u64>,
    /// Since when it is active, in microseconds since 1970; 0: it isn't.
    pub since: u64,
    /// The same on the clock that always goes forward.
    pub since_monotonic: u64,
    /// The last time it was started, 32 hexadecimal digits: what the journal knows it by.
    pub invocation: String,
}

impl UnitStatus {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes over what changed.
    pub(crate) fn update(&mut self, properties: &Properties) {
        let texts = [
            ("LoadState", &mut self.load),
            ("SubState", &mut self.sub),
            ("Type", &mut self.kind),
            ("Result", &mut self.result),
            ("StatusText", &mut self.text),
        ];
        for (key, field) in texts {
            if let Some(text) = text(properties, key) {
                text.clone_into(field);
            }
        }
        if let Some(active) = text(properties, "ActiveState") {
            self.active = Active::parse(active);
        }
        let numbers = [
            ("ActiveEnterTimestamp", &mut self.since),
            ("ActiveEnterTimestampMonotonic", &mut self.since_monotonic),
        ];
        for (key, field) in numbers {
            if let Some(Variant::U64(number)) = properties.get(key).map(|it| &**it) {
                *field = *number;
            }
        }
        if let Some(Variant::U64(bytes)) = properties.get("MemoryCurrent").map(|it| &**it) {
            self.memory = (*bytes != u64::MAX).then_some(*bytes);
        }
        if let Some(Variant::Bool(met)) = properties.get("ConditionResult").map(|it| &**it) {
            let asked = matches!(
                properties.get("ConditionTimestampMonotonic").map(|it| &**it),
                Some(Variant::U64(time)) if *time > 0
            );
            self.unmet = asked && !met;
        }
        if let Some(Variant::U32(number)) = properties.get("NRestarts").map(|it| &**it) {
            self.restarts = *number;
        }
        if let Some(Variant::U32(number)) = properties.get("MainPID").map(|it| &**it) {
            self.pid = *number;
        }
        if let Some(Variant::I32(number)) = properties.get("ExecMainStatus").map(|it| &**it) {
            self.exit = *number;
        }
        if let Some(Variant::Array(bytes)) = properties.get("InvocationID").map(|it| &**it) {
            let hex = |it: &Variant<'_>| match it {
                Variant::U8(byte) => Some(format!("{byte:02x}")),
                _ => None,
            };
            self.invocation = bytes.iter().filter_map(hex).collect();
        }
    }

    /// Whether systemd is about to start it again after it failed.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        self.active == Active::Activating && self.sub.starts_with("auto-restart")
    }

    /// Whether it only says that it was started, not that it works: it may fail at once.
    pub(crate) fn is_vague(&self) -> bool {
        matches!(self.kind.as_str(), "simple" | "exec" | "idle") && self.pid != 0
    }
}

fn text<'a>(properties: &'a Properties, key: &str) -> Option<&'a str> {
    let value: &OwnedVariant = properties.get(key)?;
    match &**value {
        Variant::Str(text) => Some(text.as_str()),
        _ => None,
    }
}
