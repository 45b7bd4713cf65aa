"""Reaches the root that is being built, through the agent that runs in it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: agent
short_description: Run tasks in the root that rootbuild provisions
description:
  - Talks to rootbuild's agent inside the sandbox over a unix socket.
  - Every command, script and file transfer happens inside, as the root's superuser.
  - Tasks that are delegated to the machine that rootbuild runs on are handed to C(ansible.builtin.local). Those for any other
    machine fail.
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
  local_pipelining:
    description: The same for tasks on the machine that rootbuild runs on; where it isn't set, the configuration decides.
    type: bool
    vars: [{name: ansible_pipelining}]
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

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._arguments = args, kwargs
        self._local: ConnectionBase | None = None
        self._here = False
        self._refused: str | None = None
        self._hidden = False
        # Actions set it on a connection whose `transport` is "local".
        self.cwd = None

    def set_options(self, task_keys=None, var_options=None, direct=None) -> None:
        """Learns what the next requests are for. Called for each item of a loop, which may be delegated
        to several hosts over one connection."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        task = task_keys or {}
        served, delegate_to = super().get_option("served"), task.get("delegate_to")
        self._hidden = bool(task.get("no_log"))
        self._here = place.is_here(delegate_to, served)
        self._refused = None
        if not self._here and not place.is_root(delegate_to, served):
            self._refused = delegate_to
        self.transport = "local" if self._here else type(self).transport
        if self._here:
            pipelining = super().get_option("local_pipelining")
            given = {} if pipelining is None else {"pipelining": pipelining}
            self._local = self._local or place.local()(*self._arguments[0], **self._arguments[1])
            self._local.set_options(task_keys=task_keys, var_options={}, direct=given)

    def get_option(self, option, hostvars=None):
        """An option of the connection that is in use."""
        if self._here and option in self._local.option_definitions:
            return self._local.get_option(option, hostvars=hostvars)
        return super().get_option(option, hostvars=hostvars)

    def _machine(self) -> ConnectionBase:
        """The connection to the machine we run on, in the state that ours was brought into."""
        self._local._play_context = self._play_context
        self._local.set_become_plugin(self.become)
        self._local.cwd = self.cwd
        return self._local

    def _connect(self) -> Connection:
        self._check()
        if self._here:
            self._machine()._connect()
            self._connected = True
            return self
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
        if self._refused is not None:
            served = self.get_option("served")
            raise AnsibleConnectionFailure(
                f"`{self._refused}` is another machine; while provisioning only `{served}` and localhost can be reached"
            )

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Runs a shell command in the root."""
        if self._here:
            return self._machine().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        host = self.get_option("served")
        shown = "what no_log hides" if self._hidden else to_text(cmd)
        display.vvv(f"EXEC {shown}", host=host)
        ended = self._do(lambda client: client.execute(to_bytes(cmd, errors="surrogate_or_strict"), in_data or None))
        display.vvvv(f"EXEC ended with {ended.code} ({ended.how})", host=host)
        return ended.code, ended.stdout, ended.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copies a file into the root."""
        if self._here:
            return self._machine().put_file(in_path, out_path)
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
        if self._here:
            return self._machine().fetch_file(in_path, out_path)
        super().fetch_file(in_path, out_path)
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self.get_option("served"))
        with open(to_bytes(out_path, errors="surrogate_or_strict"), "wb") as target:
            self._do(
                lambda client: client.get(to_bytes(in_path, errors="surrogate_or_strict"), target),
                f"can't read {in_path} in the root",
            )

    def _do(self, request, what: str = "the sandbox refused"):
        self._check()
        if self._client is None:
            # The connection was used on the machine we run on until now.
            self._connect()
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
        if self._local is not None:
            self._local.close()
        if self._client is not None:
            self._client.close()
        self._client = None
        self._connected = False
