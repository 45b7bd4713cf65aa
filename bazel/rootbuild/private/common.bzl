"What the rules share."

# As text: Bazel 4 takes a bare "//…" in a rule for the main repository's.
TOOLCHAIN = str(Label("//rootbuild:toolchain_type"))

# no-sandbox: rootbuild stages what is declared itself, and its reference has to be registered under its real path.
# no-cache: a reference must not come from a cache to a machine whose store hasn't the root.
# no-remote: for the same reason.
# requires-network: bases and playbooks fetch packages.
REQUIREMENTS = {
    "no-cache": "1",
    "no-remote": "1",
    "no-sandbox": "1",
    "requires-network": "1",
}

# Nothing of whoever calls Bazel.
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
}

def logical(file):
    """What playbooks know a file by, in whichever repository and configuration it is.

    Args:
      file: a File.

    Returns:
      Its path in the workspace; below `external/` that of another repository's.
    """
    path = file.short_path
    return "external/" + path[3:] if path.startswith("../") else path

def tool_of(toolchain):
    """The program to call in an action, and what goes before any other argument.

    Args:
      toolchain: a RootbuildToolchainInfo.

    Returns:
      The program's path, and a list of arguments.
    """
    program = toolchain.path or toolchain.tool.path
    return program, (["--store", toolchain.store] if toolchain.store else [])
