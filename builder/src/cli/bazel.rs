//! `rootbuild bazel`: what the Bazel rules call. People call the rules.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rootbuild_cache::pins;
use rootbuild_cache::{Digest, Holder, Lock, Store};
use serde_json::json;

use super::{Cli, Global, building, out, trace};
use crate::bazel::{BazelError, Recipe, Reference, View, epoch, stage};
use crate::definition::Definition;
use crate::engine::{Forced, Options, step};
use crate::exit;
use crate::render::Report;

/// Arguments of `rootbuild bazel`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what the toolchain has to know
    Info,
    /// Build a recipe's root, and write its reference
    Build {
        /// The recipe
        recipe: PathBuf,
        /// Where its reference goes
        reference: PathBuf,
    },
    /// Do something with a root that was built, in its runfiles; what the store lost of it is built again
    Run {
        /// What to do
        verb: Verb,
        /// The recipe
        #[arg(long)]
        recipe: PathBuf,
        /// Its reference
        #[arg(long)]
        reference: PathBuf,
        /// The script that tests it, for `test`
        #[arg(long)]
        script: Option<PathBuf>,
        /// What follows is the verb's own
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// What can be done with a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verb {
    /// Run it as services
    Up,
    /// Stop it
    Down,
    /// Print where it is
    Path,
    /// A shell in it
    Shell,
    /// How it came, and why
    Explain,
    /// Run a script in it
    Test,
}

impl From<BazelError> for Report {
    fn from(error: BazelError) -> Self {
        let hint = match &error {
            BazelError::NotInBazel { .. } => {
                Some("it is for rules to call: use `bazel build` and `bazel run`")
            }
            BazelError::Malformed { .. } => {
                Some("rules and rootbuild have to fit: take both from one version")
            }
            BazelError::Io { .. } => None,
        };
        let report = Self::failed(error.to_string());
        let report = match std::error::Error::source(&error) {
            Some(source) => report.caused_by(source),
            None => report,
        };
        hint.into_iter().fold(report, Self::hint)
    }
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    match &arguments.command {
        Command::Info => info(global),
        Command::Build { recipe, reference } => build(global, recipe, reference),
        Command::Run { verb, recipe, reference, script, arguments } => {
            use_root(global, *verb, recipe, reference, script.as_deref(), arguments)
        }
    }
}

/// What decides whether references of another rootbuild still hold, and where the epoch is.
fn info(global: &Global) -> Result<u8, Report> {
    if rustix::process::geteuid().is_root() {
        epoch::ensure(&global.store()?)?;
    }
    let store = std::path::absolute(&global.store).unwrap_or_else(|_| global.store.clone());
    let epoch = epoch::path(&store);
    out::json(&json!({
        "schema": step::semantics(),
        "store": store.to_string_lossy(),
        "epoch": epoch.to_string_lossy(),
    }))?;
    Ok(exit::OK)
}

fn build(global: &Global, recipe: &Path, reference: &Path) -> Result<u8, Report> {
    super::require_root("rootbuild bazel build")?;
    let store = open(global)?;
    let recipe = Recipe::read(recipe)?;
    let below = below(&recipe, View::Action)?;
    if let Some((base, tree)) = recipe.below.as_ref().zip(below)
        && !store.has_tree(&tree)
    {
        // Bazel believes in it: from now on it doesn't.
        epoch::renew(&store)?;
        return Err(Report::failed(format!(
            "the store has lost `{}`, which {} stands on",
            base.name, recipe.label
        ))
        .hint("run the same command again: Bazel now knows, and builds it anew"));
    }
    let (built, _) = make(global, &store, &recipe, View::Action, below)?;
    built.write(reference)?;
    // From here on Bazel's output keeps the tree, until somebody removes it.
    let path = reference.canonicalize().map_err(BazelError::io("look at", reference))?;
    store.refer(&pins::Reference { tree: built.tree, path })?;
    Ok(exit::OK)
}

fn open(global: &Global) -> Result<Store, Report> {
    let store = global.store()?;
    // Nothing that is found from here on is collected.
    store.begin_lease()?;
    epoch::ensure(&store)?;
    Ok(store)
}

/// The tree that a recipe's root stands on, as Bazel knows it.
fn below(recipe: &Recipe, view: View) -> Result<Option<Digest>, Report> {
    let read = recipe.below.as_ref().map(|base| Reference::read(base.reference.path(view)));
    Ok(read.transpose()?.map(|reference| reference.tree))
}

/// Stages a recipe; where it is, with the lock that keeps it so.
fn staged(
    global: &Global,
    store: &Store,
    recipe: &Recipe,
    view: View,
    below: Option<Digest>,
) -> Result<(PathBuf, Lock), Report> {
    let cwd = std::env::current_dir()
        .map_err(|error| Report::usage("can't tell the working directory").caused_by(&error))?;
    let place = stage::place(&cwd, recipe)?;
    let told = |holder: &Holder| {
        if !global.quiet {
            anstream::eprintln!("waiting for {holder}");
        }
    };
    let name = format!("bazel-{}", Digest::of(place.as_os_str().as_encoded_bytes()).hex());
    let lock = store.lock_for(&name, &format!("building {}", recipe.label), None, &told, &|| false)?;
    let text = recipe
        .definition(below)
        .map_err(|why| Report::usage(format!("{} can't be written as a definition: {why}", recipe.label)))?;
    Ok((stage::stage(&place, recipe, view, &text)?, lock))
}

/// Builds a recipe's root on a tree that is there; the definition that it was staged as, too.
fn make(
    global: &Global,
    store: &Store,
    recipe: &Recipe,
    view: View,
    below: Option<Digest>,
) -> Result<(Reference, PathBuf), Report> {
    let (path, _lock) = staged(global, store, recipe, view, below)?;
    let definition = Arc::new(Definition::load(Some(&path), Path::new("/")).map_err(Report::from)?);
    let names = [recipe.name.clone()];
    if definition.bases.iter().any(|base| base.lock().is_some()) {
        // Only staged here: nobody would find what is written there.
        super::lock::require(&definition, &names)?;
    }
    let store = store.clone().with_limits(definition.limits);
    let options = Options {
        jobs: std::thread::available_parallelism().map_or(2, usize::from),
        lock_timeout: None,
        verbosity: global.verbose.saturating_sub(1),
        forced: Forced::default(),
        no_replay: false,
        verify_replay: false,
        offline: false,
        mirror: None,
        outputs: step::own_outputs(),
        launcher: trace::launcher(),
        hand_over: false,
    };
    let ran = building::run(global, &definition, &store, &names, options, |engine| {
        let name = recipe.name.clone();
        async move { engine.build(&name).await }
    })?;
    let failed: Vec<_> = ran.outcome.as_ref().err().into_iter().collect();
    ran.stopped(&store, &failed)?;
    building::report(&failed, &definition)?;
    let top =
        ran.outcome.as_ref().ok().and_then(|layers| layers.last()).expect("a root has at least its base");
    Ok((Reference::new(top.key, top.record.tree), path))
}

/// Builds again what the store lost of a root and what it stands on; where it is staged.
fn whole(
    global: &Global,
    store: &Store,
    recipe: &Path,
    reference: &Path,
) -> Result<(Digest, PathBuf), Report> {
    let wanted = Reference::read(reference)?;
    let recipe = Recipe::read(recipe)?;
    let below = match &recipe.below {
        None => None,
        Some(base) => {
            let at = base.reference.path(View::Runfiles);
            let tree = Reference::read(at)?.tree;
            if store.has_tree(&tree) { Some(tree) } else { Some(whole(global, store, &base.recipe, at)?.0) }
        }
    };
    let (built, path) = make(global, store, &recipe, View::Runfiles, below)?;
    if built.tree != wanted.tree && !global.quiet {
        anstream::eprintln!(
            "{} was built again, and came to another tree than before: it isn't reproducible",
            recipe.label
        );
    }
    Ok((built.tree, path))
}

fn use_root(
    global: &Global,
    verb: Verb,
    recipe: &Path,
    reference: &Path,
    script: Option<&Path>,
    arguments: &[OsString],
) -> Result<u8, Report> {
    super::require_root("a root from Bazel")?;
    let store = open(global)?;
    let name = Recipe::read(recipe)?.name;
    let path = if matches!(verb, Verb::Down | Verb::Explain) {
        let recipe = Recipe::read(recipe)?;
        let below = below(&recipe, View::Runfiles)?;
        staged(global, &store, &recipe, View::Runfiles, below)?.0
    } else {
        let quiet = Global { quiet: true, ..global.clone() };
        let (_, path) = whole(&quiet, &store, recipe, reference)?;
        let code = again(global, &path, &["-q", "provision", &name], &[])?;
        if code != exit::OK {
            return Ok(code);
        }
        path
    };
    match verb {
        Verb::Path => {
            out::text(&format!("{}\n", store.dir().join("roots").join(&name).display()))?;
            Ok(exit::OK)
        }
        Verb::Up => again(global, &path, &["up", &name], arguments),
        Verb::Down => again(global, &path, &["down", &name], arguments),
        Verb::Explain => again(global, &path, &["explain", &name], arguments),
        Verb::Shell => again(global, &path, &["shell", &name], arguments),
        Verb::Test => {
            let script = script
                .ok_or_else(|| Report::usage("a test needs a script").hint("name it with `--script`"))?;
            let text = std::fs::read_to_string(script).map_err(BazelError::io("read", script))?;
            let mut command: Vec<OsString> =
                ["--", "/bin/sh", "-c", &text, "test"].map(OsString::from).into();
            command.extend(arguments.iter().cloned());
            again(global, &path, &["shell", &name], &command)
        }
    }
}

/// Another command, on a staged definition.
fn again(global: &Global, definition: &Path, command: &[&str], more: &[OsString]) -> Result<u8, Report> {
    let mut line: Vec<OsString> = ["rootbuild", "--file"].map(OsString::from).into();
    line.extend([definition.into(), "--store".into(), global.store.clone().into()]);
    line.extend(command.iter().map(OsString::from));
    line.extend(more.iter().cloned());
    let cli =
        Cli::try_parse_from(line).map_err(|error| Report::usage(error.to_string().trim_end().to_owned()))?;
    Ok(cli.run())
}
