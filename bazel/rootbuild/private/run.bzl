"`bazel run` and `bazel test` of roots."

load("//rootbuild:providers.bzl", "RootInfo")
load(":common.bzl", "REQUIREMENTS", "TOOLCHAIN")

# In the runfiles everything has the path that the recipe says.
_SCRIPT = """#!/bin/sh
set -eu
runfiles=${{RUNFILES_DIR:-$0.runfiles}}
case $runfiles in /*) ;; *) runfiles=$PWD/$runfiles ;; esac
[ -d "$runfiles/{workspace}" ] || runfiles=${{PWD%/{workspace}}}
cd "$runfiles/{workspace}"
exec {tool} bazel run {verb} --recipe {recipe} --reference {ref}{script} -- "$@"
"""

def _quoted(text):
    return "'%s'" % text.replace("'", "'\\''")

def _executable(ctx, verb, script):
    toolchain = ctx.toolchains[TOOLCHAIN].rootbuild
    info = ctx.attr.root[RootInfo]
    tool = _quoted(toolchain.path or toolchain.tool.short_path)
    if toolchain.store:
        tool += " --store " + _quoted(toolchain.store)

    # A script of the same name as its test is usual.
    out = ctx.actions.declare_file(ctx.label.name + ".launch.sh")
    ctx.actions.write(out, _SCRIPT.format(
        workspace = ctx.workspace_name,
        tool = tool,
        verb = verb,
        recipe = _quoted(info.recipe.short_path),
        ref = _quoted(info.ref.short_path),
        script = " --script " + _quoted(script.short_path) if script else "",
    ), is_executable = True)
    runfiles = ctx.runfiles(
        files = [script] if script else [],
        transitive_files = depset(transitive = [info.inputs, toolchain.files]),
    )
    return [DefaultInfo(executable = out, runfiles = runfiles)]

def _run_impl(ctx):
    return _executable(ctx, ctx.attr.verb, None)

root_run = rule(
    implementation = _run_impl,
    executable = True,
    attrs = {
        "root": attr.label(mandatory = True, providers = [RootInfo]),
        "verb": attr.string(mandatory = True, values = ["up", "down", "path", "shell", "explain"]),
    },
    toolchains = [TOOLCHAIN],
)

def _test_impl(ctx):
    return _executable(ctx, "test", ctx.file.script) + [testing.ExecutionInfo(REQUIREMENTS)]

root_test = rule(
    implementation = _test_impl,
    test = True,
    doc = "Runs a shell script in a root. What it changes there is dropped.",
    attrs = {
        "root": attr.label(mandatory = True, providers = [RootInfo]),
        "script": attr.label(mandatory = True, allow_single_file = True),
    },
    toolchains = [TOOLCHAIN],
)
