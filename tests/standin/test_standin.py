"""The generator's parts, without network, root or rpm: `/usr/bin/python3 -m unittest` in this directory.

What it generates is checked for real by check.py.
"""
import json
import multiprocessing
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from standin import manifest, mirror, names, publish, relations, scriptlets  # noqa: E402
from standin.run import StandinError  # noqa: E402
from standin.tree import Tree  # noqa: E402
from standin.unpack import _place, _requires  # noqa: E402

DEB822 = """# a comment in a stanza does not end it
Types: deb
# http://old.example/debian
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: sid
Components: main

Types: deb
URIs: https://packages.example/node
Suites: nodistro
Components: main
"""


class Mirrors(unittest.TestCase):
    def test_deb822_sources_give_archive_and_security(self):
        found = mirror.from_sources(mirror.parse_deb822(DEB822))
        self.assertEqual(found, mirror.Mirrors("http://mirror.example/debian", "http://mirror.example/debian-security"))

    def test_one_line_sources_with_options_are_read(self):
        text = ("deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main # comment\n"
                "# deb http://off.example/debian bookworm main\ndeb-src http://src.example/debian bookworm main\n"
                "deb http://m.example/debian bookworm-backports main\ndeb cdrom:[Debian 12]/ bookworm main\n")
        self.assertEqual(mirror.from_sources(mirror.parse_one_line(text)), mirror.Mirrors("http://m.example/debian", None))

    def test_backports_alone_are_no_archive(self):
        with self.assertRaises(StandinError):
            mirror.from_sources(mirror.parse_one_line("deb http://m.example/debian bookworm-backports main\n"))

    def test_an_option_beats_the_environment_and_that_the_host(self):
        env = {"DEBIAN_MIRROR": "http://env.example/debian/"}
        self.assertEqual(mirror.choose("http://opt.example/debian", None, env).main, "http://opt.example/debian")
        self.assertEqual(mirror.choose(None, None, env),
                         mirror.Mirrors("http://env.example/debian", "http://env.example/debian-security"))
        with tempfile.TemporaryDirectory() as etc:
            (Path(etc) / "sources.list").write_text("deb http://host.example/debian bookworm main\n")
            self.assertEqual(mirror.choose(None, None, {}, Path(etc)).main, "http://host.example/debian")


class Unpacking(unittest.TestCase):
    def test_paths_are_merged_into_usr(self):
        self.assertEqual(_place("./bin/ls"), "usr/bin/ls")
        self.assertEqual(_place("./lib/systemd/system/x.service"), "usr/lib/systemd/system/x.service")
        self.assertEqual(_place("./library/x"), "library/x")

    def test_what_el7_has_no_place_for_is_left_out(self):
        for name in ("./usr/share/doc/bash/README", "./etc/init.d/cron", "./usr/lib/ldap/back_mdb.la", "./"):
            self.assertIsNone(_place(name), name)

    def test_paths_that_climb_are_refused(self):
        with self.assertRaises(StandinError):
            _place("./usr/../../etc/passwd")

    def test_of_alternatives_the_first_that_is_there_is_required(self):
        named = {"exim": "exim", "libc6": "glibc", "perl": None}
        self.assertEqual(_requires("libc6 (>= 2.4), postfix | exim | sendmail, perl:any", named), {"glibc", "exim"})


class Trees(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.tree = Tree(Path(self.dir.name) / "root")
        self.tree.package("filesystem").mkdir("usr")

    def test_two_packages_can_not_own_one_file(self):
        self.tree.package("a").write("usr/x", "1")
        with self.assertRaisesRegex(StandinError, "`/usr/x` is in package `b` and in `a`"):
            self.tree.package("b").write("usr/x", "2")

    def test_a_given_file_changes_its_owner_once(self):
        a = self.tree.package("a")
        a.write("usr/x", "1", mode=0o4755)
        a.give("b", "usr/x")
        self.assertFalse(a.has("usr/x"))
        self.assertEqual(self.tree.package("b").entries["usr/x"].mode, 0o4755)
        with self.assertRaises(StandinError):
            a.give("b", "usr/x")

    def test_a_renamed_directory_takes_its_files_along(self):
        a = self.tree.package("a")
        a.mkdir("usr/old")
        a.write("usr/old/x", "1")
        a.rename("usr/old", "usr/new")
        self.assertEqual(sorted(a.entries), ["usr/new", "usr/new/x"])
        self.assertFalse((self.tree.root / "usr/old").exists())

    def test_removing_a_file_does_not_remove_its_neighbours(self):
        a = self.tree.package("a")
        a.write("usr/x", "1")
        a.write("usr/xy", "2")
        a.remove("usr/x")
        self.assertEqual(sorted(a.entries), ["usr/xy"])

    def test_every_directory_gets_an_owner(self):
        a = self.tree.package("a")
        a.write("usr/deep/er/x", "1")
        manifest.complete(self.tree)
        self.assertEqual(sorted(a.entries), ["usr/deep", "usr/deep/er", "usr/deep/er/x"])

    def test_a_file_below_a_link_is_refused(self):
        self.tree.package("a").link("usr/l", "elsewhere")
        self.tree.package("b").entries["usr/l/x"] = manifest.Entry("file")
        with self.assertRaisesRegex(StandinError, "lies under the link"):
            manifest.complete(self.tree)

    def test_an_owner_that_nobody_makes_is_refused(self):
        self.tree.package("a").write("usr/x", "1", user="www-data")
        with self.assertRaisesRegex(StandinError, "www-data:root, which nobody makes"):
            manifest.complete(self.tree)

    def test_lines_of_a_file_list_tell_modes_owners_capabilities_and_configuration(self):
        a = self.tree.package("a")
        a.write("usr/bin/ping", "", mode=0o755, caps="cap_net_raw=ep")
        a.write("etc/a b[1].conf", "", mode=0o640, group="mail")
        self.assertEqual(manifest.files_section(a), [
            '%attr(0640,root,mail) %config(noreplace) "/etc/a b?1?.conf"',
            '%attr(0755,root,root) %caps(cap_net_raw=ep) "/usr/bin/ping"'])

    def test_users_are_made_with_el7s_numbers(self):
        self.assertIn("useradd -r -u 48 -g apache", scriptlets.scriptlets(self.tree.package("httpd"))["pre"])
        self.assertIn("groupadd -r memcached", scriptlets.scriptlets(self.tree.package("memcached"))["pre"])


class Groups(unittest.TestCase):
    def test_the_minimal_group_names_no_python3_and_no_dnf(self):
        self.assertFalse({"python3", "dnf", "libselinux-python3"} & set(names.MINIMAL))
        for package in names.MINIMAL:
            self.assertFalse({"python3", "dnf"} & set(relations.REQUIRES.get(package, [])))


def _hold(path, log, n):
    with publish.locked(Path(path)):
        with open(log, "a") as file:
            file.write(f"in {n}\n")
            file.flush()
            file.write(f"out {n}\n")


class Publishing(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.out = Path(self.dir.name) / "out"

    def make(self, sources="s", content="x"):
        with publish.Staging(self.out) as staging:
            (staging.result / "file").write_text(content)
            manifest_ = {"debs": [["a.deb", "1"]], "files": publish.inventory(staging.result)}
            (staging.result / "standin.json").write_text(json.dumps(manifest_))
            (staging.result / "fingerprint").write_text(publish.fingerprint(sources, [["a.deb", "1"]]) + "\n")
            staging.publish()

    def test_an_output_is_current_for_its_sources_and_debs_only(self):
        self.make()
        self.assertTrue(publish.is_current(self.out, "s"))
        self.assertTrue(publish.is_current(self.out, "s", [["a.deb", "1"]]))
        self.assertFalse(publish.is_current(self.out, "s", [["a.deb", "2"]]))
        self.assertFalse(publish.is_current(self.out, "other"))

    def test_a_damaged_output_is_not_current(self):
        self.make()
        (self.out / "file").write_text("")
        self.assertFalse(publish.is_current(self.out, "s"))
        (self.out / "file").unlink()
        self.assertFalse(publish.is_current(self.out, "s"))

    def test_a_failed_run_leaves_the_old_output_and_nothing_else(self):
        self.make()
        with self.assertRaises(RuntimeError), publish.Staging(self.out) as staging:
            (staging.result / "half").write_text("")
            raise RuntimeError
        self.assertTrue(publish.is_current(self.out, "s"))
        self.assertEqual([p.name for p in Path(self.dir.name).iterdir()], ["out"])

    def test_what_a_killed_run_left_is_swept(self):
        (self.out.with_name("out.work") / "root").mkdir(parents=True)
        self.out.with_name("out.old").mkdir()
        self.make()
        self.assertEqual([p.name for p in Path(self.dir.name).iterdir()], ["out"])

    def test_a_directory_of_somebody_else_is_not_replaced(self):
        self.out.mkdir()
        (self.out / "precious").write_text("")
        with self.assertRaisesRegex(StandinError, "no output of this generator"):
            self.make()
        self.assertTrue((self.out / "precious").exists())

    def test_the_lock_lets_in_one_at_a_time(self):
        lock, log = self.out.with_name("lock"), self.out.with_name("log")
        runs = [multiprocessing.Process(target=_hold, args=(str(lock), str(log), n)) for n in range(8)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        lines = log.read_text().split("\n")[:-1]
        self.assertEqual(len(lines), 16)
        for first, second in zip(lines[::2], lines[1::2]):
            self.assertEqual(first.replace("in", "out"), second)


class Server(unittest.TestCase):
    def test_it_serves_until_its_stdin_ends(self):
        with tempfile.TemporaryDirectory() as root:
            (Path(root) / "f").write_text("content")
            script = Path(__file__).resolve().parent / "serve.py"
            with subprocess.Popen([sys.executable, script, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
                said = json.loads(server.stdout.readline())
                self.assertEqual(said["url"], f"http://127.0.0.1:{said['port']}")
                with urllib.request.urlopen(said["url"] + "/f") as answer:
                    self.assertEqual(answer.read(), b"content")
                server.stdin.close()
                self.assertEqual(server.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
