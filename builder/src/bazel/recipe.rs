//! Recipes: what a rule wants built, and every file that it may be built from. Lines of fields with tabs between them:
//!
//! ```text
//! rootbuild-recipe 1
//! label       //app:web
//! name        web
//! definition  {"ansible": {…}, "root": {"web": {…}}}
//! base        name  reference in the action  …in runfiles  its recipe in runfiles
//! file        x or -  name in the workspace  path in the action  …in runfiles
//! ```

use std::path::{Component, Path, PathBuf};

use rootbuild_cache::Digest;
use serde_json::{Map, Value, json};

use super::BazelError;

const SIGNATURE: &str = "rootbuild-recipe 1";

/// From where a recipe is looked at: files have other paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// An action, in the execution root.
    Action,
    /// `bazel run` or `bazel test`, in the runfiles.
    Runfiles,
}

/// A file as a recipe names it, in both views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    action: PathBuf,
    runfiles: PathBuf,
}

impl Place {
    /// Its path.
    #[must_use]
    pub fn path(&self, view: View) -> &Path {
        match view {
            View::Action => &self.action,
            View::Runfiles => &self.runfiles,
        }
    }
}

/// A file that the root may be built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What the playbook knows it by: relative, in the workspace.
    pub name: PathBuf,
    /// Whether it can be executed. Bazel doesn't see `chmod`, so the recipe says it.
    pub executable: bool,
    /// Where it is.
    pub place: Place,
}

/// The root that another one stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// Its name.
    pub name: String,
    /// Its reference.
    pub reference: Place,
    /// Its recipe, in runfiles.
    pub recipe: PathBuf,
}

/// A recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The target, for people, and to tell targets apart.
    pub label: String,
    /// The root's name.
    pub name: String,
    /// What it stands on; `None`: the recipe's own base.
    pub below: Option<Below>,
    /// What it may be built from.
    pub sources: Vec<Source>,
    definition: Map<String, Value>,
}

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// There is none, or it isn't one that this version knows.
    pub fn read(path: &Path) -> Result<Self, BazelError> {
        let text = std::fs::read_to_string(path).map_err(BazelError::io("read", path))?;
        Self::parse(&text).map_err(|why| BazelError::malformed(path, why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(SIGNATURE) {
            return Err(format!("isn't a recipe that this rootbuild knows (`{SIGNATURE}`)"));
        }
        let (mut label, mut name, mut definition, mut below) = (None, None, None, None);
        let mut sources = Vec::new();
        for (number, line) in lines.enumerate() {
            let odd = |why: &str| format!("has an odd line {}: {why}", number + 2);
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["label", text] => label = Some(text.to_owned()),
                ["name", text] => name = Some(text.to_owned()),
                ["definition", text] => {
                    let read = serde_json::from_str(text).map_err(|error| odd(&error.to_string()))?;
                    definition = Some(read);
                }
                ["base", name, action, runfiles, recipe] => {
                    let reference = Place { action: action.into(), runfiles: runfiles.into() };
                    below = Some(Below { name: name.to_owned(), reference, recipe: recipe.into() });
                }
                ["file", mode @ ("x" | "-"), name, action, runfiles] => {
                    let name = PathBuf::from(name);
                    let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
                    if !is_plain || name.as_os_str().is_empty() {
                        return Err(odd("the name leads out of the workspace"));
                    }
                    let place = Place { action: action.into(), runfiles: runfiles.into() };
                    sources.push(Source { name, executable: mode == "x", place });
                }
                _ => return Err(odd("it is no field that is known")),
            }
        }
        let missing = |what| move || format!("has no `{what}`");
        Ok(Self {
            label: label.ok_or_else(missing("label"))?,
            name: name.ok_or_else(missing("name"))?,
            definition: definition.ok_or_else(missing("definition"))?,
            below,
            sources,
        })
    }

    /// The text of the definition that it comes to, with the tree of what it stands on.
    ///
    /// # Errors
    /// It holds what no definition can.
    pub fn definition(&self, below: Option<Digest>) -> Result<String, String> {
        let mut all = self.definition.clone();
        if let (Some(below), Some(tree)) = (&self.below, below) {
            let bases = all.entry("base").or_insert_with(|| json!({}));
            bases[&below.name] = json!({ "source": "tree", "tree": tree });
        }
        let value = toml::Value::try_from(&all).map_err(|error| error.to_string())?;
        let text = toml::to_string(&value).map_err(|error| error.to_string())?;
        Ok(format!("# Made for {}: edit its BUILD file instead.\n{text}", self.label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "rootbuild-recipe 1\nlabel\t//app:web\nname\tweb\n\
        definition\t{\"ansible\": {\"core\": \"2.19.14\", \"project\": \"app\"}, \"root\": {\"web\": {\"base\": \"el7\", \
        \"playbooks\": [\"app/site.yml\"], \"vars\": {\"port\": 80, \"text\": \"a \\\"b\\\" \\\\ \\n é\", \"on\": true}}}}\n\
        base\tel7\tbazel-out/bin/el7.rootbuild\tel7.rootbuild\tel7.recipe\n\
        file\t-\tapp/site.yml\tapp/site.yml\tapp/site.yml\nfile\tx\tapp/run\tbazel-out/bin/app/run\tapp/run\n";

    #[test]
    fn a_recipe_becomes_a_definition_on_the_tree_below() {
        let recipe = Recipe::parse(RECIPE).unwrap();
        assert_eq!(recipe.sources.len(), 2);
        assert!(recipe.sources[1].executable && !recipe.sources[0].executable);
        assert_eq!(recipe.sources[1].place.path(View::Action), Path::new("bazel-out/bin/app/run"));
        insta::assert_snapshot!(recipe.definition(Some(Digest::of(b"el7"))).unwrap());
    }

    #[test]
    fn what_is_no_recipe_is_refused_with_the_line() {
        for (from, to, why) in [
            ("recipe 1", "recipe 2", "that this rootbuild knows"),
            ("app/site.yml\tapp", "../site.yml\tapp", "odd line 6: the name leads out"),
            ("app/site.yml\tapp", "/site.yml\tapp", "odd line 6: the name leads out"),
            ("name\tweb", "nam\tweb", "odd line 3"),
            ("name\tweb\n", "", "has no `name`"),
            ("{\"ansible\"", "{ansible", "odd line 4"),
        ] {
            let told = Recipe::parse(&RECIPE.replacen(from, to, 1)).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        let null = Recipe::parse(&RECIPE.replace("true", "null")).unwrap();
        assert!(null.definition(None).is_err());
    }
}
