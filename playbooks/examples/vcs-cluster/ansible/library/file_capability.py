#!/usr/bin/python
# Runs on the targets' Python: 2.7 on EL7, 3.x elsewhere.
"""Ansible module: give a file exactly the capabilities that are named."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
---
module: file_capability
short_description: Manage the capabilities of a file
description:
  - Sets the C(security.capability) attribute of a file, or removes it.
  - The attribute is written directly. C(setcap) is not installed everywhere, and what
    C(getcap) prints changed between versions of libcap, which made comparing unreliable.
options:
  path:
    description: The file. Links are refused, for capabilities belong to files.
    type: path
    required: true
  capabilities:
    description: Names such as C(cap_net_bind_service). Required when I(state=present).
    type: list
    elements: str
  effective:
    description: Whether they are in force from the start, so that programs need not know about them.
    type: bool
    default: true
  state:
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let haproxy listen below port 1024 without root
  file_capability:
    path: /usr/sbin/haproxy
    capabilities: [cap_net_bind_service]
"""

RETURN = r"""
capabilities:
  description: The capabilities that the file has after the task, sorted by number.
  returned: always
  type: list
"""

import ctypes
import errno
import os
import stat
import struct

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes

# linux/capability.h, in order of their numbers
NAMES = """
chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot
sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease
audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read
perfmon bpf checkpoint_restore
""".split()
NUMBER = dict(("cap_" + name, number) for number, name in enumerate(NAMES))

ATTRIBUTE = b"security.capability"
REVISION_MASK, REVISION_2, EFFECTIVE = 0xFF000000, 0x02000000, 0x000001
LAYOUT = "<5I"  # magic, then (permitted, inheritable) for the low and the high 32 bits

# Python 2.7 has no os.getxattr
libc = ctypes.CDLL(None, use_errno=True)


def fail_with_errno(path):
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), path)


def read(path):
    """The attribute's bytes, or None where there is none."""
    buf = ctypes.create_string_buffer(64)
    size = libc.lgetxattr(to_bytes(path), ATTRIBUTE, buf, ctypes.c_size_t(len(buf)))
    if size < 0:
        if ctypes.get_errno() == errno.ENODATA:
            return None
        fail_with_errno(path)
    return buf.raw[:size]


def write(path, value):
    if libc.lsetxattr(to_bytes(path), ATTRIBUTE, value, ctypes.c_size_t(len(value)), 0) < 0:
        fail_with_errno(path)


def remove(path):
    if libc.lremovexattr(to_bytes(path), ATTRIBUTE) < 0:
        fail_with_errno(path)


def encode(numbers, effective):
    bits = sum(1 << number for number in numbers)
    magic = REVISION_2 | (EFFECTIVE if effective else 0)
    return struct.pack(LAYOUT, magic, bits & 0xFFFFFFFF, 0, bits >> 32, 0)


def names_in(value):
    if value is None or len(value) < struct.calcsize(LAYOUT):
        return []
    _magic, low, _inh, high, _inh_high = struct.unpack(LAYOUT, value[: struct.calcsize(LAYOUT)])
    bits = low | high << 32
    return ["cap_" + name for number, name in enumerate(NAMES) if bits >> number & 1]


def main():
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", required=True),
            capabilities=dict(type="list", elements="str"),
            effective=dict(type="bool", default=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
        ),
        required_if=[("state", "present", ["capabilities"])],
        supports_check_mode=True,
    )
    path = module.params["path"]

    wanted = None
    if module.params["state"] == "present":
        unknown = sorted(set(module.params["capabilities"]) - set(NUMBER))
        if unknown or not module.params["capabilities"]:
            module.fail_json(msg="unknown capabilities: %s" % (", ".join(unknown) or "none given"))
        wanted = encode(
            set(NUMBER[name] for name in module.params["capabilities"]), module.params["effective"]
        )

    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            module.fail_json(msg="%s is not a regular file" % path)
        found = read(path)
        changed = found != wanted
        if changed and not module.check_mode:
            if wanted is None:
                remove(path)
            else:
                write(path, wanted)
    except (IOError, OSError) as error:
        module.fail_json(msg="%s: %s" % (path, error.strerror))

    module.exit_json(
        changed=changed,
        path=path,
        capabilities=names_in(wanted),
        diff=dict(before=", ".join(names_in(found)), after=", ".join(names_in(wanted))),
    )


if __name__ == "__main__":
    main()
