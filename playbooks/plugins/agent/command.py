"""Reads the command lines that Ansible builds. Whatever is not exactly known is left to a shell."""

import re

# What shlex.quote makes of a text with anything special in it, and nothing else.
_SHELL = re.compile(br"\A/bin/sh -c '((?:[^']|'\"'\"')*)'\Z", re.S)

_VALUE = br"(?:[A-Za-z0-9_@%+=:,./-]|'[^']*'|\"'\")*"
_ASSIGNMENT = br"[A-Za-z_][A-Za-z0-9_]*=" + _VALUE
_PYTHON = re.compile(br"\A((?:" + _ASSIGNMENT + br" )*)(/(?:[A-Za-z0-9_.+-]+/)+(?:platform-)?python[0-9.]*) && sleep 0\Z", re.S)
_EACH = re.compile(br"([A-Za-z_][A-Za-z0-9_]*)=(" + _VALUE + br") ", re.S)
_PIECE = re.compile(br"'([^']*)'|\"(')\"|([^'\"]+)", re.S)

# Variables that an interpreter reads when it starts: one that already runs cannot honour them.
_AT_START = re.compile(br"\A(?:PYTHON|LC_|LANG\Z|LD_|HOME\Z|GLIBC_|MALLOC_|OPENSSL_|GCONV_PATH\Z|LOCPATH\Z)")


def shell_argument(command):
    """What the command hands to `/bin/sh -c` if it does just that, else the command itself:
    either way, text for `/bin/sh -c`."""
    match = _SHELL.match(command)
    return match.group(1).replace(b"'\"'\"'", b"'") if match else command


def python_on_stdin(argument):
    """(interpreter, environment) if the shell text only runs an interpreter on its standard input,
    in a way that a running interpreter can stand for; else None."""
    match = _PYTHON.match(argument)
    if not match:
        return None
    env = {}
    for name, value in _EACH.findall(match.group(1)):
        if _AT_START.match(name):
            return None
        env[name] = b"".join(a or b or c for a, b, c in _PIECE.findall(value))
    return match.group(2), env
