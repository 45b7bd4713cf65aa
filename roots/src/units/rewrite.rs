//! A unit of a root as one of the host: each setting by its rule.

use std::collections::BTreeMap;

use super::Request;
use super::choose::as_template;
use super::exec::{self, Become};
use super::load::{Found, Index, Loaded};
use super::name::{Kind, UnitName, on_host};
use super::paths;
use super::policy;
use super::report::{Finding, Level, Place, Report};
use super::settings::{self, Rule};
use super::specifiers::{Machine, expand};
use super::text::{Entry, Writer};
use super::tree::Tree;
use super::users::{Records, User, Users};
use super::words;

/// What all units of a root are seen in.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub request: &'a Request<'a>,
    pub tree: &'a Tree,
    pub index: &'a Index<'a>,
    pub users: &'a Users,
    pub machine: &'a Machine,
}

/// A unit, and what goes with it.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub unit: Writer,
    /// Variables that the host's systemd would set otherwise, for our drop-in.
    pub environment: Vec<(String, String)>,
    /// Further settings for our drop-in.
    pub settings: Vec<(&'static str, String)>,
    /// Directories that the unit has in the root: lines of tmpfiles.d.
    pub directories: Vec<String>,
    /// Whether its commands enter the namespace of the root's hostname.
    pub enters_uts: bool,
}

/// Rewrites a unit. `lifted` has the names of all that are.
pub(super) fn rewrite(
    context: &Context<'_>,
    lifted: &BTreeMap<UnitName, Loaded>,
    unit: &Loaded,
    records: &mut Records,
    reports: &mut Vec<Report>,
) -> Rewritten {
    let user = unit.last("Service", "User").and_then(|entry| {
        let name = expand(&entry.value, &unit.name, &entry.place.file, context.machine);
        context.users.user(&name)
    });
    let out = Rewritten::default();
    let mut work = Work { context, lifted, unit, user, setpriv: None, records, reports, out };
    work.become_user();
    work.out.enters_uts = work.can_enter_uts();
    for bound in &unit.bound {
        work.dependency(bound.setting, &bound.unit, &bound.place);
    }
    for entry in &unit.entries {
        work.entry(entry);
    }
    work.defaults();
    work.out
}

pub(super) struct Work<'a, 'c> {
    pub(super) context: &'a Context<'c>,
    lifted: &'a BTreeMap<UnitName, Loaded>,
    pub(super) unit: &'a Loaded,
    /// The user of the root that it runs as.
    pub(super) user: Option<&'a User>,
    pub(super) setpriv: Option<String>,
    pub(super) records: &'a mut Records,
    reports: &'a mut Vec<Report>,
    pub(super) out: Rewritten,
}

impl Work<'_, '_> {
    pub(super) fn report(&mut self, place: &Place, level: Level, finding: Finding) {
        let unit = self.unit.name.to_string();
        self.reports.push(Report { unit, place: Some(place.clone()), finding, level });
    }

    pub(super) fn dropped(&mut self, entry: &Entry, level: Level, reason: impl Into<String>) {
        let finding = Finding::SettingDropped { setting: entry.key.clone(), reason: reason.into() };
        self.report(&entry.place, level, finding);
    }

    pub(super) fn changed(&mut self, entry: &Entry, level: Level, reason: impl Into<String>) {
        let finding = Finding::Changed { setting: entry.key.clone(), reason: reason.into() };
        self.report(&entry.place, level, finding);
    }

    pub(super) fn set(&mut self, entry: &Entry, value: &str) {
        self.out.unit.set(&entry.section, &entry.key, value);
    }

    pub(super) fn host_path(&self, path: &str) -> String {
        paths::on_host(self.context.tree, self.context.request.name, path)
    }

    fn entry(&mut self, entry: &Entry) {
        let own = self.unit.name.kind.section();
        if entry.section == "Install" || entry.section.starts_with("X-") || entry.key.starts_with("X-") {
            return;
        }
        if entry.section != "Unit" && entry.section != own {
            let reason = format!("section [{}] means nothing here", entry.section);
            return self.dropped(entry, Level::Note, reason);
        }
        if let Some(since) = settings::since(&entry.key)
            && self.context.request.host.systemd < since.version
        {
            let reason = format!("systemd {} doesn't know it", self.context.request.host.systemd);
            return self.dropped(entry, Level::Note, reason);
        }
        let value = expand(&entry.value, &self.unit.name, &entry.place.file, self.context.machine);
        let rule = settings::rule(&entry.section, &entry.key);
        if value.is_empty() && !matches!(rule, Some(Rule::Drop(_) | Rule::Lose(_) | Rule::Refuse(_))) {
            // A reset; of dependencies there is none.
            if rule != Some(Rule::Dependencies) && !self.is_kept_elsewhere(rule) {
                self.set(entry, "");
            }
            return;
        }
        match rule {
            None => self.as_it_is(entry, &value),
            Some(rule) => self.by_rule(entry, &value, rule),
        }
    }

    /// Whether what a rule says of a setting isn't in the unit's own file.
    fn is_kept_elsewhere(&self, rule: Option<Rule>) -> bool {
        let directories = matches!(rule, Some(Rule::Directory(_) | Rule::DirectoryMode));
        directories && !self.unit.is_on("Service", "DynamicUser")
    }

    fn by_rule(&mut self, entry: &Entry, value: &str, rule: Rule) {
        match rule {
            Rule::Dependencies => {
                for name in value.split_whitespace() {
                    self.dependency(&entry.key, name, &entry.place);
                }
            }
            Rule::Partners => self.partners(entry, value),
            Rule::PathCondition => {
                let at = value.find('/').unwrap_or(value.len());
                let (signs, path) = value.split_at(at);
                self.set(entry, &format!("{}{}", signs.replace(' ', ""), self.host_path(path)));
            }
            Rule::HostPath => self.prefixed(entry, value),
            Rule::PidFile => {
                let path = if value.starts_with('/') { value.to_owned() } else { format!("/run/{value}") };
                self.set(entry, &self.host_path(&path));
            }
            Rule::Stream => match value.split_once(':') {
                Some((way, path)) if path.starts_with('/') => {
                    self.set(entry, &format!("{way}:{}", self.host_path(path)));
                }
                _ if value.starts_with("tty") => {
                    self.dropped(entry, Level::Warning, "consoles are the machine's");
                }
                _ => self.set(entry, value),
            },
            Rule::Credential => match value.split_once(':') {
                Some((name, path)) if path.starts_with('/') => {
                    self.set(entry, &format!("{name}:{}", self.host_path(path)));
                }
                _ => self.dropped(entry, Level::Warning, "it would be a credential of the host"),
            },
            Rule::Address if value.starts_with('/') => self.prefixed(entry, value),
            Rule::Address => self.set(entry, value),
            Rule::HostPaths => self.each_word(entry, value, |work, word| Some(work.host_path(word))),
            Rule::InsidePaths => self.each_word(entry, value, |_, word| {
                let path = word.trim_start_matches(['-', '+']);
                let signs = &word[..word.len() - path.len()];
                // `+` says that it is a path in the root.
                Some(format!("{}+{path}", if signs.contains('-') { "-" } else { "" }))
            }),
            Rule::Opened => {
                let (path, rest) = value.split_at(value.find(':').unwrap_or(value.len()));
                self.set(entry, &format!("{}{rest}", self.host_path(path)));
            }
            Rule::Tell(reason) => {
                self.set(entry, value);
                self.changed(entry, Level::Note, reason);
            }
            Rule::Binds => self.each_word(entry, value, Self::bind),
            Rule::RuntimeDirectory => self.runtime_directory(entry, value),
            Rule::Directory(top) => self.directory(entry, value, top),
            Rule::DirectoryMode if self.is_kept_elsewhere(Some(rule)) => {}
            Rule::DirectoryMode => self.set(entry, value),
            Rule::Command => self.command(entry, value),
            Rule::User => self.user(entry, value),
            Rule::Group => self.group(entry, value),
            Rule::Groups => self.groups(entry, value),
            Rule::Drop(reason) => self.dropped(entry, Level::Note, reason),
            Rule::Lose(reason) => self.dropped(entry, Level::Warning, reason),
            // Only what does no harm comes this far.
            Rule::Refuse(reason) => self.dropped(entry, Level::Note, reason),
        }
    }

    /// What no rule is for.
    fn as_it_is(&mut self, entry: &Entry, value: &str) {
        let systemd = self.context.request.host.systemd;
        match (entry.key.as_str(), value) {
            ("Type", "notify-reload") if systemd < 253 => {
                self.changed(
                    entry,
                    Level::Warning,
                    format!("systemd {systemd} can't reload so: `notify` it is"),
                );
                self.set(entry, "notify");
            }
            ("PrivateTmp", "disconnected") if systemd < 257 => self.set(entry, "yes"),
            ("PermissionsStartOnly", _) => {}
            _ => self.set(entry, value),
        }
    }

    fn prefixed(&mut self, entry: &Entry, value: &str) {
        let path = value.trim_start_matches('-');
        let sign = &value[..value.len() - path.len()];
        self.set(entry, &format!("{sign}{}", self.host_path(path)));
    }

    fn each_word(&mut self, entry: &Entry, value: &str, make: impl Fn(&Self, &str) -> Option<String>) {
        let Some(words) = words::split(value) else {
            return self.dropped(entry, Level::Warning, "a quote isn't closed");
        };
        let mut made = Vec::new();
        for word in words {
            match make(self, &word.text) {
                Some(text) => made.push(words::quote(&text)),
                None => self.dropped(entry, Level::Warning, format!("`{}` isn't understood", word.raw)),
            }
        }
        if !made.is_empty() {
            self.set(entry, &made.join(" "));
        }
    }

    /// A bind's source is the host's, its target the root's.
    fn bind(&self, word: &str) -> Option<String> {
        let rest = word.strip_prefix('-').unwrap_or(word);
        let sign = if rest.len() < word.len() { "-" } else { "" };
        let (source, target) = rest.split_once(':').unwrap_or((rest, rest));
        let simple = source.starts_with('/') && target.starts_with('/') && !rest.contains('\\');
        simple.then(|| format!("{sign}{}:{target}", self.host_path(source)))
    }

    /// Whether the service can be given the root's hostname by hand, where systemd doesn't do that: it starts as root,
    /// and nothing keeps it from entering a namespace.
    fn can_enter_uts(&self) -> bool {
        let says = |key: &&str| self.unit.mentions("Service", key);
        let unfree = [
            "CapabilityBoundingSet",
            "PrivateUsers",
            "ProtectHostname",
            "RestrictNamespaces",
            "SystemCallFilter",
        ];
        self.unit.name.kind == Kind::Service
            && self.context.request.host.systemd < 258
            && (self.user.is_none_or(|user| user.uid == 0) || self.setpriv.is_some())
            && !self.unit.is_on("Service", "DynamicUser")
            && !unfree.iter().any(says)
            && self.context.tree.is_executable(exec::NSENTER)
    }

    fn command(&mut self, entry: &Entry, value: &str) {
        let exempt = self.unit.is_on("Service", "PermissionsStartOnly") && entry.key != "ExecStart";
        let uts = self.out.enters_uts;
        let how = Become { setpriv: self.setpriv.as_deref(), exempt, uts };
        match exec::rewrite(value, self.context.tree, &how) {
            Some(commands) => {
                self.set(entry, &commands.text);
                for told in commands.told {
                    self.changed(entry, Level::Note, told);
                }
            }
            None => self.dropped(entry, Level::Warning, "a quote isn't closed"),
        }
    }

    /// The name of a unit of the root on the host, if it is lifted.
    fn lifted_name(&self, name: &str) -> Option<String> {
        let looked_up = UnitName::parse(&as_template(name, &self.unit.name))?;
        let Found::Unit(found, _) = self.context.index.find(&looked_up) else { return None };
        if !self.lifted.contains_key(&found) {
            return None;
        }
        let renamed = on_host(self.context.request.name, &found)?;
        // What stood for the instance of a template does so again.
        let instance = name.split_once('@').map(|(_, rest)| rest).filter(|rest| rest.contains('%'));
        match instance.and_then(|rest| rest.rsplit_once('.')) {
            Some((instance, _)) => Some(renamed.replacen("@.", &format!("@{instance}."), 1)),
            None => Some(renamed),
        }
    }

    fn dependency(&mut self, setting: &str, name: &str, place: &Place) {
        if let Some(lifted) = self.lifted_name(name) {
            return self.out.unit.set("Unit", setting, &lifted);
        }
        if policy::may_name(setting, name) {
            return self.out.unit.set("Unit", setting, name);
        }
        let is_strong = matches!(setting, "Requires" | "BindsTo" | "Requisite" | "OnFailure" | "OnSuccess");
        let (level, reason) = if policy::is_system_target(name) {
            (Level::Note, "the host's own target isn't the root's")
        } else if policy::not_lifted(name).is_some() {
            (Level::Note, "the host does that")
        } else {
            (if is_strong { Level::Warning } else { Level::Note }, "no such unit is taken over")
        };
        let (setting, on, reason) = (setting.to_owned(), name.to_owned(), reason.to_owned());
        self.report(place, level, Finding::DependencyDropped { setting, on, reason });
    }

    fn partners(&mut self, entry: &Entry, value: &str) {
        for name in value.split_whitespace() {
            match self.lifted_name(name) {
                Some(lifted) => self.set(entry, &lifted),
                None => self.dropped(entry, Level::Warning, format!("`{name}` isn't taken over")),
            }
        }
    }

    /// What a unit's name decides where it says nothing.
    fn defaults(&mut self) {
        let unit = self.unit;
        let kind = unit.name.kind;
        // The name that a service knows its socket by.
        if kind == Kind::Socket
            && !unit.mentions("Socket", "FileDescriptorName")
            && !unit.is_on("Socket", "Accept")
            && !unit.name.is_template()
        {
            self.out.unit.set("Socket", "FileDescriptorName", &unit.name.to_string());
        }
        if !unit.mentions("Unit", "Description") {
            self.out.unit.set("Unit", "Description", &unit.name.to_string());
        }
    }
}
