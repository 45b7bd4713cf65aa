"""Chooses the connection of a task."""

from __future__ import annotations

DOCUMENTATION = r"""
name: connection
short_description: The connection of the task that asks
description:
  - The local connection for a task that is delegated to this machine, and the sandbox's for all others.
  - Looks at the running task itself, not at variables. Where there is none, the answer is the sandbox.
author: rootbuild
options:
  served:
    description: The inventory host that the root stands for.
    type: str
    env: [{name: ROOTBUILD_HOST}]
"""

from ansible.plugins.lookup import LookupBase

from ansible_collections.rootbuild.sandbox.plugins.plugin_utils import place


class LookupModule(LookupBase):
    """One name."""

    def run(self, terms, variables=None, **kwargs):
        """The connection plugin's name."""
        self.set_options(var_options={}, direct={})
        here = place.is_here(place.target(), self.get_option("served"))
        return ["ansible.builtin.local" if here else "rootbuild.sandbox.agent"]
