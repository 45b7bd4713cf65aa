//! What is right in itself but not together, or not in this world: names, references, files.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rootbuild_cache::Digest;
use rootbuild_playbooks::toolchain::PINNED;
use rootbuild_roots::base::{archive, repos};
use rootbuild_roots::checkout::Areas;
use rootbuild_roots::sandbox::Network;

use super::diagnostic::{At, Problems};
use super::find::{plain, resolve, what_is};
use super::model::Located;
use super::suggest::nearest;
use super::table::{Fields, did_you_mean, list};

/// Names become file names in the store, and parts of unit and machine names.
const NAME_MAX: usize = 64;

/// Checks the name of a base or root.
pub(super) fn name(section: &str, name: &str, at: At, problems: &Problems) {
    let hint = "names are letters, digits, `_`, `.` and `-`, and begin with a letter or digit";
    let shown = name.escape_debug();
    let message = if name.is_empty() {
        format!("the {section}'s name is empty")
    } else if name.chars().count() > NAME_MAX {
        format!("the name `{shown}` is longer than {NAME_MAX} characters")
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !is_plain(name, "_.-") {
        format!("`{shown}` can't be a {section}'s name")
    } else {
        return;
    };
    problems.add(at, message, Some(hint.to_owned()));
}

/// Whether a text is ASCII letters, digits and a few more.
fn is_plain(text: &str, more: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// Checks a value that becomes part of a URL or a command's argument: one plain word.
pub(super) fn word(fields: &Fields<'_, '_>, key: &str, value: Option<&Located<String>>) {
    let Some(value) = value else { return };
    if !value.starts_with(|c: char| c.is_ascii_alphanumeric()) || !is_plain(value, "_.-/+") {
        fields.problem(
            value.span,
            format!("`{key}` in `{}` can't be `{}`", fields.title, value.value),
            Some("it is one word of letters, digits and `_.-/+`".to_owned()),
        );
    }
}

/// Checks names of packages: they become arguments of rpm, dnf and mmdebstrap.
pub(super) fn packages(fields: &Fields<'_, '_>, packages: &[Located<String>]) {
    for package in packages {
        let begins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '?' | '*' | '/');
        let hint = if package.contains([' ', ',', '\t']) {
            "write one package per string: `[\"a\", \"b\"]`"
        } else if !package.starts_with(begins) {
            "a package's name begins with a letter or digit, a group's with `@`"
        } else {
            continue;
        };
        fields.problem(
            package.span,
            format!("`{}` can't be a package's name", package.value),
            Some(hint.to_owned()),
        );
    }
}

/// Checks a mirror's URL.
pub(super) fn url(fields: &Fields<'_, '_>, key: &str, value: Option<&Located<String>>) {
    let Some(value) = value else { return };
    let known = ["http://", "https://", "file://", "file:/", "copy://", "copy:/"];
    if !known.iter().any(|scheme| value.len() > scheme.len() && value.starts_with(scheme))
        || value.contains(' ')
    {
        fields.problem(
            value.span,
            format!("`{key}` in `{}` isn't a URL: `{}`", fields.title, value.value),
            Some("it begins with `http://`, `https://` or `file:///`".to_owned()),
        );
    }
}

/// The private areas of a root whose checkout is `linked`.
pub(super) fn areas(
    fields: &Fields<'_, '_>,
    linked: bool,
    private: Option<&[Located<String>]>,
) -> Option<Areas> {
    if fields.has("private") && !linked {
        let message = format!("`private` in `{}` needs `checkout = \"linked\"`", fields.title);
        fields.problem(
            fields.place("private"),
            message,
            Some("without it all of the root is private".to_owned()),
        );
    }
    let plain = |path: &str| {
        path.strip_prefix('/').is_some_and(|rest| {
            rest.trim_end_matches('/').split('/').all(|name| !matches!(name, "" | "." | ".."))
        })
    };
    for path in private.into_iter().flatten().filter(|path| !plain(path)) {
        let message = format!("`{}` in `private` of `{}` is no path in a root", path.value, fields.title);
        let hint = "write it from the root's top: `/var/lib/app`; for all of the root leave out `checkout`";
        fields.problem(path.span, message, Some(hint.to_owned()));
    }
    linked.then(|| {
        private.map_or_else(Areas::default, |paths| Areas::new(paths.iter().map(|it| it.value.as_str())))
    })
}

/// Checks the repositories that a root declares, and gives them as directories.
pub(super) fn repositories(
    fields: &Fields<'_, '_>,
    network: Option<Network>,
    urls: &[Located<String>],
) -> Vec<String> {
    if fields.has("repos") && network != Some(Network::Repos) {
        let message = format!("`repos` in `{}` needs `network = \"repos\"`", fields.title);
        fields.problem(fields.place("repos"), message, Some("without it nobody asks for them".to_owned()));
    }
    let mut found = Vec::new();
    for url in urls {
        match repos::directory(url) {
            Some(url) => found.push(url),
            None => fields.problem(
                url.span,
                format!("`{}` in `{}` isn't the URL of a repository", url.value.escape_debug(), fields.title),
                Some("write where it begins: `http://HOST/PATH/` or `https://HOST/PATH/`".to_owned()),
            ),
        }
    }
    found
}

/// Checks a SHA-256 digest and gives it in lower case.
pub(super) fn sha256(fields: &Fields<'_, '_>, key: &str, digest: &Located<String>) -> Located<String> {
    let digits = digest.chars().count();
    if digits != 64 || !digest.chars().all(|c| c.is_ascii_hexdigit()) {
        let why = if digits == 64 { String::new() } else { format!(", this has {digits} characters") };
        fields.problem(
            digest.span,
            format!("`{key}` in `{}` isn't a SHA-256 digest", fields.title),
            Some(format!("it is 64 hexadecimal digits, as `sha256sum` prints them{why}")),
        );
    }
    Located { value: digest.value.to_ascii_lowercase(), span: digest.span }
}

/// Reads a tree's digest.
pub(super) fn tree(fields: &Fields<'_, '_>, tree: &Located<String>) -> Option<Located<Digest>> {
    let Ok(value) = tree.value.parse() else {
        let message = format!("`tree` in `{}` isn't the digest of a tree", fields.title);
        let hint = "it is `b3:` and 64 hexadecimal digits, as `rootbuild show` prints it";
        fields.problem(tree.span, message, Some(hint.to_owned()));
        return None;
    };
    Some(Located { value, span: tree.span })
}

/// Checks that an archive's bytes are named, or that somebody signs off that they aren't.
pub(super) fn verified(fields: &Fields<'_, '_>, file: Option<&Located<PathBuf>>, unverified: bool) {
    let title = &fields.title;
    match (fields.has("sha256"), unverified) {
        (true, true) => {
            let message = format!("`{title}` has a `sha256`, and `unverified = true` as well");
            fields.problem(fields.place("unverified"), message, Some("leave one of them out".to_owned()));
        }
        (false, false) => {
            // One that isn't there is told already.
            let Some(file) = file.filter(|file| file.is_file()) else { return };
            let found = archive::sha256_of(file).ok();
            let add = match &found {
                Some(sha256) => format!("add `sha256 = \"{sha256}\"`, which is the file as it is now"),
                None => "add `sha256 = \"…\"`, as `sha256sum` prints it".to_owned(),
            };
            let message = format!("nothing says which bytes the archive of `{title}` must have");
            let hint = format!("{add}; or sign off that nobody checks, with `unverified = true`");
            fields.problem(file.span, message, Some(hint));
        }
        (true, false) | (false, true) => {}
    }
}

/// Checks an inventory host's name: it is given to `--limit`, where other characters are patterns.
pub(super) fn host(fields: &Fields<'_, '_>, host: Option<&Located<String>>) {
    let Some(host) = host else { return };
    if host.starts_with('-') || !is_plain(host, "_.-") {
        fields.problem(
            host.span,
            format!("`host` in `{}` can't be `{}`", fields.title, host.value),
            Some("it is the name of one host of the inventory, not a pattern".to_owned()),
        );
    }
}

/// Checks ansible-core's version: exact, and pinned by somebody.
pub(super) fn core(fields: &Fields<'_, '_>, core: Option<&Located<String>>, has_requirements: bool) {
    let Some(core) = core else { return };
    if PINNED.contains(&core.as_str()) {
        return;
    }
    // "2.16" and ">=2.16" name many; what provisions is part of every key and has to be one.
    let exact = core.split('.').count() >= 3
        && core.split('.').all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
        && is_plain(core, ".");
    if !exact {
        let near = PINNED.iter().rev().find(|pinned| {
            let asked = core.trim_start_matches(['=', '>', '<', '~', '^', ' ']);
            pinned.strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'))
        });
        fields.problem(
            core.span,
            format!("`core` in `[ansible]` isn't an exact version: `{}`", core.value),
            Some(near.map_or_else(
                || format!("versions known to rootbuild are {}", list(PINNED)),
                |near| format!("write `core = \"{near}\"`"),
            )),
        );
    } else if !has_requirements {
        fields.problem(
            core.span,
            format!("rootbuild has no pinned requirements for ansible-core `{}`", core.value),
            Some(format!(
                "use {}, or name hash-pinned ones with `requirements = \"FILE\"`",
                PINNED.iter().map(|version| format!("`{version}`")).collect::<Vec<_>>().join(" or ")
            )),
        );
    }
}

/// Checks that a file which is written one day has a directory to be written to.
pub(super) fn writable_later(fields: &Fields<'_, '_>, file: Option<&Located<PathBuf>>) {
    let Some(file) = file else { return };
    let Some(dir) = file.parent().filter(|dir| !dir.is_dir()) else { return };
    let message = format!("there is no directory `{}` for the file to be written to", dir.display());
    fields.problem(file.span, message, Some("make it, or name another one".to_owned()));
}

/// What has to be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// A regular file that can be read.
    File,
    /// A regular file, or nothing yet.
    FileOrNothing,
    /// A directory.
    Directory,
    /// A regular file or a directory.
    FileOrDirectory,
}

impl Files {
    fn noun(self) -> &'static str {
        match self {
            Self::File | Self::FileOrNothing => "file",
            Self::Directory => "directory",
            Self::FileOrDirectory => "file or directory",
        }
    }

    fn allows(self, metadata: &fs::Metadata) -> bool {
        match self {
            Self::File | Self::FileOrNothing => metadata.is_file(),
            Self::Directory => metadata.is_dir(),
            Self::FileOrDirectory => metadata.is_file() || metadata.is_dir(),
        }
    }
}

/// Resolves a path of the definition and checks that the right thing is there. `project` is the
/// Ansible project as written: paths that were meant from there are a common mistake.
pub(super) fn path(
    dir: &Path,
    project: Option<&str>,
    problems: &Problems,
    written: &Located<String>,
    files: Files,
) -> Located<PathBuf> {
    let path = resolve(dir, Path::new(&written.value));
    let noun = files.noun();
    match fs::metadata(&path) {
        Ok(metadata) if !files.allows(&metadata) => {
            let message = format!("`{}` is {}, not a {noun}", written.value, what_is(&metadata));
            problems.add(written.span, message, None);
        }
        Ok(_) if files == Files::FileOrNothing => {}
        Ok(metadata) => {
            let mut access = rustix::fs::Access::READ_OK;
            if metadata.is_dir() {
                access |= rustix::fs::Access::EXEC_OK;
            }
            if let Err(error) = rustix::fs::access(&path, access) {
                let message = format!("can't read `{}`: {}", written.value, plain(&error.into()));
                problems.add(written.span, message, None);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_ok() => {
            let message = format!("`{}` is a symbolic link to nothing", written.value);
            problems.add(written.span, message, None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if files != Files::FileOrNothing {
                let hint = absent(dir, project, &written.value, &path, files);
                problems.add(written.span, format!("there is no {noun} `{}`", written.value), Some(hint));
            }
        }
        Err(error) => {
            let message = format!("can't read `{}`: {}", written.value, plain(&error));
            problems.add(written.span, message, None);
        }
    }
    Located { value: path, span: written.span }
}

/// What may have been meant by a path at which nothing is.
fn absent(dir: &Path, project: Option<&str>, written: &str, path: &Path, files: Files) -> String {
    if written.starts_with('~') {
        return "`~` isn't expanded: write the whole path".to_owned();
    }
    let fits = |path: &Path| fs::metadata(path).is_ok_and(|metadata| files.allows(&metadata));
    if let Some(project) = project {
        let from_project = Path::new(project).join(written);
        if Path::new(written).is_relative() && fits(&dir.join(&from_project)) {
            return format!("did you mean `{}`?", from_project.display());
        }
    }
    if let (Some(parent), Some(file_name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    {
        let mut names: Vec<String> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            // A directory of more is nobody's project; the hint isn't worth reading all of it.
            .take(2000)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.contains(char::is_control))
            .collect();
        names.sort_unstable();
        let near =
            nearest(file_name, names.iter().map(String::as_str).filter(|name| fits(&parent.join(name))));
        if let Some(near) = near {
            return format!("did you mean `{}`?", Path::new(written).with_file_name(near).display());
        }
    }
    format!("paths start from the definition's directory, `{}`", dir.display())
}

/// Who names whom: collected while sections are read, checked when all of them are known.
#[derive(Debug, Default)]
pub(super) struct Links {
    bases: Vec<(String, Option<Located<String>>)>,
    roots: Vec<(String, Option<Located<String>>)>,
    /// Whether there is an `[ansible]`, however broken.
    pub(super) ansible: bool,
    /// Sections that are there under a wrong name: what they define isn't known.
    pub(super) misspelt: Vec<&'static str>,
    /// The first root with playbooks: its title, and where they are written.
    pub(super) needs_ansible: Option<(String, At)>,
}

impl Links {
    pub(super) fn base(&mut self, name: &str) {
        self.bases.push((name.to_owned(), None));
    }

    /// The base that was named last is another root's tree.
    pub(super) fn base_is_root(&mut self, root: &Located<String>) {
        if let Some((_, target)) = self.bases.last_mut() {
            *target = Some(root.clone());
        }
    }

    pub(super) fn root(&mut self, name: &str, base: Option<&Located<String>>) {
        self.roots.push((name.to_owned(), base.cloned()));
    }
}

/// Checks that everything that is named exists, and that no root stands on itself.
pub(super) fn links(links: &Links, problems: &Problems) {
    let bases: HashMap<&str, Option<&Located<String>>> =
        links.bases.iter().map(|(name, target)| (name.as_str(), target.as_ref())).collect();
    let roots: HashMap<&str, Option<&Located<String>>> =
        links.roots.iter().map(|(name, base)| (name.as_str(), base.as_ref())).collect();

    let known = |section| !links.misspelt.contains(&section);
    for (name, base) in links.roots.iter().filter(|_| known("base")) {
        let Some(base) = base.as_ref().filter(|base| !bases.contains_key(base.as_str())) else { continue };
        let hint = if bases.is_empty() {
            format!("no base is defined: add `[base.{}]`", base.escape_debug())
        } else if nearest(base, bases.keys().copied()).is_none() && roots.contains_key(base.as_str()) {
            format!(
                "`{0}` is a root: to start from its tree, add a base with `source = \"root\"` and `root = \"{0}\"`",
                base.value
            )
        } else {
            did_you_mean(base, links.bases.iter().map(|(name, _)| name.as_str()))
        };
        let message = format!("there is no base `{}` for root `{}`", base.value, name.escape_debug());
        problems.add(base.span, message, Some(hint));
    }
    for (name, target) in links.bases.iter().filter(|_| known("root")) {
        let Some(target) = target.as_ref().filter(|root| !roots.contains_key(root.as_str())) else {
            continue;
        };
        let hint = (!roots.is_empty())
            .then(|| did_you_mean(target, links.roots.iter().map(|(name, _)| name.as_str())));
        let message = format!("there is no root `{}` for base `{}`", target.value, name.escape_debug());
        problems.add(target.span, message, hint);
    }
    cycles(links, &bases, &roots, problems);
    if let (Some((title, at)), false, true) = (&links.needs_ansible, links.ansible, known("ansible")) {
        let newest = PINNED.last().copied().unwrap_or_default();
        problems.add(
            *at,
            format!("`{title}` has playbooks, but there is no `[ansible]`"),
            Some(format!("add `[ansible]` with `core = \"{newest}\"`")),
        );
    }
}

/// Every root stands on one base and that on one root at most: follow until a root comes again.
fn cycles(
    links: &Links,
    bases: &HashMap<&str, Option<&Located<String>>>,
    roots: &HashMap<&str, Option<&Located<String>>>,
    problems: &Problems,
) {
    let mut settled: HashSet<&str> = HashSet::new();
    for (start, _) in &links.roots {
        let mut chain: Vec<(&str, &str, &Located<String>)> = Vec::new();
        let mut root = start.as_str();
        while settled.insert(root) {
            let Some(base) = roots.get(root).copied().flatten() else { break };
            let Some(next) = bases.get(base.as_str()).copied().flatten() else { break };
            chain.push((root, base.as_str(), next));
            root = next.as_str();
        }
        // Only a root of this very chain closes a circle; others were told, or end elsewhere.
        let Some(first) = chain.iter().position(|(seen, _, _)| *seen == root) else { continue };
        let mut shown: Vec<String> = chain[first..]
            .iter()
            .flat_map(|(root, base, _)| [format!("root `{root}`"), format!("base `{base}`")])
            .collect();
        shown.push(format!("root `{root}`"));
        let (_, _, closing) = chain[chain.len() - 1];
        problems.add(
            closing.span,
            format!("root `{root}` stands on itself: {}", shown.join(" → ")),
            Some("give one of these bases another source".to_owned()),
        );
    }
}
