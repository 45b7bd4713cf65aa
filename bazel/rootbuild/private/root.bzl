"rootfs_base and rootfs."

load("//rootbuild:providers.bzl", "RootInfo")
load(":common.bzl", "ENVIRONMENT", "REQUIREMENTS", "TOOLCHAIN", "logical", "tool_of")

def _root(ctx, name, definition, srcs, executables, base):
    """A recipe, the action that has it built, and the reference that comes of it."""
    toolchain = ctx.toolchains[TOOLCHAIN].rootbuild
    recipe = ctx.actions.declare_file(ctx.label.name + ".recipe")
    ref = ctx.actions.declare_file(ctx.label.name + ".rootbuild")

    label = "//%s:%s" % (ctx.label.package, ctx.label.name)
    lines = ["rootbuild-recipe 1", "label\t" + label, "name\t" + name, "definition\t" + json.encode(definition)]
    if base:
        lines.append("\t".join(["base", base.name, base.ref.path, base.ref.short_path, base.recipe.short_path]))
    is_executable = {file: True for file in executables}
    files = {}
    for file in srcs + executables:
        mode = "x" if file in is_executable else "-"
        files[logical(file)] = "\t".join(["file", mode, logical(file), file.path, file.short_path])
    lines += [files[path] for path in sorted(files)]
    ctx.actions.write(recipe, "\n".join(lines) + "\n")

    srcs = depset(srcs + executables)
    program, arguments = tool_of(toolchain)
    ctx.actions.run(
        executable = program,
        tools = toolchain.files,
        arguments = ["--quiet"] + arguments + ["bazel", "build", recipe.path, ref.path],
        inputs = depset([recipe] + ([base.ref] if base else []), transitive = [srcs, toolchain.epoch]),
        outputs = [ref],
        env = dict(ENVIRONMENT, ROOTBUILD_SCHEMA = toolchain.schema),
        execution_requirements = REQUIREMENTS,
        mnemonic = "Rootbuild",
        progress_message = "Building root %s" % label,
    )
    inputs = depset([recipe, ref], transitive = [srcs] + ([base.inputs] if base else []))
    return [
        DefaultInfo(files = depset([ref]), runfiles = ctx.runfiles(transitive_files = inputs)),
        OutputGroupInfo(recipe = depset([recipe])),
        RootInfo(
            ref = ref,
            recipe = recipe,
            inputs = inputs,
            refs = depset([ref], transitive = [base.refs] if base else [], order = "topological"),
            name = name,
        ),
    ]

def _given(ctx, names):
    """Attributes that say something, under their names in a definition."""
    return {name: getattr(ctx.attr, name) for name in names if getattr(ctx.attr, name)}

def _one(ctx, name):
    file = getattr(ctx.file, name)
    return {name: logical(file)} if file else {}

def _base_impl(ctx):
    base = {"source": ctx.attr.source}
    base.update(_given(ctx, ["packages", "releasever", "arch", "bootstrap", "suite", "mirror", "components", "variant"]))
    base.update(_given(ctx, ["sha256", "unverified", "devices", "strip_components"]))
    files = list(ctx.files.srcs)
    for name in ["lock", "keyring", "file"]:
        base.update(_one(ctx, name))
        files += [getattr(ctx.file, name)] if getattr(ctx.file, name) else []
    if ctx.files.repos:
        base["repos"] = [logical(file) for file in ctx.files.repos]
        files += ctx.files.repos
    name = ctx.attr.root_name or ctx.label.name
    definition = {"base": {name: base}, "root": {name: {"base": name}}}
    return _root(ctx, name, definition, files, [], None)

rootfs_base = rule(
    implementation = _base_impl,
    doc = "A base. Attributes mean what they do in `[base.NAME]` of a definition.",
    attrs = {
        "source": attr.string(mandatory = True, values = ["rpm", "debian", "archive"]),
        "packages": attr.string_list(),
        "lock": attr.label(allow_single_file = True, doc = "Exactly which packages; written by `rootbuild lock`."),
        "repos": attr.label_list(allow_files = True, doc = "yum `.repo` files; what they name by path goes in `srcs`."),
        "releasever": attr.string(),
        "arch": attr.string(),
        "bootstrap": attr.string(),
        "suite": attr.string(),
        "mirror": attr.string_list(),
        "components": attr.string_list(),
        "variant": attr.string(),
        "keyring": attr.label(allow_single_file = True),
        "file": attr.label(allow_single_file = True, doc = "A tar archive."),
        "sha256": attr.string(),
        "unverified": attr.bool(),
        "strip_components": attr.int(),
        "devices": attr.bool(),
        "srcs": attr.label_list(allow_files = True, doc = "What else the base reads: keys."),
        "root_name": attr.string(doc = "Its name in the store; default: the target's."),
    },
    toolchains = [TOOLCHAIN],
)

def _project(ctx):
    project = ctx.attr.project
    if project.startswith("//"):
        return project[2:] or "."
    return "/".join([part for part in [ctx.label.package, project] if part]) or "."

def _rootfs_impl(ctx):
    base = ctx.attr.base[RootInfo]
    name = ctx.attr.root_name or ctx.label.name
    if name == base.name:
        fail("root and base can't both be called %s: give one of them a root_name" % name)
    ansible = {"core": ctx.attr.ansible_core, "project": _project(ctx)}
    ansible.update(_given(ctx, ["vault_password_file"]))
    ansible.update(_one(ctx, "inventory"))
    ansible.update(_one(ctx, "requirements"))
    root = {"base": base.name, "playbooks": [logical(file) for file in ctx.files.playbooks]}
    root.update(_given(ctx, ["host", "network", "repos", "boot", "services", "checkout", "private"]))
    for table in ["vars", "run"]:
        values = getattr(ctx.attr, table)
        if values:
            root[table] = {key: json.decode(value) for key, value in values.items()}
    named = [file for file in [ctx.file.inventory, ctx.file.requirements] if file]
    srcs = ctx.files.playbooks + ctx.files.srcs + named
    return _root(ctx, name, {"ansible": ansible, "root": {name: root}}, srcs, ctx.files.executables, base)

rootfs = rule(
    implementation = _rootfs_impl,
    doc = "A root. Attributes mean what they do in `[ansible]` and `[root.NAME]` of a definition.",
    attrs = {
        "base": attr.label(mandatory = True, providers = [RootInfo], doc = "A `rootfs_base`, or another `rootfs`."),
        "playbooks": attr.label_list(mandatory = True, allow_files = [".yml", ".yaml"], doc = "What runs, in order."),
        "srcs": attr.label_list(allow_files = True, doc = "All else that they read. What isn't declared isn't there."),
        "executables": attr.label_list(
            allow_files = True,
            doc = "Of that, what can be executed: Bazel doesn't see `chmod`, so every other file can't.",
        ),
        "ansible_core": attr.string(mandatory = True, doc = "The exact version."),
        "project": attr.string(doc = "Where `ansible.cfg`, `roles/`, `group_vars/` are found: below the package, or from the workspace's top with `//`. Default: the package."),
        "inventory": attr.label(allow_single_file = True),
        "requirements": attr.label(allow_single_file = True),
        "vault_password_file": attr.string(doc = "An absolute path on this machine; in no key."),
        "vars": attr.string_dict(doc = "Values are JSON."),
        "run": attr.string_dict(doc = "Values are JSON."),
        "host": attr.string(),
        "network": attr.string(),
        "repos": attr.string_list(),
        "boot": attr.bool(),
        "services": attr.string(),
        "checkout": attr.string(),
        "private": attr.string_list(),
        "root_name": attr.string(doc = "Its name in the store; default: the target's."),
    },
    toolchains = [TOOLCHAIN],
)
