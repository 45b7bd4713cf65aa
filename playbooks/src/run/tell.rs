//! The callback plugin's events: received, counted, and handed on.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Deserialize;

use super::failure::Failure;
use crate::event::{RunEvent, TaskStatus};
use crate::replay::{Broker, Task};

/// One line from the callback plugin.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Told {
    Playbook,
    Play {
        name: String,
        pattern: String,
    },
    NoHostsMatched,
    Task {
        name: String,
        action: String,
        source: String,
        handler: bool,
        #[serde(default)]
        role: Option<String>,
    },
    Result {
        host: String,
        name: String,
        source: String,
        status: TaskStatus,
        seconds: f64,
        detail: Option<Failure>,
    },
    Deferred {
        service: String,
        state: String,
    },
    Refused {
        name: String,
        source: String,
        why: String,
    },
    Stats {
        hosts: BTreeMap<String, serde_json::Value>,
    },
    #[serde(other)]
    Other,
}

/// A failed result: what an error is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) task: String,
    pub(super) source_line: String,
    pub(super) detail: String,
}

/// What has been told so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Whether the plugin was there at all.
    pub(super) begun: bool,
    /// The host patterns of the plays.
    pub(super) plays: Vec<String>,
    /// How many plays were for the root's host.
    pub(super) matched: usize,
    /// The play that has begun, until its first task is seen: it may turn out to be for others.
    play: Option<String>,
    /// Results on the root's host that weren't skipped.
    pub(super) tasks: u64,
    /// Of these, those that the root had no part in.
    pub(super) replayed: u64,
    /// Of these, those that changed something.
    pub(super) changed: u64,
    /// Services left to the units, each name and state once, in order.
    pub(super) deferred: Vec<(String, String)>,
    /// The last failure that wasn't ignored (it may have been rescued).
    pub(super) failed: Option<Failed>,
    /// A task that the plugin didn't let begin.
    pub(super) refused: Option<Failed>,
    /// Whether the run came to its end.
    pub(super) ended: bool,
}

/// Who is told what happens while it happens: Ansible waits until these return.
pub(super) trait Follow {
    /// Ansible could go on; false if there will never be anything to go on with.
    fn ready(&self) -> bool;
    /// A task begins: all of the one before is done.
    fn begins(&self, task: Task);
    /// A task has ended; whether the root had no part in it.
    fn ended(&self, failed: bool) -> bool;
}

impl Follow for Broker<'_> {
    fn ready(&self) -> bool {
        self.prepare()
    }

    fn begins(&self, task: Task) {
        Broker::begins(self, task);
    }

    fn ended(&self, failed: bool) -> bool {
        Broker::ended(self, failed)
    }
}

/// Listens to the plugin until it hangs up.
pub(super) fn listen(
    stream: UnixStream,
    project: &Path,
    host: &str,
    follow: &dyn Follow,
    events: &(dyn Fn(RunEvent) + Sync),
) -> Account {
    let mut account = Account::default();
    let Ok(mut writer) = stream.try_clone() else { return account };
    // The plugin writes whole lines; the longest is bounded there.
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let told: Told = match serde_json::from_str(&line) {
            Ok(told) => told,
            Err(error) => {
                tracing::warn!(%error, line, "the callback plugin said something odd");
                continue;
            }
        };
        let begins = matches!(told, Told::Playbook);
        let waits = matches!(told, Told::Play { .. } | Told::Task { .. } | Told::Stats { .. });
        account.add(told, project, host, follow, events);
        // The plugin goes on only when it is told to.
        let answered = match (begins, waits) {
            (true, _) => follow.ready() && writer.write_all(b"go\n").is_ok(),
            (_, true) => writer.write_all(b"ok\n").is_ok(),
            _ => true,
        };
        if !answered {
            break;
        }
    }
    account
}

impl Account {
    fn add(
        &mut self,
        told: Told,
        project: &Path,
        host: &str,
        follow: &dyn Follow,
        events: &(dyn Fn(RunEvent) + Sync),
    ) {
        match told {
            Told::Playbook => self.begun = true,
            Told::Play { name, pattern } => {
                self.plays.push(pattern);
                self.matched += 1;
                self.play = Some(name);
            }
            Told::NoHostsMatched => {
                self.matched = self.matched.saturating_sub(1);
                self.play = None;
            }
            Told::Task { name, action, source, handler, role } => {
                if let Some(name) = self.play.take() {
                    events(RunEvent::Play { name });
                }
                let source = relative(&source, project);
                follow.begins(Task { name: name.clone(), source: source.clone(), role });
                events(RunEvent::Task { name, action, source, handler });
            }
            Told::Result { host: on, name, source, status, seconds, detail } => {
                let source = relative(&source, project);
                let detail = detail.map(|failure| failure.to_string());
                let mut replayed = false;
                if on == host {
                    replayed = follow.ended(matches!(status, TaskStatus::Failed | TaskStatus::Unreachable));
                    self.count(&name, &source, status, replayed, detail.as_deref());
                }
                let shown =
                    matches!(status, TaskStatus::Failed | TaskStatus::Unreachable | TaskStatus::Ignored);
                let detail = detail.filter(|_| shown);
                events(RunEvent::Result { name, status, replayed, seconds, detail, source });
            }
            Told::Deferred { service, state } => {
                let pair = (service.clone(), state.clone());
                if !self.deferred.contains(&pair) {
                    self.deferred.push(pair);
                }
                events(RunEvent::Deferred { service, state });
            }
            Told::Refused { name, source, why } => {
                self.refused =
                    Some(Failed { task: name, source_line: relative(&source, project), detail: why });
            }
            Told::Stats { hosts } => {
                tracing::debug!(?hosts, "ansible's recap");
                self.ended = true;
            }
            Told::Other => {}
        }
    }

    fn count(&mut self, name: &str, source: &str, status: TaskStatus, replayed: bool, detail: Option<&str>) {
        if status != TaskStatus::Skipped {
            self.tasks += 1;
            self.replayed += u64::from(replayed);
        }
        if status == TaskStatus::Changed {
            self.changed += 1;
        }
        if matches!(status, TaskStatus::Failed | TaskStatus::Unreachable) {
            self.failed = Some(Failed {
                task: name.to_owned(),
                source_line: source.to_owned(),
                detail: detail.unwrap_or_default().to_owned(),
            });
        }
    }
}

/// `file:line` relative to the project, where it lies in it.
fn relative(source: &str, project: &Path) -> String {
    Path::new(source)
        .strip_prefix(project)
        .map_or_else(|_| source.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Nobody;

    impl Follow for Nobody {
        fn ready(&self) -> bool {
            true
        }

        fn begins(&self, _task: Task) {}

        fn ended(&self, failed: bool) -> bool {
            !failed
        }
    }

    fn account(lines: &str) -> (Account, Vec<RunEvent>, String) {
        let (mut plugin, ours) = UnixStream::pair().unwrap();
        let seen = Mutex::new(Vec::new());
        plugin.write_all(lines.as_bytes()).unwrap();
        plugin.shutdown(std::net::Shutdown::Write).unwrap();
        let account =
            listen(ours, Path::new("/p"), "web0", &Nobody, &|event| seen.lock().unwrap().push(event));
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut plugin, &mut answer).unwrap();
        (account, seen.into_inner().unwrap(), answer)
    }

    #[test]
    fn results_are_counted_and_failures_kept() {
        let (account, events, answer) = account(concat!(
            r#"{"event":"playbook"}"#,
            "\n",
            r#"{"event":"play","name":"others","pattern":"db"}"#,
            "\n",
            r#"{"event":"no-hosts-matched"}"#,
            "\n",
            r#"{"event":"play","name":"web","pattern":"web"}"#,
            "\n",
            r#"{"event":"task","name":"a : b","action":"copy","source":"/p/x.yml:3","handler":false,"tags":[]}"#,
            "\n",
            r#"{"event":"result","host":"web0","name":"a : b","source":"/p/x.yml:3","status":"changed","seconds":1.5}"#,
            "\n",
            r#"{"event":"result","host":"web0","name":"c","source":"/q/x.yml:4","status":"failed","seconds":0.1,"detail":{"message":"no"}}"#,
            "\n",
            "not json\n",
            r#"{"event":"of the future"}"#,
            "\n",
            r#"{"event":"deferred","service":"sshd","state":"started","source":""}"#,
            "\n",
            r#"{"event":"stats","hosts":{}}"#,
            "\n",
        ));
        assert_eq!(answer, "go\nok\nok\nok\nok\n");
        assert_eq!((account.tasks, account.changed, account.matched, account.ended), (2, 1, 1, true));
        assert_eq!(account.replayed, 1);
        assert_eq!(account.failed.unwrap().source_line, "/q/x.yml:4");
        assert_eq!(events.len(), 5);
        assert_eq!(events[0], RunEvent::Play { name: "web".to_owned() });
        assert!(matches!(&events[1], RunEvent::Task { source, .. } if source == "x.yml:3"));
    }
}
