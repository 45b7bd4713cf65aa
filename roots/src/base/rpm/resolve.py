"""Asks dnf's library which packages make up a base. Nothing is installed.

stdin: a JSON request (see resolve.rs); stdout: a JSON answer, {"repos": ..., "packages": ...} or
{"error": {"kind": ..., ...}}; stderr: for the log. Exit status 3: the library isn't there.
"""
import difflib
import glob
import hashlib
import json
import os
import re
import sys

try:
    import dnf
    import dnf.callback
    import dnf.exceptions
    import hawkey
except ImportError as error:
    sys.stderr.write("%s\n" % error)
    sys.exit(3)


class Failure(Exception):
    """Something to tell in the answer."""

    def __init__(self, kind, **details):
        super().__init__(kind)
        self.answer = dict(details, kind=kind)


class TrustConfigured(dnf.callback.KeyImport):
    """Metadata keys come from `gpgkey=`, which the caller has read and checked."""

    def _confirm(self, id, userid, fingerprint, url, timestamp):
        return True


def configure(base, request):
    """Sets up dnf so that it sees nothing of this host."""
    conf = base.conf
    scratch = request["scratch"]
    for name in ("installroot", "cachedir", "persistdir", "logdir"):
        path = os.path.join(scratch, name)
        os.makedirs(path, exist_ok=True)
        setattr(conf, name, path)
    conf.reposdir = []
    conf.varsdir = []
    conf.pluginpath = []
    conf.plugins = False
    conf.gpgcheck = True
    conf.best = True
    conf.install_weak_deps = True
    conf.obsoletes = True
    conf.tsflags = []
    conf.retries = 3
    conf.timeout = 30
    conf.substitutions.update(
        releasever=request["releasever"], arch=request["arch"], basearch=request["basearch"])


def option(name, value):
    """The value of a .repo file's option as dnf's library wants it."""
    if name in ("excludepkgs", "includepkgs"):
        return value.replace(",", " ").split()
    if name in ("priority", "cost"):
        return int(value)
    return value.lower() in ("1", "yes", "true", "on")


def load_repos(base, request):
    """Adds and loads the repositories, one by one: an error names its repository."""
    for wanted in request["repos"]:
        options = {name: option(name, value) for name, value in wanted["options"]}
        for name in ("baseurl", "mirrorlist", "metalink"):
            if wanted[name]:
                options[name] = wanted[name]
        repo = base.repos.add_new_repo(
            wanted["id"], base.conf, gpgcheck=wanted["gpgcheck"], gpgkey=wanted["gpgkey"],
            repo_gpgcheck=wanted["repo_gpgcheck"], sslverify=wanted["sslverify"],
            skip_if_unavailable=False, **options)
        repo._set_key_import(TrustConfigured())
        try:
            repo.load()
        except (dnf.exceptions.RepoError, ValueError, OSError) as error:
            raise Failure("repository", repo=wanted["id"], message=str(error))


def urls(repo):
    """Where the repository's files are: its own URLs, or the mirrors it named."""
    found = list(repo.baseurl)
    if not found:
        found = list(repo._repo.getMirrors())
    return [url.rstrip("/") for url in found]


def repomd(base, repo):
    """The digest of the metadata's index, and the file's directory."""
    found = glob.glob(os.path.join(glob.escape(base.conf.cachedir), glob.escape(repo.id) + "-*", "repodata", "repomd.xml"))
    if not found:
        raise Failure("repository", repo=repo.id, message="dnf kept no repomd.xml")
    with open(found[0], "rb") as index:
        return hashlib.sha256(index.read()).hexdigest()


def nearest(base, spec):
    """Names of packages or groups that look like `spec`."""
    if spec.startswith("@"):
        names = {name for group in base.comps.groups for name in (group.id, group.name)}
        return ["@" + name for name in difflib.get_close_matches(spec[1:], sorted(names), 3)]
    name = re.split(r"[<>= ]", spec)[0]
    names = {package.name for package in base.sack.query().available()}
    near = difflib.get_close_matches(name, sorted(names), 3)
    return near or difflib.get_close_matches(re.sub(r"-[0-9].*", "", name), sorted(names), 3)


def packages(base):
    """What would be installed, as the lock wants it."""
    found = []
    for package in base.transaction.install_set:
        kind, digest = package.chksum
        found.append({
            "name": package.name, "epoch": int(package.epoch), "version": package.version,
            "release": package.release, "arch": package.arch, "repo": package.repoid,
            "location": package.location, "baseurl": package.baseurl or "", "size": package.downloadsize,
            "checksum": hawkey.chksum_name(kind), "digest": digest.hex(), "source_rpm": package.sourcerpm or "",
        })
    key = lambda p: (p["name"], p["arch"], p["epoch"], p["version"], p["release"])  # noqa: E731
    return sorted(found, key=key)


def choose(base, request):
    """Lets the solver choose; raises Failure."""
    try:
        base.install_specs(request["packages"])
    except dnf.exceptions.MarkingErrors as error:
        missing = list(error.no_match_pkg_specs) + list(error.no_match_group_specs)
        missing = [s for s in request["packages"] if s in missing or s.lstrip("@") in missing] or missing
        if missing:
            raise Failure("not_found", specs=[[spec, nearest(base, spec)] for spec in missing])
        raise Failure("conflict", message=str(error))
    except dnf.exceptions.Error as error:
        raise Failure("conflict", message=str(error))
    try:
        base.resolve()
    except dnf.exceptions.DepsolveError as error:
        raise Failure("conflict", message=str(error))


def keep(base, request):
    """Lets it choose so that what is locked stays, as far as that is possible; gives what stays behind."""
    pins, failure = Pins(base, request), None
    for number, chosen in enumerate(pins.rungs()):
        base.reset(goal=True)
        with pins.only(chosen):
            try:
                choose(base, request)
            except Failure as error:
                sys.stderr.write("rung %d: %s\n" % (number, error.answer))
                failure = error
            else:
                return pins.held(base.transaction.install_set)
    raise failure


def resolve(base, request):
    """The whole job; raises Failure."""
    configure(base, request)
    try:
        load_repos(base, request)
        base.fill_sack(load_system_repo=False, load_available_repos=True)
        base.read_comps(arch_filter=True)
    except dnf.exceptions.Error as error:
        raise Failure("metadata", message=str(error))
    held = []
    if request.get("locked"):
        held = keep(base, request)
    else:
        choose(base, request)
    repos = [{"id": repo.id, "urls": urls(repo), "repomd_sha256": repomd(base, repo)}
             for repo in base.repos.iter_enabled()]
    return {"repos": repos, "packages": packages(base), "held": held}


def main():
    request = json.load(sys.stdin)
    try:
        with dnf.Base() as base:
            answer = resolve(base, request)
    except Failure as failure:
        answer = {"error": failure.answer}
    json.dump(answer, sys.stdout)


main()
