"""The command line: arguments, and the phases in their order."""
import argparse
import json
import os
import signal
import sys
from pathlib import Path

from . import apt, bytecode, manifest, mirror, names, publish, repo, tools, variants
from .rpmbuild import Builder
from .run import Progress, StandinError
from .shape import shape
from .signing import Key
from .spec import evr
from .tree import Tree
from .unpack import unpack_all

KEY_USER = "rootbuild stand-in, throw-away"
KEY_FILE = "RPM-GPG-KEY-standin"
SECRET_FILE = "signing-key.asc"


def main(argv=None):
    """Runs the command line; gives the exit code."""
    # A termination ends the run through the usual way, so that the work directory and the agent go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = _parse(argv)
    try:
        if args.check_tools:
            return _check_tools()
        _need_tools()
        progress = Progress(args.quiet)
        if args.variants:
            source = args.source.absolute()
            return variants.generate(args.variants.absolute(), source, _cache(args, source) / SECRET_FILE, KEY_USER, KEY_FILE,
                                     progress)
        return generate(args, progress)
    except StandinError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parse(argv):
    parser = argparse.ArgumentParser(prog="generate.py", description="Generates an EL7-shaped, signed RPM repository "
                                     f"from Debian {apt.SUITE} packages, for tests.")
    parser.add_argument("out", nargs="?", type=Path, help="where the repositories go")
    parser.add_argument("--cache", type=Path, help="downloads and the signing key (default: OUT.cache)")
    parser.add_argument("--mirror", help="Debian archive (default: $DEBIAN_MIRROR, else the host's apt sources)")
    parser.add_argument("--security-mirror", help="its security archive (default: $DEBIAN_SECURITY_MIRROR, else likewise)")
    parser.add_argument("--refresh", action="store_true", help="ask the archive again, even if the cache has all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="things done at once (default: %(default)s)")
    parser.add_argument("--keep-work", action="store_true", help="leave OUT.work for inspection")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--variants", type=Path, metavar="OUT2", help="make bad repositories, for tests, from --from")
    parser.add_argument("--from", dest="source", type=Path, metavar="OUT", help="a generated output")
    parser.add_argument("--check-tools", action="store_true", help="list missing host programs and their packages")
    args = parser.parse_args(argv)
    if args.variants and not args.source:
        parser.error("--variants needs --from OUT")
    if not args.variants and not args.check_tools and not args.out:
        parser.error("the output directory is missing")
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    return args


def _check_tools():
    lacking = tools.missing()
    for tool, package in lacking:
        print(f"{tool}: missing, install `{package}`")
    if lacking:
        print("apt-get install " + " ".join(sorted({package for _, package in lacking})))
    return 1 if lacking else 0


def _need_tools():
    lacking = tools.missing()
    if lacking:
        raise StandinError("missing: " + ", ".join(tool for tool, _ in lacking),
                           "apt-get install " + " ".join(sorted({package for _, package in lacking})))


def _cache(args, out):
    return (args.cache or out.with_name(out.name + ".cache")).absolute()


def generate(args, progress):
    """Makes `args.out` what it should be."""
    out = args.out.absolute()
    cache = _cache(args, out)
    publish.refuse_foreign(out)
    sources = publish.sources_digest({"suite": apt.SUITE, "want": names.WANT})
    if not args.refresh and publish.is_current(out, sources):
        progress.say(f"`{args.out}` is up to date")
        return 0
    with publish.locked(out.with_name(out.name + ".lock"), lambda: progress.say("waiting for another run")):
        # Another run may have made it meanwhile.
        if not args.refresh and publish.is_current(out, sources):
            progress.say(f"`{args.out}` is up to date")
            return 0
        cache.mkdir(parents=True, exist_ok=True)
        with publish.locked(cache / "lock", lambda: progress.say("waiting for the cache")):
            mirrors = mirror.choose(args.mirror, args.security_mirror, os.environ) if _needs_archive(cache, args) else None
            source = apt.Apt(cache / "apt", mirrors)
            debs = source.fetch(names.WANT, args.refresh)
            progress.done("download", f"{len(debs)} Debian packages")
            if source.without_security:
                progress.say("no security archive was to be had: went without")
            if publish.is_current(out, sources, _named(debs)):
                progress.say(f"`{args.out}` is up to date")
                return 0
            with Key(cache / SECRET_FILE, KEY_USER) as key, publish.Staging(out, args.keep_work) as staging:
                _build(staging, key, debs, sources, args.jobs, progress)
    return 0


def _needs_archive(cache, args):
    return args.refresh or apt.Apt(cache / "apt", None).recorded(names.WANT) is None


def _named(debs):
    return [[d.path.name, d.sha256] for d in debs]


def _build(staging, key, debs, sources, jobs, progress):
    result = staging.result
    (result / KEY_FILE).write_text(key.public())
    tree = Tree(staging.work / "root")
    unpack_all(debs, tree, jobs)
    progress.done("unpack")
    shape(tree, key.public())
    manifest.complete(tree)
    progress.done("shape", f"{len(tree.packages)} packages")
    count = bytecode.compile_all(tree, staging.work, jobs)
    manifest.complete(tree)
    progress.done("bytecode", f"{count} files")
    builder = Builder(staging.work)
    rpms = builder.build(tree, result / "os/Packages", jobs)
    rpms += builder.build_hello("1.1", result / "updates/Packages")
    broken = repo.unresolved(rpms)
    if broken:
        raise StandinError("nothing provides " + ", ".join(f"`{name}` (of `{package}`)" for package, name in broken),
                           "mend standin/relations.py or drop the file that needs it")
    progress.done("rpmbuild", f"{len(rpms)} packages")
    key.sign_rpms(rpms, jobs)
    progress.done("sign")
    groups = staging.work / "comps.xml"
    groups.write_text(repo.comps(tree.packages))
    repo.create(result / "os", key, jobs, groups)
    repo.create(result / "updates", key)
    progress.done("metadata")
    _write_manifest(result, tree, key, debs, sources)
    staging.publish()
    progress.done("publish", str(staging.out))


def _write_manifest(result, tree, key, debs, sources):
    packages = {name: {"evr": "-".join(evr(package)), "debs": [f"{d}={v}" for d, v in sorted(package.debs)]}
                for name, package in sorted(tree.packages.items())}
    content = {
        "note": "Debian packages in EL7's shape, for tests; not CentOS.",
        "suite": apt.SUITE,
        "key_fingerprint": key.fingerprint(),
        "packages": packages,
        "updates": {"standin-hello": "1.1-1.el7"},
        "debs": sorted(_named(debs)),
        "files": publish.inventory(result),
    }
    (result / "standin.json").write_text(json.dumps(content, indent=1) + "\n")
    (result / "fingerprint").write_text(publish.fingerprint(sources, _named(debs)) + "\n")
