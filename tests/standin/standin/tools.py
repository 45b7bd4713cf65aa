"""Which host programs the generator needs, and the Debian packages that bring them."""
import shutil

from .apt import KEYRING

# program -> Debian package
NEEDED = {
    "apt-get": "apt",
    "apt-config": "apt",
    "dpkg-deb": "dpkg",
    "xz": "xz-utils",
    "rpm": "rpm",
    "rpmbuild": "rpm",
    "rpmsign": "rpm",
    "createrepo_c": "createrepo-c",
    "gpg": "gnupg",
    "gpgconf": "gnupg",
}


def missing():
    """The missing programs and files, as (program, Debian package) pairs."""
    lacking = [(tool, package) for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if not KEYRING.exists():
        lacking.append((str(KEYRING), "debian-archive-keyring"))
    return lacking
