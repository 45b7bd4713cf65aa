"""Which machine a task is for: from the executor that runs it. Variables have no say, since a task,
or a module's result out of the root, could set any of them."""

from __future__ import annotations

import sys
import typing as t

from ansible.constants import LOCALHOST
from ansible.executor.task_executor import TaskExecutor
from ansible.plugins.connection import ConnectionBase

# How Python starts programs.
STARTS = frozenset(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile"))


def target() -> str | None:
    """The inventory's name of the host that the running task is for; None outside any task."""
    executor = _executor()
    return None if executor is None else _target(executor)


def is_hidden() -> bool:
    """Whether nothing of the running task's content may be logged."""
    executor = _executor()
    return executor is not None and bool(executor._task.no_log)


def is_here(name: str | None, served: str) -> bool:
    """Whether that host is the machine we run on, and not the root."""
    return name in LOCALHOST and name != served


def guard(served: str) -> None:
    """Lets no connection start a program on this machine for a host that is not this machine, however
    that connection was come by. For the rest of this process and of all that it forks."""

    def hook(event: str, _arguments: tuple) -> None:
        if event in STARTS:
            executor = _executor(through=ConnectionBase)
            if executor is not None and not is_here(_target(executor), served):
                raise PermissionError(f"a task for `{_target(executor)}` must not run on this machine")

    sys.addaudithook(hook)


def _target(executor: TaskExecutor) -> str:
    name = executor._task.delegate_to
    if not name:
        return str(executor._host.name)
    # As Ansible finds the host: by name, then by address. A template that is not filled in is neither.
    inventory = executor._variable_manager._inventory
    host = inventory.get_host(name)
    if host is None:
        hosts = inventory.get_hosts(ignore_limits=True, ignore_restrictions=True)
        host = next((host for host in hosts if host.address == name), None)
    return str(name if host is None else host.name)


def _executor(through: type | None = None) -> TaskExecutor | None:
    """The innermost executor on the stack; with `through` only if it has called an instance of that."""
    frame: t.Any = sys._getframe(1)
    passed = through is None
    while frame is not None:
        if frame.f_code.co_varnames[:1] == ("self",):
            owner = frame.f_locals.get("self")
            if isinstance(owner, TaskExecutor):
                return owner if passed else None
            passed = passed or isinstance(owner, through)
        frame = frame.f_back
    return None
