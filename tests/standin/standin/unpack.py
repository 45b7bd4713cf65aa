"""Debian packages into the build root: merged /usr, without what EL7 has no place for."""
import re
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .names import el7_name
from .run import StandinError, clean_env, run

# Whole directories that are left out.
STRIP = """
etc/apt etc/alternatives etc/default etc/dpkg etc/init.d etc/logcheck etc/runit etc/sv etc/ufw etc/update-motd.d
etc/X11 etc/apparmor.d etc/cron.d/e2scrub_all etc/gss etc/libreport usr/share/applications usr/share/apport usr/share/bash-completion usr/share/binfmts
usr/share/bug usr/share/debhelper usr/share/doc usr/share/doc-base usr/share/emacs usr/share/gdb usr/share/icons
usr/share/info usr/share/initramfs-tools usr/share/lintian usr/share/locale usr/share/man usr/share/menu
usr/share/debianutils usr/share/gcc usr/share/libc-bin usr/share/pam-configs usr/share/perl5 usr/share/pixmaps usr/share/pkgconfig usr/share/polkit-1 usr/share/readme usr/share/runit
usr/share/zsh usr/lib/mime usr/lib/valgrind usr/include usr/lib/sysusers.d usr/lib/lsb var/lib/polkit-1 var/lib/slapd var/log/runit
""".split() + [f"etc/rc{level}.d" for level in "0123456S"]
STRIP_RE = re.compile(r"(?:%s)(?:/|$)|.*\.(?:la|md5sum|md5sums)$" % "|".join(map(re.escape, STRIP)))
MERGE_RE = re.compile(r"(bin|sbin|lib|lib64)(/|$)")
LIBRARY_RE = re.compile(r"\.so(\.|$)")
# Debian's owners that EL7 has no user or group for.
OWNERS = {"www-data": "root", "staff": "root", "shadow": "root", "messagebus": "dbus", "crontab": "root"}


@dataclass(frozen=True)
class Control:
    """What is used of a deb's control file."""

    name: str
    source: str
    version: str
    depends: str


def control(deb):
    """Reads a deb's control file."""
    fields, last = {}, None
    for line in run(["dpkg-deb", "-f", deb, "Package", "Source", "Version", "Depends", "Pre-Depends"]).splitlines():
        if line[:1] in " \t" and last:
            fields[last] += " " + line.strip()
        elif ":" in line:
            last, value = line.split(":", 1)
            fields[last] = value.strip()
    depends = ", ".join(fields[k] for k in ("Pre-Depends", "Depends") if k in fields)
    return Control(fields["Package"], fields.get("Source", fields["Package"]).split()[0], fields["Version"], depends)


def unpack_all(debs, tree, jobs):
    """Unpacks all debs; fills in each package's files, debs and dependencies."""
    with ThreadPoolExecutor(jobs) as pool:
        controls = list(pool.map(lambda d: control(d.path), debs))
        named = {c.name: el7_name(c.name, c.source) for c in controls}
        # The debs of one package go one after the other: files may be links to each other.
        groups = {}
        for deb, ctl in zip(debs, controls):
            if named[ctl.name]:
                groups.setdefault(named[ctl.name], []).append((deb, ctl))
        list(pool.map(lambda item: _unpack_group(tree, *item), groups.items()))
    for name, group in groups.items():
        package = tree.package(name)
        for _, ctl in group:
            package.debs.append((ctl.name, ctl.version))
            package.requires |= _requires(ctl.depends, named) - {name}


def _requires(depends, named):
    """Debian's Depends as EL7 names: of alternatives the first that is in the set."""
    found = set()
    for clause in depends.split(","):
        names = [re.split(r"[\s(:]", alternative.strip())[0] for alternative in clause.split("|")]
        hits = [named[n] for n in names if named.get(n)]
        if hits:
            found.add(hits[0])
    return found


def _unpack_group(tree, name, group):
    package = tree.package(name)
    for deb, _ in group:
        _unpack(package, deb.path)


def _unpack(package, deb):
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, env=clean_env()) as dpkg:
        with tarfile.open(fileobj=dpkg.stdout, mode="r|", bufsize=1 << 18) as tar:
            for member in tar:
                path = _place(member.name)
                if path is not None:
                    _add(package, tar, member, path)
        # dpkg-deb pads the archive; an unread rest would kill it by SIGPIPE.
        while dpkg.stdout.read(1 << 18):
            pass
    if dpkg.returncode != 0:
        raise StandinError(f"`{deb}` can't be unpacked", "remove it and run again with --refresh")


def _place(name):
    """Where a member goes, or None where it is left out."""
    path = name.removeprefix("./").strip("/")
    if not path or path in ("bin", "sbin", "lib", "lib64"):
        return None
    if ".." in Path(path).parts:
        raise StandinError(f"refusing the path `{name}` in a Debian package")
    path = MERGE_RE.sub(r"usr/\1\2", path, count=1) if MERGE_RE.match(path) else path
    return None if STRIP_RE.match(path) else path


def _add(package, tar, member, path):
    user, group = (OWNERS.get(n, n) or "root" for n in (member.uname, member.gname))
    if member.isdir():
        package.mkdir(path, member.mode & 0o7777, user, group)
    elif member.issym():
        package.link(path, member.linkname)
    elif member.islnk():
        package.add_hardlink(path, _place(member.linkname))
    elif member.isfile():
        mode = member.mode & 0o7777
        # EL7 ships shared libraries executable.
        if LIBRARY_RE.search(Path(path).name) and mode == 0o644:
            mode = 0o755
        package.add_file(path, tar.extractfile(member), mode, user, group, int(member.mtime))
    else:
        raise StandinError(f"`{path}` is neither file, link nor directory")
