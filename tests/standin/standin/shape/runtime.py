"""Interpreters and package managers: python, rpm, dnf, certificates."""

DNF_CONF = """[main]
gpgcheck=1
installonly_limit=3
clean_requirements_on_remove=True
best=False
skip_if_unavailable=False
"""
# EL7's dnf and rpm modules are Python 2's; these are Python 3's, so Ansible's modules start themselves again under
# Python 3, looking here first. ansible-core 2.16 hands its arguments from 2 to 3 as text where bytes are expected.
PLATFORM_PYTHON = """#!/usr/bin/python3
# The stand-in's: Python 3 that also takes over Ansible modules started by Python 2.7.
import os
import re
import sys

if sys.argv[1:] != ["--"]:
    os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv[1:])
code = re.sub(r"(?m)^(smuggled_args = )(?=[\\x27\\x22])", r"\\1b", sys.stdin.read())
sys.argv[1:] = []
exec(compile(code, "<stdin>", "exec"))
"""


def python2(pkg):
    """`python` is Python 2.7, as nowhere else any more."""
    p = pkg("python")
    p.link("usr/bin/python", "python2")
    p.link("usr/bin/python2", "python2.7")
    libs = pkg("python-libs")
    # A link to a file that nobody writes: Python would try to compile it at every start.
    libs.remove("usr/lib/python2.7/sitecustomize.py", "etc/python2.7/sitecustomize.py")
    libs.remove("usr/lib/python2.7/test", "usr/lib/python2.7/lib2to3/tests", "usr/lib/python2.7/idlelib")
    libs.mkdir("usr/lib/python2.7/dist-packages")


def python3(pkg):
    """Debian's helpers for maintainer scripts are left out."""
    p = pkg("python3")
    p.remove("usr/bin/py3compile", "usr/bin/py3clean", "usr/bin/py3versions", "usr/share/python3")
    pkg("python3-libs").remove("usr/lib/python3.9/test", "usr/lib/python3.9/sitecustomize.py",
                               "etc/python3.9/sitecustomize.py")


def rpm(pkg):
    """EL7's database: Berkeley DB in /var/lib/rpm, as rpm 4.16 still writes it."""
    r = pkg("rpm")
    r.write("usr/lib/rpm/macros.d/macros.standin",
            "%_dbpath /var/lib/rpm\n%_db_backend bdb\n%__gpg /usr/bin/gpg\n%_rpmlock_path %{_dbpath}/.rpm.lock\n")
    r.mkdir("var/lib/rpm")
    r.mkdir("etc/rpm")
    build = r.match("usr/lib/rpm/brp-*", "usr/lib/rpm/check-*", "usr/lib/rpm/*.prov", "usr/lib/rpm/*.req",
                    "usr/lib/rpm/fileattrs/*", "usr/lib/rpm/find-*", "usr/lib/rpm/*deps*", "usr/bin/rpmbuild",
                    "usr/bin/rpmsign", "usr/bin/rpmspec", "usr/bin/gendiff", "usr/lib/rpm/sepdebugcrcfix",
                    "usr/lib/rpm/mkinstalldirs", "usr/lib/rpm/tgpg", "usr/lib/rpm/rpm.daily", "usr/lib/rpm/rpm.supp")
    r.give("rpm-build", *build)
    # rpm links the build and sign libraries' users only in rpm-build.
    pkg("rpm-build").requires |= {"rpm", "debugedit", "rpm-build-libs"}
    r.requires -= {"debugedit", "rpm-build-libs"}


def dnf(pkg):
    """EL7's extras has dnf; here it stands in for yum as well, which is not there at all."""
    d = pkg("dnf-data")
    d.remove("etc/dnf/dnf-strict.conf", "etc/dnf/aliases.d/zypper.conf", "etc/dnf/automatic.conf")
    d.write("etc/dnf/dnf.conf", DNF_CONF)
    d.write("etc/dnf/vars/infra", "stock\n")
    d.write("etc/dnf/vars/contentdir", "centos\n")
    pkg("rpm-python3").write("usr/libexec/platform-python", PLATFORM_PYTHON, mode=0o755)


def certificates(pkg):
    """One bundle where EL7 looks, and where Debian's libraries look."""
    ca = pkg("ca-certificates")
    pem = "".join(ca.read(path) for path in sorted(ca.match("usr/share/ca-certificates/*.crt")))
    ca.remove("usr/share/ca-certificates", "usr/sbin/update-ca-certificates", "etc/ca-certificates")
    bundle = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
    ca.write(bundle, pem, mode=0o444, config=False)
    for link in ("etc/pki/tls/certs/ca-bundle.crt", "etc/pki/tls/cert.pem", "etc/ssl/certs/ca-certificates.crt"):
        ca.link(link, bundle)


def openssl(pkg):
    """Debian's libssl looks under /usr/lib/ssl and /etc/ssl; EL7's administrators under /etc/pki/tls."""
    o = pkg("openssl")
    o.link("etc/pki/tls/openssl.cnf", "../../ssl/openssl.cnf")
    o.mkdir("etc/pki/tls/private")
    o.remove("etc/ssl/private", "usr/lib/ssl/misc/CA.pl", "usr/lib/ssl/misc/tsget*", "usr/bin/c_rehash")


STEPS = (python2, python3, rpm, dnf, certificates, openssl)
