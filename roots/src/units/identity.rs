//! Whom a unit runs as, and the directories that are made for it.

use super::report::Level;
use super::rewrite::Work;
use super::specifiers::{is_open, literal};
use super::text::Entry;
use super::words;

/// The variables that tell a service of its directories.
const VARIABLES: [(&str, &str); 4] = [
    ("/var/lib", "STATE_DIRECTORY"),
    ("/var/cache", "CACHE_DIRECTORY"),
    ("/var/log", "LOGS_DIRECTORY"),
    ("/etc", "CONFIGURATION_DIRECTORY"),
];

impl Work<'_, '_> {
    /// Prepares for the user that the service runs as.
    pub(super) fn become_user(&mut self) {
        let Some(user) = self.user.filter(|user| user.uid != 0) else { return };
        let set: Vec<String> = self
            .unit
            .entries
            .iter()
            .filter(|it| it.key == "Environment")
            .map(|it| it.value.clone())
            .collect();
        let mut tell = |name: &str, value: &str| {
            let own = |value: &String| {
                let words = words::split(value).unwrap_or_default();
                words
                    .iter()
                    .any(|word| word.text.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
            };
            if !set.iter().any(own) {
                self.out.environment.push((name.to_owned(), literal(value)));
            }
        };
        tell("USER", &user.name);
        tell("LOGNAME", &user.name);
        if self.context.request.host.nss_systemd {
            return;
        }
        tell("HOME", &user.home);
        tell("SHELL", &user.shell);
        let group =
            self.unit.last("Service", "Group").and_then(|entry| self.context.users.group(&entry.value));
        let gid = group.map_or(user.gid, |group| group.gid);
        let mut groups: Vec<u32> = self.context.users.groups_of(user).map(|group| group.gid).collect();
        for entry in self.unit.entries.iter().filter(|entry| entry.key == "SupplementaryGroups") {
            groups.extend(
                entry.value.split_whitespace().filter_map(|it| Some(self.context.users.group(it)?.gid)),
            );
        }
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        let others = match groups.is_empty() {
            true => "--clear-groups".to_owned(),
            false => format!("--groups={}", groups.join(",")),
        };
        self.setpriv = Some(format!("--reuid={} --regid={gid} {others}", user.uid));
    }

    pub(super) fn user(&mut self, entry: &Entry, value: &str) {
        if matches!(value, "root" | "0") {
            return self.set(entry, value);
        }
        let Some(user) = self.context.users.user(value) else {
            if entry.section == "Socket" {
                return self.dropped(entry, Level::Warning, format!("the root has no user `{value}`"));
            }
            // A name for systemd to make up a user by: the unit's own will do, and clashes with none.
            return self.dropped(entry, Level::Note, "the user that is made up bears the unit's name");
        };
        if !self.context.request.host.nss_systemd {
            return self.without_names(entry);
        }
        let name = self.records.user(self.context.request.name, user);
        self.set(entry, &name);
        let counts = self.unit.last(&entry.section, "User").is_some_and(|last| last.place == entry.place);
        if entry.section == "Service" && counts {
            let root = self.context.request.name;
            let groups: Vec<String> =
                self.context.users.groups_of(user).map(|group| self.records.group(root, group)).collect();
            if !groups.is_empty() {
                self.out.unit.set("Service", "SupplementaryGroups", &groups.join(" "));
            }
        }
    }

    pub(super) fn group(&mut self, entry: &Entry, value: &str) {
        if matches!(value, "root" | "0") {
            return self.set(entry, value);
        }
        match self.context.users.group(value) {
            None if entry.section == "Socket" => {
                self.dropped(entry, Level::Warning, format!("the root has no group `{value}`"));
            }
            None => self.dropped(entry, Level::Note, "the group that is made up bears the unit's name"),
            Some(_) if !self.context.request.host.nss_systemd => self.without_names(entry),
            Some(group) => {
                let name = self.records.group(self.context.request.name, group);
                self.set(entry, &name);
            }
        }
    }

    pub(super) fn groups(&mut self, entry: &Entry, value: &str) {
        for name in value.split_whitespace() {
            match self.context.users.group(name) {
                Some(group) if self.context.request.host.nss_systemd => {
                    let name = self.records.group(self.context.request.name, group);
                    self.set(entry, &name);
                }
                Some(_) => self.without_names(entry),
                None => self.dropped(entry, Level::Warning, format!("the root has no group `{name}`")),
            }
        }
    }

    fn without_names(&mut self, entry: &Entry) {
        if entry.section == "Service" && self.setpriv.is_some() {
            return self.changed(entry, Level::Note, "`setpriv` does it: this host has no `nss-systemd`");
        }
        let reason = "this host has no `nss-systemd` to know the root's users and groups by";
        self.dropped(entry, Level::Warning, reason);
    }

    /// The root's `/run` is on the host below its fixed path, which is below the host's.
    pub(super) fn runtime_directory(&mut self, entry: &Entry, value: &str) {
        let below = format!("rootbuild/roots/{}/run", self.context.request.name);
        let mut names = Vec::new();
        let mut inside = Vec::new();
        for word in words::split(value).unwrap_or_default() {
            if climbs(&word.text) {
                self.dropped(entry, Level::Warning, "it leads out of `/run`");
                continue;
            }
            let (name, link) = word.text.split_once(':').unwrap_or((&word.text, ""));
            let link = if link.is_empty() { String::new() } else { format!(":{below}/{link}") };
            names.push(words::quote(&format!("{below}/{name}{link}")));
            inside.push(format!("/run/{name}"));
        }
        if names.is_empty() {
            return;
        }
        self.set(entry, &names.join(" "));
        self.out.environment.retain(|(name, _)| name != "RUNTIME_DIRECTORY");
        self.out.environment.push(("RUNTIME_DIRECTORY".to_owned(), inside.join(":")));
        if self.setpriv.is_some() {
            self.changed(entry, Level::Warning, "it belongs to root: this host has no `nss-systemd`");
        }
    }

    /// Directories in the root itself, which come with it and go with it.
    pub(super) fn directory(&mut self, entry: &Entry, value: &str, top: &'static str) {
        let words = words::split(value).unwrap_or_default();
        // What follows a colon is a link, which the root has no use for: it is told by the variable.
        let names: Vec<&str> =
            words.iter().map(|word| word.text.split_once(':').map_or(&*word.text, |it| it.0)).collect();
        if names.iter().any(|name| is_open(name) || climbs(name)) {
            return self.dropped(entry, Level::Warning, "its name isn't known before the unit is started");
        }
        let variable = VARIABLES.iter().find(|(of, _)| *of == top).map_or("", |(_, name)| name);
        let inside = names.iter().map(|name| format!("{top}/{name}")).collect::<Vec<_>>();
        if top != "/etc" && self.unit.is_on("Service", "DynamicUser") {
            return self.kept_on_host(entry, &names, &inside, top);
        }
        let (uid, gid) = self.user.map_or((0, 0), |user| (user.uid, user.gid));
        let group =
            self.unit.last("Service", "Group").and_then(|entry| self.context.users.group(&entry.value));
        let gid = group.map_or(gid, |group| group.gid);
        let (uid, gid) = if top == "/etc" { (0, 0) } else { (uid, gid) };
        let mode =
            self.unit.last("Service", &format!("{}Mode", entry.key)).map_or("0755", |it| it.value.as_str());
        let is_mode = mode.len() <= 5 && mode.chars().all(|c| c.is_digit(8));
        let mode = if is_mode { mode } else { "0755" };
        for path in &inside {
            self.out.directories.push(format!("d {} {mode} {uid} {gid} -", words::quote(path)));
            if top != "/etc" {
                self.out.settings.push(("ReadWritePaths", words::quote(&format!("+{path}"))));
            }
        }
        self.out.environment.push((variable.to_owned(), inside.join(":")));
    }

    /// A user that is made up at each start can own nothing in the root: the host keeps it.
    fn kept_on_host(&mut self, entry: &Entry, names: &[&str], inside: &[String], top: &str) {
        let below = format!("rootbuild/{}", self.context.request.name);
        let on_host: Vec<String> =
            names.iter().map(|name| words::quote(&format!("{below}/{name}"))).collect();
        self.set(entry, &on_host.join(" "));
        for (name, path) in names.iter().zip(inside) {
            let bind = format!("{top}/private/{below}/{name}:{path}");
            self.out.settings.push(("BindPaths", words::quote(&bind)));
        }
        let reason =
            format!("kept on the host, below `{top}/private/{below}`: its user is made up at each start");
        self.changed(entry, Level::Warning, reason);
    }
}

/// Whether a path has `..` in it.
fn climbs(path: &str) -> bool {
    path.split(['/', ':']).any(|part| part == "..")
}
