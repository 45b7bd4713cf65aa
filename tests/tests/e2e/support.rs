//! What several tests define alike.

use std::path::Path;

use rootbuild_tests::{Project, Ran};

/// The EL7-shaped base with everything in `@core`, under the same text (so: the same layer) everywhere.
pub(crate) const EL7: &str = r#"
[base.el7]
source = "rpm"
repos = ["bases/el7.repo"]
packages = ["@core"]

[ansible]
core = "2.16.19"
"#;

/// A Debian base, under the same text (so: the same layer) everywhere.
pub(crate) const BOOKWORM: &str = r#"
[base.bookworm]
source = "debian"
suite = "bookworm"
packages = ["python3", "systemd", "sudo", "cron", "libcap2-bin", "iputils-ping"]

[ansible]
core = "2.19.14"
project = "."
"#;

/// A project with the EL7 base, `roots` (TOML) and one playbook `site.yml`.
pub(crate) fn el7_project(roots: &str, playbook: &str) -> Project {
    let project = Project::new();
    project.write_standin_repo();
    project.write("rootbuild.toml", &format!("{EL7}\n{roots}"));
    project.write("site.yml", playbook);
    project
}

/// The `status` of every layer of every root that a `provision --json` printed, in order.
pub(crate) fn statuses(ran: &Ran) -> Vec<String> {
    let result = ran.json();
    let roots = result["roots"].as_array().expect("roots").iter();
    roots
        .flat_map(|root| root["layers"].as_array().expect("layers").clone())
        .map(|layer| layer["status"].as_str().expect("status").to_owned())
        .collect()
}

/// Tasks that ran in all layers of all roots that a `provision --json` printed.
pub(crate) fn tasks_run(ran: &Ran) -> u64 {
    let result = ran.json();
    let roots = result["roots"].as_array().expect("roots").iter();
    roots
        .flat_map(|root| root["layers"].as_array().expect("layers").clone())
        .map(|layer| layer["tasks_run"].as_u64().expect("tasks_run"))
        .sum()
}

/// What a root's provision may have left behind: mounts of the store that the host sees, and nspawn
/// processes of the root (others may be at work on the same store).
pub(crate) fn leftovers(project: &Project, root: &str) -> Vec<String> {
    let store = project.store().to_string_lossy().into_owned();
    let mut found = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    found.extend(mounts.lines().filter(|line| line.contains(&store)).map(str::to_owned));
    let machine = format!("--machine=rootbuild-{root}-");
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(command) = std::fs::read(process.path().join("cmdline")) else { continue };
        if let Some(argument) =
            command.split(|byte| *byte == 0).find(|argument| argument.starts_with(machine.as_bytes()))
        {
            found.push(String::from_utf8_lossy(argument).into_owned());
        }
    }
    found
}

/// Control groups of the sandboxes that the process `pid` started.
pub(crate) fn groups_of(pid: u32) -> Vec<String> {
    let output = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("rootbuild-{pid}-*")])
        .output()
        .expect("find runs");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// `name version-release architecture` of every package that a root's own rpm knows, sorted.
pub(crate) fn installed_packages(project: &Project, root: &str) -> String {
    let all = project.inside(root, "rpm -qa --qf '%{name} %{version}-%{release} %{arch}\\n'");
    sorted(all.lines().filter(|line| !line.starts_with("gpg-pubkey ")))
}

/// The same of every package in a lock file.
pub(crate) fn locked_packages(lock: &Path) -> String {
    let lock = std::fs::read_to_string(lock).expect("the lock is there");
    let value = |block: &str, key: &str| {
        let start = format!("{key} = \"");
        let line = block.lines().find(|line| line.starts_with(&start)).expect("every package has it");
        line[start.len()..].trim_end_matches('"').to_owned()
    };
    let packages = lock.split("[[package]]").skip(1).map(|block| {
        let evr = value(block, "evr");
        let evr = evr.split_once(':').map_or(evr.as_str(), |(_, rest)| rest);
        format!("{} {evr} {}", value(block, "name"), value(block, "arch"))
    });
    sorted(packages)
}

/// Where `rpm -Va` may find a difference in a root that nobody has used, beside configuration.
const CHANGED: [&str; 2] = [
    // Removed or emptied when a root is captured: logs, and what identifies one machine.
    " /var/log/",
    " /etc/machine-id",
];

/// What else `rpm -Va` says in a root.
pub(crate) fn unexplained(project: &Project, root: &str) -> Vec<String> {
    let verified = project.inside(root, "rpm -Va || :");
    let explained = |line: &&str| line.contains(" c /") || CHANGED.iter().any(|path| line.contains(path));
    verified.lines().filter(|line| !explained(line)).map(str::to_owned).collect()
}

/// Lines in an order.
fn sorted(lines: impl IntoIterator<Item = impl Into<String>>) -> String {
    let mut lines: Vec<String> = lines.into_iter().map(Into::into).collect();
    lines.sort();
    lines.join("\n")
}

/// Whether somebody without privileges gets to what is in `dir`: not where a clone lies in a private home. Says so when
/// the test can't run for that.
pub(crate) fn others_can_reach(test: &str, dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_open = |dir: &Path| dir.metadata().is_ok_and(|data| data.permissions().mode() & 0o001 != 0);
    let reached = dir.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).all(is_open);
    if !reached {
        println!("skipped: {test}: others can't get to `{}`", dir.display());
    }
    reached
}
