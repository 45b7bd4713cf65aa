//! What rootbuild adds: a drop-in for each unit, and the units that mount and group a root.

use super::load::Loaded;
use super::name::{Kind, escape_dashes};
use super::paths;
use super::rewrite::{Context, Rewritten};
use super::specifiers::literal;
use super::text::Writer;
use super::words;
use super::{Request, Softened, Writable, furnish, network};
use crate::checkout::Areas;

/// Sockets of the host that a root's services talk to, where they are.
const SOCKETS: [&str; 5] = [
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/systemd/journal/dev-log",
    "/run/systemd/notify",
    "/run/dbus/system_bus_socket",
];

/// Hardening that is on unless the unit itself says something of it, with the first version of systemd that
/// knows it. Ten typical services were measured to work with all of it at once.
pub(super) const HARDENING: [(&str, &str, u32); 13] = [
    ("ProtectKernelTunables", "yes", 247),
    ("ProtectKernelModules", "yes", 247),
    ("ProtectKernelLogs", "yes", 247),
    ("ProtectControlGroups", "yes", 247),
    ("ProtectClock", "yes", 247),
    ("ProtectHostname", "yes", 247),
    ("RestrictRealtime", "yes", 247),
    ("LockPersonality", "yes", 247),
    ("PrivateDevices", "yes", 247),
    ("PrivateIPC", "yes", 248),
    ("PrivateTmp", "yes", 247),
    ("RestrictNamespaces", "yes", 247),
    ("SystemCallArchitectures", "native", 247),
];

/// Services that read the kernel's log where it can be opened. What `ProtectKernelLogs=` shows them instead is a file
/// that is always at its end, and they read it on and on.
const KERNEL_LOG_READERS: [&str; 3] = ["rsyslog.service", "syslog-ng.service", "sysklogd.service"];

/// What keeps the kernel's log from those: something that can't be opened.
const NO_KERNEL_LOG: [(&str, &str); 3] = [
    ("BindReadOnlyPaths", "-/run/systemd/inaccessible/sock:/proc/kmsg"),
    ("CapabilityBoundingSet", "~CAP_SYSLOG"),
    ("SystemCallFilter", "~syslog:EPERM"),
];

/// Where something else is mounted for services.
const MOUNTED: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// The unit that mounts a root.
pub(super) fn root_unit(root: &str) -> String {
    format!("rootbuild-{root}-root.service")
}

/// The target that starts all of a root.
pub(super) fn target(root: &str) -> String {
    format!("rootbuild-{root}.target")
}

/// The slice that all of a root runs in.
pub(super) fn slice(root: &str) -> String {
    format!("rootbuild-{}.slice", escape_dashes(root))
}

/// What every unit of a root has in its drop-in.
pub(super) fn drop_in(
    context: &Context<'_>,
    unit: &Loaded,
    rewritten: &Rewritten,
) -> std::io::Result<String> {
    let root = context.request.name;
    let mut writer = Writer::default();
    let runs = match unit.name.kind {
        Kind::Service => true,
        Kind::Socket => unit.entries.iter().any(|entry| entry.key.starts_with("Exec")),
        _ => false,
    };
    // What listens on ports, or waits for a time, needn't stop when the root is mounted anew.
    if runs || rewritten.unit.mentions(&paths::fixed(root)) {
        // Never `BindsTo=`: of a unit that isn't active yet, a mere reload would stop what is bound to it.
        writer.set("Unit", "Requires", &root_unit(root));
        writer.set("Unit", "After", &root_unit(root));
    }
    let run = context.request.run;
    let section = unit.name.kind.section();
    if matches!(unit.name.kind, Kind::Service | Kind::Socket)
        && run.address.is_some()
        && !unit.is_on(section, "PrivateNetwork")
    {
        writer.set("Unit", "Requires", &network::unit(root));
        writer.set("Unit", "After", &network::unit(root));
        writer.set(section, "NetworkNamespacePath", &network::namespace(root));
    }
    // Not sockets: those are there before the services of any root are.
    if unit.name.kind == Kind::Service {
        for other in others(context.request) {
            writer.set("Unit", "After", &target(other));
        }
        if !run.requires.is_empty() {
            writer.set("Unit", "Requires", &gate(root));
            writer.set("Unit", "After", &gate(root));
        }
    }
    writer.set("Unit", "PartOf", &target(root));
    if unit.name.kind == Kind::Socket {
        writer.set("Socket", "Slice", &slice(root));
    }
    if runs {
        execution(context, unit, rewritten, &mut writer)?;
    }
    Ok(writer.finish(&format!("Where `{}` of the root `{root}` runs.", unit.name)))
}

fn execution(
    context: &Context<'_>,
    unit: &Loaded,
    rewritten: &Rewritten,
    writer: &mut Writer,
) -> std::io::Result<()> {
    let (root, section) = (context.request.name, unit.name.kind.section());
    let mut set = |key: &str, value: &str| writer.set(section, key, value);
    set("RootDirectory", &paths::fixed(root));
    set("MountAPIVFS", "yes");
    if unit.name.kind == Kind::Service {
        set("Slice", &slice(root));
        set("BindReadOnlyPaths", &SOCKETS.map(|path| format!("-{path}")).join(" "));
        set("LogExtraFields", &format!("ROOTBUILD_ROOT={root}"));
    }
    for (name, value) in &rewritten.environment {
        set("Environment", &words::quote(&format!("{name}={value}")));
    }
    for (key, value) in &rewritten.settings {
        set(key, value);
    }
    // What is written to an overlay changes nothing below it.
    let private = context.request.private.filter(|_| context.request.run.writable == Writable::Checkout);
    if let Some(private) = private {
        let (read_only, writable) = shared(context, private)?;
        for (key, paths) in [("ReadOnlyPaths", read_only), ("ReadWritePaths", writable)] {
            if !paths.is_empty() {
                set(key, &paths.join(" "));
            }
        }
    }
    let names = [Some(unit.name.to_string()), unit.name.template().map(|name| name.to_string())];
    let soft = |key: &str| {
        let is = |it: &Softened| {
            let unit = it.unit.as_ref().is_none_or(|unit| names.iter().flatten().any(|name| name == unit));
            unit && it.setting.as_ref().is_none_or(|setting| setting == key)
        };
        context.request.run.softened.iter().any(is)
    };
    for (key, value, since) in HARDENING {
        // Who names devices gets the host's.
        let devices = key == "PrivateDevices" && unit.mentions(section, "DeviceAllow");
        let known = context.request.host.systemd >= since;
        if !known || unit.mentions(section, key) || devices || soft(key) {
            continue;
        }
        match key {
            "ProtectHostname" if context.request.host.systemd >= 258 => {
                set(key, &format!("private:{}", context.request.run.hostname));
            }
            "RestrictNamespaces" if rewritten.enters_uts => set(key, "uts"),
            "ProtectKernelLogs" if names.iter().flatten().any(|it| KERNEL_LOG_READERS.contains(&&**it)) => {
                NO_KERNEL_LOG.iter().for_each(|(key, value)| set(key, value));
            }
            _ => set(key, value),
        }
    }
    Ok(())
}

/// What a root shares with the store, and services must not write, and what they may all the same.
fn shared(context: &Context<'_>, private: &Areas) -> std::io::Result<(Vec<String>, Vec<String>)> {
    let names = context.tree.list("/")?;
    let is_shared = |name: &String| {
        let path = format!("/{name}");
        let is_directory = context.tree.kind(&path) == Some(rustix::fs::FileType::Directory);
        is_directory
            && context.tree.link(&path).is_none()
            && !private.contains(name.as_bytes())
            && !MOUNTED.contains(&name.as_str())
    };
    let quoted = |path: &str| words::quote(&format!("-+/{}", literal(path)));
    let shared: Vec<&String> = names.iter().filter(|name| is_shared(name)).collect();
    let inside = private.paths().filter_map(|path| {
        let path = str::from_utf8(path).ok()?;
        let (top, _) = path.split_once('/')?;
        shared.iter().any(|name| *name == top).then(|| quoted(path))
    });
    let inside = inside.collect();
    Ok((shared.iter().map(|name| quoted(name)).collect(), inside))
}

/// Mounts the root's current checkout at its fixed path. Nothing of rootbuild's has to be installed for it.
pub(super) fn root_service(context: &Context<'_>, directories: &[String]) -> String {
    let root = context.request.name;
    let (link, fixed) = (argument(&context.request.link.to_string_lossy()), paths::fixed(root));
    let mut writer = Writer::default();
    let mut set = |section: &str, key: &str, value: &str| writer.set(section, key, value);
    set("Unit", "Description", &format!("Root {root} of rootbuild"));
    // Sockets need it before `basic.target`.
    set("Unit", "DefaultDependencies", "no");
    let store = context.request.link.parent().unwrap_or(context.request.link).to_string_lossy();
    set("Unit", "RequiresMountsFor", &words::quote(&literal(&store)));
    set("Unit", "After", "local-fs.target");
    set("Unit", "Conflicts", "shutdown.target");
    set("Unit", "Before", "shutdown.target");
    set("Unit", "PartOf", &target(root));
    set("Service", "Type", "oneshot");
    set("Service", "RemainAfterExit", "yes");
    set("Service", "Slice", &slice(root));
    let overlay = match context.request.run.writable {
        Writable::Checkout => argument(""),
        Writable::Overlay => argument(&furnish::overlay_of(context.request)),
    };
    let told = furnish::arguments(context.request);
    let mount = [MOUNT, TABLE, furnish::TELL, MOUNT_ALL, &furnish::name(context.request)].concat();
    set(
        "Service",
        "ExecStart",
        &format!("/bin/sh -ec '{}' sh {link} {fixed} {root} {overlay} {told}", script(&mount)),
    );
    for command in furnish::volumes(context.request) {
        set("Service", "ExecStart", &command);
    }
    let tmpfiles = format!("-systemd-tmpfiles --root={fixed} --create");
    set("Service", "ExecStart", &format!("{tmpfiles} --prefix=/run --prefix=/var/run --prefix=/tmp"));
    if !directories.is_empty() {
        set("Service", "StandardInput", "data");
        for line in directories {
            set("Service", "StandardInputText", &line.replace('\\', "\\\\"));
        }
        set("Service", "ExecStart", &format!("{tmpfiles} -"));
    }
    set("Service", "ExecStopPost", &format!("-/bin/sh -c '{}' sh {fixed} {overlay}", script(UNMOUNT)));
    set("Service", "ExecStopPost", &format!("-{}", furnish::forget(root)));
    writer.finish(&format!("Mounts the root `{root}` where its services find it."))
}

/// The checkout is mounted alone: what is mounted in it later must not show in the store. A root whose `/run`
/// or `/tmp` is a link would have the host's mounted over. Each program costs milliseconds, and all roots start at once.
const MOUNT: &str = "tree=$(readlink -e -- \"$1\"); \
    for name in run tmp; do test -d \"$tree/$name\" && ! test -L \"$tree/$name\"; done; \
    if test -d \"$2\"; then while mountpoint -q -- \"$2\"; do umount -R -l -- \"$2\"; done; else mkdir -p -- \"$2\"; fi; \
    if test -n \"$4\"; then \
    rm -rf -- \"$4\"; mkdir -p -- \"$4/upper\" \"$4/work\"; \
    chmod --reference=\"$tree\" -- \"$4/upper\"; chown --reference=\"$tree\" -- \"$4/upper\"; \
    cd -- \"$tree\"; \
    mount -t overlay -o \"lowerdir=.,upperdir=$4/upper,workdir=$4/work,index=off,metacopy=off\" -- \"rootbuild:$3@${tree##*/}\" \"$2\"; \
    mount --make-private -- \"$2\"; cd /; \
    else mount --bind --make-private -- \"$tree\" \"$2\"; fi; \
    at=$2; root=$3; shift 4; ";

/// What is mounted in it, in one go, from a table: `mount` wants a file.
const TABLE: &str = "test -d \"$1\" || mkdir -p -- \"$1\"; { echo \"rootbuild:$root@${tree##*/} $at/run tmpfs mode=755,nosuid,nodev 0 0\"; \
    echo \"rootbuild:$root $at/tmp tmpfs mode=1777,nosuid,nodev 0 0\"; ";
const MOUNT_ALL: &str = "; } > \"$1/table\"; mount -a -T \"$1/table\"; mkdir -m 1777 -- \"$at/run/lock\"";

const UNMOUNT: &str = "while mountpoint -q -- \"$1\"; do umount -R -l -- \"$1\" || exit; done; \
    if test -n \"$2\"; then rm -rf -- \"$2\"; fi";

/// A script as systemd's command lines have it, in single quotes.
pub(super) fn script(text: &str) -> String {
    literal(text).replace('$', "$$")
}

/// An argument as systemd's command lines have it.
pub(super) fn argument(text: &str) -> String {
    words::quote(&literal(text).replace('$', "$$"))
}

/// Starts all of a root.
pub(super) fn target_unit(request: &Request<'_>, started: &[String]) -> String {
    let root = request.name;
    let mut writer = Writer::default();
    writer.set("Unit", "Description", &format!("Root {root} of rootbuild and its services"));
    let mut own = vec![root_unit(root)];
    own.extend(request.run.address.map(|_| network::unit(root)));
    own.extend(network::port_sockets(request));
    // With `Requires=` all of it would be restarted when the root is mounted anew, sockets and timers too.
    for unit in own.iter().chain(started) {
        writer.set("Unit", "Wants", unit);
    }
    for unit in own.iter().chain(started) {
        writer.set("Unit", "After", unit);
    }
    for other in others(request) {
        writer.set("Unit", "After", &target(other));
    }
    for other in &request.run.requires {
        writer.set("Unit", "Wants", &target(other));
    }
    writer.set("Install", "WantedBy", "multi-user.target");
    writer.finish(&format!("All that the root `{root}` starts."))
}

/// The roots that start before this one, each once.
fn others<'a>(request: &Request<'a>) -> Vec<&'a str> {
    let mut others: Vec<&str> = Vec::new();
    for name in request.run.after.iter().chain(&request.run.requires) {
        if !others.contains(&name.as_str()) {
            others.push(name);
        }
    }
    others
}

/// The unit that lets a root's services start once those that it requires have.
pub(super) fn gate(root: &str) -> String {
    format!("rootbuild-{root}-gate.service")
}

/// Fails where something of a root that is required has failed. It looks once, when all of that has been started:
/// a `Requires=` of those units would stop and restart this root with them.
pub(super) fn gate_unit(request: &Request<'_>) -> Option<String> {
    if request.run.requires.is_empty() {
        return None;
    }
    let root = request.name;
    let mut writer = Writer::default();
    writer.set("Unit", "Description", &format!("What the root {root} of rootbuild requires"));
    let targets: Vec<String> = request.run.requires.iter().map(|name| target(name)).collect();
    for target in &targets {
        writer.set("Unit", "Wants", target);
        writer.set("Unit", "After", target);
    }
    writer.set("Unit", "PartOf", &target(root));
    writer.set("Service", "Type", "oneshot");
    writer.set("Service", "RemainAfterExit", "yes");
    writer.set("Service", "Slice", &slice(root));
    let command = format!("/bin/sh -ec '{}' sh {root} {}", script(GATE), targets.join(" "));
    writer.set("Service", "ExecStart", &command);
    Some(writer.finish(&format!("Lets the root `{root}` start after those that it requires.")))
}

const GATE: &str = "root=$1; shift; for target in \"$@\"; do \
    for unit in \"$target\" $(systemctl show -P Wants -- \"$target\"); do \
    if systemctl is-failed --quiet -- \"$unit\"; then echo \"root $root is not started: $unit has failed, which it requires\" >&2; exit 1; fi; done; \
    if ! systemctl is-active --quiet -- \"$target\"; then echo \"root $root is not started: $target is not active, which it requires\" >&2; exit 1; fi; done";

/// Holds all processes of a root.
pub(super) fn slice_unit(request: &Request<'_>) -> String {
    let (root, run) = (request.name, request.run);
    let mut writer = Writer::default();
    writer.set("Unit", "Description", &format!("Slice of the root {root} of rootbuild"));
    let limits = [
        ("MemoryMax", run.memory.map(|it| it.to_string())),
        ("CPUWeight", run.cpu_weight.map(|it| it.to_string())),
        ("TasksMax", run.tasks.map(|it| it.to_string())),
    ];
    for (key, value) in limits {
        if let Some(value) = value {
            writer.set("Slice", key, &value);
        }
    }
    writer.finish(&format!("All processes of the root `{root}`."))
}
