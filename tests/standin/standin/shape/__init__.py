"""EL7's shape on top of the unpacked Debian files. Each module shapes the packages it names."""
from . import base, runtime, services, system, web


def shape(tree, key):
    """Shapes all packages; `key` is the armoured public key that the packages will be signed with."""
    for module in (base, runtime, system, web, services):
        for step in module.STEPS:
            step(tree.package)
    base.release(tree.package, key)
