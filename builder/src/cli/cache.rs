//! `rootbuild cache`: how large the store is, what of it can go, and whether it is whole.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use rootbuild_cache::Store;
use rootbuild_cache::fsck::KEPT;
use rootbuild_cache::gc::{self, Class, Collection, Outcome, Policy, Telling, Why};
use rootbuild_cache::usage::Usage;
use serde_json::json;

use super::{Global, out};
use crate::bazel::epoch;
use crate::render::{Report, count};
use crate::{exit, upkeep};

mod fsck;

/// Arguments of `rootbuild cache`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Remove what nothing needs, or what is the cheapest to have again
    Gc(GcArguments),
    /// Check that the store is whole
    Fsck(fsck::Arguments),
    /// Tell how much room the store takes
    Size(SizeArguments),
}

/// Arguments of `rootbuild cache gc`.
#[derive(Debug, Args)]
pub struct GcArguments {
    /// Remove the cheapest of what isn't needed until the store takes no more than SIZE (20G, 500M)
    #[arg(long, value_name = "SIZE", env = "ROOTBUILD_MAX_SIZE", value_parser = upkeep::size)]
    pub max_size: Option<u64>,

    /// Remove what isn't needed and wasn't used for DURATION (12h, 30d) [default without --max-size: 14d]
    #[arg(long, value_name = "DURATION", env = "ROOTBUILD_MAX_AGE", value_parser = upkeep::duration)]
    pub max_age: Option<Duration>,

    /// How many generations of each root can be gone back to, the current one among them
    #[arg(
        long,
        value_name = "N",
        env = "ROOTBUILD_KEEP_GENERATIONS",
        default_value_t = upkeep::KEPT_GENERATIONS
    )]
    pub keep_generations: usize,

    /// Let go of what files elsewhere refer to as well (outputs of Bazel), and remove these files
    #[arg(long)]
    pub force: bool,

    /// Only tell what would go
    #[arg(long, env = "ROOTBUILD_DRY_RUN", value_parser = clap::builder::FalseyValueParser::new())]
    pub dry_run: bool,

    /// How long to wait for another collection, in seconds [default: for ever]
    #[arg(long, value_name = "SECONDS", env = "ROOTBUILD_LOCK_TIMEOUT")]
    pub lock_timeout: Option<u64>,
}

/// Arguments of `rootbuild cache size`.
#[derive(Debug, Args)]
pub struct SizeArguments {}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    match &arguments.command {
        Command::Gc(arguments) => collect(global, arguments),
        Command::Fsck(arguments) => fsck::run(global, arguments),
        Command::Size(_) => size(global),
    }
}

/// The store, if there is one: looking after it makes none.
pub(super) fn existing(global: &Global, what: &str) -> Result<Store, Report> {
    super::require_root(what)?;
    if global.store_read_only()?.is_none() {
        return Err(Report::usage(format!("there is no store in `{}`", global.store.display()))
            .hint("name another one with `--store`"));
    }
    global.store()
}

fn collect(global: &Global, arguments: &GcArguments) -> Result<u8, Report> {
    let store = existing(global, "rootbuild cache gc")?;
    let policy = Policy::new(arguments.max_age, arguments.max_size);
    let telling = Progress::new(global);
    let collection = if arguments.dry_run {
        Collection::look(&store)
    } else {
        let timeout = arguments.lock_timeout.map(Duration::from_secs);
        let waiting = |holder: &rootbuild_cache::Holder| {
            telling.phase(&format!("waiting for {holder}"));
        };
        Collection::begin(&store, timeout, &waiting, &|| false)?
    };
    let others = collection.others()?;
    let holdings = upkeep::holdings(&store, arguments.keep_generations, others, arguments.force)?;
    if arguments.force && !arguments.dry_run {
        // Also for references that only Bazel knows of, in a cache of its own say.
        epoch::renew(&store)?;
    }
    let total = match policy.max_size {
        Some(_) => upkeep::sizes(&store)?.into_values().sum::<Usage>().disk,
        None => 0,
    };
    let mut outcome = gc::collect(&collection, &holdings.needs, holdings.items, policy, total, &telling)?;
    // Only now: what has gone may have been the last to use them.
    let unused = store.unused_links(!arguments.dry_run)?;
    let links = Usage { files: unused.files, apparent: unused.bytes, disk: unused.bytes };
    outcome.classes.entry(Class::Links).or_default().freed += links;
    outcome.left = outcome.left.map(|left| left.saturating_sub(links.disk));
    telling.clear();
    if global.json {
        let mut value = json!(outcome);
        value["dry_run"] = json!(arguments.dry_run);
        value["freed"] = json!(outcome.freed());
        out::json(&value)?;
    } else {
        out::text(&told(&outcome, arguments.dry_run, global))?;
    }
    if let (Some(left), Some(most)) = (outcome.left, policy.max_size)
        && left > most
        && !global.quiet
    {
        let _ = writeln!(
            anstream::stderr(),
            "{} stay, more than the {} that were asked for: the rest is needed",
            HumanBytes(left),
            HumanBytes(most)
        );
    }
    Ok(exit::OK)
}

/// What goes and stays, for people.
fn told(outcome: &Outcome, dry_run: bool, global: &Global) -> String {
    let mut text = String::new();
    if dry_run || global.verbose > 0 {
        for item in outcome.items.iter().filter(|item| item.goes || global.verbose > 0) {
            let fate = if item.goes { "goes " } else { "stays" };
            let _ = writeln!(
                text,
                "{fate} {:>10}  {}: {}",
                HumanBytes(item.usage.disk).to_string(),
                item.name,
                words(&item.why, item.unused)
            );
        }
        let _ = writeln!(text, "{:12} {:>12} {:>12}", "", "goes", "stays");
        for (class, share) in &outcome.classes {
            if share.freed == Usage::default() && share.kept == Usage::default() {
                continue;
            }
            let _ = writeln!(
                text,
                "{:12} {:>12} {:>12}",
                class.name(),
                HumanBytes(share.freed.disk).to_string(),
                HumanBytes(share.kept.disk).to_string()
            );
        }
    }
    if global.quiet {
        return text;
    }
    let freed = outcome.freed();
    let verb = if dry_run { "would free" } else { "freed" };
    let files = count(usize::try_from(freed.files).unwrap_or(usize::MAX), "file");
    let _ = writeln!(text, "{verb} {} in {files}", HumanBytes(freed.disk));
    if outcome.waiting > 0 {
        let _ = writeln!(
            text,
            "{} of it only when the commands have ended that run now: the next one deletes it",
            HumanBytes(outcome.waiting)
        );
    }
    text
}

fn words(why: &Why, unused: u64) -> String {
    let unused = format!("unused for {}", indicatif::HumanDuration(Duration::from_secs(unused)));
    match why {
        Why::Needed(what) => format!("needed: {what}"),
        Why::Young => format!("young: {unused}"),
        Why::Fits => format!("there is room: {unused}"),
        Why::Old => unused,
        Why::Budget => format!("to make room: {unused}"),
        Why::Useless(why) => why.clone(),
    }
}

fn size(global: &Global) -> Result<u8, Report> {
    let store = existing(global, "rootbuild cache size")?;
    let sizes = upkeep::sizes(&store)?;
    let total: Usage = sizes.values().copied().sum();
    let freed = upkeep::collectable(&store)?;
    let pins = store.pins()?;
    let references = store.references()?.len();
    if global.json {
        let pins: Vec<_> = pins
            .iter()
            .map(|(name, pin)| json!({"name": name, "tree": pin.tree, "what": pin.what, "created": pin.created}))
            .collect();
        out::json(&json!({
            "store": store.dir().to_string_lossy(),
            "classes": sizes,
            "total": total,
            "collectable": freed,
            "pins": pins,
            "references": references,
        }))?;
        return Ok(exit::OK);
    }
    let mut text = format!("{:12} {:>10} {:>12} {:>12}\n", "", "files", "length", "on disk");
    let mut row = |name: &str, usage: &Usage| {
        let (length, disk) = (HumanBytes(usage.apparent).to_string(), HumanBytes(usage.disk).to_string());
        let _ = writeln!(text, "{name:12} {:>10} {length:>12} {disk:>12}", usage.files);
    };
    sizes.iter().filter(|(_, usage)| usage.files > 0).for_each(|(class, usage)| row(class.name(), usage));
    row("all", &total);
    if sizes.get(&Class::Quarantine).is_some_and(|usage| usage.files > 0) {
        let days = KEPT.as_secs() / (24 * 3600);
        let _ = writeln!(
            text,
            "what repairs moved to `quarantine` goes with the first `cache gc` after {days} days"
        );
    }
    if !pins.is_empty() {
        let names: Vec<&str> = pins.iter().map(|(name, _)| name.as_str()).collect();
        let _ = writeln!(text, "pinned: {}", names.join(", "));
    }
    let _ = writeln!(text, "`rootbuild cache gc` would free {}", HumanBytes(freed));
    out::text(&text)?;
    Ok(exit::OK)
}

/// Tells how far it is, on stderr: a line that changes on a terminal, else a line now and then.
struct Progress {
    quiet: bool,
    terminal: bool,
    state: Mutex<(String, Instant)>,
}

/// How often it is told.
const OFTEN: Duration = Duration::from_millis(200);
/// How often where each is a line of its own.
const SELDOM: Duration = Duration::from_secs(10);

impl Progress {
    fn new(global: &Global) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { quiet: global.quiet, terminal, state: Mutex::new((String::new(), Instant::now())) }
    }

    fn tell(&self, text: Option<&str>, detail: &str) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(text) = text {
            text.clone_into(&mut state.0);
        }
        let every = if self.terminal { OFTEN } else { SELDOM };
        if self.quiet || text.is_none() && state.1.elapsed() < every || text.is_some() && !self.terminal {
            return;
        }
        state.1 = Instant::now();
        let mut stderr = anstream::stderr().lock();
        let (before, after) = if self.terminal { ("\r\u{1b}[K", "") } else { ("", "\n") };
        let _ = write!(stderr, "{before}{}{detail}{after}", state.0);
        let _ = stderr.flush();
    }

    /// Takes the line away.
    fn clear(&self) {
        if self.terminal && !self.quiet {
            let _ = write!(anstream::stderr().lock(), "\r\u{1b}[K");
        }
    }
}

impl Telling for Progress {
    fn phase(&self, text: &str) {
        self.tell(Some(text), "");
    }

    fn deleted(&self, count: u64) {
        self.tell(None, &format!(": {count}"));
    }
}
