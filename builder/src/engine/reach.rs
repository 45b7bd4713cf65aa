//! From where on a playbook's tasks would run: what can be said without running Ansible.

use rootbuild_cache::Record;
use rootbuild_playbooks::run::Expected;
use serde::Serialize;

use super::lookup::Reason;

/// From where on tasks would run, at best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// The role that the first changed file belongs to.
    pub role: Option<String>,
    /// The number of the task, from 1, in which the first changed file was used first.
    pub task: Option<u64>,
    /// Of how many tasks.
    pub of: Option<u64>,
}

/// Kinds of reasons that are about one file, which is first used somewhere.
const OF_FILES: &[&str] = &["file", "permissions", "appeared", "vanished", "listing"];

impl Reach {
    /// What `reasons` leave of the run that `record` tells of; `None` when nothing can be said.
    #[must_use]
    pub fn of(reasons: &[Reason], record: &Record) -> Option<Self> {
        if reasons.is_empty() || reasons.iter().any(|reason| !OF_FILES.contains(&reason.kind)) {
            return None;
        }
        let first = reasons
            .iter()
            .map(|reason| {
                let used = record.facts["first_use"][&reason.subject].as_u64();
                (used, role(&reason.subject))
            })
            .collect::<Vec<_>>();
        // One of which nothing is known may be the first of all.
        if first.iter().any(|(used, role)| used.is_none_or(|used| used == 0) && role.is_none()) {
            return None;
        }
        let (used, role) = first.into_iter().min_by_key(|(used, _)| used.unwrap_or(0))?;
        let task = used.filter(|used| *used > 0);
        let of = record.facts["tasks"].as_u64().filter(|_| task.is_some());
        Some(Self { role: role.map(str::to_owned), task, of })
    }

    /// Where a run will leave what it has in common with the one that the record tells of.
    #[must_use]
    pub fn expected(self) -> Option<Expected> {
        self.task.map(Expected::Task).or_else(|| self.role.map(Expected::Role))
    }

    /// Which part of the run that is, from 0 to 1, where it is known.
    #[must_use]
    pub fn part(&self) -> Option<f64> {
        let (task, of) = self.task.zip(self.of)?;
        #[expect(clippy::cast_precision_loss, reason = "tasks are few")]
        (task <= of).then(|| (of - task + 1) as f64 / of as f64)
    }
}

/// The role that a file belongs to, by its path.
fn role(name: &str) -> Option<&str> {
    let mut parts = name.split('/');
    parts.by_ref().find(|part| *part == "roles")?;
    let role = parts.next()?;
    // `roles/x` alone is the role's directory, or a file beside the roles.
    parts.next().map(|_| role)
}

#[cfg(test)]
mod tests {
    use rootbuild_cache::Digest;
    use serde_json::json;

    use super::*;

    fn record(first_use: &serde_json::Value) -> Record {
        Record {
            tree: Digest::of(b""),
            inputs: Vec::new(),
            seconds: 10.0,
            created: String::new(),
            facts: json!({"tasks": 40, "first_use": first_use}),
        }
    }

    fn reach(reasons: &[(&'static str, &str)], record: &Record) -> Option<Reach> {
        let reasons: Vec<Reason> =
            reasons.iter().map(|(kind, subject)| Reason::new(kind, *subject)).collect();
        Reach::of(&reasons, record)
    }

    #[test]
    fn a_file_of_a_role_tells_the_role_and_its_first_use_the_task() {
        let record = record(&json!({"roles/web/templates/a.j2": 31, "roles/db/tasks/main.yml": 0}));
        let web = reach(&[("file", "roles/web/templates/a.j2")], &record).unwrap();
        assert_eq!(web, Reach { role: Some("web".into()), task: Some(31), of: Some(40) });
        assert_eq!(web.part(), Some(0.25));
        let both =
            reach(&[("file", "roles/web/templates/a.j2"), ("file", "roles/db/tasks/main.yml")], &record);
        assert_eq!(both.unwrap(), Reach { role: Some("db".into()), task: None, of: None });
    }

    #[test]
    fn what_may_matter_to_every_task_says_nothing() {
        let record = record(&json!({"group_vars/all.yml": 0, "files/x": 3}));
        assert_eq!(reach(&[("file", "group_vars/all.yml")], &record), None);
        assert_eq!(reach(&[("variable", "x")], &record), None);
        assert_eq!(reach(&[("file", "files/x"), ("file", "never/seen")], &record), None);
        assert_eq!(reach(&[("appeared", "files/x")], &record).unwrap().task, Some(3));
    }

    #[test]
    fn a_role_is_known_by_its_path() {
        assert_eq!(role("ansible/roles/web/tasks/main.yml"), Some("web"));
        assert_eq!(role("roles/web"), None);
        assert_eq!(role("files/web"), None);
    }
}
