#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
import os
import signal

AnsibleModule(argument_spec={})
os.kill(os.getpid(), signal.SIGKILL)
