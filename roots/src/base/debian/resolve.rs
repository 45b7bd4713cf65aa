//! Which packages make up a base: asked of apt, which sees the archives' lists (checked by it) and an empty system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{BaseContext, BaseError};
use super::command::{self, Layout};
use super::lock::{self, Lock, Package, Repo};
use super::output::Watcher;
use super::{DebianBase, DebianError, release, snapshot, version};
use crate::process::{self, Output};
use crate::progress::StepEvent;

/// How often packages are let go to make others fit, before all are.
const ROUNDS: u32 = 20;

/// What apt tells of each list: one line, separated by `|`.
const TARGET: &str = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(METAKEY)|$(FILENAME)";

/// What was found out.
pub(super) struct Resolution {
    pub(super) lock: Lock,
    /// Names that were to move and stay behind the newest version, which is the second.
    pub(super) held: Vec<(String, String)>,
}

/// Packages that stay what they are.
#[derive(Clone, Copy)]
pub(super) struct Pins<'a> {
    /// What is locked.
    pub(super) lock: &'a Lock,
    /// Which names of that may move.
    pub(super) update: &'a [String],
}

/// One list of packages.
struct Target {
    url: String,
    suite: String,
    component: String,
    /// What the names of the repository's files among apt's lists begin with.
    prefix: String,
    file: PathBuf,
}

/// Chooses the packages. `pins` are kept as far as that is possible.
pub(super) fn resolve(
    context: BaseContext<'_>,
    base: &DebianBase,
    layout: &Layout<'_>,
    pins: Option<Pins<'_>>,
) -> Result<Resolution, BaseError> {
    let apt = Apt::new(context, base, layout)?;
    (context.sink)(StepEvent::Phase("resolving packages".to_owned()));
    let chosen = apt.choose(pins)?;
    let targets = apt.targets()?;
    let update = pins.map_or(&[][..], |pins| pins.update);
    let (packages, newest) = apt.described(&targets, &chosen, update)?;
    let held = update.iter().filter_map(|name| {
        let locked = packages.iter().find(|package| package.name == *name)?;
        let newest = newest.get(name).filter(|newest| version::compare(newest, &locked.version).is_gt())?;
        Some((name.clone(), newest.clone()))
    });
    let held = held.collect();
    let repos = apt.repos(&targets)?;
    let moment = repos.iter().find_map(|repo| snapshot::moment(&repo.url).map(str::to_owned));
    let snapshot = moment.or_else(|| repos.iter().map(|repo| repo.date.clone()).max()).unwrap_or_default();
    let lock = Lock::new(lock::request(base), snapshot, repos, packages);
    Ok(Resolution { lock, held })
}

/// An apt with a configuration of its own.
struct Apt<'a> {
    context: BaseContext<'a>,
    base: &'a DebianBase,
    watcher: Watcher<'a>,
    dir: PathBuf,
    config: PathBuf,
}

impl<'a> Apt<'a> {
    /// Gets the lists.
    fn new(context: BaseContext<'a>, base: &'a DebianBase, layout: &Layout<'_>) -> Result<Self, BaseError> {
        let dir = context.scratch.join("apt");
        let config = context.scratch.join("apt.conf");
        fs::create_dir(&dir).map_err(BaseError::io("make", &dir))?;
        let watcher = Watcher::new(context.sink);
        base.watched(context, &watcher, command::lists(&base.answering(), &dir, layout))?;
        let text = format!(
            "Dir \"{0}\";\nDir::State::Status \"{0}/var/lib/dpkg/status\";\nApt::Architecture \"{1}\";\n\
             Apt::Architectures {{ \"{1}\"; }};\nApt::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n\
             pkgCacheGen::ForceEssential \",\";\n",
            dir.display(),
            lock::arch()
        );
        fs::write(&config, text).map_err(BaseError::io("write", &config))?;
        Ok(Self { context, base, watcher, dir, config })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = process::tool(program);
        command.env("APT_CONFIG", &self.config).env("HOME", self.context.scratch);
        command
    }

    fn ask(&self, command: Command) -> Result<Output, BaseError> {
        let line = |line: &str| {
            self.watcher.see(line);
        };
        Ok(process::capture(command, b"", self.context.cancel, &line)?)
    }

    fn failed(&self, output: &Output) -> BaseError {
        let said = String::from_utf8_lossy(&output.stdout);
        said.lines().for_each(|line| {
            self.watcher.see(line);
        });
        let unmet: Vec<&str> = said.lines().filter(|line| line.starts_with(' ')).collect();
        let tail = format!("{}\n{}", unmet.join("\n"), output.tail);
        self.watcher.explain(&self.base.suite, tail.trim_matches('\n'), self.base.shown_keyring()).into()
    }

    fn targets(&self) -> Result<Vec<Target>, BaseError> {
        let mut command = self.command("apt-get");
        command.args(["indextargets", "--format", TARGET]);
        let output = self.ask(command)?;
        if !output.status.success() {
            return Err(self.failed(&output));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let target = |line: &str| {
            let [by, url, suite, component, key, file] = line.split('|').collect::<Vec<_>>()[..] else {
                return None;
            };
            let prefix = file.strip_suffix(&key.replace('/', "_"))?.to_owned();
            let url = url.trim_end_matches('/').to_owned();
            let [suite, component] = [suite, component].map(str::to_owned);
            (by == "Packages").then(|| Target { url, suite, component, prefix, file: file.into() })
        };
        let targets: Vec<Target> = text.lines().filter_map(target).collect();
        if targets.is_empty() {
            return Err(DebianError::Failed(format!("apt has no lists of packages\n{text}")).into());
        }
        Ok(targets)
    }

    /// What mmdebstrap would ask apt for, at once: the variant's packages and those of the definition.
    fn wanted(&self) -> Vec<String> {
        let suite = &self.base.suite;
        let of_suite = |what: &str| {
            format!(
                "?narrow(?or(?archive(^{suite}$),?codename(^{suite}$)),?architecture({}),{what})",
                lock::arch()
            )
        };
        let mut wanted = vec![of_suite("?essential")];
        let priorities: Vec<String> =
            priorities(self.base.variant()).iter().map(|priority| format!("?priority({priority})")).collect();
        match priorities.as_slice() {
            [] => {}
            [one] => wanted.push(of_suite(&format!("?and({one},?not(?essential))"))),
            several => wanted.push(of_suite(&format!("?and(?or({}),?not(?essential))", several.join(",")))),
        }
        wanted.extend(by_name(self.base.variant()).iter().map(|name| (*name).to_owned()));
        wanted.extend(lock::request(self.base).packages);
        wanted
    }

    /// Name, version and architecture of everything that would be installed.
    fn choose(&self, pins: Option<Pins<'_>>) -> Result<BTreeSet<[String; 3]>, BaseError> {
        let preferences = self.dir.join("etc/apt/preferences.d/locked.pref");
        let mut kept: BTreeMap<&str, &Package> = BTreeMap::new();
        if let Some(Pins { lock, update }) = pins {
            let stay = lock.packages.iter().filter(|package| !update.contains(&package.name));
            kept.extend(stay.map(|package| (package.name.as_str(), package)));
        }
        let mut round = 0;
        loop {
            let pins: String = kept
                .values()
                .map(|p| format!("Package: {}\nPin: version {}\nPin-Priority: 1001\n\n", p.name, p.version))
                .collect();
            fs::write(&preferences, pins).map_err(BaseError::io("write", &preferences))?;
            let mut command = self.command("apt-get");
            command.args(["--yes", "--simulate", "-oDebug::NoLocking=true", "install", "--"]);
            command.args(self.wanted());
            let output = self.ask(command)?;
            let text = String::from_utf8_lossy(&output.stdout);
            if output.status.success() {
                return Ok(text.lines().filter_map(installed).collect());
            }
            if kept.is_empty() {
                return Err(self.failed(&output));
            }
            // What stands in the way may move, and what was built with it.
            let before = kept.len();
            let sources: BTreeSet<&str> = unmet(&text)
                .into_iter()
                .filter_map(|name| kept.get(name).map(|package| package.source_name()))
                .collect();
            kept.retain(|_, package| !sources.contains(package.source_name()));
            round += 1;
            if kept.len() == before || round == ROUNDS {
                kept.clear();
            }
        }
    }

    /// What the lists say of packages, and the newest version that they have of each of the `names`.
    fn described(
        &self,
        targets: &[Target],
        chosen: &BTreeSet<[String; 3]>,
        names: &[String],
    ) -> Result<(Vec<Package>, BTreeMap<String, String>), BaseError> {
        let mut missing = chosen.clone();
        let by_name: BTreeSet<&str> =
            chosen.iter().map(|[name, ..]| name.as_str()).chain(names.iter().map(String::as_str)).collect();
        let asked: Vec<String> = lock::request(self.base).packages;
        let (mut packages, mut newest) = (Vec::new(), BTreeMap::<String, String>::new());
        for target in targets {
            let text = fs::read(&target.file).map_err(BaseError::io("read", &target.file))?;
            let text = String::from_utf8_lossy(&text);
            for paragraph in text.split("\n\n") {
                let stanza = Stanza(paragraph);
                let Some(name) = stanza.field("Package").filter(|name| by_name.contains(name)) else {
                    continue;
                };
                let Some(found) = stanza.field("Version") else { continue };
                let highest = newest.entry(name.to_owned()).or_insert_with(|| found.to_owned());
                if version::compare(found, highest).is_gt() {
                    found.clone_into(highest);
                }
                let arch = stanza.field("Architecture").unwrap_or_default();
                if !missing.remove(&[name, found, arch].map(str::to_owned)) {
                    continue;
                }
                let package = stanza.package(target.id(targets), self.base.variant(), &asked);
                let package = package.filter(|package| package.strange().is_none());
                packages.push(package.ok_or_else(|| {
                    DebianError::Failed(format!("what the archive says of `{name}` can't be:\n{paragraph}"))
                })?);
            }
        }
        match missing.first() {
            None => Ok((packages, newest)),
            Some([name, version, _]) => {
                Err(DebianError::Failed(format!("apt chose {name} {version}, which is in no list")).into())
            }
        }
    }

    /// The repositories, in the order in which apt has them.
    fn repos(&self, targets: &[Target]) -> Result<Vec<Repo>, BaseError> {
        let sources = self.dir.join("etc/apt/sources.list");
        let sources = fs::read_to_string(&sources).map_err(BaseError::io("read", &sources))?;
        let mut repos: Vec<Repo> = Vec::new();
        for target in targets {
            let id = target.id(targets);
            if let Some(repo) = repos.iter_mut().find(|repo| repo.id == id) {
                if !repo.components.contains(&target.component) {
                    repo.components.push(target.component.clone());
                }
                continue;
            }
            let signed_by = signed_by(&sources, &target.url, &target.suite);
            let keyrings: Vec<PathBuf> = match (&self.base.keyring, &signed_by) {
                (Some(keyring), _) => release::files(keyring),
                (None, Some(keyring)) => release::files(Path::new(keyring)),
                (None, None) => {
                    let host = ["/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d"];
                    host.iter().flat_map(|path| release::files(Path::new(path))).collect()
                }
            };
            let release = release::read(self.context, &target.prefix, &keyrings)?;
            repos.push(Repo {
                id,
                url: target.url.clone(),
                suite: target.suite.clone(),
                components: vec![target.component.clone()],
                signed_by,
                date: release.date,
                release_sha256: release.sha256,
                fingerprints: release.fingerprints,
            });
        }
        Ok(repos)
    }
}

impl Target {
    /// What its repository is called: its suite, with a number where others are called so too.
    fn id(&self, all: &[Self]) -> String {
        let mut urls: Vec<&str> = Vec::new();
        for other in all.iter().filter(|other| other.suite == self.suite) {
            if !urls.contains(&other.url.as_str()) {
                urls.push(&other.url);
            }
        }
        match urls.iter().position(|url| *url == self.url) {
            None | Some(0) => self.suite.clone(),
            Some(number) => format!("{}-{}", self.suite, number + 1),
        }
    }
}

/// A paragraph of a list.
struct Stanza<'a>(&'a str);

impl<'a> Stanza<'a> {
    fn field(&self, name: &str) -> Option<&'a str> {
        let is = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        self.0.lines().find(is).map(|line| line[name.len() + 1..].trim())
    }

    fn package(&self, repo: String, variant: &str, asked: &[String]) -> Option<Package> {
        let name = self.field("Package")?.to_owned();
        let version = self.field("Version")?.to_owned();
        let source = match self.field("Source").map(|source| source.split_once(" (").unwrap_or((source, "")))
        {
            None => name.clone(),
            Some((source, other)) => match other.trim_end_matches(')') {
                "" => source.to_owned(),
                other => format!("{source} {other}"),
            },
        };
        let plain = |asked: &String| asked.split(['=', '/', ':']).next() == Some(name.as_str());
        let selected = self.field("Essential") == Some("yes")
            || self.field("Priority").is_some_and(|priority| priorities(variant).contains(&priority))
            || by_name(variant).contains(&name.as_str())
            || asked.iter().any(plain);
        Some(Package {
            version,
            arch: self.field("Architecture")?.to_owned(),
            repo,
            location: self.field("Filename")?.trim_start_matches("./").to_owned(),
            size: self.field("Size")?.parse().ok()?,
            sha256: self.field("SHA256")?.to_owned(),
            source,
            auto: !selected,
            name,
        })
    }
}

/// The priorities of which a variant has all packages, beside the essential ones.
fn priorities(variant: &str) -> &'static [&'static str] {
    match variant {
        "essential" | "apt" => &[],
        "required" | "minbase" | "buildd" => &["required"],
        "standard" => &["required", "important", "standard"],
        // `important`, and what is another name for it.
        _ => &["required", "important"],
    }
}

/// What a variant has beside that.
fn by_name(variant: &str) -> &'static [&'static str] {
    match variant {
        "apt" => &["apt"],
        "buildd" => &["build-essential"],
        _ => &[],
    }
}

/// `Inst name (version origin [arch])` of a simulation.
fn installed(line: &str) -> Option<[String; 3]> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
    let (_, inside) = rest.split_once('(')?;
    let (version, rest) = inside.split_once(' ')?;
    let arch = rest.split_once(')')?.0.rsplit_once('[')?.1.split(']').next()?;
    Some([name.split(':').next()?, version, arch].map(str::to_owned))
}

/// The packages that can't be as they are, and those that are in their way: ` a : Depends: b (= 1) but 2 is to be
/// installed`, where further lines of `a` don't name it again.
fn unmet(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with(' ')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            names.extend(match pair {
                [name, ":"] => Some(*name),
                [relation, name] if relation.len() > 1 && relation.ends_with(':') => Some(*name),
                _ => None,
            });
        }
    }
    // `name:any`
    names.into_iter().filter_map(|name| name.split(':').next()).collect()
}

/// The keyring that a line of `sources.list` names for a repository.
fn signed_by(sources: &str, url: &str, suite: &str) -> Option<String> {
    sources.lines().find_map(|line| {
        let (options, rest) =
            line.trim().strip_prefix("deb")?.trim_start().strip_prefix('[')?.split_once(']')?;
        let mut words = rest.split_whitespace();
        let same = words.next()?.trim_end_matches('/') == url && words.next()? == suite;
        let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="))?;
        same.then(|| keyring.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_tells_what_would_be_installed() {
        let inst = "Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) [x:amd64 ]";
        assert_eq!(installed(inst), Some(["libc6", "2.36-9+deb12u14", "amd64"].map(str::to_owned)));
        let upgrade = "Inst a [1] (2 A:1/x, B:2/y [all])";
        assert_eq!(installed(upgrade), Some(["a", "2", "all"].map(str::to_owned)));
        assert_eq!(installed("Conf libc6 (2.36 Debian [amd64])"), None);
    }

    #[test]
    fn what_stands_in_the_way_is_read_from_what_apt_says() {
        let said = "The following packages have unmet dependencies:\n app : Depends: lib (>= 2) but 1 is to be installed\n       \
                    Depends: other:any but it is not installable\n tool : Breaks: gone (< 3)\nE: Unable to correct problems\n";
        assert_eq!(unmet(said).into_iter().collect::<Vec<_>>(), ["app", "gone", "lib", "other", "tool"]);
    }

    #[test]
    fn a_paragraph_of_a_list_is_a_package() {
        let stanza = Stanza(
            "Package: libgcc-s1\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+b1\nArchitecture: amd64\nPriority: optional\n\
             Description: Version: 9\nFilename: pool/g.deb\nSize: 7\nSHA256: ab\n",
        );
        let package = stanza.package("bookworm".to_owned(), "minbase", &[]).expect("complete");
        assert_eq!((package.source.as_str(), package.source_name()), ("gcc-12 12.2.0-14", "gcc-12"));
        assert!(package.auto && package.size == 7, "{package:?}");
        let asked = ["libgcc-s1=12".to_owned()];
        assert!(!stanza.package("x".to_owned(), "minbase", &asked).expect("complete").auto);
    }

    #[test]
    fn a_repositorys_keyring_is_the_one_of_its_line() {
        let sources = "deb [arch=amd64 signed-by=\"/k.gpg\"] http://m/debian bookworm main\ndeb http://m/debian sid main\n";
        assert_eq!(signed_by(sources, "http://m/debian", "bookworm").as_deref(), Some("/k.gpg"));
        assert_eq!(signed_by(sources, "http://m/debian", "sid"), None);
    }
}
