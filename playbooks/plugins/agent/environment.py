"""The environment that commands in the root get: that of a root login, and nothing of ours."""

import locale
import os

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Where a UTF-8 locale is called differently (Enterprise Linux 7 has no C.UTF-8).
LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8", "en_US.utf8")


def utf8_locale():
    """The name of a UTF-8 locale that this root has, else "C"."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in LOCALES:
            try:
                locale.setlocale(locale.LC_ALL, name)
            except locale.Error:
                continue
            return name
        return "C"
    finally:
        locale.setlocale(locale.LC_ALL, before)


def root_entry():
    """(home, shell) of uid 0 by /etc/passwd; read by hand, so that no NSS module is loaded."""
    try:
        with open("/etc/passwd", "rb") as lines:
            for line in lines:
                fields = line.rstrip(b"\n").split(b":")
                if len(fields) == 7 and fields[2] == b"0":
                    home, shell = (field.decode("utf-8", "replace") for field in fields[5:7])
                    return str(home) or "/root", str(shell) or "/bin/sh"
    except (OSError, IOError):
        pass
    return "/root", "/bin/sh"


def login_environment(offline):
    """A new environment. offline: no systemd runs here, and its tools shall not look for one."""
    home, shell = root_entry()
    name = utf8_locale()
    env = {
        "PATH": PATH,
        "HOME": home,
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": shell,
        "LANG": name,
        "LC_ALL": name,
    }
    proxy = os.environ.get("ROOTBUILD_PROXY")
    if proxy:
        # https as well: what refuses it says what to do instead.
        for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
            env[variable] = proxy
        env["no_proxy"] = env["NO_PROXY"] = os.environ.get("ROOTBUILD_NO_PROXY", "")
    if offline:
        env["SYSTEMD_OFFLINE"] = "1"
    return env


def enter_home():
    """Goes to the home directory, as a login does."""
    for path in (os.environ.get("HOME", "/root"), "/"):
        try:
            os.chdir(path)
            return
        except OSError:
            continue
