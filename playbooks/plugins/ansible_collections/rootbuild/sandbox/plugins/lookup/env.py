"""The caller's environment, for playbooks that ask for it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: env
short_description: Environment variables of whoever called rootbuild
description:
  - Does what C(ansible.builtin.env) does, which it calls, with the environment that rootbuild was called with. Ansible's
    own is made from nothing, so that nothing but these lookups can depend on the caller's.
  - Notes what it was asked for and what it found. A note is one line, one JSON object, in the file C(used),
    C({"name":name,"digest":sha256}), where the digest is that of the value's bytes in hexadecimal, or null where there
    is no such variable.
author: rootbuild
options:
  variables:
    description:
      - A JSON file with the caller's variables; each character (U+0000 to U+00FF) of a name or value stands for one byte.
    type: path
    env: [{name: ROOTBUILD_ENV}]
  used:
    description: The file that notes are appended to.
    type: path
    env: [{name: ROOTBUILD_ENV_USED}]
"""

import contextlib
import hashlib
import json
import os

from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase


def take_over():
    """From now on, in this process and all that it forks, whoever asks for the lookup `env` gets this
    one: also by its full name, which no plugin path can replace."""
    for name in ("env", "ansible.builtin.env"):
        lookup_loader.aliases[name] = "rootbuild.sandbox.env"


class LookupModule(LookupBase):
    """Values of the caller's variables."""

    # As Ansible's own: its `default` may be undefined.
    accept_args_markers = True

    def run(self, terms, variables=None, **kwargs):
        """As Ansible's own, or the project's if it has one of that name."""
        self.set_options(var_options={}, direct={})
        lookup = lookup_loader.get("ansible.legacy.env", loader=self._loader, templar=self._templar)
        names = {os.fsencode(term.split()[0]) for term in terms if isinstance(term, str) and term.split()}
        with open(self.get_option("variables"), encoding="ascii") as file:
            callers = {key.encode("latin-1"): value.encode("latin-1") for key, value in json.load(file).items()}
        self._note(names, callers)
        with _environment(names, callers):
            return lookup.run(terms, variables=variables, **kwargs)

    def _note(self, names, callers):
        lines = []
        for name in sorted(names):
            digest = hashlib.sha256(callers[name]).hexdigest() if name in callers else None
            lines.append(json.dumps({"name": name.decode("utf-8", "replace"), "digest": digest}) + "\n")
        # At once: other workers may append at the same time.
        fd = os.open(self.get_option("used"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, "".join(lines).encode("utf-8"))
        finally:
            os.close(fd)


@contextlib.contextmanager
def _environment(names, callers):
    """For a moment, these variables are the caller's."""
    before = {name: os.environb.get(name) for name in names}
    _set({name: callers.get(name) for name in names})
    try:
        yield
    finally:
        _set(before)


def _set(values):
    for name, value in values.items():
        if value is not None:
            os.environb[name] = value
        else:
            os.environb.pop(name, None)
