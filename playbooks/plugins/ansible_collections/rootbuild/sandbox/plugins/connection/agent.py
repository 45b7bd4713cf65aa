"""Reaches the root that is being built, through the agent that runs in it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: agent
short_description: Run tasks in the root that rootbuild provisions
description:
  - Talks to rootbuild's agent inside the sandbox over a unix socket.
  - Every command, script and file transfer happens inside, as the root's superuser.
  - Used by C(rootbuild provision), which starts the agent; of no use without it.
author: rootbuild
options:
  socket:
    description: The agent's socket.
    type: path
    env: [{name: ROOTBUILD_AGENT}]
  served:
    description: The inventory host that the root stands for.
    type: str
    env: [{name: ROOTBUILD_HOST}]
  remote_user:
    description: The agent runs as this user; other users are reached with C(become).
    type: str
    default: root
  pipelining:
    description: Send modules to the interpreter instead of files to the root.
    type: bool
    default: true
"""

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.rootbuild.sandbox.plugins.plugin_utils import place
from ansible_collections.rootbuild.sandbox.plugins.plugin_utils.client import AgentError, AgentGone, Client

display = Display()


class Connection(ConnectionBase):
    """A connection to the root's agent."""

    transport = "rootbuild.sandbox.agent"
    has_pipelining = True
    has_tty = False
    default_user = "root"

    _client: Client | None = None

    def _connect(self) -> Connection:
        self._check()
        if self._client is not None:
            return self
        try:
            self._client = Client(self.get_option("socket"))
        except AgentError as error:
            served = self.get_option("served")
            raise AnsibleConnectionFailure(f"can't reach the sandbox of `{served}`: {error}") from error
        self._connected = True
        return self

    def _check(self) -> None:
        # At each request: one connection may serve all items of a loop, delegated to several hosts.
        host, served = place.target(), self.get_option("served")
        if host != served:
            raise AnsibleConnectionFailure(
                f"`{host}` is another machine; while provisioning only `{served}` and localhost can be reached"
            )

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Runs a shell command in the root."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        host = self.get_option("served")
        shown = "what no_log hides" if place.is_hidden() else to_text(cmd)
        display.vvv(f"EXEC {shown}", host=host)
        ended = self._do(lambda client: client.execute(to_bytes(cmd, errors="surrogate_or_strict"), in_data or None))
        display.vvvv(f"EXEC ended with {ended.code} ({ended.how})", host=host)
        return ended.code, ended.stdout, ended.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copies a file into the root."""
        super().put_file(in_path, out_path)
        display.vvv(f"PUT {in_path} TO {out_path}", host=self.get_option("served"))
        try:
            source = open(to_bytes(in_path, errors="surrogate_or_strict"), "rb")
        except FileNotFoundError as error:
            raise AnsibleFileNotFound(f"file or module does not exist: {in_path}") from error
        except OSError as error:
            raise AnsibleError(f"can't read {in_path}: {error.strerror}") from error
        with source:
            self._do(
                lambda client: client.put(source, to_bytes(out_path, errors="surrogate_or_strict")),
                f"can't write {out_path} in the root",
            )

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copies a file out of the root."""
        super().fetch_file(in_path, out_path)
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self.get_option("served"))
        with open(to_bytes(out_path, errors="surrogate_or_strict"), "wb") as target:
            self._do(
                lambda client: client.get(to_bytes(in_path, errors="surrogate_or_strict"), target),
                f"can't read {in_path} in the root",
            )

    def _do(self, request, what: str = "the sandbox refused"):
        self._check()
        try:
            return request(self._client)
        except AgentGone as error:
            self.close()
            raise AnsibleConnectionFailure(f"lost the sandbox of `{self.get_option('served')}`: {error}") from error
        except AgentError as error:
            raise AnsibleError(f"{what}: {error}") from error
        except BaseException:
            # A task's timeout, say: what runs on must not answer the next request.
            self.close()
            raise

    def reset(self) -> None:
        """Starts a new connection at the next request."""
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        if self._client is not None:
            self._client.close()
        self._client = None
        self._connected = False
