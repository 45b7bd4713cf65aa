#!/usr/bin/python3
"""Installs the stand-in for real and looks at the result from inside: `check.py OUT [--scratch DIR]`.

Needs root, dnf's Python module, rpm and systemd-nspawn. This is the generator's own test: it does by hand what
rootbuild's rpm base does (resolve, install offline, convert the rpm database), then lets the root's own dnf install
from OUT over HTTP. Each check prints a line; the exit code is 1 if any failed.
"""
import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The root's own rpm rewrites the host's sqlite database as Berkeley DB.
CONVERT = """set -e
mkdir /var/lib/rpm.new
rpm --dbpath /var/lib/rpm.new --initdb
rpm --dbpath /var/lib/rpm.new --import /etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7
rpm --dbpath /var/lib/rpm.new -i --justdb --nodeps --noscripts --notriggers --noorder --replacefiles --replacepkgs \
    --oldpackage --ignoresize /run/rpms/*.rpm 2>/dev/null
rm -rf /var/lib/rpm; mv /var/lib/rpm.new /var/lib/rpm; rm -f /var/lib/rpm/__db.*
"""
MACROS = "%_dbpath /var/lib/rpm\n%_pkgverify_level all\n%__gpg /usr/bin/gpg\n"


class Checks:
    """Counts and prints."""

    def __init__(self):
        self.failed = 0

    def that(self, what, good, detail=""):
        """One line: what should hold, whether it does, and what was seen where not."""
        print(f"{'ok  ' if good else 'FAIL'} {what}" + (f"\n     {detail}" if detail and not good else ""), flush=True)
        self.failed += not good


class Root:
    """A root made of a set of the stand-in's packages."""

    def __init__(self, scratch, name, out, packages):
        self.path, self.rpms = scratch / name, scratch / f"{name}.rpms"
        self.packages, self.out, self.home = packages, out, scratch / "home"
        self.rpms.mkdir()
        for package in packages:
            shutil.copy(package, self.rpms)

    def install(self):
        """Installs offline with the host's rpm, every signature checked, then converts the database."""
        self.home.mkdir(exist_ok=True)
        (self.home / ".rpmmacros").write_text(MACROS)
        (self.path / "var/lib/rpm").mkdir(parents=True)
        rpm = ["rpm", "--root", self.path]
        for args in (["--initdb"], ["--import", self.out / "RPM-GPG-KEY-standin"], ["-i", *sorted(self.rpms.iterdir())]):
            done = subprocess.run([*rpm, *args], env={**os.environ, "HOME": str(self.home)}, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"rpm {args[0]} failed: {done.stdout}{done.stderr}")
        code, output = self.run(CONVERT)
        if code:
            raise SystemExit(f"converting the rpm database failed: {output}")

    def run(self, script):
        """Runs a shell script in the root; gives (exit code, output)."""
        nspawn = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
                  "--timezone=off", "--resolv-conf=off", "--console=pipe", "--rlimit=RLIMIT_NOFILE=1024:524288",
                  f"--bind-ro={self.rpms}:/run/rpms", "-D", str(self.path), "/bin/bash", "-c", script]
        # nspawn wants a tmpfs on the host's /run.
        argv = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", *nspawn]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout.strip()

    def out_of(self, script):
        """The output alone."""
        return self.run(script)[1]


def resolve(out, specs):
    """The paths of the packages that dnf picks for `specs` on an empty database."""
    import dnf
    with tempfile.TemporaryDirectory() as tmp, dnf.Base() as base:
        conf = base.conf
        conf.installroot = conf.cachedir = conf.persistdir = conf.logdir = tmp
        conf.reposdir, conf.pluginpath, conf.best = [], [], True
        conf.substitutions.update(releasever="7", arch="x86_64", basearch="x86_64")
        for repo in ("os", "updates"):
            base.repos.add_new_repo(repo, conf, baseurl=[f"file://{out}/{repo}"])
        base.fill_sack(load_system_repo=False, load_available_repos=True)
        base.read_comps()
        base.install_specs(specs)
        base.resolve()
        return sorted(Path(out) / p.repoid / p.location for p in base.transaction.install_set)


def check_common(root, check):
    """What holds in every root."""
    count = root.out_of("rpm -qa | wc -l")
    check.that(f"{root.path.name}: the root's own rpm lists all packages and the key", count == str(len(root.packages) + 1), count)
    verify = root.out_of("rpm -Va")
    check.that(f"{root.path.name}: rpm -Va has nothing to say", verify == "", verify)
    check.that(f"{root.path.name}: the database is Berkeley DB",
               (root.path / "var/lib/rpm/Packages").read_bytes()[12:16] == bytes.fromhex("61150600")
               and not (root.path / "var/lib/rpm/rpmdb.sqlite").exists())
    python = root.out_of("python -V")
    check.that(f"{root.path.name}: python is 2.7", python.startswith("Python 2.7"), python)
    vendors = root.out_of("rpm -qa --qf '%{VENDOR}\\n' | grep -v none | sort -u")
    check.that(f"{root.path.name}: the vendor says that it is not CentOS", vendors.endswith("(not CentOS)"), vendors)
    check.that(f"{root.path.name}: there is no yum", not (root.path / "usr/bin/yum").exists())
    modes = root.out_of("stat -c '%a %n' /usr/bin/{su,mount,passwd,sudo}")
    check.that(f"{root.path.name}: setuid bits", [line.split()[0] for line in modes.splitlines()] == ["4755", "4755", "4755", "4111"], modes)
    dangling = root.out_of("find /usr/lib/python* -name '*.pyc' -newer /etc/os-release")
    check.that(f"{root.path.name}: no byte code was written after the installation", dangling == "", dangling)
    enabled = root.out_of("systemctl is-enabled sshd crond")
    check.that(f"{root.path.name}: sshd and crond are enabled", enabled == "enabled\nenabled", enabled)
    user = root.out_of("id sshd && useradd -u 4242 check && id -un 4242 && userdel -r check")
    check.that(f"{root.path.name}: users can be made", "check" in user, user)
    cron = root.out_of("echo '1 2 3 4 5 true' | crontab -u root - && cat /var/spool/cron/root && crontab -u root -r")
    check.that(f"{root.path.name}: crontab writes to EL7's spool", "1 2 3 4 5 true" in cron, cron)


def check_core(root, check, out):
    """@core: dnf works in it, and what it installs from OUT works."""
    caps = subprocess.run(["getcap", root.path / "usr/bin/ping"], capture_output=True, text=True).stdout
    check.that("core: ping has its capability", "cap_net_raw" in caps, caps)
    listed = root.out_of("dnf -q list installed | wc -l")
    check.that("core: dnf lists what is installed", int(listed.split()[-1]) >= len(root.packages), listed)
    with subprocess.Popen([sys.executable, HERE / "serve.py", str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        url = json.loads(server.stdout.readline())["url"]
        (root.path / "etc/yum.repos.d/standin.repo").write_text("".join(
            f"[standin-{r}]\nname={r}\nbaseurl={url}/{r}\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7\n"
            for r in ("os", "updates")))
        code, output = root.run("dnf -y install httpd mod_ssl mercurial openldap-servers openldap-clients memcached haproxy rsync "
                                "nmap-ncat telnet standin-hello unzip tree")
        check.that("core: dnf installs over http", code == 0, output[-3000:])
        server.stdin.close()
    for script, want in (
            ("httpd -t", "Syntax OK"), ("httpd -M", "cgi_module"), ("httpd -M", "alias_module"), ("slapd -VV", "slapd 2.4"),
            ("systemd-tmpfiles --create 2>/dev/null; slaptest -u -F /etc/openldap/slapd.d", "succeeded"), ("haproxy -c -f /etc/haproxy/haproxy.cfg", "valid"),
            ("memcached --version", "memcached 1."), ("hg --version -q", "Mercurial"), ("rsync --version", "rsync  version"),
            ("nc --version", "Ncat"), ("standin-hello", "standin-hello 1.1"), ("openssl version", "OpenSSL 1.1"),
            ("sudo -V", "Sudo version"), ("curl --version", "libcurl"), ("logger --version", "util-linux"),
            ("id apache", "uid=48(apache) gid=48"), ("id ldap", "uid=55(ldap) gid=55"), ("id haproxy", "uid=188(haproxy)"),
            ("id memcached", "memcached"), ("python3 -c 'import dnf, rpm, selinux, libcomps; print(rpm.__version__)'", "4.16"),
            ("cd /tmp && hg init r && cd r && echo a > f && hg add f && hg commit -u me -m one && hg log -T '{desc}'", "one"),
            ("systemctl enable httpd slapd memcached haproxy rsyncd && systemctl is-enabled httpd slapd", "enabled\nenabled"),
            ("systemctl disable httpd && systemctl is-enabled httpd", "disabled")):
        output = root.out_of(script)
        check.that(f"core: {script[:60]}", want in output, output[-600:])
    verify = root.out_of("rpm -Va")
    check.that("core: rpm -Va is clean afterwards", verify == "", verify)
    code, output = root.run("dnf -y remove tree unzip && ! rpm -q tree")
    check.that("core: dnf removes", code == 0, output[-600:])


def check_services(root, check):
    """The services answer when they are run."""
    web = root.out_of("systemd-tmpfiles --create 2>/dev/null; printf '#!/bin/sh\\necho Content-Type: text/plain; echo; echo from cgi\\n' "
                      "> /var/www/cgi-bin/t; chmod 755 /var/www/cgi-bin/t; sed -i 's/^Listen.*/Listen 127.0.0.1:18765/' /etc/httpd/conf/httpd.conf;"
                      "httpd; sleep 1; curl -s http://127.0.0.1:18765/cgi-bin/t; httpd -k stop; sleep 1")
    check.that("core: httpd answers a CGI request", "from cgi" in web, web)
    ldap = root.out_of("systemd-tmpfiles --create 2>/dev/null; slapd -u ldap -h ldapi:/// || exit; sleep 1; "
                       "ldapsearch -Y EXTERNAL -H ldapi:/// -LLL -b cn=config dn 2>&1; kill $(cat /run/openldap/slapd.pid)")
    check.that("core: slapd answers a search", "hdb,cn=config" in ldap, ldap)
    cache = root.out_of("memcached -d -u memcached -p 18766 -l 127.0.0.1; sleep 1; printf 'version\\r\\nquit\\r\\n' | nc 127.0.0.1 18766; pkill memcached")
    check.that("core: memcached answers", "VERSION" in cache, cache)


def check_refusals(scratch, out, bad, check):
    """rpm, told to verify everything, takes the good package and none of the bad."""
    root, home = scratch / "empty", scratch / "home"
    (root / "var/lib/rpm").mkdir(parents=True)
    env = {**os.environ, "HOME": str(home), "LC_ALL": "C"}
    for args in ("--initdb",), ("--import", out / "RPM-GPG-KEY-standin"):
        subprocess.run(["rpm", "--root", root, *args], env=env, check=True)

    def accepts(package):
        done = subprocess.run(["rpm", "--root", root, "-i", "--test", "--nodeps", package], env=env, capture_output=True, text=True)
        return done.returncode == 0, done.stderr

    def listed(variant):
        primary = next((bad / variant / "repodata").glob("*-primary.xml.gz"))
        return re.search('pkgid="YES">([0-9a-f]+)<', gzip.decompress(primary.read_bytes()).decode())[1]

    good, said = accepts(next((out / "updates/Packages").glob("standin-hello-*.rpm")))
    check.that("variants: the good package is taken", good, said)
    fits = {"unsigned": True, "wrongkey": True, "tampered": True, "badsum": False}
    for variant, fit in fits.items():
        package = next((bad / variant / "Packages").glob("*.rpm"))
        taken, said = accepts(package)
        check.that(f"variants: {variant} is refused", not taken, said)
        check.that(f"variants: {variant} {'fits' if fit else 'does not fit'} its metadata",
                   (hashlib.sha256(package.read_bytes()).hexdigest() == listed(variant)) == fit)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", type=Path, help="bad repositories made from OUT: checks that they are bad")
    parser.add_argument("--scratch", type=Path, help="kept afterwards (default: a temporary directory)")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("skipped: check.py needs root")
        return 0
    out, check = args.out.resolve(), Checks()
    scratch = args.scratch or Path(tempfile.mkdtemp(prefix="standin-check-", dir="/var/tmp"))
    scratch.mkdir(exist_ok=True)
    try:
        core = Root(scratch, "core", out, resolve(out, ["@core"]))
        core.install()
        check_common(core, check)
        check_core(core, check, out)
        check_services(core, check)
        small = Root(scratch, "py27", out, resolve(out, ["@py27-minimal"]))
        small.install()
        check_common(small, check)
        pythons = small.out_of("ls /usr/bin | grep -E '^python|^dnf'; ls -d /usr/lib/python* /usr/libexec/platform-python 2>/dev/null")
        check.that("py27: Python 2.7 is the only Python, and there is no dnf",
                   pythons.split() == ["python", "python2", "python2.7", "/usr/lib/python2.7"], pythons)
        if args.variants:
            check_refusals(scratch, out, args.variants, check)
        print(f"{len(core.packages)} packages in @core, {len(small.packages)} in @py27-minimal; {check.failed} failed")
    finally:
        if not args.scratch:
            shutil.rmtree(scratch)
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
