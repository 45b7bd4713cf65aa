"For WORKSPACE."

load("//rootbuild/private:host.bzl", "rootbuild_host")

def rootbuild_register_toolchains(name = "rootbuild_host"):
    """Finds this machine's rootbuild and registers it.

    Args:
      name: what its repository is called.
    """
    rootbuild_host(name = name)
    native.register_toolchains("@%s//:toolchain" % name)
