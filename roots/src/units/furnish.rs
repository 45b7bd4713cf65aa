//! What a root's mount gets beside the checkout: files that tell who it is, and volumes that stay.

use rootbuild_cache::Digest;

use super::Request;
use super::exec;
use super::ours::{argument, script};
use super::paths;

/// Where the host keeps what it tells each root.
const FILES: &str = "/run/rootbuild/files";

/// What the mount of a root is told of what it gets, as arguments of [`TELL`] and [`NAME`].
pub(super) fn arguments(request: &Request<'_>) -> String {
    let root = request.name;
    let machine = Digest::of(format!("machine-id of rootbuild's root {root}").as_bytes()).hex();
    let asks = if request.run.address.is_none() || request.cluster.outgoing { "yes" } else { "no" };
    let files = format!("{FILES}/{root}");
    let arguments = [&files, &request.run.hostname, &machine[..32], &request.cluster.id, asks];
    arguments.map(argument).join(" ")
}

/// The command that gives a root its hostname, where systemd doesn't.
pub(super) fn name(request: &Request<'_>) -> String {
    if request.host.systemd < 258 { NAME.replace("$uts", exec::UTS) } else { String::new() }
}

/// The commands that mount the volumes of a root.
pub(super) fn volumes(request: &Request<'_>) -> Vec<String> {
    let (fixed, state) = (paths::fixed(request.name), state_of(request));
    let of = |path: &String| shell(VOLUME, &[&fixed, path, &state, &volume(path)]);
    request.run.state.iter().map(of).collect()
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

/// Writes the files and tells, as lines of an `fstab`, what is to be mounted in the root at `$at`: `$1` the host's
/// directory for it, `$2` the root's hostname, `$3` its machine id, `$4` its cluster, `$5` whether it can ask the
/// host's name servers. What is a link in the root stays as it is: following it would lead to the host's files.
pub(super) const TELL: &str = "if test -d \"$at/etc\" && ! test -L \"$at/etc\"; then \
    printf \"%s\\\\n\" \"$2\" > \"$1/hostname\"; \
    printf \"%s\\\\n\" \"$3\" > \"$1/machine-id\"; \
    : > \"$1/resolv.conf\"; \
    if test \"$5\" = yes; then for from in /run/systemd/resolve/resolv.conf /etc/resolv.conf; do \
    if test -s \"$from\"; then cat \"$from\" > \"$1/resolv.conf\"; break; fi; done; fi; \
    show() { \
    if test -L \"$at/etc/$2\"; then return; fi; \
    if ! test -e \"$at/etc/$2\"; then : > \"$at/etc/$2\"; fi; \
    echo \"$1 $at/etc/$2 none bind,ro 0 0\"; }; \
    for name in hostname machine-id resolv.conf; do show \"$1/$name\" \"$name\"; done; \
    for from in /run/rootbuild/installed /var/lib/rootbuild-units; do \
    if test -f \"$from/clusters/$4.hosts\"; then show \"$from/clusters/$4.hosts\" hosts; break; fi; done; fi";

/// A namespace that has the hostname `$2` is mounted on a file of the root at `$at`. In a container `/proc/sys` can't be written, and a small host may have no `hostname`; services start in
/// any case.
const NAME: &str = "; : > \"$at$uts\"; unshare --uts=\"$at$uts\" -- hostname \"$2\" 2>/dev/null || \
    printf %s \"$2\" | nsenter --uts=\"$at$uts\" -- tee /proc/sys/kernel/hostname >/dev/null || \
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
