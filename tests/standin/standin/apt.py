"""Downloads the wanted packages and all they depend on, by an apt with a state of its own.

apt resolves, checks the archive's signature and each file's checksum. The closure is recorded in the
cache, so later runs ask nobody; `refresh` asks again.
"""
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from .mirror import HINT
from .run import StandinError, clean_env, run

SUITE = "bullseye"
ARCH = "amd64"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Deb:
    """One downloaded package file."""

    path: Path
    sha256: str


class Apt:
    """An apt whose configuration, lists and cache all lie under `home`; the host's are not touched."""

    def __init__(self, home, mirrors):
        self.home = home
        self.mirrors = mirrors
        self.archives = home / "archives"
        self.record = home / "closure.json"
        self.without_security = False
        self.env = clean_env(APT_CONFIG=str(home / "apt.conf"), DEBIAN_FRONTEND="noninteractive")

    def fetch(self, want, refresh=False):
        """The closure of `want` as files on disk, from the cache alone where it is whole."""
        debs = None if refresh else self.recorded(want)
        if debs is None:
            self._configure()
            self._update()
            run(["apt-get", "install", "-y", "-q", "--download-only", *want], env=self.env, what="downloading packages")
            files = self._closure(want)
            debs = [Deb(self.archives / name, _sha256(self.archives / name)) for name in files]
            record = {"want": want, "debs": [[d.path.name, d.path.stat().st_size, d.sha256] for d in debs]}
            temporary = self.record.with_suffix(".tmp")
            temporary.write_text(json.dumps(record, indent=1))
            temporary.rename(self.record)
        return debs

    def recorded(self, want):
        """The closure recorded by an earlier run, or None when it is for other packages or not all here."""
        try:
            record = json.loads(self.record.read_text())
            if record["want"] != list(want):
                return None
            for name, size, _ in record["debs"]:
                if (self.archives / name).stat().st_size != size:
                    return None
            return [Deb(self.archives / name, digest) for name, _, digest in record["debs"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _closure(self, want):
        """The file names of the closure; asked against an empty archive directory, so that all are listed."""
        empty = self.home / "none"
        (empty / "partial").mkdir(parents=True, exist_ok=True)
        listing = run(["apt-get", "install", "-y", "--print-uris", "-o", f"Dir::Cache::archives={empty}", *want],
                      env=self.env, what="resolving packages")
        return sorted(line.split()[1] for line in listing.splitlines() if line.startswith("'"))

    def _update(self):
        """Reads the archive's indexes; without the security archive where that cannot be had."""
        attempts = [self.mirrors.security, None] if self.mirrors.security else [None]
        for security in attempts:
            self._write_sources(security)
            try:
                run(["apt-get", "update", "-q", "--error-on=any"], env=self.env, what=f"reading the {SUITE} archive")
                self.without_security = security is None
                return
            except StandinError as error:
                failure = error
        raise StandinError(str(failure), f"`{self.mirrors.main}` does not seem to carry {SUITE}: {HINT}")

    def _write_sources(self, security):
        options = f"[arch={ARCH} signed-by={KEYRING}]"
        lines = [f"deb {options} {self.mirrors.main} {SUITE} main"]
        if security:
            lines.append(f"deb {options} {security} {SUITE}-security main")
        (self.home / "etc/sources.list").write_text("\n".join(lines) + "\n")

    def _configure(self):
        for part in ("etc/sources.list.d", "etc/preferences.d", "etc/apt.conf.d", "etc/trusted.gpg.d",
                     "state/lists/partial", "cache", "dpkg", "archives/partial"):
            (self.home / part).mkdir(parents=True, exist_ok=True)
        (self.home / "dpkg/status").write_text("")
        settings = [
            f'Dir "{self.home}";', f'Dir::Etc "{self.home}/etc";', f'Dir::State "{self.home}/state";',
            f'Dir::State::status "{self.home}/dpkg/status";', f'Dir::Cache "{self.home}/cache";',
            f'Dir::Cache::archives "{self.archives}";', f'APT::Architecture "{ARCH}";',
            f'APT::Architectures {{ "{ARCH}"; }};', 'APT::Install-Recommends "false";', 'Acquire::Languages "none";',
            'Acquire::Retries "3";', 'APT::Get::List-Cleanup "true";', 'Binary::apt-get::APT::Keep-Downloaded-Packages "true";',
        ]
        if os.geteuid() == 0:
            # Our directories are root's; apt's own user could not write there.
            settings.append('APT::Sandbox::User "root";')
        (self.home / "apt.conf").write_text("\n".join(settings + _host_transport()) + "\n")


def _host_transport():
    """How this host reaches mirrors (proxies, TLS): the host's own settings, and none of its others."""
    kept = []
    for line in run(["apt-config", "dump"], env=clean_env()).splitlines():
        if line.startswith(("Acquire::http::", "Acquire::https::", "Acquire::ftp::")) and '"' in line:
            kept.append(line)
    return kept


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
