"""Filters of this project: small notations that templates would otherwise spell out in loops."""

from __future__ import annotations

import zlib

from ansible.errors import AnsibleFilterError


def ini_sections(settings, separator=" = "):
    """A mapping of sections to mappings, as the text of an ini file; order is the author's."""
    if not isinstance(settings, dict):
        raise AnsibleFilterError("ini_sections: expected a mapping of sections")
    blocks = []
    for section, options in settings.items():
        lines = ["[%s]" % section]
        for key, value in (options or {}).items():
            if isinstance(value, bool):
                value = "true" if value else "false"
            lines.append(("%s%s%s" % (key, separator, value)).rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def sshd_options(options, indent=0):
    """A mapping as lines of sshd_config: booleans become yes and no, lists are joined as sshd wants them."""
    # AcceptEnv takes words, algorithm lists take commas.
    spaced = {"AcceptEnv", "AllowUsers", "AllowGroups", "PermitOpen", "AuthorizedKeysFile"}
    lines = []
    for key, value in options.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, (list, tuple)):
            value = (" " if key in spaced else ",").join(str(v) for v in value)
        lines.append("%s%s %s" % (" " * indent, key, value))
    return "\n".join(lines)


def minute_of(name, every=60, offset=0):
    """A minute below `every` that is always the same for one name: spreads cron jobs over the cluster."""
    return (zlib.crc32(str(name).encode("utf-8")) + int(offset)) % int(every)


class FilterModule:
    def filters(self):
        return {
            "ini_sections": ini_sections,
            "sshd_options": sshd_options,
            "minute_of": minute_of,
        }
