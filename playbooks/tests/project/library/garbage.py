#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
import os

AnsibleModule(argument_spec={})
os.write(1, b"\xff\xfe this is not JSON \x00\n")
