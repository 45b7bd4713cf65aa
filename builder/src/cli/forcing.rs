//! `--no-cache` and `--rebuild`: what is built whatever is known of it.

use clap::Args;

use crate::definition::{BaseKind, Definition, nearest};
use crate::engine::{Forced, Rebuild, Step, base_of};
use crate::render::Report;

/// The options that `plan` and `provision` share.
#[derive(Debug, Args)]
pub struct Forcing {
    /// Build every layer, even if it is cached, and replay nothing
    #[arg(long, env = "ROOTBUILD_NO_CACHE", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_cache: bool,

    /// Build this step even if it is cached, and replay nothing of it; named as `plan` shows it, or
    /// ROOT:STEP for one root only (may be given several times)
    #[arg(long, value_name = "STEP", env = "ROOTBUILD_REBUILD", value_delimiter = ',')]
    pub rebuild: Vec<String>,
}

impl Forcing {
    /// What it means for the roots `names` (all, if none is named) and those that they stand on.
    pub fn resolve(&self, definition: &Definition, names: &[String]) -> Result<Forced, Report> {
        let mut known: Vec<(&str, String)> = Vec::new();
        let mut lent: Vec<(String, &str)> = Vec::new();
        for root in definition.select(names)? {
            let base = base_of(definition, root);
            for step in Step::of(root, base) {
                match &step {
                    Step::Base(crate::definition::Base { kind: BaseKind::Root(below), .. }) => {
                        lent.push((step.name(), below));
                    }
                    _ => known.push((&root.name, step.name())),
                }
            }
        }
        let steps = self.rebuild.iter().map(|name| find(name, &known, &lent));
        Ok(Forced { all: self.no_cache, steps: steps.collect::<Result<_, _>>()? })
    }
}

fn find(name: &str, known: &[(&str, String)], lent: &[(String, &str)]) -> Result<Rebuild, Report> {
    if known.iter().any(|(_, step)| step == name) {
        return Ok(Rebuild { root: None, step: name.to_owned() });
    }
    let of_root = known.iter().find(|(root, step)| name.split_once(':') == Some((root, step)));
    if let Some((root, step)) = of_root {
        return Ok(Rebuild { root: Some((*root).to_owned()), step: step.clone() });
    }
    if let Some((_, below)) = lent.iter().find(|(step, _)| step == name) {
        return Err(Report::usage(format!(
            "`{name}` is the tree of root `{below}`, and has no step of its own"
        ))
        .hint(format!("name a step of `{below}`: `--rebuild {below}:STEP`")));
    }
    let report = Report::usage(format!("no root that is asked for has a step `{name}`"));
    let full: Vec<String> = known.iter().map(|(root, step)| format!("{root}:{step}")).collect();
    let candidates = known.iter().map(|(_, step)| step.as_str()).chain(full.iter().map(String::as_str));
    Err(match nearest(name, candidates) {
        Some(nearest) => report.hint(format!("did you mean `{nearest}`?")),
        None => report.hint("`rootbuild plan` shows the steps of each root"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> Result<Rebuild, Report> {
        let known =
            [("web", "base:el7".to_owned()), ("web", "site.yml".to_owned()), ("db", "db.yml".to_owned())];
        find(name, &known, &[("base:on".to_owned(), "web")])
    }

    #[test]
    fn a_step_is_named_alone_or_behind_its_root() {
        let rebuild =
            |root: Option<&str>, step: &str| Rebuild { root: root.map(Into::into), step: step.into() };
        assert_eq!(found("site.yml").unwrap(), rebuild(None, "site.yml"));
        assert_eq!(found("base:el7").unwrap(), rebuild(None, "base:el7"));
        assert_eq!(found("web:base:el7").unwrap(), rebuild(Some("web"), "base:el7"));
        assert_eq!(found("db:db.yml").unwrap(), rebuild(Some("db"), "db.yml"));
    }

    #[test]
    fn a_step_that_no_root_has_is_told_with_the_nearest_one() {
        let told = ["siet.yml", "db:site.yml", "base:on", "zzzzzz"].map(|name| {
            let report = found(name).unwrap_err();
            assert_eq!(report.exit_code(), crate::exit::USAGE);
            anstream::adapter::strip_str(&report.render(None)).to_string()
        });
        insta::assert_snapshot!(told.join("\n"));
    }
}
