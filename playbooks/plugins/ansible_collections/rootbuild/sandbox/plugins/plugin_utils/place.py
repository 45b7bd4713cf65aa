"""Which machine a task is for.

Only two are ever reached: the root, and the machine we run on for a task that is delegated to it. What decides is the
task's keyword `delegate_to`, which Ansible hands to the connection's set_options(). Variables have no say, since a task, or a
module's result out of the root, could set any of them; to keep it so, there is no other connection to choose.
"""

from __future__ import annotations

import typing as t

from ansible.constants import LOCALHOST
from ansible.plugins.loader import connection_loader

OURS = "rootbuild.sandbox.agent"
LOCAL = "ansible.builtin.local"

_local: type | None = None
_address: str | None = None


class OnlyOurs(dict):
    """A loader's aliases by which every name of a plugin means ours."""

    def __contains__(self, name: t.Any) -> bool:
        return name != OURS

    def __getitem__(self, name: t.Any) -> str:
        return OURS

    def get(self, name: t.Any, default: t.Any = None) -> str:
        """Ours, whatever is asked for."""
        return OURS


def take_over() -> None:
    """From now on, in this process and in all that it forks, every task gets our connection, whatever
    keywords, variables and loops name: nothing is stronger than the one who looks the name up."""
    local()
    connection_loader.aliases = OnlyOurs()


def local() -> type:
    """The class of Ansible's own connection to the machine we run on."""
    global _local
    if _local is None:
        _local = connection_loader.get(LOCAL, class_only=True)
    return _local


def is_here(delegate_to: str | None, served: str) -> bool:
    """Whether a task is for the machine we run on: only if it says so, and only if the root doesn't
    stand for that name."""
    return delegate_to in LOCALHOST and served not in LOCALHOST


def is_root(delegate_to: str | None, served: str) -> bool:
    """Whether a task is for the root."""
    if delegate_to in LOCALHOST:
        return served in LOCALHOST
    return not delegate_to or delegate_to == served or delegate_to == _address


def learn_address(play: t.Any, served: str) -> None:
    """Notes the address that the root's host has in the inventory: a task may be delegated to that, too. Where
    facts or variables say something else, another address may lead into the root, and none anywhere else."""
    global _address
    try:
        _address = play.get_variable_manager().get_vars(play=play)["hostvars"][served]["ansible_host"]
    except Exception:  # noqa: BLE001
        # It has none, or one that can't be known yet: an undefined template, say.
        _address = None
