//! `rootbuild lock`: which packages exactly make up a base, written down once.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use rootbuild_cache::Store;
use rootbuild_roots::base::{BaseContext, BaseError, LockState, Stale, Update};
use rootbuild_roots::{Cancel, StepEvent};
use serde_json::json;

use super::mirror::Mirroring;
use super::{Global, events, out};
use crate::definition::{At, Base, Definition, Diagnostic, nearest};
use crate::engine::base::Lockable;
use crate::engine::base_of;
use crate::event::{Event, EventSink, Fanout};
use crate::render::Report;
use crate::sinks::plain::Plain;
use crate::{exit, signals};

mod told;

/// Which bases have locks.
const WHICH: &str = "only bases with `source = \"rpm\"` or `\"debian\"` have locks";

/// Arguments of `rootbuild lock`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The bases to lock [default: all of the definition that name a lock file]
    #[arg(value_name = "BASE")]
    pub bases: Vec<String>,

    /// Take the newest of these packages, and of others only what that needs; all, if none is named
    ///
    /// `*` and `?` stand for any characters. Without this packages stay what they are, as far as the
    /// definition permits it.
    #[arg(long, value_name = "PACKAGE", num_args = 0.., value_delimiter = ',')]
    pub update: Option<Vec<String>>,

    /// Only check that locks answer the definition: exit code 5 if one doesn't
    #[arg(long, env = "ROOTBUILD_CHECK", value_parser = clap::builder::FalseyValueParser::new(), conflicts_with = "update")]
    pub check: bool,

    /// Where packages come from.
    #[command(flatten)]
    pub mirror: Mirroring,
}

/// A base that is to be locked.
struct Locked<'a> {
    base: &'a Base,
    source: Lockable,
}

impl Locked<'_> {
    fn lock(&self) -> &Path {
        self.source.lock().unwrap_or(Path::new(""))
    }
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let bases = asked_for(&definition, &arguments.bases)?;
    if arguments.check {
        return check(global, &definition, &bases);
    }
    let updates = updates(&bases, arguments.update.as_deref())?;
    let cancel = Cancel::new();
    let sink = sink(global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Report::failed("can't start the runtime").caused_by(&error))?;
    let signals = runtime.block_on(async { signals::watch(&cancel, &sink) });
    let workplace = Workplace::new(Some(global))?;
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for (locked, update) in bases.iter().zip(&updates) {
        let tell = |event| tell(sink.as_ref(), &locked.base.name, event);
        let relock = |context: BaseContext<'_>| {
            let mirror = arguments.mirror.mirror.as_ref();
            locked.source.relock(BaseContext { mirror, ..context }, update)
        };
        match workplace.with(&cancel, &tell, relock) {
            Ok(relocked) => done.push((locked, update, relocked)),
            Err(error) => errors.push(error.report(&locked.base.name)),
        }
        if signals.received().is_some() {
            break;
        }
    }
    drop(workplace);
    runtime.shutdown_background();
    if global.json {
        let bases: Vec<_> =
            done.iter().map(|(locked, _, relocked)| told::json(&locked.base.name, relocked)).collect();
        out::json(&json!({ "bases": bases }))?;
    } else {
        let text: String = done
            .iter()
            .map(|(locked, update, relocked)| {
                told::words(
                    &locked.base.name,
                    &shown(&definition, &relocked.path),
                    relocked,
                    update,
                    global.quiet,
                )
            })
            .collect();
        out::text(&text)?;
    }
    match signals.received() {
        Some(signal) => Err(Report::interrupted(signal)),
        None if errors.is_empty() => Ok(exit::OK),
        None => Err(Report::several(errors)),
    }
}

/// The bases that arguments name; if none is named, those that name a lock.
fn asked_for<'a>(definition: &'a Definition, names: &[String]) -> Result<Vec<Locked<'a>>, Report> {
    let lockable =
        |base: &'a Base| Lockable::of(base, &definition.path).map(|source| Locked { base, source });
    if names.is_empty() {
        let found: Vec<Locked<'_>> =
            definition.bases.iter().filter(|base| base.lock().is_some()).filter_map(lockable).collect();
        if !found.is_empty() {
            shared(definition, &found)?;
            return Ok(found);
        }
        let report = Report::usage(format!("no base of `{}` names a lock file", definition.path.display()));
        return Err(match definition.bases.iter().find_map(lockable) {
            Some(first) => report.hint(to_add(&first.base.name)),
            None => report.hint(WHICH),
        });
    }
    let mut found: Vec<Locked<'a>> = Vec::new();
    for name in names {
        if found.iter().any(|seen| seen.base.name == *name) {
            continue;
        }
        let Some(base) = definition.base(name) else {
            let report = Report::usage(format!(
                "there is no base `{}` in `{}`",
                name.escape_debug(),
                definition.path.display()
            ));
            let known = || definition.bases.iter().map(|base| base.name.as_str());
            return Err(match nearest(name, known()) {
                Some(near) => report.hint(format!("did you mean `{near}`?")),
                None => report.hint(format!("bases are `{}`", known().collect::<Vec<_>>().join("`, `"))),
            });
        };
        let Some(locked) = lockable(base) else {
            let message = format!("base `{name}` of source `{}` has no lock", base.kind.source());
            let diagnostic = definition.diagnostic(base.span, message);
            return Err(diagnostic.with_hint(WHICH).into());
        };
        if locked.source.lock().is_none() {
            return Err(unnamed(definition, base).into());
        }
        found.push(locked);
    }
    shared(definition, &found)?;
    Ok(found)
}

/// An error where bases that are made otherwise share a lock file: each would undo what the other wrote.
fn shared(definition: &Definition, bases: &[Locked<'_>]) -> Result<(), Report> {
    for (index, locked) in bases.iter().enumerate() {
        let same =
            |other: &&Locked<'_>| other.lock() == locked.lock() && !other.source.asks_as(&locked.source);
        if let Some(other) = bases[..index].iter().find(same) {
            let (name, lock) = (&locked.base.name, shown(definition, locked.lock()));
            let message =
                format!("base `{name}` can't share the lock file `{lock}` with base `{}`", other.base.name);
            let hint =
                format!("they ask for different packages: name another file, `lock = \"{name}.lock\"`");
            let diagnostic = definition.diagnostic(lock_place(locked.base), message);
            return Err(diagnostic.with_hint(hint).into());
        }
    }
    Ok(())
}

/// Where a base names its lock, or else its name.
fn lock_place(base: &Base) -> At {
    base.lock().map_or(base.span, |lock| lock.span)
}

/// The line that gives a base its lock.
fn to_add(base: &str) -> String {
    format!("add `lock = \"{base}.lock\"` to `[base.{base}]`")
}

fn unnamed(definition: &Definition, base: &Base) -> Diagnostic {
    let message = format!("base `{}` names no lock file", base.name);
    definition.diagnostic(base.span, message).with_hint(to_add(&base.name))
}

/// A path as people know it: relative to the definition, where it lies below it.
fn shown(definition: &Definition, path: &Path) -> String {
    path.strip_prefix(&definition.dir).unwrap_or(path).display().to_string()
}

/// What may move in each base. Every name must be locked somewhere: a slip of the pen moves nothing and
/// would say so too late.
fn updates(bases: &[Locked<'_>], names: Option<&[String]>) -> Result<Vec<Update>, Report> {
    let Some(names) = names else { return Ok(vec![Update::Nothing; bases.len()]) };
    if names.is_empty() {
        return Ok(vec![Update::All; bases.len()]);
    }
    let mut known: Vec<Vec<String>> = Vec::new();
    for locked in bases {
        let names = locked.source.locked_names();
        known.push(names.map_err(|error| Report::from_lock(&locked.base.name, error))?);
    }
    for name in names {
        if known.iter().flatten().any(|locked| matches(name, locked)) {
            continue;
        }
        let report = Report::usage(format!("no package `{}` is locked", name.escape_debug()));
        let near = nearest(name, known.iter().flatten().map(String::as_str));
        return Err(if let Some(near) = near {
            report.hint(format!("did you mean `{near}`?"))
        } else if known.iter().all(Vec::is_empty) {
            report.hint("there is no lock yet: `rootbuild lock` writes it, with the newest of all packages")
        } else {
            report
                .hint("name packages that a base has, or none to update all; a new one goes into `packages`")
        });
    }
    let meant = |known: &Vec<String>| {
        let meant: Vec<String> =
            known.iter().filter(|locked| names.iter().any(|name| matches(name, locked))).cloned().collect();
        if meant.is_empty() { Update::Nothing } else { Update::Names(meant) }
    };
    Ok(known.iter().map(meant).collect())
}

/// Whether a name is what a pattern with `*` and `?` says.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = name.chars();
    let mut pattern = pattern.chars();
    while let Some(next) = pattern.next() {
        match next {
            '*' => {
                let after = pattern.as_str();
                return after.is_empty()
                    || rest.as_str().char_indices().any(|(at, _)| matches(after, &rest.as_str()[at..]));
            }
            '?' => {
                if rest.next().is_none() {
                    return false;
                }
            }
            exact => {
                if rest.next() != Some(exact) {
                    return false;
                }
            }
        }
    }
    rest.as_str().is_empty()
}

/// Whether locks answer the definition: needs no network and changes nothing.
fn check(global: &Global, definition: &Definition, bases: &[Locked<'_>]) -> Result<u8, Report> {
    let workplace = Workplace::new(None)?;
    let (mut rows, mut text, mut reports) = (Vec::new(), String::new(), Vec::new());
    for locked in bases {
        let name = &locked.base.name;
        let state =
            workplace.with(&Cancel::new(), &|_| (), |context| locked.source.lock_state(Some(context)));
        let found = match state {
            Ok(state) => problems(definition, locked.base, locked.lock(), state),
            Err(Failed::Base(error)) if error.is_definition_error() => {
                return Err(Report::from_lock(name, error));
            }
            Err(error) => return Err(error.report(name)),
        };
        let path = shown(definition, locked.lock());
        rows.push(json!({
            "name": name,
            "lock": locked.lock().to_string_lossy(),
            "status": found.status,
            "problems": found.diagnostics.iter().map(|problem| json!({
                "message": problem.message,
                "path": problem.path.to_string_lossy(),
                "line": problem.line,
            })).collect::<Vec<_>>(),
        }));
        if found.diagnostics.is_empty() {
            text.push_str(&format!("{name}: {path}: answers the definition\n"));
        } else {
            reports.push(found.report(exit::DIFFERENCES));
        }
    }
    if global.json {
        out::json(&json!({ "bases": rows }))?;
    } else if !global.quiet {
        out::text(&text)?;
    }
    if reports.is_empty() { Ok(exit::OK) } else { Err(Report::several(reports)) }
}

/// What is wrong with a lock.
struct Problems {
    status: &'static str,
    diagnostics: Vec<Diagnostic>,
}

impl Problems {
    fn report(self, exit_code: u8) -> Report {
        let message = self.diagnostics.first().map(|first| first.message.clone()).unwrap_or_default();
        Report::new(exit_code, message).diagnostics(self.diagnostics)
    }
}

fn problems(definition: &Definition, base: &Base, lock: &Path, state: LockState) -> Problems {
    let path = shown(definition, lock);
    let renew = format!("`rootbuild lock {}` writes it", base.name);
    match state {
        LockState::Current => Problems { status: "current", diagnostics: Vec::new() },
        LockState::Unnamed => Problems { status: "unnamed", diagnostics: vec![unnamed(definition, base)] },
        LockState::Missing => {
            let message = format!("base `{}` isn't locked: there is no `{path}`", base.name);
            let diagnostic = definition
                .diagnostic(lock_place(base), message)
                .with_hint(format!("{renew}; keep it with the definition"));
            Problems { status: "missing", diagnostics: vec![diagnostic] }
        }
        LockState::Stale(stale) => {
            let told = |Stale { place, message }: Stale| {
                let message =
                    format!("the lock file `{path}` doesn't answer the definition any more: {message}");
                let hint = format!("{renew} anew, and moves no package that it needn't");
                Diagnostic::line_of(&place.file, place.line, message).with_hint(hint)
            };
            Problems { status: "stale", diagnostics: stale.into_iter().map(told).collect() }
        }
    }
}

/// An error unless every base that these roots stand on comes from a lock that answers the definition
/// (`provision --locked`), told before anything is built.
pub(super) fn require(definition: &Definition, names: &[String]) -> Result<(), Report> {
    let mut seen: Vec<&str> = Vec::new();
    let mut reports = Vec::new();
    for root in definition.select(names)? {
        let base = base_of(definition, root);
        if seen.contains(&base.name.as_str()) {
            continue;
        }
        seen.push(&base.name);
        // A file is what it is; another root's tree is made of what is looked at here.
        let Some(source) = Lockable::of(base, &definition.path) else { continue };
        let state = source.lock_state(None).map_err(|error| Report::from_lock(&base.name, error))?;
        let found = problems(definition, base, source.lock().unwrap_or(Path::new("")), state);
        if !found.diagnostics.is_empty() {
            reports.push(found.report(exit::USAGE));
        }
    }
    if reports.is_empty() { Ok(()) } else { Err(Report::several(reports)) }
}

/// Where to work: in the store, so that what is downloaded is kept; else (without privileges, or only to look)
/// in a temporary directory that goes away with this.
struct Workplace {
    store: Store,
    _temporary: Option<tempfile::TempDir>,
}

impl Workplace {
    fn new(global: Option<&Global>) -> Result<Self, Report> {
        if let Some(global) = global.filter(|_| rustix::process::geteuid().is_root()) {
            return Ok(Self { store: global.store()?, _temporary: None });
        }
        let temporary = tempfile::Builder::new()
            .prefix("rootbuild-lock-")
            .tempdir()
            .map_err(|error| Report::failed("can't make a temporary directory").caused_by(&error))?;
        let store = Store::open(&temporary.path().join("store"))?;
        Ok(Self { store, _temporary: Some(temporary) })
    }

    /// Does something in a fresh scratch directory.
    fn with<T>(
        &self,
        cancel: &Cancel,
        sink: &(dyn Fn(StepEvent) + Sync),
        work: impl FnOnce(BaseContext<'_>) -> Result<T, BaseError>,
    ) -> Result<T, Failed> {
        let staging = self.store.staging("lock").map_err(|error| Failed::Report(error.into()))?;
        let (store, scratch, offline) = (&self.store, staging.path(), false);
        work(BaseContext { store, cancel, sink, scratch, offline, mirror: None }).map_err(Failed::Base)
    }
}

/// Why something couldn't be done.
enum Failed {
    Base(BaseError),
    Report(Report),
}

impl Failed {
    fn report(self, base: &str) -> Report {
        match self {
            Self::Base(error) => Report::from_lock(base, error),
            Self::Report(report) => report,
        }
    }
}

/// Where events go.
fn sink(global: &Global) -> Result<Arc<dyn EventSink>, Report> {
    let mut sinks: Vec<Box<dyn EventSink>> = Vec::new();
    sinks.extend(events::sink(global)?);
    if !global.quiet {
        sinks.push(Box::new(Plain::new(true)));
    }
    Ok(Arc::new(Fanout(sinks)))
}

/// Passes on what a step tells.
fn tell(sink: &dyn EventSink, base: &str, event: StepEvent) {
    let root = base.to_owned();
    sink.event(&match event {
        StepEvent::Phase(text) => Event::Phase { root, text },
        StepEvent::Progress { done, total, bytes } => Event::Progress { root, done, total, bytes },
        StepEvent::Warning(text) => Event::Warning { root, text },
        StepEvent::Line(text) => Event::Line { root, text },
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_with_any_characters() {
        for (pattern, name, expected) in [
            ("bash", "bash", true),
            ("bash", "bash-doc", false),
            ("bas", "bash", false),
            ("python*", "python", true),
            ("python*", "python-libs", true),
            ("*-libs", "python-libs", true),
            ("*-libs", "libs", false),
            ("p*n-*s", "python-libs", true),
            ("li?", "lib", true),
            ("li?", "li", false),
            ("*", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
