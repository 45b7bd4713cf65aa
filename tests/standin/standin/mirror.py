"""Where Debian packages come from: told, or taken from the host's own apt sources.

No mirror is named in this project: a machine behind a proxy or with a local mirror has already
said in its apt sources how Debian is reached, and that holds for the older suite as well.
"""
import re
from dataclasses import dataclass
from pathlib import Path

from .run import StandinError

HINT = "give the mirror with --mirror URL or $DEBIAN_MIRROR"


@dataclass(frozen=True)
class Mirrors:
    """The archive, and where known its security archive (None: go without)."""

    main: str
    security: str | None


@dataclass(frozen=True)
class Source:
    """One `deb` line or deb822 stanza, taken apart."""

    uri: str
    suites: tuple
    components: tuple


def choose(mirror, security, environ, etc=Path("/etc/apt")):
    """The mirrors to use: options first, then the environment, then the host's sources."""
    mirror = mirror or environ.get("DEBIAN_MIRROR")
    security = security or environ.get("DEBIAN_SECURITY_MIRROR")
    if mirror:
        # Security archives stand beside the main one on every mirror that carries both.
        return Mirrors(_trim(mirror), _trim(security) if security else _trim(mirror) + "-security")
    found = from_sources(read_sources(etc))
    return Mirrors(found.main, _trim(security) if security else found.security)


def from_sources(sources):
    """Picks the main Debian archive and the security archive out of the host's sources."""
    main = security = None
    for source in sources:
        debian = "/debian" in source.uri or source.uri.rstrip("/").endswith("debian")
        if not debian or "main" not in source.components:
            continue
        for suite in source.suites:
            if re.search(r"-security$|/updates$", suite):
                security = security or source.uri
            elif not re.search(r"-(updates|backports\S*|proposed-updates)$", suite):
                main = main or source.uri
    if main is None:
        raise StandinError("no Debian archive in the host's apt sources", HINT)
    return Mirrors(_trim(main), _trim(security) if security else None)


def read_sources(etc):
    """All enabled binary sources under `etc` (/etc/apt), one-line and deb822."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
    found = []
    for path in files:
        if path.is_file():
            found += parse_one_line(path.read_text(errors="replace"))
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        found += parse_deb822(path.read_text(errors="replace"))
    return found


def parse_one_line(text):
    """`deb [options] uri suite component…` lines."""
    found = []
    for line in text.splitlines():
        line = re.sub(r"\s+#.*$", "", line.strip())
        match = re.match(r"deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s*(.*)$", line)
        if match and not match[1].startswith("cdrom:"):
            found.append(Source(match[1], (match[2],), tuple(match[3].split())))
    return found


def parse_deb822(text):
    """`Types:/URIs:/Suites:/Components:` stanzas."""
    found = []
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields, last = {}, None
        for line in stanza.splitlines():
            if line[:1] in " \t" and last:
                fields[last] += " " + line.strip()
            elif ":" in line:
                key, value = line.split(":", 1)
                last = key.strip().lower()
                fields[last] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in fields.get("uris", "").split():
            if not uri.startswith("cdrom:"):
                found.append(Source(uri, tuple(fields.get("suites", "").split()),
                                    tuple(fields.get("components", "").split())))
    return found


def _trim(uri):
    return uri.rstrip("/")
