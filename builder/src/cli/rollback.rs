//! `rootbuild rollback`: what ran before runs again.

use clap::Args;
use rootbuild_cache::Digest;
use rootbuild_handoff::Options;
use rootbuild_roots::Cancel;
use rootbuild_roots::publish::{Wanted, running};
use rootbuild_roots::units::Host;

use super::Global;
use super::handing::{self, Patience, Project};
use crate::definition::Root;
use crate::generation;
use crate::render::Report;

/// Arguments of `rootbuild rollback`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The generation to go back to [default: for each root, what it was before what runs of it], and the roots
    /// [default: all that run]
    #[arg(value_name = "[GENERATION] [ROOT]...")]
    pub what: Vec<String>,

    /// Whom to wait for.
    #[command(flatten)]
    pub patience: Patience,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let project = Project::open(global, "rootbuild rollback")?;
    let definition = &project.definition;
    let (number, names) = split(&arguments.what, |name| definition.root(name).is_some());
    let asked = super::asked_for(definition, names)?;
    let host = Host::detect()?;
    let _lock = project.lock(global, &arguments.patience, "going back to an older generation")?;
    // What is gone back to isn't collected meanwhile.
    project.store.begin_lease()?;
    let names_asked: Vec<&str> = asked.iter().map(|root| root.name.as_str()).collect();
    let mut handed = Vec::new();
    for root in handing::only_in_order(definition, &names_asked) {
        let Some(runs) = running::running(&project.store, &root.name)? else {
            if names.is_empty() {
                continue;
            }
            return Err(handing::not_running(&root.name));
        };
        let Some(tree) = target(&project, root, &runs.tree, number)? else {
            if names.is_empty() {
                continue;
            }
            return Err(Report::failed(format!("root `{}` was never anything else", root.name))
                .hint("`rootbuild status` shows the generation that runs"));
        };
        let private = root.private.as_ref();
        let wanted = Wanted { tree: &tree, definition: &definition.path, private, prepared: None };
        let published = running::stand(&project.store, &root.name, &wanted, &Cancel::new())?;
        handed.push(project.handed(global, root, published, host)?);
    }
    if handed.is_empty() {
        return Err(Report::failed("there is nothing to go back to")
            .hint("`rootbuild status` shows which generation each root runs"));
    }
    let options = Options { enable: false, rollback: true, restart: false };
    handing::bring(global, &project, handed, options)
}

/// The generation's number, if the first word is one, and the roots. A root may be called `7`.
fn split(words: &[String], is_root: impl Fn(&str) -> bool) -> (Option<u64>, &[String]) {
    match words.split_first() {
        Some((first, rest)) if !is_root(first) => match first.parse() {
            Ok(number) => (Some(number), rest),
            Err(_) => (None, words),
        },
        _ => (None, words),
    }
}

/// The tree to go back to; `None` where there is none but the one that runs.
fn target(
    project: &Project,
    root: &Root,
    runs: &Digest,
    number: Option<u64>,
) -> Result<Option<Digest>, Report> {
    let (store, definition) = (&project.store, &project.definition.path);
    let Some(number) = number else { return Ok(generation::before(store, definition, &root.name, runs)) };
    let generation = generation::numbered(store, definition, number).ok_or_else(|| {
        Report::usage(format!("there is no generation {number}")).hint(
            match generation::span(store, definition) {
                Some((first, last)) => format!("generations {first} to {last} are known"),
                None => "a provision makes the first".to_owned(),
            },
        )
    })?;
    let tree = generation.roots.get(&root.name).map(|it| it.tree).ok_or_else(|| {
        Report::failed(format!("root `{}` isn't in generation {number}", root.name))
            .hint("name the roots that are to go back")
    })?;
    Ok(Some(tree).filter(|tree| tree != runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_generation_unless_a_root_is_called_so() {
        let words = ["7".to_owned(), "web".to_owned()];
        assert_eq!(split(&words, |_| false), (Some(7), &words[1..]));
        assert_eq!(split(&words, |name| name == "7"), (None, &words[..]));
        assert_eq!(split(&words[1..], |name| name == "web"), (None, &words[1..]));
        assert_eq!(split(&[], |_| false), (None, &[][..]));
    }
}
