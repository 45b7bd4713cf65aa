"""Filters for writing LDIF."""

from __future__ import annotations

import base64

from ansible.errors import AnsibleFilterError


def domain_dn(domain):
    """hg.example.net -> dc=hg,dc=example,dc=net"""
    labels = [label for label in str(domain).split(".") if label]
    if not labels:
        raise AnsibleFilterError("domain_dn: empty domain name")
    return ",".join("dc=" + label for label in labels)


def _is_safe(value):
    # RFC 2849: SAFE-STRING, and no trailing space
    return (
        value.isascii()
        and not value.startswith((" ", ":", "<"))
        and not value.endswith(" ")
        and not any(c in value for c in "\0\r\n")
    )


def ldif_entry(attributes, dn):
    """One entry. Lists give one line per value, empty values give none, unsafe ones are base64."""
    lines = []
    for name, values in [("dn", dn)] + list(attributes.items()):
        if not isinstance(values, (list, tuple)):
            values = [values]
        for value in values:
            value = str(value)
            if not value:
                continue
            if _is_safe(value):
                lines.append("%s: %s" % (name, value))
            else:
                lines.append("%s:: %s" % (name, base64.b64encode(value.encode("utf-8")).decode("ascii")))
    return "\n".join(lines) + "\n"


class FilterModule:
    def filters(self):
        return {"domain_dn": domain_dn, "ldif_entry": ldif_entry}
