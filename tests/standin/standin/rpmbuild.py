"""Builds the packages: a few rpmbuild runs side by side over one build root."""
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .manifest import installed_size
from .run import StandinError, clean_env, run
from .spec import GZIP, VENDOR, XZ, spec_text
from .tree import EPOCH

TARGET = "x86_64-redhat-linux"
# EL7 packs with xz; it is slow, so a few small packages stand for all.
XZ_PACKAGES = frozenset("setup filesystem basesystem centos-release initscripts standin-hello sed grep hostname which passwd"
                        .split())
UPDATE = """%global _buildhost standin.invalid
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global _binary_payload w2.xzdio
Name: standin-hello
Version: @VERSION@
Release: 1.el7
Summary: standin-hello (EL7-shaped stand-in)
License: MIT
Vendor: @VENDOR@
BuildArch: noarch
Requires: bash
%description
Written by the generator.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc
printf '#!/bin/bash\\necho hello from standin-hello @VERSION@\\n' > %{buildroot}/usr/bin/standin-hello
chmod 755 %{buildroot}/usr/bin/standin-hello
echo greeting=hello > %{buildroot}/etc/standin-hello.conf
%files
/usr/bin/standin-hello
%config(noreplace) /etc/standin-hello.conf
"""


class Builder:
    """rpmbuild with a home, a database and file attributes of its own, all below `work`."""

    def __init__(self, work):
        self.work = work / "rpmbuild"
        self.work.mkdir()
        self.env = clean_env(HOME=str(self.work), SOURCE_DATE_EPOCH=str(EPOCH))
        attributes = self.work / "fileattrs"
        attributes.mkdir()
        # Only sonames are generated. Script interpreters and Python metadata would name what EL7 hasn't.
        installed = Path(run(["rpm", "-E", "%_fileattrsdir"], env=self.env).strip()) / "elf.attr"
        if not installed.exists():
            raise StandinError(f"`{installed}` is missing", "install Debian's package rpm")
        shutil.copy(installed, attributes)
        (self.work / ".rpmmacros").write_text(
            f"%_topdir {self.work}\n%_dbpath {self.work}/db\n%_fileattrsdir {attributes}\n")

    def build(self, tree, out, jobs):
        """All packages of the tree, into `out`."""
        shares = {f"standin-{n}": [] for n in range(jobs)}
        sizes = dict.fromkeys(shares, 0)
        rest = [p for p in tree.packages.values() if p.name not in XZ_PACKAGES]
        weights = {p.name: installed_size(p) for p in rest}
        for package in sorted(rest, key=lambda p: (-weights[p.name], p.name)):
            least = min(sizes, key=sizes.get)
            shares[least].append(package)
            # A package costs something even when it is empty.
            sizes[least] += weights[package.name] + 500_000
        small = [p for p in tree.packages.values() if p.name in XZ_PACKAGES]
        builds = [("standin-xz", small, XZ)] + [(name, share, GZIP) for name, share in shares.items()]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda b: self._build(tree.root, *b), builds))
        return self._collect(out)

    def _build(self, root, name, packages, payload):
        spec = self.work / f"{name}.spec"
        spec.write_text(spec_text(sorted(packages, key=lambda p: p.name), payload, self.work))
        run(["rpmbuild", "-bb", "--quiet", "--target", TARGET, "--buildroot", root, "--noprep", "--noclean", "--nocheck",
             spec], env=self.env, what=f"rpmbuild of `{name}`")

    def build_hello(self, version, out, name="standin-hello"):
        """One version of the update's package, into `out`."""
        spec = self.work / f"{name}-{version}.spec"
        spec.write_text(UPDATE.replace("standin-hello", name).replace("@VERSION@", version).replace("@VENDOR@", VENDOR))
        run(["rpmbuild", "-bb", "--quiet", "--target", "noarch", "--buildroot", self.work / f"hello-{version}", spec],
            env=self.env, what=f"rpmbuild of `{name}`")
        return self._collect(out)

    def _collect(self, out):
        out.mkdir(parents=True, exist_ok=True)
        found = []
        for rpm in sorted((self.work / "RPMS").rglob("*.rpm")):
            rpm.rename(out / rpm.name)
            found.append(out / rpm.name)
        return found
