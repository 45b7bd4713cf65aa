"""Tells connections which machine they are for, and lets a root stand for the implicit `localhost`."""

from __future__ import annotations

DOCUMENTATION = r"""
name: target
short_description: What rootbuild must know about each host
description:
  - Gives every host its own name in C(rootbuild_target). In a delegated task C(inventory_hostname) is
    the host that delegates, so nothing else tells which machine the task is for.
  - Ansible gives a C(localhost) that no inventory names the controller's own interpreter. When a root
    stands for it, the root's interpreter is right - the one that host_vars names, or else the one that
    C(interpreter_python) finds.
author: rootbuild
options:
  stage:
    description: Needed at all times, whatever C(run_vars_plugins) says.
    type: str
    default: all
"""

import os

from ansible import constants as C
from ansible.inventory.host import Host
from ansible.plugins.loader import vars_loader
from ansible.plugins.vars import BaseVarsPlugin

INTERPRETER = "ansible_python_interpreter"


class VarsModule(BaseVarsPlugin):
    """Variables of single hosts."""

    def get_vars(self, loader, path, entities, cache=True):
        """The variables of the one host that is asked for; groups have none."""
        for entity in entities if isinstance(entities, list) else [entities]:
            if isinstance(entity, Host):
                return self._host(loader, path, entity)
        return {}

    @staticmethod
    def _host(loader, path, entity):
        found = {"rootbuild_target": entity.name}
        if entity.implicit and entity.name == os.environ.get("ROOTBUILD_HOST"):
            theirs = vars_loader.get("host_group_vars").get_vars(loader, path, [entity])
            if INTERPRETER not in theirs:
                found[INTERPRETER] = C.config.get_config_value("INTERPRETER_PYTHON", variables={}) or "auto"
        return found
