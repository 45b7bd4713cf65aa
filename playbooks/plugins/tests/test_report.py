"""What is told about results."""

import types
import unittest

from . import support  # noqa: F401  (sets sys.path)

from ansible_collections.rootbuild.sandbox.plugins.plugin_utils import report


def result(body, action="command", no_log=False, **args):
    task = types.SimpleNamespace(no_log=no_log, action=action, resolved_action=action, args=args)
    return types.SimpleNamespace(_result=body, _task=task)


class Failures(unittest.TestCase):
    def test_message_and_output_are_told(self):
        shown = report.failure(result({"msg": "no", "rc": 2, "stdout": "o", "stderr": "e", "cmd": ["a", "b"]}))
        self.assertEqual(shown, {"message": "no", "code": 2, "stdout": "o", "stderr": "e", "command": "a b"})

    def test_hidden_results_tell_nothing(self):
        for hidden in ({"censored": "x", "msg": "pass"}, {"_ansible_no_log": True, "stdout": "pass", "exception": "pass"}):
            self.assertEqual(report.failure(result(hidden)), {"message": report.HIDDEN})
        self.assertEqual(report.failure(result({"msg": "pass"}, no_log=True)), {"message": report.HIDDEN})
        items = {"msg": "one failed", "results": [{"failed": True, "censored": "x", "item": "pass", "msg": "pass"}]}
        self.assertNotIn("pass", str(report.failure(result(items))))

    def test_failed_items_are_told_by_their_labels(self):
        items = [{"item": "a"}, {"item": "b", "failed": True, "msg": "no"}]
        shown = report.failure(result({"msg": "some failed", "results": items}))
        self.assertEqual(shown["items"], [{"label": "b", "message": "no"}])

    def test_long_output_is_told_by_its_end(self):
        shown = report.failure(result({"msg": "no", "stdout": "x" * 100000 + "end"}))
        self.assertLess(len(shown["stdout"]), 20000)
        self.assertTrue(shown["stdout"].endswith("end"))


class Services(unittest.TestCase):
    def test_services_that_should_run_are_told(self):
        for action in ("service", "ansible.builtin.systemd", "ansible.builtin.systemd_service", "ansible.legacy.sysvinit"):
            body = {"invocation": {"module_args": {"name": "sshd", "state": "restarted"}}}
            self.assertEqual(report.deferred_service(result(body, action)), ("sshd", "restarted"))

    def test_services_that_need_not_run_are_not(self):
        for arguments in ({"name": "x", "enabled": True, "state": None}, {"name": "x", "state": "stopped"}):
            self.assertIsNone(report.deferred_service(result({"invocation": {"module_args": arguments}}, "service")))
        self.assertIsNone(report.deferred_service(result({"state": "started", "name": "x"}, "acme.tools.service")))

    def test_a_hidden_service_is_told_by_the_task(self):
        body = {"censored": "x"}
        self.assertEqual(report.deferred_service(result(body, "service", name="a", state="started")), ("a", "started"))
        found = report.deferred_service(result(body, "service", name="{{ secret }}", state="started"))
        self.assertEqual(found, (report.HIDDEN, "started"))


class Bypasses(unittest.TestCase):
    def test_a_delegated_synchronize_is_refused(self):
        def task(action, to):
            return types.SimpleNamespace(action=action, resolved_action=action, delegate_to=to)

        self.assertIn("ssh", report.bypass(task("ansible.posix.synchronize", "localhost")))
        self.assertIsNone(report.bypass(task("ansible.posix.synchronize", None)))
        self.assertIsNone(report.bypass(task("synchronize", "{{ inventory_hostname }}")))
        self.assertIsNone(report.bypass(task("copy", "localhost")))
