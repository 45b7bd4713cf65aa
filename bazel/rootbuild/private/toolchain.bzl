"The toolchain."

load("//rootbuild:providers.bzl", "RootbuildToolchainInfo")

def _impl(ctx):
    if bool(ctx.file.tool) == bool(ctx.attr.path):
        fail("rootbuild_toolchain: give either tool or path")
    return [platform_common.ToolchainInfo(rootbuild = RootbuildToolchainInfo(
        tool = ctx.file.tool,
        path = ctx.attr.path,
        schema = ctx.attr.schema,
        store = ctx.attr.store,
        epoch = depset(ctx.files.epoch),
        files = depset([ctx.file.tool] if ctx.file.tool else []),
    ))]

rootbuild_toolchain = rule(
    implementation = _impl,
    doc = "A rootbuild: a file that Bazel knows, or one of this machine's by its path.",
    attrs = {
        "tool": attr.label(allow_single_file = True),
        "path": attr.string(),
        "schema": attr.string(mandatory = True),
        "store": attr.string(),
        "epoch": attr.label_list(allow_files = True),
    },
)
