//! `plan --bazel`: the files that roots really read, by their records, as `srcs` of the Bazel rules; and whether a BUILD file
//! declares them all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rootbuild_cache::Input;
use rootbuild_playbooks::inputs::kind;
use serde_json::json;

use super::{Global, out};
use crate::bazel::Recipe;
use crate::definition::Definition;
use crate::exit;
use crate::plan::PlannedRoot;
use crate::render::Report;

/// What makes a directory the top of a workspace.
const TOPS: [&str; 4] = ["MODULE.bazel", "REPO.bazel", "WORKSPACE.bazel", "WORKSPACE"];

/// The files that a root reads.
#[derive(Debug, Default)]
struct Reads {
    /// By their names from the definition's directory: whether they can be executed.
    files: BTreeMap<PathBuf, bool>,
    /// Where Bazel can't see them.
    outside: Vec<String>,
    /// Playbooks that were never built.
    unknown: Vec<String>,
}

impl Reads {
    fn of(plan: &PlannedRoot, definition: &Definition) -> Self {
        let mut reads = Self::default();
        let Some(ansible) = &definition.ansible else { return reads };
        for layer in plan.layers.iter().skip(1) {
            let Some(record) = &layer.record else {
                reads.unknown.push(layer.step.clone());
                continue;
            };
            let names = record.inputs.iter().filter(|input| is_file(input));
            for name in names.map(|input| input.name.as_str()) {
                let path = ansible.project.join(name);
                let Ok(found) = path.metadata() else { continue };
                match path.strip_prefix(&definition.dir) {
                    Ok(inside) if found.is_file() => {
                        reads.files.insert(inside.to_owned(), found.permissions().mode() & 0o111 != 0);
                    }
                    Ok(_) => {}
                    Err(_) => reads.outside.push(path.display().to_string()),
                }
            }
        }
        reads
    }
}

fn is_file(input: &Input) -> bool {
    matches!(input.kind.as_str(), kind::FILE | kind::EXISTS | kind::LINK)
}

/// Prints what BUILD files have to declare.
pub(super) fn print(global: &Global, definition: &Definition, plans: &[PlannedRoot]) -> Result<u8, Report> {
    let all: Vec<(&str, Reads)> =
        plans.iter().map(|plan| (plan.name.as_str(), Reads::of(plan, definition))).collect();
    known(&all)?;
    if global.json {
        let roots: Vec<_> = all
            .iter()
            .map(|(name, reads)| {
                let srcs: Vec<_> = reads.files.keys().map(|path| path.to_string_lossy()).collect();
                let executables = reads.files.iter().filter(|(_, executable)| **executable);
                let executables: Vec<_> = executables.map(|(path, _)| path.to_string_lossy()).collect();
                json!({ "name": name, "srcs": srcs, "executables": executables, "outside": reads.outside })
            })
            .collect();
        out::json(&json!({ "roots": roots }))?;
        return Ok(exit::OK);
    }
    let mut text = String::new();
    for (name, reads) in &all {
        let _ = writeln!(text, "# {name}");
        for (attribute, wanted) in [("srcs", false), ("executables", true)] {
            let files: Vec<&PathBuf> =
                reads.files.iter().filter(|(_, is)| **is == wanted).map(|(path, _)| path).collect();
            if files.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{attribute} = [");
            files.iter().for_each(|path| {
                let _ = writeln!(text, "    {:?},", path.to_string_lossy());
            });
            let _ = writeln!(text, "],");
        }
        for path in &reads.outside {
            let _ = writeln!(text, "# outside of the workspace, and not there for Bazel: {path}");
        }
    }
    out::text(&text)?;
    Ok(exit::OK)
}

/// Whether a recipe, which a BUILD file came to, declares all that its root reads by this definition.
pub(super) fn check(
    global: &Global,
    definition: &Definition,
    plans: &[PlannedRoot],
    recipe: &Path,
) -> Result<u8, Report> {
    let recipe = Recipe::read(recipe)?;
    let plan = plans.iter().find(|plan| plan.name == recipe.name).ok_or_else(|| {
        Report::usage(format!("{} is root `{}`, which isn't among those planned", recipe.label, recipe.name))
            .hint("a definition and a BUILD file name the same root alike; `root_name` says how")
    })?;
    let reads = Reads::of(plan, definition);
    let all = [(plan.name.as_str(), reads)];
    known(&all)?;
    let [(_, reads)] = all;
    let is_top = |dir: &&Path| TOPS.iter().any(|name| dir.join(name).is_file());
    let top = definition.dir.ancestors().find(is_top).ok_or_else(|| {
        Report::usage(format!("`{}` is in no workspace of Bazel", definition.dir.display()))
            .hint(format!("a workspace has {} at its top", TOPS.join(", ")))
    })?;
    let package = definition.dir.strip_prefix(top).unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    for (file, executable) in &reads.files {
        let name = package.join(file);
        // A declared directory has all that is below it.
        let declared = recipe.sources.iter().find(|source| name.starts_with(&source.name));
        match declared {
            None => problems.push((name, "isn't declared")),
            Some(source) if *executable && !source.executable => {
                problems.push((name, "can be executed, and isn't among the executables"));
            }
            Some(_) => {}
        }
    }
    if global.json {
        let problems: Vec<_> = problems
            .iter()
            .map(|(path, problem)| json!({ "path": path.to_string_lossy(), "problem": problem }))
            .collect();
        out::json(&json!({ "label": recipe.label, "problems": problems, "outside": reads.outside }))?;
    } else {
        let mut text = String::new();
        for (path, problem) in &problems {
            let _ = writeln!(text, "{}: `{}` {problem}", recipe.label, path.display());
        }
        for path in &reads.outside {
            let _ = writeln!(text, "{}: `{path}` is outside of the workspace", recipe.label);
        }
        out::text(&text)?;
    }
    let is_right = problems.is_empty() && reads.outside.is_empty();
    Ok(if is_right { exit::OK } else { exit::DIFFERENCES })
}

/// An error where it isn't known what is read.
fn known(all: &[(&str, Reads)]) -> Result<(), Report> {
    let unknown: Vec<String> = all
        .iter()
        .flat_map(|(name, reads)| reads.unknown.iter().map(move |step| format!("`{step}` of root `{name}`")))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Report::failed(format!("nobody knows yet what is read by {}", unknown.join(", ")))
        .hint("run `rootbuild provision`: what a playbook reads is seen when it runs"))
}
