"""Ansible's housekeeping, by the agent and by a shell: the same in either way."""

import os
import shutil
import subprocess
import tempfile
import unittest

from . import support  # noqa: F401  (sets sys.path)
from .test_agent import with_each

import routine

NAME = "ansible-tmp-1700000000.123-45-678901"


def make(base, name=NAME):
    path = base + "/" + name
    text = '( umask 77 && mkdir -p "` echo %s `"&& mkdir "` echo %s `" && echo %s="` echo %s `" ) && sleep 0'
    return text % (base, path, name, path)


def remove(base, name=NAME):
    return "rm -f -r %s/%s/ > /dev/null 2>&1 && sleep 0" % (base, name)


def mark(base, bits, *files):
    path = base + "/" + NAME + "/"
    return "chmod u+%s %s && sleep 0" % (bits, " ".join([path] + [path + name for name in files]))


class Routines(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="routine-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.base = self.dir + "/home/.ansible/tmp"

    def _look(self):
        listing = subprocess.run(["find", self.dir, "-printf", "%P %y %m %u\n"], stdout=subprocess.PIPE, check=True)
        return sorted(listing.stdout.decode().splitlines())

    @with_each(warm=False)
    def test_the_agent_does_what_a_shell_does(self, agent):
        client, seen = agent.client(), []
        for wrap in ("/bin/sh -c '%s'", "true; /bin/sh -c '%s'"):
            steps = []
            for text in (
                make(self.base),
                ": > %s/%s/f; chmod 640 %s/%s/f" % (self.base, NAME, self.base, NAME),
                mark(self.base, "x", "f"),
                mark(self.base, "rwx", "f"),
                make(self.base, NAME + "0"),
                remove(self.base),
                remove(self.base, NAME + "0"),
                "echo ~root && sleep 0",
            ):
                ended = client.execute((wrap % text).encode())
                steps.append((ended[:3], self._look()))
                self.assertEqual(ended.how, "shell" if wrap[0] == "t" or text[0] == ":" else "agent", text)
            seen.append(steps)
            shutil.rmtree(self.dir + "/home")
        self.assertEqual(seen[0], seen[1])

    @with_each(warm=False)
    def test_what_goes_wrong_is_said_by_a_shell(self, agent):
        client = agent.client()
        self.assertEqual(client.execute(make(self.base).encode()).code, 0)
        again = client.execute(make(self.base).encode())
        self.assertEqual((again.how, again.code), ("shell", 1))
        self.assertIn(b"File exists", again.stderr)
        os.mkdir(self.base + "/" + NAME + "/deep")
        self.assertEqual(client.execute(remove(self.base).encode())[::3], (0, "shell"))
        self.assertFalse(os.path.exists(self.base + "/" + NAME))
        self.assertEqual(client.execute(remove(self.base).encode())[::3], (0, "shell"))
        ended = client.execute(mark(self.base, "x", "gone").encode())
        self.assertEqual((ended.code, ended.how), (1, "shell"))

    def test_a_link_is_not_followed(self):
        os.makedirs(self.base)
        os.mkdir(self.dir + "/kept")
        open(self.dir + "/kept/file", "w").close()
        os.symlink(self.dir + "/kept", self.base + "/" + NAME)
        self.assertIsNone(routine.answer(remove(self.base).encode()))
        self.assertTrue(os.path.exists(self.dir + "/kept/file"))
        os.unlink(self.base + "/" + NAME)
        os.mkdir(self.base + "/" + NAME)
        os.symlink(self.dir + "/kept/file", self.base + "/" + NAME + "/f")
        self.assertIsNone(routine.answer(mark(self.base, "x", "f").encode()))

    def test_other_texts_are_left_to_a_shell(self):
        for text in (
            "rm -f -r / > /dev/null 2>&1 && sleep 0",
            "rm -f -r /etc/ > /dev/null 2>&1 && sleep 0",
            remove("/tmp/../tmp") + "; id",
            remove("/tmp/$HOME"),
            remove("/tmp/a b"),
            make("/tmp/x").replace(NAME, NAME + "/../y"),
            make("/tmp/x").replace("umask 77", "umask 0"),
            "chmod u+x /etc/passwd && sleep 0",
            mark("/tmp", "x", "../../etc/passwd"),
            mark("/tmp", "w", "f"),
            "echo ~ && sleep 0",
            "echo ~no_such_user && sleep 0",
            "echo ~root; id && sleep 0",
        ):
            self.assertIsNone(routine.answer(text.encode()), text)
