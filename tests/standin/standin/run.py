"""Running host programs, and the one error type that ends a run."""
import os
import subprocess
import sys
import time


class StandinError(Exception):
    """A failure with its remedy. `hint` is what to do next, if anything is known to help."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


class Progress:
    """Writes one line per finished phase to stderr, with its seconds."""

    def __init__(self, quiet=False):
        self.quiet = quiet
        self._last = time.monotonic()

    def done(self, phase, detail=""):
        """Closes the phase that began when the one before it was closed."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        if not self.quiet:
            print(f"standin: {phase:<9} {seconds:6.1f} s  {detail}".rstrip(), file=sys.stderr, flush=True)

    def say(self, text):
        """A line that is not a phase."""
        if not self.quiet:
            print(f"standin: {text}", file=sys.stderr, flush=True)


def run(argv, *, env=None, cwd=None, what=None):
    """Runs a program to its end and returns its stdout; its stderr is shown only when it fails."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace")
    except FileNotFoundError as error:
        raise StandinError(f"`{argv[0]}` is not installed", "see `generate.py --check-tools`") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise StandinError(f"{what or argv[0]} failed (exit {done.returncode})\n{tail}")
    return done.stdout


def clean_env(**extra):
    """The caller's environment without what would change the result, plus `extra`."""
    drop = ("GNUPGHOME", "SOURCE_DATE_EPOCH", "APT_CONFIG", "RPM_CONFIGDIR", "TAR_OPTIONS", "GZIP")
    env = {k: v for k, v in os.environ.items() if k not in drop and not k.startswith("PYTHON")}
    return {**env, "LC_ALL": "C.UTF-8", "TZ": "UTC", **extra}
