"""Repository metadata that EL7's yum can read: gzip, sha256, comps."""
from xml.sax.saxutils import escape

from .names import ENVIRONMENTS, GROUPS
from .run import clean_env, run
from .tree import EPOCH


def comps(packages):
    """The groups as comps.xml; a group names only packages that exist."""
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', "<comps>"]
    for group, (title, mandatory, optional) in GROUPS.items():
        parts.append(f"<group><id>{group}</id><name>{escape(title)}</name><description>{escape(title)}</description>"
                     "<default>true</default><uservisible>true</uservisible><packagelist>")
        for kind, names in (("mandatory", mandatory), ("optional", optional)):
            parts += [f'<packagereq type="{kind}">{name}</packagereq>' for name in names if name in packages]
        parts.append("</packagelist></group>")
    for environment, (title, groups) in ENVIRONMENTS.items():
        members = "".join(f"<groupid>{g}</groupid>" for g in groups)
        parts.append(f"<environment><id>{environment}</id><name>{title}</name><description>{title}</description>"
                     f"<display_order>5</display_order><grouplist>{members}</grouplist></environment>")
    return "\n".join(parts + ["</comps>", ""])


def unresolved(rpms):
    """What packages require and no package of the set provides: a list of (package, requirement)."""
    needs, have = [], set()
    listing = run(["rpm", "-qp", "--nosignature", "--qf",
                   "[R %{NAME} %{REQUIRENAME}\\n][P %{NAME} %{PROVIDENAME}\\n][P %{NAME} %{FILENAMES}\\n]", *rpms])
    for line in listing.splitlines():
        kind, package, name = line.split(" ", 2)
        if kind == "P":
            have.add(name)
        elif not name.startswith("rpmlib("):
            needs.append((package, name))
    return sorted({(package, name) for package, name in needs if name not in have})


def create(directory, key, jobs=1, groupfile=None):
    """Writes `directory/repodata` over `directory/Packages` and signs it; `key` None leaves it unsigned."""
    groups = ["--groupfile", groupfile] if groupfile else []
    run(["createrepo_c", "--quiet", "--no-database", "--checksum", "sha256", "--general-compress-type", "gz",
         "--revision", EPOCH, "--set-timestamp-to-revision", "--workers", jobs, *groups, directory],
        env=clean_env(SOURCE_DATE_EPOCH=str(EPOCH)), what="createrepo_c")
    if key is not None:
        key.sign_file(directory / "repodata/repomd.xml")
