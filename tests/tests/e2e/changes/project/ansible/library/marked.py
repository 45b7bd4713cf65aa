#!/usr/bin/python
"""Writes a mark into a file."""
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.marks import mark


def main():
    module = AnsibleModule(argument_spec={"path": {"type": "path", "required": True}})
    path, wanted = module.params["path"], mark("the cluster")
    present = None
    if os.path.exists(path):
        with open(path) as file:
            present = file.read()
    if present != wanted:
        with open(path, "w") as file:
            file.write(wanted)
    module.exit_json(changed=present != wanted)


if __name__ == "__main__":
    main()
