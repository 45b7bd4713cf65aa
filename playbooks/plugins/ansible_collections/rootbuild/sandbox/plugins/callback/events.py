"""Tells rootbuild what happens, and prepares the controller for many short-lived workers."""

from __future__ import annotations

DOCUMENTATION = r"""
name: events
type: aggregate
short_description: Events for rootbuild
description:
  - Writes one JSON object per line to a unix socket. Goes on after the beginnings of plays and tasks,
    and after the end, only when these were acknowledged.
  - Loads plugins before the first worker is forked, so that not every worker loads them again, and
    keeps AnsiballZ payloads between runs.
author: rootbuild
options:
  socket:
    description: Where events go.
    type: path
    env: [{name: ROOTBUILD_EVENTS}]
  served:
    description: The inventory host that the root stands for.
    type: str
    env: [{name: ROOTBUILD_HOST}]
  booted:
    description: Whether an init system runs in the root.
    type: bool
    default: false
    env: [{name: ROOTBUILD_BOOTED}]
  payloads:
    description: Where AnsiballZ payloads of this ansible-core's own modules are kept.
    type: path
    env: [{name: ROOTBUILD_PAYLOADS}]
  shadows:
    description: A file with the names of modules and module_utils that the project may replace.
    type: path
    env: [{name: ROOTBUILD_SHADOWS}]
"""

import json
import time

from ansible.plugins.callback import CallbackBase

from ansible_collections.rootbuild.sandbox.plugins.lookup import env
from ansible_collections.rootbuild.sandbox.plugins.plugin_utils import place, preload
from ansible_collections.rootbuild.sandbox.plugins.plugin_utils.client import connect
from ansible_collections.rootbuild.sandbox.plugins.plugin_utils.report import bypass, deferred_service, failure, plain, role


class CallbackModule(CallbackBase):
    """One event per thing that happened, in order."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "rootbuild.sandbox.events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._socket = None
        self._started = {}
        self._payloads = None
        self._tasks = preload.Tasks()

    def set_options(self, *args, **kwargs):
        """Connects as soon as the options are known."""
        super().set_options(*args, **kwargs)
        place.take_over()
        env.take_over()
        self._socket = connect(self.get_option("socket"))
        self._payloads = preload.Payloads(self.get_option("payloads"), self.get_option("shadows"))

    def _tell(self, event, **fields):
        line = json.dumps({"event": event, **fields}, ensure_ascii=False, default=str)
        self._socket.sendall(line.encode("utf-8", "replace") + b"\n")

    def _ask(self, event, **fields):
        """Tells it, and waits until rootbuild is ready for what comes next."""
        self._tell(event, **fields)
        if not self._hears(b"ok\n"):
            raise SystemExit("rootbuild: rootbuild itself has ended")

    def _hears(self, wanted):
        heard = b""
        while len(heard) < len(wanted):
            piece = self._socket.recv(len(wanted) - len(heard))
            if not piece:
                return False
            heard += piece
        return heard == wanted

    # The run.

    def v2_playbook_on_start(self, playbook):
        self._tell("playbook")
        self._payloads.bring()
        preload.common()
        # The sandbox has been started at the same time as Ansible: go on when both are there.
        if not self._hears(b"go\n"):
            raise SystemExit("rootbuild: there is no sandbox")

    def v2_playbook_on_play_start(self, play):
        place.learn_address(play, self.get_option("served"))
        hosts = play.hosts if isinstance(play.hosts, list) else [play.hosts]
        self._ask("play", name=plain(play.get_name()), pattern=",".join(map(plain, hosts)))

    def v2_playbook_on_no_hosts_matched(self):
        self._tell("no-hosts-matched")

    def v2_playbook_on_stats(self, stats):
        self._payloads.keep()
        self._ask("stats", hosts={plain(host): stats.summarize(host) for host in stats.processed})

    # Tasks.

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._task(task, False)

    def v2_playbook_on_handler_task_start(self, task):
        self._task(task, True)

    def _task(self, task, handler):
        why = bypass(task)
        if why is not None:
            self._tell("refused", name=plain(task.get_name()), source=plain(task.get_path() or ""), why=why)
            raise SystemExit(f"rootbuild: {why}")
        self._ask(
            "task",
            name=plain(task.get_name()),
            action=plain(task.action),
            source=plain(task.get_path() or ""),
            handler=handler,
            role=role(task),
            tags=[plain(tag) for tag in task.tags],
        )
        self._tasks.load(task)

    def v2_runner_on_start(self, host, task):
        if host.name != self.get_option("served"):
            raise SystemExit(f"rootbuild: a task for `{host.name}` was about to run in the root of another host")
        self._started[host.name, task._uuid] = time.monotonic()

    # Results.

    def v2_runner_on_ok(self, result):
        self._result(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._result(result, "ignored" if ignore_errors else "failed", failure(result))

    def v2_runner_on_skipped(self, result):
        self._result(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        ignored = result._task_fields.get("ignore_unreachable") is True
        self._result(result, "ignored" if ignored else "unreachable", failure(result))

    def _result(self, result, status, detail=None):
        host, task = result._host.name, result._task
        began = self._started.pop((host, task._uuid), None)
        self._tell(
            "result",
            host=plain(host),
            name=plain(task.get_name()),
            source=plain(task.get_path() or ""),
            status=status,
            seconds=time.monotonic() - began if began is not None else 0.0,
            detail=detail,
        )
        if status in ("ok", "changed") and not isinstance(result._result.get("results"), list):
            self._services(result)

    def v2_runner_item_on_ok(self, result):
        self._item(result, "changed" if result._result.get("changed") else "ok")
        self._services(result)

    def v2_runner_item_on_failed(self, result):
        self._item(result, "failed")

    def v2_runner_item_on_skipped(self, result):
        self._item(result, "skipped")

    def _item(self, result, status):
        label = result._result.get("_ansible_item_label")
        hidden = "censored" in result._result or result._result.get("_ansible_no_log")
        label = None if hidden or label is None else plain(label)
        self._tell("item", host=plain(result._host.name), status=status, label=label)

    def v2_runner_retry(self, result):
        left = result._result.get("retries", 0) - result._result.get("attempts", 0)
        self._tell("retry", host=plain(result._host.name), name=plain(result._task.get_name()), left=left)

    def _services(self, result):
        """A service that was asked to run, in a root where nothing runs."""
        if self.get_option("booted") or result._task.delegate_to or result._host.name != self.get_option("served"):
            return
        found = deferred_service(result)
        if found is not None:
            self._tell("deferred", service=found[0], state=found[1], source=plain(result._task.get_path() or ""))
