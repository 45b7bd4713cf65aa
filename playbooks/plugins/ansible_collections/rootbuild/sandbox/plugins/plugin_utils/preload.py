"""Does in the controller, once, what each of its forked workers would do again."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import typing as t

import ansible.executor.module_common  # noqa: F401
import ansible.executor.process.worker  # noqa: F401
import ansible.executor.task_executor  # noqa: F401
import multiprocessing.popen_fork  # noqa: F401
import multiprocessing.queues  # noqa: F401
from ansible import constants as C
from ansible import template
from ansible.parsing.dataloader import DataLoader
from ansible.plugins import loader
from ansible.utils.display import Display

from ansible_collections.rootbuild.sandbox.plugins.plugin_utils import place

display = Display()
CACHE = "ansiballz_cache"
# What workers of some ansible-core import by name when they need it.
LATE = tuple(
    f"ansible.module_utils._internal._json._profiles._module_{kind}_{way}" for kind in ("legacy", "modern") for way in ("c2m", "m2c")
)
BUILTIN = "ansible.modules."


def _try(load: t.Callable[[], t.Any]) -> None:
    # Whatever cannot be loaded here is reported by the worker that needs it.
    try:
        load()
    except Exception as error:  # noqa: BLE001
        display.vvv(f"rootbuild: not preloaded: {error}")


def common() -> None:
    """Loads what nearly every task needs."""
    _try(lambda: loader.shell_loader.get("sh"))
    for plugins in (loader.filter_loader, loader.test_loader):
        _try(lambda plugins=plugins: list(plugins.all()))
    _try(lambda: loader.connection_loader.get(place.OURS, class_only=True))
    _try(_templating)
    for name in LATE:
        _try(lambda name=name: importlib.import_module(name))


def _templating() -> None:
    """Has Jinja compile its lexer, its parser's tables and what else it keeps."""
    templar = template.Templar(loader=DataLoader())
    # From ansible-core 2.19 on, only what is trusted is taken for a template.
    trusted = getattr(template, "trust_as_template", str)
    templar.template(trusted("{% for x in [1] if x is defined %}{{ x | default('') ~ 'x' }}{% endfor %}"))


class Tasks:
    """Loads each task's action before the first worker that runs it."""

    def __init__(self) -> None:
        self._seen: set[t.Any] = set()

    def load(self, task: t.Any) -> None:
        """Loads what the task needs. What is there by the first task lives as long as the run."""
        first = not self._seen
        key = task.action, tuple(task.collections or ()), task.become_method if task.become else None
        if key in self._seen:
            return
        self._seen.add(key)
        _try(lambda: self._action(task))
        if task.become:
            _try(lambda: loader.become_loader.get(task.become_method, class_only=True))
        if first:
            gc.collect()
            gc.freeze()

    @staticmethod
    def _action(task: t.Any) -> None:
        loader.module_loader.find_plugin_with_context(task.action, collection_list=task.collections)
        if not loader.action_loader.get(task.action, class_only=True, collection_list=task.collections):
            loader.action_loader.get("ansible.legacy.normal", class_only=True)


class Payloads:
    """Keeps AnsiballZ payloads of Ansible's own modules between runs of one ansible-core. Ansible
    knows them by the module's name alone, so those that a project has a file of the same name for
    are left out, and none is kept for a project with module_utils of its own. Payloads are made anew
    by whoever does not find one: failing here is only slower."""

    def __init__(self, kept: str | None, shadows: str | None) -> None:
        self._kept = kept
        self._used = os.path.join(C.DEFAULT_LOCAL_TMP, CACHE)
        self._shadows = set()
        if shadows:
            with open(shadows, encoding="utf-8", errors="surrogateescape") as lines:
                self._shadows = set(lines.read().splitlines())

    def bring(self) -> None:
        """Gives this run what earlier ones have made."""
        if self._kept and os.path.isdir(self._kept):
            self._copy(self._kept, self._used)

    def keep(self) -> None:
        """Gives later runs what this one has made."""
        if self._kept and os.path.isdir(self._used):
            self._copy(self._used, self._kept)

    def _is_own(self, name: str) -> bool:
        if not name.startswith(BUILTIN) or name.endswith((".lock", "-part", ".new")):
            return False
        return name[len(BUILTIN) :].split("-", 1)[0] not in self._shadows

    def _copy(self, source: str, target: str) -> None:
        try:
            os.makedirs(target, mode=0o700, exist_ok=True)
            for name in filter(self._is_own, os.listdir(source)):
                old, new = os.path.join(source, name), os.path.join(target, name)
                if os.path.exists(new):
                    continue
                try:
                    os.link(old, new)
                except OSError:
                    # Another file system, or another run was faster: never half a file.
                    part = f"{new}.{os.getpid()}.new"
                    shutil.copyfile(old, part)
                    os.rename(part, new)
        except OSError as error:
            display.vvv(f"rootbuild: payloads are not kept: {error}")
