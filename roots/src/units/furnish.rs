//! What a root's mount gets beside the checkout: files that tell who it is, and volumes that stay.

use rootbuild_cache::Digest;

use super::Request;
use super::exec;
use super::ours::{argument, script};
use super::paths;

/// Where the host keeps what it tells each root.
const FILES: &str = "/run/rootbuild/files";

/// The commands that follow the mount of a root, in this order.
pub(super) fn commands(request: &Request<'_>) -> Vec<String> {
    let root = request.name;
    let fixed = paths::fixed(root);
    let machine = Digest::of(format!("machine-id of rootbuild's root {root}").as_bytes()).hex();
    let asks = if request.run.address.is_none() || request.cluster.outgoing { "yes" } else { "no" };
    let arguments = [
        fixed.as_str(),
        &format!("{FILES}/{root}"),
        &request.run.hostname,
        &machine[..32],
        &request.cluster.id,
        asks,
    ];
    let mut commands = vec![shell(TELL, &arguments)];
    if request.host.systemd < 258 {
        commands.push(shell(NAME, &[&format!("{fixed}{}", exec::UTS), &request.run.hostname]));
    }
    let state = state_of(request);
    for path in &request.run.state {
        commands.push(shell(VOLUME, &[&fixed, path, &state, &volume(path)]));
    }
    commands
}

/// What takes away the files.
pub(super) fn forget(root: &str) -> String {
    shell("rm -rf -- \"$1\"", &[&format!("{FILES}/{root}")])
}

/// Where the volumes of a root are: in its store.
pub(super) fn state_of(request: &Request<'_>) -> String {
    store_of(request).join("state").join(request.name).to_string_lossy().into_owned()
}

/// Where what services write to an overlay is until the root stops.
pub(super) fn overlay_of(request: &Request<'_>) -> String {
    let name = format!(".overlay-{}", request.name);
    store_of(request).join("state").join(name).to_string_lossy().into_owned()
}

/// The link is in `<store>/roots`.
fn store_of<'a>(request: &Request<'a>) -> &'a std::path::Path {
    let roots = request.link.parent().unwrap_or(request.link);
    roots.parent().unwrap_or(roots)
}

/// The name of a volume's directory.
fn volume(path: &str) -> String {
    let path = path.trim_start_matches('/').replace('%', "%25").replace('-', "%2d");
    path.replace('/', "-")
}

fn shell(text: &str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|it| argument(it)).collect();
    format!("/bin/sh -ec '{}' sh {}", script(text), arguments.join(" "))
}

/// `$1` the root's mount, `$2` the host's directory for it, `$3` the root's hostname, `$4` its machine id, `$5` its
/// cluster, `$6` whether it can ask the host's name servers. What is a link in the root stays as it is: following it
/// would lead to the host's files.
const TELL: &str = "test -d \"$1/etc\" && ! test -L \"$1/etc\" || exit 0; \
    mkdir -p -- \"$2\"; \
    printf \"%s\\\\n\" \"$3\" > \"$2/hostname\"; \
    printf \"%s\\\\n\" \"$4\" > \"$2/machine-id\"; \
    : > \"$2/resolv.conf\"; \
    if test \"$6\" = yes; then for from in /run/systemd/resolve/resolv.conf /etc/resolv.conf; do \
    if test -s \"$from\"; then cat \"$from\" > \"$2/resolv.conf\"; break; fi; done; fi; \
    show() { \
    if test -L \"$2\"; then return; fi; \
    if ! test -e \"$2\"; then : > \"$2\"; fi; \
    mount --bind -- \"$1\" \"$2\"; mount -o remount,bind,ro -- \"$2\"; }; \
    for name in hostname machine-id resolv.conf; do show \"$2/$name\" \"$1/etc/$name\"; done; \
    for from in /run/rootbuild/installed /var/lib/rootbuild-units; do \
    if test -f \"$from/clusters/$5.hosts\"; then show \"$from/clusters/$5.hosts\" \"$1/etc/hosts\"; break; fi; done";

/// `$1` a file on which a namespace is mounted that has the hostname `$2`. In a container `/proc/sys` can't be written,
/// and a small host may have no `hostname`; services start in any case.
const NAME: &str = ": > \"$1\"; unshare --uts=\"$1\" -- true; \
    nsenter --uts=\"$1\" -- hostname \"$2\" 2>/dev/null || \
    printf %s \"$2\" | nsenter --uts=\"$1\" -- tee /proc/sys/kernel/hostname >/dev/null || \
    echo \"the hostname $2 can not be set\" >&2";

/// `$1` the root's mount, `$2` the directory in it, `$3` where its volumes are, `$4` the volume's name. A volume is
/// seeded under another name, so that one that is there is whole. Users and groups keep their numbers in it: what is
/// in it must still be theirs. Where nothing changes nothing is written: a full volume starts.
const VOLUME: &str = "at=$(readlink -m -- \"$1$2\"); \
    if test \"$at\" != \"$1$2\"; then echo \"state $2 is behind a symbolic link of the root\" >&2; exit 1; fi; \
    mkdir -p -- \"$1$2\"; \
    (umask 077; mkdir -p -- \"$3\"); \
    if ! test -d \"$3/$4\"; then \
    rm -rf -- \"$3/$4.new\"; \
    if ! cp -a --reflink=auto -- \"$1$2\" \"$3/$4.new\" || ! sync -f \"$3/$4.new\"; then \
    rm -rf -- \"$3/$4.new\"; \
    echo \"the state volume for $2 can not be seeded: $3 needs room for $(du -sh -- \"$1$2\" | cut -f 1)\" >&2; exit 1; fi; \
    rm -f -- \"$3/$4.passwd\" \"$3/$4.group\"; \
    mv -T -- \"$3/$4.new\" \"$3/$4\"; fi; \
    for kind in passwd group; do \
    if ! test -f \"$1/etc/$kind\" || test -L \"$1/etc/$kind\"; then continue; fi; \
    if test -f \"$3/$4.$kind\"; then while IFS=: read -r name was; do \
    now=; while IFS=: read -r other _ id _; do if test \"$other\" = \"$name\"; then now=$id; break; fi; done < \"$1/etc/$kind\"; \
    if test -z \"$now\" || test \"$now\" = \"$was\"; then continue; fi; \
    if test $kind = passwd; then by=-uid; else by=-gid; fi; \
    if test -n \"$(find \"$3/$4\" $by \"$was\" -print -quit)\"; then \
    echo \"the state volume for $2 has files of $name, who was $was in $kind and is $now in this root: give them to $now, or remove $3/$4 to have it seeded anew\" >&2; \
    exit 1; fi; done < \"$3/$4.$kind\"; fi; \
    all=$(while IFS=: read -r name _ id _; do printf \"%s:%s\\\\n\" \"$name\" \"$id\"; done < \"$1/etc/$kind\"); \
    if test -f \"$3/$4.$kind\" && test \"$all\" = \"$(cat -- \"$3/$4.$kind\")\"; then continue; fi; \
    if ! printf \"%s\\\\n\" \"$all\" > \"$3/$4.$kind.new\"; then \
    rm -f -- \"$3/$4.$kind.new\"; \
    echo \"the state volume for $2 is full: $3 needs room for a few bytes, to keep who its files belong to\" >&2; exit 1; fi; \
    mv -T -- \"$3/$4.$kind.new\" \"$3/$4.$kind\"; done; \
    mount --bind -- \"$3/$4\" \"$1$2\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_names_of_their_own() {
        assert_eq!(volume("/var/lib/app"), "var-lib-app");
        assert_ne!(volume("/var-lib/app"), volume("/var/lib-app"));
    }
}
