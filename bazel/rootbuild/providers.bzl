"What targets tell each other."

RootInfo = provider(
    doc = "A root that rootbuild can build. The root itself is never among Bazel's files.",
    fields = {
        "ref": "File: the reference, JSON with schema, key and tree. No path, host or time is in it.",
        "recipe": "File: what is asked of rootbuild, with every file that it may read.",
        "inputs": "depset of Files: recipes, references and what they name, of this root and of all below it.",
        "refs": "depset of Files: references of this root and of all below it, topmost first.",
        "name": "string: the root's name in the store.",
    },
)

RootbuildToolchainInfo = provider(
    doc = "How to call rootbuild.",
    fields = {
        "tool": "File or None: a rootbuild that Bazel knows. Another one rebuilds all roots.",
        "path": "string: where this machine's rootbuild is, or ''.",
        "schema": "string: what rootbuild means by a recipe. Only this is part of actions' keys, not the program's bytes.",
        "store": "string: the store's directory, or '' for rootbuild's default.",
        "epoch": "depset of Files: another content once the store lost roots.",
        "files": "depset of Files: what the tool needs.",
    },
)
