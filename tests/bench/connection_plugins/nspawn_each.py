# One systemd-nspawn per command: the simplest way to run Ansible in a root, and a peer to be measured against.
from __future__ import annotations

DOCUMENTATION = r"""
name: nspawn_each
author: rootbuild
short_description: one systemd-nspawn per command
description: Runs every command in a systemd-nspawn of its own. For benchmarks only.
extends_documentation_fragment: [connection_pipelining]
options:
  root:
    description: The root's directory.
    vars: [{name: ansible_host}]
"""

import os
import subprocess

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase


class Connection(ConnectionBase):
    transport = "nspawn_each"
    has_pipelining = True
    default_user = "root"

    def _connect(self):
        self._connected = True
        return self

    def _nspawn(self, *command, stdin=b""):
        argv = [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
            "--timezone=off", "--resolv-conf=off", "--pipe", "--setenv=SYSTEMD_OFFLINE=1",
            "--rlimit=RLIMIT_NOFILE=1024:524288", "--directory", self.get_option("root"), *command,
        ]
        # The root's own /tmp, which outlives the command, not a fresh tmpfs.
        environment = {**os.environ, "SYSTEMD_NSPAWN_TMPFS_TMP": "0"}
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False, env=environment)
        return done.returncode, done.stdout, done.stderr

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        # The directory is how Ansible and systemctl tell that systemd manages services here.
        script = 'mkdir -p /run/systemd/system; exec /bin/sh -c "$1"'
        return self._nspawn("/bin/sh", "-c", script, "sh", cmd, stdin=in_data or b"")

    def put_file(self, in_path, out_path):
        with open(in_path, "rb") as file:
            code, _, error = self._nspawn("/bin/sh", "-c", 'cat > "$1"', "sh", out_path, stdin=file.read())
        if code:
            raise AnsibleConnectionFailure(f"can't put {out_path}: {error!r}")

    def fetch_file(self, in_path, out_path):
        code, data, error = self._nspawn("/bin/sh", "-c", 'cat "$1"', "sh", in_path)
        if code:
            raise AnsibleConnectionFailure(f"can't fetch {in_path}: {error!r}")
        with open(out_path, "wb") as file:
            file.write(data)

    def close(self):
        self._connected = False
