//! Units that can't be lifted for what they say.

use super::load::Loaded;
use super::name::Kind;
use super::report::Place;
use super::rewrite::Context;
use super::settings::{self, Rule};
use super::specifiers::{expand, is_open};

/// Why a unit can't be lifted, and the line that says so; `None` where it can.
pub(super) fn reason(context: &Context<'_>, loaded: &Loaded) -> Option<(Place, String)> {
    let systemd = context.request.host.systemd;
    for entry in &loaded.entries {
        if entry.value.is_empty() {
            continue;
        }
        let told = |reason: String| Some((entry.place.clone(), reason));
        match settings::rule(&entry.section, &entry.key) {
            // `RootDirectory=/` is no other root.
            Some(Rule::Refuse(_)) if entry.key == "RootDirectory" && entry.value == "/" => {}
            Some(Rule::Refuse(reason)) => return told(format!("`{}`: {reason}", entry.key)),
            _ => {}
        }
        if let Some(since) = settings::since(&entry.key)
            && since.needed
            && systemd < since.version
            && entry.section != "Install"
        {
            let (key, needed) = (&entry.key, since.version);
            return told(format!("`{key}` needs systemd {needed}, this host has {systemd}"));
        }
    }
    if loaded.name.kind == Kind::Service { bus(loaded).or_else(|| identity(context, loaded)) } else { None }
}

/// A service that is ready once it has its name on the bus.
fn bus(loaded: &Loaded) -> Option<(Place, String)> {
    let kind = loaded.last("Service", "Type");
    let name = loaded.last("Service", "BusName");
    let is_bus = kind.is_some_and(|kind| kind.value == "dbus") || (kind.is_none() && name.is_some());
    let place = name.or(kind).filter(|_| is_bus)?.place.clone();
    Some((place, "it takes a name on the D-Bus, which is the host's".to_owned()))
}

/// A service of users whom the root doesn't know.
fn identity(context: &Context<'_>, loaded: &Loaded) -> Option<(Place, String)> {
    let dynamic = loaded.is_on("Service", "DynamicUser");
    for (key, what) in [("User", "user"), ("Group", "group")] {
        let Some(entry) = loaded.last("Service", key) else { continue };
        let name = expand(&entry.value, &loaded.name, &entry.place.file, context.machine);
        if is_open(&name) {
            return Some((entry.place.clone(), format!("`{key}={name}` isn't known before it is started")));
        }
        let known = if key == "User" {
            context.users.user(&name).is_some()
        } else {
            context.users.group(&name).is_some()
        };
        if !known && !dynamic && !matches!(name.as_str(), "root" | "0") {
            return Some((entry.place.clone(), format!("the root has no {what} `{name}`")));
        }
    }
    let user = loaded.last("Service", "User").filter(|it| !matches!(it.value.as_str(), "root" | "0"));
    if context.request.host.nss_systemd || dynamic {
        return None;
    }
    let place = user?.place.clone();
    (!context.tree.is_executable(super::exec::SETPRIV)).then(|| {
        let reason = "this host has no `nss-systemd` to know the root's users by, and the root no `setpriv`";
        (place, reason.to_owned())
    })
}
