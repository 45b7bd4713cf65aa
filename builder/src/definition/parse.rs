//! From TOML to the model: which keys there are, and what each may hold.

use std::path::{Path, PathBuf};

use rootbuild_cache::{Limit, Limits};
use rootbuild_playbooks::run::Services;
use rootbuild_playbooks::toolchain::PINNED;
use rootbuild_roots::base::rpm::Bootstrap;
use rootbuild_roots::sandbox::Network;
use rootbuild_roots::units::Cluster;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{At, Diagnostic, Problems, Source};
use super::model::{Ansible, ArchiveBase, Base, BaseKind, DebianBase, Located, Playbook, Root, RpmBase};
use super::run::{self, Said};
use super::suggest::nearest;
use super::table::{Fields, did_you_mean, in_order, list, type_name};
use super::validate::{self, Files, Links};
use super::{Definition, DefinitionError, vars};

const SECTIONS: &[&str] = &["base", "ansible", "limits", "cluster", "root"];

/// The sources, each with the keys that go with it.
const SOURCES: &[(&str, &[&str])] = &[
    ("rpm", &["repos", "packages", "lock", "releasever", "arch", "bootstrap"]),
    ("debian", &["suite", "packages", "lock", "mirror", "components", "variant", "keyring"]),
    ("archive", &["file", "sha256", "unverified", "strip_components", "devices"]),
    ("root", &["root"]),
    ("tree", &["tree"]),
];

/// mmdebstrap's variants that give a root which Ansible can work in.
const VARIANTS: &[&str] =
    &["essential", "apt", "required", "minbase", "buildd", "important", "debootstrap", "standard"];

/// Reads a definition's text; everything that is wrong with it comes back together.
pub(super) fn parse(source: Source) -> Result<Definition, DefinitionError> {
    let dir = source.path.parent().unwrap_or(Path::new("/")).to_owned();
    let text = source.text.clone();
    let (document, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        return Err(syntax_errors(&source, &errors));
    }
    let problems = Problems::new(source.clone());
    let project = (|| document.as_ref().get("ansible")?.as_ref().get("project")?.as_ref().as_str())();
    let parsed =
        Parser { path: &source.path, dir: &dir, problems: &problems, project }.document(document.as_ref());
    let diagnostics = problems.into_sorted();
    match parsed {
        Some((bases, ansible, limits, cluster, mut roots)) if diagnostics.is_empty() => {
            super::repos::complete(&mut roots, &bases, &source.path);
            let path = source.path.to_path_buf();
            Ok(Definition { path, dir, bases, ansible, limits, cluster, roots, source })
        }
        _ => Err(DefinitionError { diagnostics }),
    }
}

/// What is read from a file that isn't TOML would be guesses: only the syntax errors are told, one a
/// line.
fn syntax_errors(source: &Source, errors: &[toml::de::Error]) -> DefinitionError {
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let at = source.at(&range);
        let header = header_line(&source.text, range.start);
        let told = |line: usize| diagnostics.iter().any(|earlier| earlier.line == Some(line));
        let twice = error.message() == "duplicate key";
        // A table that is there twice has its keys there twice as well.
        if told(at.line) || (twice && header.is_some_and(|(line, _)| told(line))) {
            continue;
        }
        let word = source.text.get(range).unwrap_or("").trim();
        diagnostics.push(if twice {
            let name = header.filter(|(line, _)| *line == at.line).map_or(word, |(_, header)| header);
            source
                .diagnostic(at, format!("`{}` is written twice", name.escape_debug()))
                .with_hint("keep one of the two")
        } else {
            let mut diagnostic = source.diagnostic(at, format!("not TOML: {}", error.message()));
            diagnostic.hint = match word.to_lowercase().as_str() {
                "yes" | "on" => Some("write `true`".to_owned()),
                "no" | "off" => Some("write `false`".to_owned()),
                _ => None,
            };
            diagnostic
        });
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.line);
    DefinitionError { diagnostics }
}

/// The last table header at or before an offset: its line's number and text.
fn header_line(text: &str, offset: usize) -> Option<(usize, &str)> {
    let mut start = 0;
    let mut found = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if start > offset {
            break;
        }
        if line.trim_start().starts_with('[') {
            found = Some((index + 1, line.trim()));
        }
        start += line.len();
    }
    found
}

type Parsed = (Vec<Base>, Option<Ansible>, Limits, Cluster, Vec<Root>);

struct Parser<'a> {
    path: &'a Path,
    dir: &'a Path,
    problems: &'a Problems,
    /// The Ansible project as written, for hints.
    project: Option<&'a str>,
}

impl Parser<'_> {
    fn at(&self, value: &Spanned<impl Sized>) -> At {
        self.problems.at(&value.span())
    }

    fn path(&self, written: &Located<String>, files: Files) -> Located<PathBuf> {
        validate::path(self.dir, self.project, self.problems, written, files)
    }

    fn document(&self, document: &DeTable<'_>) -> Option<Parsed> {
        if document.is_empty() {
            self.problems.add(
                self.problems.at(&(0..0)),
                "the definition is empty",
                Some("it needs a base and a root: `[base.NAME]` and `[root.NAME]`".to_owned()),
            );
            return None;
        }
        let mut links = Links::default();
        let (mut bases, mut roots) = (Vec::new(), Vec::new());
        let mut ansible = None;
        let mut limits = Limits::default();
        let mut cluster = Cluster::of(self.path);
        let mut said = Vec::new();
        for (key, value) in in_order(document) {
            match key.as_ref().as_ref() {
                "base" => {
                    bases =
                        self.section("base", key, value, |name, fields| self.base(name, fields, &mut links));
                }
                "root" => {
                    roots = self.section("root", key, value, |name, fields| {
                        self.root(name, fields, &mut links, &mut said)
                    });
                }
                "ansible" => {
                    links.ansible = true;
                    ansible = self.ansible(self.at(key), value);
                }
                "limits" => limits = self.limits(self.at(key), value),
                "cluster" => cluster = run::cluster(cluster, self.at(key), value, self.problems),
                unknown => {
                    let near = nearest(unknown, SECTIONS.iter().copied());
                    let hint = near.map_or_else(
                        || "a definition has `[base.NAME]`, `[ansible]` and `[root.NAME]`".to_owned(),
                        |near| format!("did you mean `{near}`?"),
                    );
                    let message = format!("unknown key `{}`", unknown.escape_debug());
                    self.problems.add(self.at(key), message, Some(hint));
                    links.misspelt.extend(near);
                }
            }
        }
        if !document.contains_key("root") && !links.misspelt.contains(&"root") {
            self.problems.add(
                self.problems.at(&(0..0)),
                "no root is defined",
                Some("add `[root.NAME]` with `base = \"…\"` and `playbooks = […]`".to_owned()),
            );
        }
        validate::links(&links, self.problems);
        let named = document.get("cluster").and_then(|it| it.as_ref().get("network")).is_some();
        run::together(said, &mut cluster, named, &mut roots, self.problems);
        Some((bases, ansible, limits, cluster, roots))
    }

    /// `[base.NAME]` and `[root.NAME]`: one table per name, in order.
    fn section<T>(
        &self,
        section: &str,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        mut read: impl FnMut(&str, Fields<'_, '_>) -> Option<T>,
    ) -> Vec<T> {
        let hint = || Some(format!("give it a name: `[{section}.NAME]`"));
        let DeValue::Table(tables) = value.as_ref() else {
            let many =
                value.as_ref().as_array().is_some_and(|items| items.iter().all(|i| i.as_ref().is_table()));
            let what = if many { "a list of tables" } else { type_name(value.as_ref()) };
            let message = format!("`{section}` must be a table of {section}s, not {what}");
            self.problems.add(self.at(key), message, hint());
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in in_order(tables) {
            let span = self.at(name);
            let name: &str = name.as_ref();
            let DeValue::Table(table) = value.as_ref() else {
                // `[root]` with the keys of a root in it: said once, not for every key.
                let message = format!("`[{section}]` has no name");
                self.problems.add(self.at(key), message, hint());
                break;
            };
            let title = format!("[{section}.{}]", name.escape_debug());
            let fields = Fields::new(title, span, table, self.problems);
            validate::name(section, name, span, self.problems);
            found.extend(read(name, fields));
        }
        found
    }

    fn base(&self, name: &str, fields: Fields<'_, '_>, links: &mut Links) -> Option<Base> {
        if let Some(whole) = fields.only_a_table("base", name) {
            links.base(&whole);
            return None;
        }
        let span = fields.span;
        links.base(name);
        // A base without a source still tells what it is by its other keys.
        let likely = SOURCES
            .iter()
            .find(|(_, keys)| keys.iter().any(|key| *key != "packages" && fields.has(key)))
            .map_or("rpm", |(source, _)| *source);
        let source = fields.required_string("source", &format!("{likely:?}"));
        let known = source.as_ref().and_then(|s| SOURCES.iter().find(|(name, _)| *name == s.value));
        let kind = match known.map(|(name, _)| *name) {
            Some("rpm") => self.rpm(&fields).map(BaseKind::Rpm),
            Some("debian") => self.debian(&fields).map(BaseKind::Debian),
            Some("archive") => self.archive(&fields).map(BaseKind::Archive),
            Some("root") => fields.required_string("root", "\"NAME\"").map(|root| {
                links.base_is_root(&root);
                BaseKind::Root(root)
            }),
            Some("tree") => fields
                .required_string("tree", "\"b3:…\"")
                .and_then(|tree| validate::tree(&fields, &tree))
                .map(BaseKind::Tree),
            _ => {
                if let Some(source) = source {
                    let names = SOURCES.iter().map(|(name, _)| *name);
                    let message = format!("`source` in `{}` can't be `{}`", fields.title, source.value);
                    fields.problem(source.span, message, Some(did_you_mean(&source, names)));
                }
                // Which keys are right isn't known without the source; typing errors are.
                SOURCES.iter().for_each(|(_, keys)| fields.allow(keys));
                fields.finish(|_| None);
                return None;
            }
        };
        let own = known.map_or("", |(name, _)| name);
        fields.finish(|key| {
            let owners: Vec<&str> =
                SOURCES.iter().filter(|(_, keys)| keys.contains(&key)).map(|(name, _)| *name).collect();
            (!owners.is_empty())
                .then(|| format!("`{key}` goes with source {}, this base's source is `{own}`", list(&owners)))
        });
        Some(Base { name: name.to_owned(), kind: kind?, span })
    }

    fn rpm(&self, fields: &Fields<'_, '_>) -> Option<RpmBase> {
        let repos = fields.required_strings("repos", "[\"bases/centos7.repo\"]");
        let packages = fields.required_strings("packages", "[\"@core\"]");
        validate::packages(fields, packages.as_deref().unwrap_or_default());
        let repos = repos.map(|repos| repos.into_iter().map(|repo| self.path(&repo, Files::File)).collect());
        let lock = fields.string("lock").map(|lock| self.path(&lock, Files::FileOrNothing));
        validate::writable_later(fields, lock.as_ref());
        let releasever = fields.string("releasever");
        let arch = fields.string("arch");
        for (key, word) in [("releasever", &releasever), ("arch", &arch)] {
            validate::word(fields, key, word.as_ref());
        }
        let default = |value: &str| Located { value: value.to_owned(), span: fields.span };
        let ways = [("auto", Bootstrap::Auto), ("host", Bootstrap::Host), ("root", Bootstrap::Root)];
        let bootstrap = fields.choice("bootstrap", &ways);
        Some(RpmBase {
            repos: repos?,
            packages: packages?,
            lock,
            releasever: releasever.unwrap_or_else(|| default("7")),
            arch: arch.unwrap_or_else(|| default(std::env::consts::ARCH)),
            bootstrap: bootstrap.map_or(Bootstrap::default(), |bootstrap| bootstrap.value),
        })
    }

    fn debian(&self, fields: &Fields<'_, '_>) -> Option<DebianBase> {
        let suite = fields.required_string("suite", "\"bookworm\"");
        validate::word(fields, "suite", suite.as_ref());
        let packages = fields.strings("packages").unwrap_or_default();
        validate::packages(fields, &packages);
        let mirror = fields.string_or_strings("mirror").unwrap_or_default();
        for url in &mirror {
            validate::url(fields, "mirror", Some(url));
        }
        let components = fields.strings("components").unwrap_or_default();
        for component in &components {
            validate::word(fields, "components", Some(component));
        }
        let variants: Vec<(&'static str, &'static str)> =
            VARIANTS.iter().map(|name| (*name, *name)).collect();
        let variant = fields.choice("variant", &variants);
        let keyring = fields.string("keyring").map(|keyring| self.path(&keyring, Files::FileOrDirectory));
        let lock = fields.string("lock").map(|lock| self.path(&lock, Files::FileOrNothing));
        validate::writable_later(fields, lock.as_ref());
        Some(DebianBase {
            suite: suite?,
            packages,
            mirror,
            components,
            variant: variant.map(|v| Located { value: v.value.to_owned(), span: v.span }),
            keyring,
            lock,
        })
    }

    fn archive(&self, fields: &Fields<'_, '_>) -> Option<ArchiveBase> {
        let file =
            fields.required_string("file", "\"rootfs.tar.zst\"").map(|file| self.path(&file, Files::File));
        let sha256 = fields.string("sha256").map(|digest| validate::sha256(fields, "sha256", &digest));
        let unverified = fields.bool("unverified").unwrap_or_else(|| fields.has("unverified"));
        validate::verified(fields, file.as_ref(), unverified);
        let strip_components = fields.number("strip_components", 255).unwrap_or(0);
        let devices = fields.bool("devices").unwrap_or(false);
        Some(ArchiveBase { file: file?, sha256, strip_components, devices })
    }

    /// What isn't written is as it is by default.
    fn limits(&self, span: At, value: &Spanned<DeValue<'_>>) -> Limits {
        let mut limits = Limits::default();
        let DeValue::Table(table) = value.as_ref() else {
            let message = format!("`limits` must be a table, not {}", type_name(value.as_ref()));
            self.problems.add(self.at(value), message, Some("write it as a section: `[limits]`".to_owned()));
            return limits;
        };
        let fields = Fields::new("[limits]".to_owned(), span, table, self.problems);
        for limit in Limit::all() {
            if let Some(value) = fields.limit(limit) {
                limits = limits.with(limit, value);
            }
        }
        fields.finish(|_| None);
        limits
    }

    fn ansible(&self, span: At, value: &Spanned<DeValue<'_>>) -> Option<Ansible> {
        let DeValue::Table(table) = value.as_ref() else {
            let message = format!("`ansible` must be a table, not {}", type_name(value.as_ref()));
            self.problems.add(self.at(value), message, Some("write it as a section: `[ansible]`".to_owned()));
            return None;
        };
        let fields = Fields::new("[ansible]".to_owned(), span, table, self.problems);
        let newest = PINNED.last().copied().unwrap_or("2.19.14");
        let core = fields.required_string("core", &format!("{newest:?}"));
        let requirements = fields.string("requirements").map(|file| self.path(&file, Files::File));
        validate::core(&fields, core.as_ref(), fields.has("requirements"));
        let project = fields
            .string("project")
            .map_or_else(|| self.dir.to_owned(), |project| self.path(&project, Files::Directory).value);
        let inventory =
            fields.string("inventory").map(|inventory| self.path(&inventory, Files::FileOrDirectory));
        // The password may be on another machine: it is needed when a playbook runs, not to plan one.
        let vault_password_file =
            fields.string("vault_password_file").map(|file| self.path(&file, Files::FileOrNothing));
        fields.finish(|_| None);
        Some(Ansible { core: core?, project, inventory, vault_password_file, requirements, span })
    }

    fn root(
        &self,
        name: &str,
        fields: Fields<'_, '_>,
        links: &mut Links,
        said: &mut Vec<Said>,
    ) -> Option<Root> {
        if let Some(whole) = fields.only_a_table("root", name) {
            links.root(&whole, None);
            return None;
        }
        let span = fields.span;
        let base = fields.required_string("base", "\"NAME\"");
        links.root(name, base.as_ref());
        let host = fields.string("host");
        validate::host(&fields, host.as_ref());
        let playbooks = fields.strings("playbooks").unwrap_or_default();
        if !playbooks.is_empty() && links.needs_ansible.is_none() {
            links.needs_ansible = Some((fields.title.clone(), fields.place("playbooks")));
        }
        let playbooks = playbooks
            .into_iter()
            .map(|playbook| {
                let file = self.path(&playbook, Files::File);
                Playbook { name: playbook.value, path: file.value, span: file.span }
            })
            .collect();
        let vars = fields.table("vars").map(|table| vars::to_json(&fields.title, &table, self.problems));
        let networks =
            [Network::None, Network::Repos, Network::Host].map(|network| (network.name(), network));
        let network = fields.choice("network", &networks);
        let repos = fields.strings("repos").unwrap_or_default();
        let repos = validate::repositories(&fields, network.as_ref().map(|network| network.value), &repos);
        let boot = fields.bool("boot").unwrap_or(false);
        let services = fields.choice("services", &[("defer", Services::Defer), ("fail", Services::Fail)]);
        let linked = fields.choice("checkout", &[("private", false), ("linked", true)]);
        let private = fields.strings("private");
        let private = validate::areas(&fields, linked.is_some_and(|linked| linked.value), private.as_deref());
        let running = fields.table("run");
        let stands_for = host.as_ref().map_or(name, |host| host.value.as_str());
        let running = run::run(name, span, stands_for, running.as_ref(), self.problems);
        let run = running.run.clone();
        said.push(running);
        let runs = |key: &str| run::KEYS.contains(&key).then(|| format!("write it in `[root.{name}.run]`"));
        fields.finish(runs);
        Some(Root {
            name: name.to_owned(),
            host: host.unwrap_or_else(|| Located { value: name.to_owned(), span }),
            base: base?,
            playbooks,
            vars: vars.unwrap_or_default(),
            network: network.map_or(Network::default(), |network| network.value),
            repos,
            boot,
            services: services.map_or(Services::default(), |services| services.value),
            private,
            run,
            span,
        })
    }
}
