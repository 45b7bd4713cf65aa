"""What is told about results, on both result classes (ansible-core 2.16's and 2.19's)."""

from __future__ import annotations

import typing as t

# The end of an output tells more than its beginning.
LONGEST = 16 << 10

HIDDEN = "hidden by no_log"

SERVICE_MODULES = frozenset(
    prefix + name
    for prefix in ("", "ansible.builtin.", "ansible.legacy.")
    for name in ("service", "systemd", "systemd_service", "sysvinit")
)
RUNNING = ("started", "restarted", "reloaded")


SYNCHRONIZE = frozenset(("synchronize", "ansible.builtin.synchronize", "ansible.posix.synchronize"))


def bypass(task: t.Any) -> str | None:
    """Why the task must not run at all: it would go past the sandbox, to the real machine."""
    if task.action not in SYNCHRONIZE and task.resolved_action not in SYNCHRONIZE:
        return None
    # Not delegated, it refuses by itself; delegated to the host itself, it stays inside.
    if not task.delegate_to or "inventory_hostname" in str(task.delegate_to):
        return None
    return "a delegated `synchronize` reaches the real machine by ssh, not the root: use `copy` or `unarchive`"


def plain(value: t.Any) -> str:
    """Text without Ansible's own string types, as it would be printed."""
    text = str(value)
    return text if len(text) <= LONGEST else "[...]" + text[-LONGEST:]


def role(task: t.Any) -> str | None:
    """The name of the role that the task belongs to, if it belongs to one."""
    of = getattr(task, "_role", None)
    return None if of is None else plain(of.get_name())


def is_hidden(result: dict) -> bool:
    """Whether the content must not be shown anywhere."""
    return "censored" in result or bool(result.get("_ansible_no_log"))


def failure(result: t.Any) -> dict:
    """What is to be shown of a failed result; nothing of a hidden one."""
    body = result._result
    if is_hidden(body) or result._task.no_log is True:
        return {"message": HIDDEN}
    shown = _shown(body)
    items = body.get("results")
    if isinstance(items, list):
        failed = [item for item in items if isinstance(item, dict) and (item.get("failed") or item.get("unreachable"))]
        shown["items"] = [_item(item) for item in failed[:10]]
    return shown


def _item(item: dict) -> dict:
    if is_hidden(item):
        return {"message": HIDDEN}
    label = item.get("_ansible_item_label", item.get("item"))
    return {"label": plain(label)} | _shown(item)


def _shown(body: dict) -> dict:
    shown: dict[str, t.Any] = {"message": plain(body.get("msg") or body.get("reason") or "failed without a message")}
    failures = body.get("failures")
    if isinstance(failures, list) and failures:
        # dnf's message says that something went wrong, and here what.
        shown["message"] = plain("\n".join([shown["message"], *map(str, failures)]))
    if isinstance(body.get("rc"), int):
        shown["code"] = body["rc"]
    for ours, theirs in (
        ("command", "cmd"),
        ("stdout", "stdout"),
        ("stderr", "stderr"),
        ("stdout", "module_stdout"),
        ("stderr", "module_stderr"),
    ):
        value = body.get(theirs)
        if value and ours not in shown:
            shown[ours] = plain(" ".join(map(str, value)) if isinstance(value, list) else value)
    if "stderr" not in shown and isinstance(body.get("exception"), str) and "Traceback" in body["exception"]:
        shown["stderr"] = plain(body["exception"])
    return shown


def deferred_service(result: t.Any) -> tuple[str, str] | None:
    """(name, state) of a service that a module was asked to bring up."""
    task, body = result._task, result._result
    if task.resolved_action not in SERVICE_MODULES and task.action not in SERVICE_MODULES:
        return None
    invocation = body.get("invocation")
    arguments = invocation.get("module_args") if isinstance(invocation, dict) else None
    if not isinstance(arguments, dict):
        # Hidden by no_log, or a module that does not tell: the task's own words, as far as they
        # are no templates.
        arguments = {key: value for key, value in task.args.items() if "{{" not in str(value)}
    state = arguments.get("state") or body.get("state")
    if state not in RUNNING:
        return None
    hidden = is_hidden(body)
    name = arguments.get("name") or arguments.get("service") or arguments.get("unit")
    return (HIDDEN if hidden and not name else plain(name or body.get("name") or "unknown")), str(state)
