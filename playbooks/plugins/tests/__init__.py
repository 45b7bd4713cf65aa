"""Tests of the Python side: `/usr/bin/python3 -m unittest discover -t . -s tests` in `playbooks/plugins`.

They need nothing but Python 3.10 or later. With `AGENT_PYTHONS` (paths, separated by colons) the agent
is tested with these interpreters too; else with every `python2.7` or `python3` that PATH has.
"""
