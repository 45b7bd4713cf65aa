//! systemd's manager over the D-Bus: the few calls that are needed, and what it pushes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::Pin;

use zbus::export::futures_core::Stream;
use zbus::message::{Message, Type};
use zbus::{Connection, DynamicType, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::error::HandoffError;
use crate::status::UnitStatus;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const TOP: &str = "/org/freedesktop/systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/";

/// How many signals may wait for us. More come only if we stand still.
const QUEUE: usize = 65_536;

/// Properties by their names.
pub(crate) type Properties = HashMap<String, OwnedVariant>;

/// systemd's manager.
#[derive(Debug, Clone)]
pub struct Manager {
    connection: Connection,
}

/// A job of systemd's, by its path on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job(String);

/// What systemd pushes.
#[derive(Debug)]
pub enum Signal {
    /// A job is waiting or running for a unit.
    JobNew {
        /// The job.
        job: Job,
        /// The unit that it is for.
        unit: String,
    },
    /// A job ended.
    JobRemoved {
        /// The job.
        job: Job,
        /// The unit that it was for.
        unit: String,
        /// `done`, `failed`, `timeout`, `dependency`, `canceled`, `skipped`, …
        result: String,
    },
    /// Something of a unit changed.
    Changed {
        /// The unit.
        unit: String,
        /// What it is now, as far as it was told.
        properties: HashMap<String, OwnedVariant>,
    },
}

/// Signals in the order in which systemd sent them.
#[derive(Debug)]
pub struct Signals(MessageStream);

impl Manager {
    /// Connects to the systemd that runs this machine.
    ///
    /// # Errors
    /// Process 1 is something else, or there is no system bus.
    pub async fn system() -> Result<Self, HandoffError> {
        // What `sd_booted` looks at.
        if !Path::new("/run/systemd/system").is_dir() {
            let name = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
            return Err(HandoffError::NotSystemd { name: name.trim().to_owned() });
        }
        let connection = Connection::system().await.map_err(HandoffError::Bus)?;
        Ok(Self { connection })
    }

    /// Has everything that happens to units and jobs pushed from now on.
    ///
    /// # Errors
    /// The bus or systemd refuses.
    pub async fn subscribe(&self) -> Result<Signals, HandoffError> {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(SYSTEMD);
        let rule = rule.build().map_err(HandoffError::Bus)?;
        let stream = MessageStream::for_match_rule(rule, &self.connection, NonZeroUsize::new(QUEUE)).await;
        let stream = stream.map_err(HandoffError::Bus)?;
        self.manager("Subscribe", &()).await.map_err(HandoffError::Bus)?;
        Ok(Signals(stream))
    }

    /// Has systemd read all units anew. Afterwards it has.
    ///
    /// # Errors
    /// systemd refuses.
    pub async fn reload(&self) -> Result<(), HandoffError> {
        self.manager("Reload", &()).await.map(drop).map_err(refused("reload", "units"))
    }

    /// Starts a unit and what it needs.
    ///
    /// # Errors
    /// There is no such unit, or it can't be started.
    pub async fn start(&self, unit: &str) -> Result<Job, HandoffError> {
        self.job("StartUnit", "start", unit).await
    }

    /// Stops a unit and what needs it.
    ///
    /// # Errors
    /// There is no such unit.
    pub async fn stop(&self, unit: &str) -> Result<Job, HandoffError> {
        self.job("StopUnit", "stop", unit).await
    }

    /// Restarts a unit and what needs it, as far as that is active; starts it if it isn't.
    ///
    /// # Errors
    /// There is no such unit, or it can't be started.
    pub async fn restart(&self, unit: &str) -> Result<Job, HandoffError> {
        self.job("RestartUnit", "restart", unit).await
    }

    async fn job(&self, method: &str, action: &'static str, unit: &str) -> Result<Job, HandoffError> {
        let reply = self.manager(method, &(unit, "replace")).await.map_err(refused(action, unit))?;
        let path: OwnedObjectPath = reply.body().deserialize().map_err(HandoffError::Bus)?;
        Ok(Job(path.to_string()))
    }

    /// Forgets that a unit failed, and how often it was started of late. One that isn't loaded never failed.
    pub async fn reset_failed(&self, unit: &str) {
        if let Err(error) = self.manager("ResetFailedUnit", &(unit,)).await {
            tracing::debug!(unit, %error, "not reset");
        }
    }

    /// Makes a unit that is installed come up at boot, or no longer.
    ///
    /// # Errors
    /// systemd refuses.
    pub async fn enable(&self, unit: &str, on: bool) -> Result<(), HandoffError> {
        let (action, result) = if on {
            ("enable", self.manager("EnableUnitFiles", &(vec![unit], false, true)).await)
        } else {
            ("disable", self.manager("DisableUnitFiles", &(vec![unit], false)).await)
        };
        result.map(drop).map_err(refused(action, unit))
    }

    /// How a unit is just now; one that isn't installed has `not-found` as its load state.
    ///
    /// # Errors
    /// The bus or systemd went away.
    pub async fn unit(&self, unit: &str) -> Result<UnitStatus, HandoffError> {
        let path = format!("{UNIT_PATH}{}", escape(unit));
        let reply = self
            .connection
            .call_method(Some(SYSTEMD), path.as_str(), Some(PROPERTIES), "GetAll", &("",))
            .await
            .map_err(refused("tell of", unit))?;
        let body = reply.body();
        let properties: Properties = body.deserialize().map_err(HandoffError::Bus)?;
        let mut status = UnitStatus::new(unit);
        status.update(&properties);
        Ok(status)
    }

    /// Names of the loaded units that match any of these patterns, as a shell would match them.
    ///
    /// # Errors
    /// The bus or systemd went away.
    pub async fn loaded(&self, patterns: &[String]) -> Result<Vec<String>, HandoffError> {
        type Row =
            (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let none: Vec<&str> = Vec::new();
        let reply = self.manager("ListUnitsByPatterns", &(none, patterns)).await;
        let reply = reply.map_err(HandoffError::Bus)?;
        let rows: Vec<Row> = reply.body().deserialize().map_err(HandoffError::Bus)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn manager<B>(&self, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + DynamicType + Sync,
    {
        self.connection.call_method(Some(SYSTEMD), TOP, Some(MANAGER), method, body).await
    }
}

fn refused(action: &'static str, unit: &str) -> impl FnOnce(zbus::Error) -> HandoffError {
    let unit = unit.to_owned();
    move |source| HandoffError::Refused { action, unit, source }
}

impl Signals {
    /// The next signal; waits for it.
    ///
    /// # Errors
    /// The bus went away.
    pub async fn next(&mut self) -> Result<Signal, HandoffError> {
        loop {
            let message = poll_fn(|context| Pin::new(&mut self.0).poll_next(context)).await;
            let message = message.ok_or(HandoffError::Lost)?.map_err(HandoffError::Bus)?;
            match read(&message) {
                Ok(Some(signal)) => return Ok(signal),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a signal that can't be read"),
            }
        }
    }
}

fn read(message: &Message) -> zbus::Result<Option<Signal>> {
    let header = message.header();
    let (Some(member), Some(path)) = (header.member(), header.path()) else { return Ok(None) };
    let body = message.body();
    Ok(match member.as_str() {
        "JobNew" => {
            let (_, job, unit): (u32, OwnedObjectPath, String) = body.deserialize()?;
            Some(Signal::JobNew { job: Job(job.to_string()), unit })
        }
        "JobRemoved" => {
            let (_, job, unit, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
            Some(Signal::JobRemoved { job: Job(job.to_string()), unit, result })
        }
        "PropertiesChanged" => {
            let Some(name) = path.as_str().strip_prefix(UNIT_PATH) else { return Ok(None) };
            let (_, properties, _): (String, Properties, Vec<String>) = body.deserialize()?;
            Some(Signal::Changed { unit: unescape(name), properties })
        }
        _ => None,
    })
}

/// A unit's name as part of a path on the bus.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len() * 2);
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("_{byte:02x}"));
        }
    }
    escaped
}

fn unescape(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'_').then(|| after.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units_go_to_the_bus_and_back() {
        assert_eq!(escape("rootbuild-web.service"), "rootbuild_2dweb_2eservice");
        for name in ["rootbuild-web-page.service", "a@\\x2d.service", "0.target", "ä_b.socket"] {
            assert_eq!(unescape(&escape(name)), name);
        }
    }
}
