"""Reading Ansible's command lines."""

import random
import shlex
import unittest

from . import support  # noqa: F401  (sets sys.path)

import command

INTERPRETER = "/usr/bin/python3"


def line(env="", python=INTERPRETER, tail=" && sleep 0"):
    return ("/bin/sh -c " + shlex.quote(env + python + tail)).encode()


def read(text):
    return command.python_on_stdin(command.shell_argument(text))


class Reading(unittest.TestCase):
    def test_an_interpreter_on_standard_input_is_recognised(self):
        self.assertEqual(read(line()), (b"/usr/bin/python3", {}))
        self.assertEqual(read(line("A=b C=d/e ")), (b"/usr/bin/python3", {b"A": b"b", b"C": b"d/e"}))

    def test_interpreters_are_known_by_their_names(self):
        for path in ("/usr/bin/python2.7", "/usr/libexec/platform-python", "/opt/a_b/bin/python3.11"):
            self.assertEqual(read(line(python=path)), (path.encode(), {}))

    def test_values_are_unquoted_as_a_shell_would(self):
        alphabet = "ab' \"$`\\\n*~;&|é"
        for seed in range(300):
            pick = random.Random(seed)
            value = "".join(pick.choice(alphabet) for _ in range(pick.randrange(12)))
            found = read(line("NAME=%s " % shlex.quote(value)))
            self.assertEqual(found, (b"/usr/bin/python3", {b"NAME": value.encode()}), value)

    def test_everything_else_is_left_to_a_shell(self):
        for text in (
            b"/usr/bin/python3",
            line(tail=" && sleep 1"),
            line(tail=" /tmp/x && sleep 0"),
            line(python="python3"),
            line(python="/usr/bin/perl"),
            line(python="/usr/bin/python3/"),
            line(python="/usr/bin/python3-config"),
            line(python="/usr/bin/py$thon"),
            line("A=~/x "),
            line("A=$HOME "),
            line("A=\\x "),
            line("A=a;b "),
            line("cd /x && "),
            b"sudo -u x " + line(),
        ):
            self.assertIsNone(read(text), text)

    def test_variables_that_an_interpreter_reads_at_its_start_need_a_new_one(self):
        for name in ("PYTHONPATH", "LANG", "LC_ALL", "LD_PRELOAD", "HOME", "OPENSSL_CONF"):
            self.assertIsNone(read(line(name + "=x ")), name)
        for name in ("LANGUAGE", "HOMEPAGE", "http_proxy", "DEBIAN_FRONTEND", "PATH"):
            self.assertIsNotNone(read(line(name + "=x ")), name)
