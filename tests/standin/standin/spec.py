"""Spec files: all packages of one build as subpackages."""
import re

from .manifest import files_section, has_elf
from .names import MAIN_DEB
from .relations import PROVIDES, UNPROVIDED, requires, scriptlet_requires
from .scriptlets import scriptlets
from .users import GROUPS, USERS

VENDOR = "rootbuild test stand-in (not CentOS)"
# The build root is finished and shared: nothing is to be stripped, compressed, checked or left out.
HEAD = r"""%global _unpackaged_files_terminate_build 0
%global _binaries_in_noarch_packages_terminate_build 0
%global __check_files %{nil}
%global __os_install_post %{nil}
%global debug_package %{nil}
%global _build_id_links none
%global _buildhost standin.invalid
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global _source_filedigest_algorithm 8
%global _binary_filedigest_algorithm 8
%global _binary_payload @PAYLOAD@
%global __requires_exclude @EXCLUDE@
Name: standin
Version: 7
Release: 1.el7
Summary: EL7-shaped test stand-in
License: see the Debian packages
Vendor: @VENDOR@
%description
Never built: its subpackages are.
"""
GZIP, XZ = "w1.gzdio", "w2.xzdio"
RELEASE = ("7", "9.2009.1.el7.centos")


def evr(package):
    """Version and release: Debian's, cut to what rpm's may hold; EL7's own for the release package."""
    if package.name == "centos-release":
        return RELEASE
    if not package.debs or package.name == "setup":
        return "1.0", "1.el7"
    main = MAIN_DEB.get(package.name, package.name)
    version = dict(package.debs).get(main) or package.debs[0][1]
    upstream, dash, debian = version.split(":", 1)[-1].rpartition("-")
    if not dash:
        upstream, debian = debian, "1"
    return re.sub(r"[^A-Za-z0-9._~^]", ".", upstream), re.sub(r"[^A-Za-z0-9._]", ".", debian) + ".el7"


def spec_text(packages, payload, lists):
    """The spec for `packages`; their %files lists are written into the directory `lists`."""
    exclude = "^(" + "|".join(UNPROVIDED) + r")\.so"
    head = HEAD.replace("@PAYLOAD@", payload).replace("@EXCLUDE@", exclude)
    return "\n".join([head.replace("@VENDOR@", VENDOR)] + [_subpackage(p, lists) for p in packages])


def _subpackage(package, lists):
    name = package.name
    version, release = evr(package)
    lines = [f"%package -n {name}", f"Version: {version}", f"Release: {release}",
             f"Summary: {name} (EL7-shaped stand-in)", "License: see the Debian package",
             "Group: System Environment/Base", f"Vendor: {VENDOR}"]
    if not has_elf(package):
        lines.append("BuildArch: noarch")
    lines += [f"Requires: {other}" for other in requires(package)]
    sections = scriptlets(package)
    makes_users = name in USERS or name in GROUPS
    lines += [f"Requires({section}): {other}" for section, other in scriptlet_requires(sections, makes_users)]
    lines += [f"Provides: {provided}" for provided in PROVIDES.get(name, [])]
    for deb, deb_version in sorted(package.debs):
        cut = re.sub(r"[^A-Za-z0-9._~+:]", "_", deb_version)
        lines.append(f"Provides: deb({deb}) = {cut}")
    origin = ", ".join(f"{deb} {version}" for deb, version in package.debs) or "(none: written by the generator)"
    lines += [f"%description -n {name}", f"Debian's {origin}, re-packed in EL7's shape for tests. Not CentOS.", ""]
    for section, body in sections.items():
        if body.startswith("-p "):
            interpreter, _, body = body.partition("\n")
            lines += [f"%{section} -n {name} {interpreter}", body, ""]
        else:
            lines += [f"%{section} -n {name}", body, ""]
    listing = lists / f"{name}.files"
    files = files_section(package)
    listing.write_text("\n".join(files) + "\n")
    lines += [f"%files -n {name} -f {listing}" if files else f"%files -n {name}", ""]
    return "\n".join(lines)
