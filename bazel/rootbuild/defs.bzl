"The rules: `rootfs_base`, `rootfs` and `root_test`."

load("//rootbuild:providers.bzl", _RootInfo = "RootInfo", _RootbuildToolchainInfo = "RootbuildToolchainInfo")
load("//rootbuild/private:root.bzl", _rootfs = "rootfs", _rootfs_base = "rootfs_base")
load("//rootbuild/private:run.bzl", "root_run", _root_test = "root_test")
load("//rootbuild/private:toolchain.bzl", _rootbuild_toolchain = "rootbuild_toolchain")

RootInfo = _RootInfo
RootbuildToolchainInfo = _RootbuildToolchainInfo
root_test = _root_test
rootbuild_toolchain = _rootbuild_toolchain

_VERBS = ["up", "down", "path", "shell", "explain"]

# Attributes that the runnable targets have in common with the root.
_COMMON = ["visibility", "testonly", "target_compatible_with"]

def _runnable(name, kwargs):
    common = {key: kwargs[key] for key in _COMMON if key in kwargs}
    for verb in _VERBS:
        root_run(
            name = "%s.%s" % (name, verb),
            root = ":" + name,
            verb = verb,
            tags = ["manual"],
            **common
        )

def _json(values):
    return {key: json.encode(value) for key, value in (values or {}).items()}

def rootfs_base(name, **kwargs):
    """Where roots start from: a distribution's packages, or an archive.

    Makes `NAME`, and `NAME.up`, `.down`, `.path`, `.shell` and `.explain` for `bazel run`.

    Args:
      name: the base's name.
      **kwargs: `source` ("rpm", "debian", "archive") and what goes with it, as docs/bazel.md lists it.
    """
    _rootfs_base(name = name, **kwargs)
    _runnable(name, kwargs)

def rootfs(name, vars = None, run = None, **kwargs):
    """A root: another one, and a playbook that runs in it.

    Makes `NAME`, and `NAME.up`, `.down`, `.path`, `.shell` and `.explain` for `bazel run`.

    Args:
      name: the root's name; one per store.
      vars: extra vars; a dict whose values are anything that JSON can say.
      run: `[root.NAME.run]` of the definition: how it runs on a host. In no key.
      **kwargs: `base`, `playbooks`, `srcs` and more, as docs/bazel.md lists it.
    """
    _rootfs(name = name, vars = _json(vars), run = _json(run), **kwargs)
    _runnable(name, kwargs)
