"""What an interpreter takes from its root when it starts: if that changes, only a new one is right."""

import os
import sys

# Read once by the dynamic linker, the C library or OpenSSL.
_READ_ONCE = (
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/crypto-policies/back-ends/opensslcnf.config",
)


def _site_directories():
    """Directories that a new interpreter would use if they existed then."""
    found = []
    try:
        import site

        found += site.getsitepackages()
        found.append(site.getusersitepackages())
    except (ImportError, AttributeError):
        pass
    return found


def signature(path):
    """A value that changes when the interpreter, a directory it imports from or a file it has read
    once changes. path: sys.path as it was at the start."""
    found = []
    names = [sys.executable, os.path.realpath(sys.executable)]
    names += [name for name in path if name] + _site_directories()
    names += _READ_ONCE
    for name in names:
        try:
            status = os.stat(name)
        except OSError:
            found.append((name, None))
        else:
            found.append((name, status.st_dev, status.st_ino, status.st_mtime, status.st_size))
    return found
