"For MODULE.bazel."

load("//rootbuild/private:host.bzl", "rootbuild_host")

def _rootbuild(_module_ctx):
    rootbuild_host(name = "rootbuild_host")

rootbuild = module_extension(
    implementation = _rootbuild,
    doc = "Finds this machine's rootbuild: `rootbuild_host`, whose `:toolchain` is registered.",
)
