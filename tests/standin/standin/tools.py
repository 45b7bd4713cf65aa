"""Which host programs the generator needs, and the Debian packages that bring them."""
import shutil

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
    """The missing programs, as (program, Debian package) pairs."""
    return [(tool, package) for tool, package in NEEDED.items() if shutil.which(tool) is None]
