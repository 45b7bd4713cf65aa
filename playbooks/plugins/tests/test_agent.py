"""The agent, talked to over its socket, with every interpreter at hand."""

import functools
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from . import support
from .support import Agent, payload

import wire
from ansible_collections.rootbuild.sandbox.plugins.plugin_utils.client import AgentError, AgentGone, Client, connect

BIG = os.urandom(1 << 20) * 9

# What a module can see of its interpreter. Run warm and cold, the answers must be the same.
PROBE = """
import json, os, signal, sys, resource
import __main__
fds = []
for fd in range(64):
    try:
        # Python 2 keeps its source of random numbers open.
        if os.readlink("/proc/self/fd/%d" % fd) != "/dev/urandom":
            fds.append(fd)
    except OSError:
        pass
print(json.dumps({
    "path": [p for p in sys.path if not p.endswith("_payload.zip")], "argv": [os.path.basename(a) for a in sys.argv], "executable": sys.executable,
    "prefix": sys.prefix, "bytecode": sys.dont_write_bytecode, "stdin": sys.stdin.read(), "cwd": os.getcwd(),
    "umask": os.umask(0), "env": dict((k, v) for k, v in os.environ.items() if k not in ("_", "SHLVL", "PWD", "OLDPWD")),
    "signals": [repr(signal.getsignal(n)).split(" at ")[0] for n in range(1, 32)],
    "encodings": [sys.stdout.encoding, sys.getfilesystemencoding(), sys.getdefaultencoding()],
    "name": __name__, "package": __package__, "fds": fds, "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "leader": os.getsid(0) == os.getpgrp(), "main": __main__.__name__, "file": os.path.basename(__file__),
    "ours": sorted(m for m in sys.modules if m in ("wire", "loop", "payload", "signature", "worker", "zygote")),
}, sort_keys=True))
"""


def with_each(warm=True):
    """Runs a test with each interpreter, with an agent of its own."""

    def wrap(test):
        @functools.wraps(test)
        def run(self):
            for python in support.interpreters():
                with self.subTest(python=python), Agent(python, warm) as agent:
                    test(self, agent)

        return run

    return wrap


class Commands(unittest.TestCase):
    @with_each()
    def test_output_and_exit_code_come_back(self, agent):
        ended = agent.client().execute(b"echo out; echo err >&2; exit 7")
        self.assertEqual(ended[:3], (7, b"out\n", b"err\n"))

    @with_each()
    def test_a_signal_is_told_as_a_shell_does(self, agent):
        self.assertEqual(agent.client().execute(b"kill -9 $$").code, 137)

    @with_each()
    def test_commands_start_like_a_login(self, agent):
        said = agent.client().execute(b"env | grep -v '^\\(PWD\\|OLDPWD\\|SHLVL\\|_\\)='; umask; pwd").stdout
        lines = said.decode().splitlines()
        self.assertIn("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", lines)
        names = sorted(line.split("=")[0] for line in lines if "=" in line)
        self.assertEqual(names, ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "USER"])
        self.assertEqual(lines[-2], "0022")

    @with_each()
    def test_input_and_output_flow_at_the_same_time(self, agent):
        ended = agent.client().execute(b"cat", BIG)
        self.assertEqual((ended.code, ended.stdout == BIG), (0, True))

    @with_each()
    def test_a_command_may_leave_its_input_unread(self, agent):
        client = agent.client()
        self.assertEqual(client.execute(b"exit 3", BIG).code, 3)
        self.assertEqual(client.execute(b"head -c 4", BIG).stdout, BIG[:4])
        self.assertEqual(client.execute(b"echo next").stdout, b"next\n")

    @with_each()
    def test_bytes_that_are_no_text_pass_both_ways(self, agent):
        self.assertEqual(agent.client().execute(b"printf '%s' '\xff\xfe\xc3\xa9'").stdout, b"\xff\xfe\xc3\xa9")

    @with_each()
    def test_a_process_left_behind_keeps_nobody_waiting(self, agent):
        began = time.monotonic()
        ended = agent.client().execute(b"echo before; (echo from behind; sleep 60) & echo after")
        self.assertLess(time.monotonic() - began, 10)
        self.assertTrue(ended.stdout.startswith(b"before\n") and b"after\n" in ended.stdout)

    @with_each()
    def test_much_output_of_a_command_that_has_ended_is_complete(self, agent):
        for _ in range(5):
            ended = agent.client().execute(b"head -c 300000 /dev/zero; sleep 60 & exit 4")
            self.assertEqual((ended.code, len(ended.stdout)), (4, 300000))

    @with_each()
    def test_commands_run_side_by_side(self, agent):
        slow = threading.Thread(target=lambda: agent.client().execute(b"sleep 3"))
        slow.start()
        began = time.monotonic()
        for _ in range(5):
            agent.client().execute(b"true")
            agent.module(payload("print(1)"))
        self.assertLess(time.monotonic() - began, 2.5)
        slow.join()

    @with_each()
    def test_many_connections_at_once_get_their_own_answers(self, agent):
        wrong = []

        def work(number):
            client = agent.client()
            for turn in range(5):
                word = b"%d-%d" % (number, turn)
                if client.execute(b"cat; echo " + word, word * 3000).stdout != word * 3000 + word + b"\n":
                    wrong.append(word)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    @with_each()
    def test_a_command_ends_when_its_caller_goes(self, agent):
        with tempfile.TemporaryDirectory() as directory:
            mark = os.path.join(directory, "pid")
            client = agent.client()
            client._send(wire.message(wire.EXEC, {"command": "echo $$ > %s; exec sleep 100" % mark}))
            pid = int(_wait_for(lambda: _read(mark)))
            client.close()
            _wait_for(lambda: not os.path.exists("/proc/%d" % pid))

    @with_each()
    def test_a_command_that_ignores_its_end_is_killed(self, agent):
        with tempfile.TemporaryDirectory() as directory:
            mark = os.path.join(directory, "pid")
            client = agent.client()
            script = "trap '' TERM; echo $$ > %s; while :; do sleep 1; done" % mark
            client._send(wire.message(wire.EXEC, {"command": script}))
            pid = int(_wait_for(lambda: _read(mark)))
            client.close()
            _wait_for(lambda: not os.path.exists("/proc/%d" % pid))


class Files(unittest.TestCase):
    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self.dir = os.fsencode(self._dir.name)

    def tearDown(self):
        self._dir.cleanup()

    @with_each()
    def test_files_go_in_and_come_out(self, agent):
        for data in (b"", b"x", BIG):
            path = os.path.join(self.dir, b"f\xff%d" % len(data) + os.path.basename(agent.python).encode())
            agent.client().put(io.BytesIO(data), path)
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o600)
            out = io.BytesIO()
            agent.client().get(path, out)
            self.assertEqual(out.getvalue(), data)

    @with_each()
    def test_an_existing_file_keeps_its_mode(self, agent):
        path = os.path.join(self.dir, b"old")
        with open(path, "wb") as old:
            old.write(b"much longer than before")
        os.chmod(path, 0o640)
        agent.client().put(io.BytesIO(b"new"), path)
        self.assertEqual((_read(path), os.stat(path).st_mode & 0o7777), (b"new", 0o640))

    @with_each()
    def test_errors_are_told_and_the_connection_lives_on(self, agent):
        client = agent.client()
        for request, words in (
            (lambda: client.get(b"/no/such", io.BytesIO()), "No such file"),
            (lambda: client.get(b"/etc", io.BytesIO()), "Is a directory"),
            (lambda: client.get(b"/dev/null", io.BytesIO()), "Invalid"),
            (lambda: client.put(io.BytesIO(BIG), b"/no/such/file"), "No such file"),
            (lambda: client.put(io.BytesIO(BIG), b"/dev/full"), "No space left"),
            (lambda: client.put(io.BytesIO(b"x"), self.dir), "Is a directory"),
        ):
            with self.assertRaisesRegex(AgentError, words):
                request()
        self.assertEqual(client.execute(b"echo alive").stdout, b"alive\n")

    @with_each()
    def test_a_fifo_holds_nobody_up(self, agent):
        path = os.path.join(self.dir, b"fifo" + os.path.basename(agent.python).encode())
        os.mkfifo(path)
        with self.assertRaises(AgentError):
            agent.client().get(path, io.BytesIO())
        with self.assertRaises(AgentError):
            agent.client().put(io.BytesIO(b"x"), path)

    @with_each()
    def test_a_file_that_is_not_complete_disappears(self, agent):
        path = os.path.join(self.dir, b"partial")
        client = agent.client()
        client._send(wire.message(wire.PUT, {"path": path.decode()}) + wire.frame(wire.DATA, b"half"))
        _wait_for(lambda: os.path.exists(path))
        client.close()
        _wait_for(lambda: not os.path.exists(path))


class Protocol(unittest.TestCase):
    @with_each(warm=False)
    def test_another_version_is_refused_with_a_reason(self, agent):
        with connect(agent.socket) as sock:
            sock.sendall(wire.message(wire.HELLO, {"protocol": 99}))
            kind, body = _frame(sock)
        self.assertEqual(kind, wire.FAILURE)
        self.assertIn("protocol", json.loads(body)["message"])

    @with_each(warm=False)
    def test_nonsense_ends_a_connection_and_nothing_else(self, agent):
        hello = wire.message(wire.HELLO, {"protocol": wire.PROTOCOL})
        for nonsense in (
            b"GET / HTTP/1.0\r\n\r\n",
            struct.pack(">cI", b"H", 1 << 31),
            wire.message(wire.EXEC, {"command": "id"}),
            hello + hello,
            hello + wire.frame(wire.DATA, b"x"),
            hello + wire.frame(wire.EXEC, b"[]"),
            hello + wire.message(wire.EXEC, {"command": 1}),
            hello + wire.message(wire.PUT, {"path": "a\0b"}),
            hello + wire.message(wire.GET, {"path": "\u20ac"}),
            hello + wire.message(wire.EXEC, {"command": "sleep 9"}) * 2,
        ):
            with connect(agent.socket) as sock:
                sock.sendall(nonsense)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass
        self.assertEqual(agent.client().execute(b"echo fine").stdout, b"fine\n")


class Modules(unittest.TestCase):
    @with_each()
    def test_a_module_runs_warm_and_prints_its_result(self, agent):
        source = payload("from ansible.module_utils import basic\nprint(basic.ARGS)", args="hello")
        for _ in range(3):
            ended = agent.module(source)
            self.assertEqual(ended, (0, b"hello\n", b"", "warm"))

    @with_each()
    def test_a_module_sees_what_it_would_see_in_an_interpreter_of_its_own(self, agent):
        source = payload(PROBE)
        agent.module(source)
        warm, cold = agent.module(source), agent.cold(source)
        self.assertEqual((warm.how, cold.how, warm.stderr, cold.stderr), ("warm", "shell", b"", b""))
        warm, cold = json.loads(warm.stdout), json.loads(cold.stdout)
        # A shell hands its own session down.
        self.assertEqual(warm, cold)

    @with_each()
    def test_modules_find_their_environment(self, agent):
        source = payload("import os; print(os.environ['A']); os.system('echo $A')")
        ended = agent.module(source, env="A='\"'\"'b c'\"'\"' ")
        self.assertEqual((ended.stdout, ended.how), (b"b c\nb c\n", "warm"))
        self.assertEqual(agent.module(payload("import os; print('A' in os.environ)")).stdout, b"False\n")

    @with_each()
    def test_an_environment_for_the_interpreter_gets_a_new_one(self, agent):
        source = payload("import sys; print('/elsewhere' in sys.path)")
        ended = agent.module(source, env="PYTHONPATH=/elsewhere ")
        self.assertEqual((ended.stdout, ended.how), (b"True\n", "shell"))

    @with_each()
    def test_exit_codes_and_failures_are_those_of_an_interpreter(self, agent):
        for source, code in (
            ("import sys; sys.exit(3)", 3),
            ("import sys; sys.exit('words')", 1),
            ("import sys; sys.exit(-1)", 255),
            ("raise SystemExit", 0),
            ("raise ValueError('no')", 1),
            ("this is no python", 1),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
            ("import os; os._exit(9)", 9),
            ("import sys; sys.excepthook = lambda *a: print('hooked')\nraise ValueError", 1),
            ("import atexit; atexit.register(lambda: print('bye'))", 0),
            # Python 2 clears a module's names as soon as it has run, even under a thread that is about to use them.
            ("import threading, time; threading.Thread(target=lambda s=time.sleep, p=print: (s(.2), p('late'))).start()", 0),
        ):
            # print is a statement for Python 2 unless told otherwise.
            text = payload("from __future__ import print_function\n" + source)
            warm, cold = agent.module(text), agent.cold(text)
            self.assertEqual((warm.code, cold.code), (code, code), source)
            self.assertEqual(warm.stdout, cold.stdout, source)
            self.assertEqual(_plain(warm.stderr), _plain(cold.stderr), source)

    @with_each()
    def test_modules_do_not_see_each_other(self, agent):
        agent.module(payload("import ansible.module_utils.basic as b, os, sys; b.LEFT = 1; sys.LEFT = 1; os.LEFT = 1"))
        text = "import ansible.module_utils.basic as b, os, sys; print([hasattr(x, 'LEFT') for x in (b, sys, os)])"
        self.assertEqual(agent.module(payload(text)).stdout, b"[False, False, False]\n")

    @with_each()
    def test_another_library_takes_the_place_of_the_one_that_was_loaded(self, agent):
        text = "from ansible.module_utils import basic; print(basic.WHO)"
        for who in ("one", "two", "one"):
            ended = agent.module(payload(text, basic="WHO = %r\n" % who))
            self.assertEqual((ended.stdout.strip(), ended.how), (who.encode(), "warm"))

    @with_each()
    def test_a_library_that_refuses_this_python_says_so_itself(self, agent):
        basic = "import sys\nprint('{\"failed\": true}')\nsys.exit(1)\n"
        for _ in range(2):
            ended = agent.module(payload("print('never')", basic=basic))
            self.assertEqual((ended.code, ended.stdout), (1, b'{"failed": true}\n'))

    @with_each()
    def test_what_was_not_compiled_is_imported_from_the_zip(self, agent):
        source = payload(
            "import ansible.module_utils.broken", basic="ARGS = None\n", broken="this is no python either\n"
        )
        for _ in range(2):
            ended = agent.module(source)
            self.assertIn(b"SyntaxError", ended.stderr)
            self.assertEqual(ended.how, "warm")

    @with_each()
    def test_text_that_is_no_module_is_left_to_an_interpreter(self, agent):
        ended = agent.module(b"print('plain')")
        self.assertEqual((ended.stdout, ended.how), (b"plain\n", "no module"))

    @with_each()
    def test_a_module_that_prints_garbage_is_passed_on(self, agent):
        ended = agent.module(payload("import os; os.write(1, b'\\xff\\x00' * 100000)"))
        self.assertEqual(ended.stdout, b"\xff\x00" * 100000)

    @with_each()
    def test_a_daemon_of_a_module_keeps_nobody_waiting(self, agent):
        text = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nprint('done')"
        began = time.monotonic()
        self.assertEqual(agent.module(payload(text)).stdout, b"done\n")
        self.assertLess(time.monotonic() - began, 10)

    @with_each()
    def test_another_interpreter_gets_a_fork_server_of_its_own(self, agent):
        with tempfile.TemporaryDirectory() as directory:
            subprocess.check_call(["/usr/bin/python3", "-m", "venv", "--without-pip", directory])
            command = b"/bin/sh -c '%s/bin/python3 && sleep 0'" % os.fsencode(directory)
            source = payload("import sys; print(sys.prefix, sys.executable)")
            ended = agent.client().execute(command, source)
            self.assertEqual((ended.stdout.decode(), ended.how), ("%s %s/bin/python3\n" % (directory, directory), "warm"))
            self.assertEqual(agent.module(payload("print(1)")).how, "warm")

    @with_each(warm=False)
    def test_what_is_no_interpreter_is_left_to_a_shell(self, agent):
        with tempfile.TemporaryDirectory() as directory:
            for name, make in (("true", lambda p: shutil.copy("/bin/true", p)), ("script", _script)):
                path = os.path.join(directory, name, "python")
                os.mkdir(os.path.dirname(path))
                make(path)
                for _ in range(2):
                    ended = agent.client().execute(b"/bin/sh -c '%s && sleep 0'" % os.fsencode(path), payload("x"))
                    self.assertEqual(ended.code, 0)
                self.assertEqual(ended.how, "shell")

    @with_each()
    def test_a_killed_fork_server_is_replaced(self, agent):
        source = payload("import os; print(os.getppid())")
        first = int(agent.module(source).stdout)
        os.kill(first, signal.SIGKILL)
        _wait_for(lambda: not os.path.exists("/proc/%d" % first))
        for _ in range(3):
            ended = agent.module(source)
            self.assertEqual(ended.code, 0)
        self.assertEqual(ended.how, "warm")

    @with_each()
    def test_a_module_under_a_killed_fork_server_fails(self, agent):
        source = payload("import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)")
        ended = agent.module(source)
        self.assertEqual(ended.code, 255)
        self.assertIn(b"has died", ended.stderr)

    @with_each(warm=False)
    def test_a_changed_import_path_gets_a_new_interpreter(self, agent):
        source = payload("print(1)")
        if agent.module(source).how != "warm":
            self.fail("not warm")
        path = json.loads(agent.module(payload("import json, sys; print(json.dumps(sys.path))")).stdout)
        target = next((p for p in path if p.endswith("-packages") and os.access(p, os.W_OK)), None)
        if target is None:
            self.skipTest("no import path can be written")
        mark = os.path.join(target, "rootbuild_test_mark.py")
        open(mark, "w").close()
        try:
            self.assertEqual(agent.module(source).how, "stale")
            _wait_for(lambda: agent.module(source).how == "warm")
        finally:
            os.unlink(mark)


class Lessons(unittest.TestCase):
    def test_what_earlier_runs_left_is_learnt_and_nonsense_passed_over(self):
        for python in support.interpreters():
            with self.subTest(python=python), tempfile.TemporaryDirectory() as directory:
                source = payload("print(2)", basic="import os\nopen(%r, 'a').close()\n" % (directory + "/imported"))
                text = source.split(b"ZIPDATA = '")[1].split(b"'")[0]
                for name, content in (("setup-x", b"\x80\x04junk" + text + b"."), ("stat-x", b"UEsD"), ("file-x", b"")):
                    with open(os.path.join(directory, "ansible.modules." + name), "wb") as kept:
                        kept.write(content)
                with Agent(python, lessons=directory) as agent:
                    _wait_for(lambda: os.path.exists(directory + "/imported"))
                    self.assertEqual(agent.module(source)[:2], (0, b"2\n"))


class Lifetime(unittest.TestCase):
    @with_each()
    def test_it_ends_when_its_standard_input_does(self, agent):
        self.assertEqual(agent.stop(), (0, b""))

    @with_each()
    def test_a_lost_agent_is_an_error(self, agent):
        pid = agent.client().agent["pid"]
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(agent.process.wait(20), 1)
        with self.assertRaises(AgentGone):
            Client(agent.socket)

    def test_a_socket_that_is_left_over_is_replaced(self):
        python = support.interpreters()[0]
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "agent.sock")
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(path)
            argv = [python, str(support.AGENT / "pid1.py"), path, "/nonexistent"]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                self.assertEqual(process.stdout.readline(), b"READY\n")
                client = Client(path)
                self.assertEqual(client.execute(b"echo hi").stdout, b"hi\n")
                client.close()
                process.stdin.close()

    def test_sockets_with_long_paths_are_reached(self):
        with tempfile.TemporaryDirectory() as directory:
            deep = os.path.join(directory, "d" * 120)
            os.mkdir(deep)
            path = os.path.join(deep, "agent.sock")
            with self.assertRaisesRegex(AgentGone, "No such file"):
                Client(path)
            with Agent(support.interpreters()[0]) as agent:
                os.link(agent.socket, path)
                client = Client(path)
                self.assertEqual(client.execute(b"echo hi").stdout, b"hi\n")
                client.close()

    def test_links_are_not_followed(self):
        with tempfile.TemporaryDirectory() as directory, Agent(support.interpreters()[0]) as agent:
            path = os.path.join(directory, "agent.sock")
            os.symlink(agent.socket, path)
            with self.assertRaisesRegex(AgentGone, "Not a socket|non-socket"):
                Client(path)

    @unittest.skipUnless(os.geteuid() == 0, "needs root privileges")
    def test_a_socket_of_somebody_else_is_refused(self):
        with Agent(support.interpreters()[0]) as agent:
            os.chown(agent.socket, 65534, 65534)
            with self.assertRaisesRegex(AgentGone, "somebody else"):
                Client(agent.socket)


def _wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def _script(path):
    with open(path, "w") as script:
        script.write("#!/bin/sh\ncat > /dev/null\n")
    os.chmod(path, 0o755)


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _frame(sock):
    reader = wire.Reader()
    while (item := reader.next()) is None:
        data = sock.recv(4096)
        if not data:
            raise AssertionError("hung up")
        reader.feed(data)
    return item


def _plain(text):
    """A traceback without what differs: where the zip was, and (warm) that the module was in it."""
    return re.sub(rb"/tmp/ansible_probe_payload_\w+/ansible_probe_payload.zip/", b"", text)


if __name__ == "__main__":
    sys.exit(unittest.main())
