//! Which units of a root are lifted: those that its boot would start, and what they need.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use super::load::{Bound, Found, Index, Loaded};
use super::name::{Kind, UnitName, on_host};
use super::policy;
use super::refuse;
use super::report::{Finding, Level, Place, Report};
use super::rewrite::Context;
use super::specifiers::expand;

/// What is lifted.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// By canonical name.
    pub units: BTreeMap<UnitName, Loaded>,
    /// Those that start with the root.
    pub started: BTreeSet<UnitName>,
}

/// A unit that something asks for.
#[derive(Debug)]
struct Asked {
    name: String,
    /// Whether its absence matters.
    level: Level,
    place: Option<Place>,
    /// Whether the boot asks for it, rather than a unit.
    started: bool,
}

/// What rootbuild's own units of a root are called after its name.
const OURS: [&str; 3] = ["root.service", "net.service", "gate.service"];

/// Settings that bring other units along.
const BRINGS: &[&str] = &["Requires", "Wants", "BindsTo", "Upholds", "OnFailure", "OnSuccess"];

/// Chooses the units.
pub(super) fn choose(context: &Context<'_>, reports: &mut Vec<Report>) -> io::Result<Chosen> {
    let mut choice =
        Choice { context, reports, chosen: Chosen::default(), queue: VecDeque::new(), seen: BTreeSet::new() };
    choice.boot()?;
    while let Some(asked) = choice.queue.pop_front() {
        choice.visit(&asked)?;
    }
    Ok(choice.chosen)
}

struct Choice<'a, 'c> {
    context: &'a Context<'c>,
    reports: &'a mut Vec<Report>,
    chosen: Chosen,
    queue: VecDeque<Asked>,
    /// Names that were decided on.
    seen: BTreeSet<UnitName>,
}

impl Choice<'_, '_> {
    fn index(&self) -> &Index<'_> {
        self.context.index
    }

    /// What the targets of a boot ask for.
    fn boot(&mut self) -> io::Result<()> {
        for (target, of_use) in policy::STARTS {
            let Some(name) = UnitName::parse(target) else { continue };
            if let Found::Unit(canonical, _) = self.index().find(&name)
                && !policy::is_system_target(&canonical.to_string())
            {
                // A default of the root's own.
                let name = canonical.to_string();
                self.queue.push_back(Asked { name, level: Level::Warning, place: None, started: true });
                continue;
            }
            for bound in self.index().bound_by_links(&name)? {
                if *of_use {
                    self.ask_bound(bound, true);
                } else if policy::not_lifted(&bound.unit).is_none() && !policy::is_system_target(&bound.unit)
                {
                    self.early(&bound);
                }
            }
        }
        Ok(())
    }

    fn ask_bound(&mut self, bound: Bound, started: bool) {
        let level = if started || bound.setting == "Requires" { Level::Warning } else { Level::Note };
        self.queue.push_back(Asked { name: bound.unit, level, place: Some(bound.place), started });
    }

    /// Something that a machine starts before its services.
    fn early(&mut self, bound: &Bound) {
        let is_mount = bound.unit.ends_with(".mount") || bound.unit.ends_with(".automount");
        let level = if is_mount { Level::Note } else { Level::Warning };
        let reason = "it is part of a machine's early boot".to_owned();
        self.not_lifted(&bound.unit, Some(bound.place.clone()), reason, level);
    }

    fn not_lifted(&mut self, unit: &str, place: Option<Place>, reason: String, level: Level) {
        let finding = Finding::NotLifted { reason };
        self.reports.push(Report { unit: unit.to_owned(), place, finding, level });
    }

    fn visit(&mut self, asked: &Asked) -> io::Result<()> {
        let Some(name) = UnitName::parse(&asked.name) else {
            let reason = "that is no unit's name".to_owned();
            self.not_lifted(&asked.name, asked.place.clone(), reason, asked.level);
            return Ok(());
        };
        if policy::is_system_target(&asked.name) {
            return Ok(());
        }
        let (name, file) = match self.index().find(&name) {
            Found::Unit(canonical, file) => (canonical, file),
            found => {
                if self.seen.insert(name) {
                    self.absent(asked, found);
                }
                return Ok(());
            }
        };
        if asked.started && self.chosen.units.contains_key(&name) {
            self.chosen.started.insert(name.clone());
        }
        if policy::is_system_target(&name.to_string()) || !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let place = asked.place.clone().or(Some(Place { file: file.clone(), line: 0 }));
        if let Some(reason) = policy::not_lifted(&name.to_string()) {
            self.not_lifted(&name.to_string(), place, reason.to_owned(), Level::Note);
            return Ok(());
        }
        if let Some((reason, level)) = self.kind_says(&name) {
            self.not_lifted(&name.to_string(), place, reason, level);
            return Ok(());
        }
        if asked.started && name.is_template() {
            let reason = "it is a template, and nobody names an instance of it".to_owned();
            self.not_lifted(&name.to_string(), place, reason, Level::Warning);
            return Ok(());
        }
        let loaded = self.context.index.load(&name, &file, self.reports)?;
        if let Some((place, reason)) = refuse::reason(self.context, &loaded) {
            self.not_lifted(&name.to_string(), Some(place), reason, Level::Warning);
            return Ok(());
        }
        self.follow(&loaded);
        if asked.started {
            self.chosen.started.insert(name.clone());
        }
        self.chosen.units.insert(name, loaded);
        Ok(())
    }

    fn absent(&mut self, asked: &Asked, found: Found) {
        let (place, reason, level) = match found {
            Found::Masked(path) => {
                (Some(Place { file: path, line: 0 }), "it is masked".to_owned(), Level::Note)
            }
            _ => (asked.place.clone(), "it isn't there".to_owned(), asked.level),
        };
        let known = policy::not_lifted(&asked.name);
        let level = if known.is_some() { Level::Note } else { level };
        self.not_lifted(&asked.name, place, known.map_or(reason, str::to_owned), level);
    }

    /// Why units of this kind or name can't be lifted.
    fn kind_says(&self, name: &UnitName) -> Option<(String, Level)> {
        let reason = match name.kind {
            Kind::Service | Kind::Socket | Kind::Timer | Kind::Path | Kind::Target => None,
            Kind::Mount | Kind::Automount => Some(("mounts aren't made for roots", Level::Warning)),
            Kind::Swap => Some(("swap is the machine's", Level::Note)),
            Kind::Slice => Some(("each root has a slice", Level::Note)),
            Kind::Scope | Kind::Device => Some(("it stands in no file", Level::Note)),
        };
        if let Some((reason, level)) = reason {
            return Some((reason.to_owned(), level));
        }
        let named = |reason: &str| Some((reason.to_owned(), Level::Warning));
        match on_host(self.context.request.name, name) {
            None => named("its name would be too long on the host"),
            Some(_) if OURS.contains(&name.to_string().as_str()) => {
                named("its name is taken by rootbuild's own")
            }
            Some(_) => None,
        }
    }

    /// Asks for all that a unit brings along.
    fn follow(&mut self, loaded: &Loaded) {
        for bound in &loaded.bound {
            self.ask_bound(bound.clone(), false);
        }
        for entry in &loaded.entries {
            if entry.section != "Unit" || !BRINGS.contains(&entry.key.as_str()) {
                continue;
            }
            let level = if entry.key == "Wants" { Level::Note } else { Level::Warning };
            let file = entry.place.file.as_str();
            let value = expand(&entry.value, &loaded.name, file, self.context.machine);
            for name in value.split_whitespace() {
                let name = as_template(name, &loaded.name);
                let place = Some(entry.place.clone());
                // What every machine has, and what the host's stands for.
                if !policy::may_name(&entry.key, &name) {
                    self.queue.push_back(Asked { name, level, place, started: false });
                }
            }
        }
        for name in partners(self.context, loaded) {
            let place = Some(Place { file: loaded.sources[0].clone(), line: 0 });
            self.queue.push_back(Asked { name, level: Level::Warning, place, started: false });
        }
    }
}

/// The name to look up for one that a template gives with its own instance.
pub(super) fn as_template(name: &str, unit: &UnitName) -> String {
    if unit.is_template() { name.replace("%i", "").replace("%I", "") } else { name.to_owned() }
}

/// What a socket, timer or path starts, and the sockets that a service names.
fn partners(context: &Context<'_>, loaded: &Loaded) -> Vec<String> {
    let kind = loaded.name.kind;
    let key = match kind {
        Kind::Socket => "Service",
        Kind::Timer | Kind::Path => "Unit",
        Kind::Service => "Sockets",
        _ => return Vec::new(),
    };
    let named: Vec<String> = loaded
        .entries
        .iter()
        .filter(|it| it.section == kind.section() && it.key == key)
        .fold(Vec::new(), |mut named, entry| {
            let value = expand(&entry.value, &loaded.name, &entry.place.file, context.machine);
            // Of several units only the last is started; of several sockets each is listened on.
            if kind != Kind::Service || value.is_empty() {
                named.clear();
            }
            named.extend(value.split_whitespace().map(|name| as_template(name, &loaded.name)));
            named
        });
    if !named.is_empty() || kind == Kind::Service {
        return named;
    }
    let service = loaded.name.as_kind(Kind::Service);
    if kind == Kind::Socket && loaded.is_on("Socket", "Accept") {
        return vec![service.with_instance("").to_string()];
    }
    vec![service.to_string()]
}
