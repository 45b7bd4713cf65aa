"""Tells connections which machine they are for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: target
short_description: Which machine a connection is for
description:
  - Gives every host its own name in C(rootbuild_target). In a delegated task C(inventory_hostname) is
    the host that delegates, so nothing else tells which machine the task is for.
author: rootbuild
options:
  stage:
    description: Needed at all times, whatever C(run_vars_plugins) says.
    type: str
    default: all
"""

from ansible.inventory.host import Host
from ansible.plugins.vars import BaseVarsPlugin


class VarsModule(BaseVarsPlugin):
    """One variable for each host."""

    def get_vars(self, loader, path, entities, cache=True):
        """The name of the host that is asked for; groups have none."""
        for entity in entities if isinstance(entities, list) else [entities]:
            if isinstance(entity, Host):
                return {"rootbuild_target": entity.name}
        return {}
