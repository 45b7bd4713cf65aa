"Finds this machine's rootbuild."

_BUILD = """load("{toolchain}", "rootbuild_toolchain")

rootbuild_toolchain(
    name = "rootbuild",
    # The file is missing while there is no store.
    epoch = glob(["epoch"]),
    path = {path},
    schema = {schema},
    store = {store},
    visibility = ["//visibility:public"],
)

toolchain(
    name = "toolchain",
    toolchain = ":rootbuild",
    toolchain_type = "{type}",
)
"""

def _impl(repository_ctx):
    environ = repository_ctx.os.environ
    path = environ.get("ROOTBUILD", "")
    if not path:
        path = str(repository_ctx.which("rootbuild") or "")
    store = environ.get("ROOTBUILD_STORE", "")
    info = {"schema": "none"}
    if path:
        # Where there is none yet roots can still be analysed.
        asked = repository_ctx.execute([path] + (["--store", store] if store else []) + ["bazel", "info"])
        if asked.return_code != 0:
            fail("%s can't be used: %s" % (path, asked.stderr))
        info = json.decode(asked.stdout)

        # A link: Bazel looks at what it leads to each time.
        repository_ctx.symlink(info["epoch"], "epoch")
    repository_ctx.file("BUILD.bazel", _BUILD.format(
        toolchain = Label("//rootbuild/private:toolchain.bzl"),
        type = Label("//rootbuild:toolchain_type"),
        path = repr(path or "/rootbuild-is-not-installed"),
        schema = repr(info["schema"]),
        store = repr(store),
    ))

rootbuild_host = repository_rule(
    implementation = _impl,
    doc = "A toolchain of the rootbuild that ROOTBUILD or PATH names, with the store that ROOTBUILD_STORE names.",
    environ = ["PATH", "ROOTBUILD", "ROOTBUILD_STORE"],
    configure = True,
    local = True,
)
