"""Bad repositories, for tests that a bad package is refused. Each holds one package, `standin-hello` of a version
above all good ones, so that a resolver given the good repositories as well picks the bad package."""
import json
import shutil
import struct

from . import publish, repo
from .rpmbuild import Builder
from .run import StandinError
from .signing import Key

VERSION = "1.9"
WRONG_USER = "rootbuild stand-in, key of nobody"
WRONG_FILE = "RPM-GPG-KEY-wrong"
# name -> what is wrong, for the manifest
VARIANTS = {
    "unsigned": "the package has no signature",
    "wrongkey": "the package is signed by a key that nobody trusts (RPM-GPG-KEY-wrong)",
    "tampered": "a byte of the payload was changed after signing; the metadata fits the changed file",
    "badsum": "a byte of the payload was changed after the metadata was made",
    "missing": "the metadata names a file that is not there",
}


def generate(out, source, secret, key_user, public_name, progress):
    """Writes the repositories of VARIANTS below `out`, signed like the output `source`."""
    manifest = _manifest(source)
    sources = publish.sources_digest({"variants": sorted(VARIANTS), "of": (source / "fingerprint").read_text().strip()})
    with publish.locked(out.with_name(out.name + ".lock"), lambda: progress.say("waiting for another run")):
        if publish.is_current(out, sources):
            progress.say(f"`{out}` is up to date")
            return 0
        if not secret.exists():
            raise StandinError(f"the key of `{source}` is not at `{secret}`", "name the cache it was made with: --cache DIR")
        with publish.locked(secret.with_name("lock")), Key(secret, key_user) as key, publish.Staging(out) as staging:
            if key.fingerprint() != manifest["key_fingerprint"]:
                raise StandinError(f"`{source}` was signed by another key than `{secret}`", "generate it anew")
            with Key(staging.work / "wrong.asc", WRONG_USER) as wrong:
                _build(staging, key, wrong)
            shutil.copy(source / public_name, staging.result / public_name)
            _finish(staging.result, sources)
            staging.publish()
        progress.done("variants", str(out))
    return 0


def _manifest(source):
    try:
        return json.loads((source / "standin.json").read_text())
    except (OSError, ValueError) as error:
        raise StandinError(f"`{source}` is no output of this generator", "run generate.py OUT first") from error


def _build(staging, key, wrong):
    result = staging.result
    (result / WRONG_FILE).write_text(wrong.public())
    built = Builder(staging.work).build_hello(VERSION, staging.work / "built")[0]
    rpms = {}
    for variant in VARIANTS:
        packages = result / variant / "Packages"
        packages.mkdir(parents=True)
        rpms[variant] = packages / built.name
        shutil.copy(built, rpms[variant])
    wrong.sign_rpms([rpms["wrongkey"]], 1)
    key.sign_rpms([rpms[v] for v in ("tampered", "badsum", "missing")], 1)
    tamper(rpms["tampered"])
    for variant in VARIANTS:
        repo.create(result / variant, key)
    tamper(rpms["badsum"])
    rpms["missing"].unlink()


def tamper(rpm):
    """Flips one bit in the middle of the payload: lead, signatures and header stay as they are."""
    content = bytearray(rpm.read_bytes())
    # Lead, then two header structures of 16 + 16 * entries + data bytes; the first is padded to 8.
    start = 96
    for padded in (True, False):
        entries, size = struct.unpack_from(">II", content, start + 8)
        start += 16 + 16 * entries + size
        if padded:
            start += -start % 8
    content[(start + len(content)) // 2] ^= 0x01
    rpm.write_bytes(content)


def _finish(result, sources):
    content = {
        "note": "Bad on purpose; for tests.",
        "package": f"standin-hello-{VERSION}-1.el7.noarch",
        "variants": VARIANTS,
        "debs": [],
        "files": publish.inventory(result),
    }
    (result / "standin.json").write_text(json.dumps(content, indent=1) + "\n")
    (result / "fingerprint").write_text(publish.fingerprint(sources, []) + "\n")
