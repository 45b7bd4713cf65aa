"""A throw-away key, and signatures by it."""
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .run import clean_env, run
from .tree import EPOCH

DIGEST = "sha256"   # what EL7 verifies
# Keys and signatures are made at this time: the same key over the same package gives the same bytes, so a lock file
# that names a package by its digest stays right when the stand-in is generated anew.
CLOCK = ["--faked-system-time", f"{EPOCH}!"]
# The agent's socket lies in its home; the kernel takes no longer path.
SOCKET_PATH = 107


class Key:
    """A signing key in a GnuPG home that is gone after the `with` block; the secret key stays in `file`."""

    def __init__(self, file, user):
        self.file = Path(file)
        self.user = user

    def __enter__(self):
        # Beside the key, where the next run finds and sweeps what a killed one left.
        self.home = self.file.with_name(self.file.name + ".home")
        if self.home.exists():
            self._remove_home()
        if len(str(self.home)) + len("/S.gpg-agent.browser") > SOCKET_PATH:
            self.home = Path(tempfile.mkdtemp(prefix="standin-"))
        else:
            self.home.mkdir(mode=0o700)
        try:
            if self.file.exists():
                self._gpg("--import", self.file)
            else:
                self._generate()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._remove_home()

    @property
    def env(self):
        """The environment in which gpg and rpmsign know this home only."""
        return clean_env(GNUPGHOME=str(self.home), HOME=str(self.home))

    def _remove_home(self):
        run(["gpgconf", "--homedir", self.home, "--kill", "all"], env=self.env)
        shutil.rmtree(self.home, ignore_errors=True)

    def _gpg(self, *args):
        return run(["gpg", "--homedir", self.home, "--batch", "--no-tty", "--quiet", "--yes", *CLOCK, *args], env=self.env)

    def _generate(self):
        parameters = self.home / "parameters"
        parameters.write_text("%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: sign\n"
                              f"Name-Real: {self.user}\nName-Email: standin@invalid\nExpire-Date: 0\n%commit\n")
        self._gpg("--gen-key", parameters)
        temporary = self.file.with_suffix(".tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self._gpg("--armor", "--export-secret-keys", self._selector()))
        temporary.rename(self.file)

    def _selector(self):
        return f"={self.user} <standin@invalid>"

    def public(self):
        """The armoured public key."""
        return self._gpg("--armor", "--export", self._selector())

    def fingerprint(self):
        """The key's fingerprint, 40 hex digits."""
        listing = self._gpg("--with-colons", "--list-keys", self._selector())
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))

    def sign_rpms(self, rpms, jobs):
        """Signs packages in place: header alone, and header with payload for rpm 4.11."""
        argv = ["rpmsign", "--define", f"_gpg_name {self.fingerprint()}", "--define", f"_gpg_path {self.home}",
                "--define", "__gpg /usr/bin/gpg", "--define", f"_gpg_digest_algo {DIGEST}",
                "--define", "_gpg_sign_cmd_extra_args " + " ".join(CLOCK), "--rpmv3", "--addsign"]
        shares = [share for share in (rpms[n::jobs] for n in range(jobs)) if share]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda share: run([*argv, *share], env=self.env, what="signing"), shares))
        for rpm in rpms:
            os.utime(rpm, (EPOCH, EPOCH))

    def sign_file(self, path):
        """Writes the detached signature `path.asc`."""
        self._gpg("--armor", "--digest-algo", DIGEST, "--detach-sign", "-u", self.fingerprint(), path)
