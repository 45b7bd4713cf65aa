"""What each package owns, as lines of a %files section."""
import re

from .run import StandinError
from .tree import Entry
from .users import GROUPS, SETUP_GROUPS, SETUP_USERS, USERS

KNOWN_USERS = {u[0] for u in SETUP_USERS} | {u.name for users in USERS.values() for u in users}
KNOWN_GROUPS = ({name for name, _ in SETUP_GROUPS} | {name for groups in GROUPS.values() for name, _ in groups}
                | {u.name for users in USERS.values() for u in users})
# Under /etc, but no configuration.
NOT_CONFIG = ("etc/pki/rpm-gpg/", "etc/pki/ca-trust/", "etc/os-release", "etc/centos-release", "etc/rc.d/init.d/",
              "etc/yum/vars/", "etc/ld.so.conf.d/")


def complete(tree):
    """Gives every directory an owner, and refuses a tree that could not be installed."""
    base = tree.packages["filesystem"].entries
    links = {path for p in tree.packages.values() for path, e in p.entries.items() if e.kind == "link"}
    attributes = {}
    for package in tree.packages.values():
        for path, entry in package.entries.items():
            if entry.kind == "dir":
                plain = (entry.mode, entry.user, entry.group) == (0o755, "root", "root")
                if path not in attributes or not plain:
                    attributes[path] = entry
    for package in tree.packages.values():
        if package.name == "filesystem":
            continue
        for path in [p for p, e in package.entries.items() if e.kind == "dir" and p in base]:
            del package.entries[path]
        for path in list(package.entries):
            parent = path.rpartition("/")[0]
            while parent and parent not in base:
                if parent in links:
                    raise StandinError(f"`/{path}` of `{package.name}` lies under the link `/{parent}`")
                package.entries[parent] = attributes.get(parent) or attributes.setdefault(parent, Entry("dir"))
                parent = parent.rpartition("/")[0]
        for path, entry in package.entries.items():
            if entry.kind == "dir":
                package.entries[path] = attributes[path]
            if entry.user not in KNOWN_USERS or entry.group not in KNOWN_GROUPS:
                raise StandinError(f"`/{path}` of `{package.name}` belongs to {entry.user}:{entry.group}, which nobody makes")
    tree.make_directories()


def files_section(package):
    """The lines of the package's %files list."""
    return [_line(path, package.entries[path]) for path in sorted(package.entries)]


def has_elf(package):
    """Whether the package has compiled code: else it is noarch."""
    for path, entry in package.entries.items():
        if entry.kind == "file":
            with open(package.tree.root / path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    return True
    return False


def installed_size(package):
    """Bytes of the package's files, roughly: what its building costs."""
    return sum((package.tree.root / p).lstat().st_size for p, e in package.entries.items() if e.kind == "file")


def _line(path, entry):
    words = []
    if entry.kind == "dir":
        words.append("%dir")
    if entry.kind != "link":
        words.append(f"%attr({entry.mode:04o},{entry.user},{entry.group})")
    if entry.caps:
        words.append(f"%caps({entry.caps})")
    if entry.noverify:
        words.append("%verify(not md5 size mtime)")
    if entry.ghost:
        words.append("%ghost")
    config = entry.config
    if config is None:
        config = path.startswith("etc/") and not path.startswith(NOT_CONFIG)
    if config and entry.kind == "file" and not entry.ghost:
        words.append("%config(noreplace)")
    return " ".join(words + [_quote("/" + path)])


def _quote(path):
    """A name as rpm's file list wants it; `?` stands for characters that rpm would take for a pattern."""
    return '"' + re.sub(r'[\[\]*?{}\\"]', "?", path).replace("%", "%%") + '"'
