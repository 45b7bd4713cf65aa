"""What it costs to find that nothing has changed: 8 roots whose playbooks read 500 files."""

from __future__ import annotations

import shutil
from pathlib import Path

from peers import sha256
from shared import WORK, rootbuild

ROOTS, FILES = 8, 60


def _project(archive: Path) -> Path:
    copy = WORK / "unchanged"
    shutil.rmtree(copy, ignore_errors=True)
    text = [f'[base.bench]\nsource = "archive"\nfile = "{archive}"\nsha256 = "{sha256(archive)}"\n\n[ansible]\ncore = "2.16.19"\nproject = "ansible"\n']
    for root in range(ROOTS):
        variables = copy / f"ansible/variables/{root}"
        variables.mkdir(parents=True)
        for number in range(FILES):
            (variables / f"{number}.yml").write_text(f"number_{number}: {root}\n")
        (copy / f"ansible/{root}.yml").write_text(
            "- hosts: all\n  gather_facts: false\n  tasks:\n"
            f"    - ansible.builtin.include_vars: {{dir: variables/{root}}}\n"
            f"    - ansible.builtin.copy: {{content: '{{{{ number_{FILES - 1} }}}}', dest: /etc/number}}\n"
        )
        text.append(f'[root.unchanged{root}]\nbase = "bench"\nhost = "localhost"\nplaybooks = ["ansible/{root}.yml"]\n')
    (copy / "rootbuild.toml").write_text("\n".join(text))
    return copy


def cpu(archive: Path, store: Path) -> float:
    """CPU seconds of a provision that finds everything as it was: the best of several."""
    copy = _project(archive)
    rootbuild(copy, "provision", store=store)
    costs = []
    for _ in range(10):
        result, cost = rootbuild(copy, "provision", store=store)
        assert all(layer["status"] == "cached" for root in result["roots"] for layer in root["layers"]), result
        costs.append(cost.cpu)
    return min(costs)
