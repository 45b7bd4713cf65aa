//! yum's `.repo` files.

use std::path::{Path, PathBuf};

use super::super::{BaseContext, BaseError, Place, RepoAt};

/// A repository of a `.repo` file, variables substituted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repo {
    /// Its id: the section's name.
    pub(super) id: String,
    /// Where the section starts.
    pub(super) place: Place,
    /// Where it can be found.
    pub(super) source: Source,
    /// Whether packages must be signed with one of [`Self::keys`].
    pub(super) gpgcheck: bool,
    /// Whether the metadata must be signed too.
    pub(super) repo_gpgcheck: bool,
    /// Keys, each with the line that names it.
    pub(super) keys: Vec<(KeyFile, Place)>,
    /// Fingerprints that the keys must have, upper-case hexadecimal; empty: any.
    pub(super) fingerprints: Vec<String>,
    /// Whether they are what is known of the repository, and not written in the file.
    pub(super) pinned_by_default: bool,
    /// A list of more mirrors, for when [`Self::source`] does not help: `mirrorlist` or `metalink`.
    pub(super) list: Option<String>,
    /// Whether certificates of https servers are checked.
    pub(super) sslverify: bool,
    /// Options that only dnf needs to know: `excludepkgs`, `includepkgs`, `priority`, `cost`.
    pub(super) options: Vec<(&'static str, String)>,
    /// The line of every option that was given.
    pub(super) lines: Vec<(String, usize)>,
    /// Options that were given and mean nothing here.
    pub(super) ignored: Vec<String>,
}

impl Repo {
    /// Its name in errors.
    pub(super) fn named(&self) -> Box<RepoAt> {
        Box::new(RepoAt { id: self.id.clone(), place: self.place.clone() })
    }

    /// Where the last of these options is written, else the start of the section.
    pub(super) fn place_of(&self, options: &[&str]) -> Place {
        let written = self.lines.iter().rev().find(|(option, _)| options.contains(&option.as_str()));
        match written {
            Some((_, line)) => Place { file: self.place.file.clone(), line: *line },
            None => self.place.clone(),
        }
    }
}

/// Where a repository can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Its own URLs, without a slash at the end.
    Urls(Vec<String>),
    /// The URL of a list of mirrors.
    MirrorList(String),
    /// The URL of a Metalink file.
    Metalink(String),
}

impl Source {
    /// The URL to show to people.
    pub(super) fn shown(&self) -> &str {
        match self {
            Self::Urls(urls) => urls.first().map_or("", String::as_str),
            Self::MirrorList(url) | Self::Metalink(url) => url,
        }
    }
}

impl Repo {
    /// The same repository, on the mirror that is to be used.
    pub(super) fn mirrored(mut self, context: BaseContext<'_>) -> Self {
        match &mut self.source {
            Source::Urls(urls) => urls.iter_mut().for_each(|url| *url = context.mirrored(url)),
            Source::MirrorList(url) | Source::Metalink(url) => *url = context.mirrored(url),
        }
        self
    }
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyFile {
    /// A file of this host.
    File(PathBuf),
    /// To be downloaded.
    Url(String),
}

impl KeyFile {
    /// For people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(path) => format!("`{}`", path.display()),
            Self::Url(url) => format!("`{url}`"),
        }
    }
}

/// What the variables in `.repo` files mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variables<'a> {
    pub(super) releasever: &'a str,
    pub(super) arch: &'a str,
    pub(super) basearch: &'a str,
}

/// A section as it is written.
struct Section {
    id: String,
    line: usize,
    /// Key, value, line. A key may come twice: the last counts.
    values: Vec<(String, String, usize)>,
}

/// Options that change nothing here, or nothing at all.
const MEANINGLESS: [&str; 17] = [
    "name",
    "enabled",
    "failovermethod",
    "metadata_expire",
    "mirrorlist_expire",
    "keepcache",
    "http_caching",
    "skip_if_unavailable",
    "enablegroups",
    "type",
    "retries",
    "timeout",
    "throttle",
    "bandwidth",
    "ui_repoid_vars",
    "deltarpm",
    "countme",
];

/// Options that would have to be obeyed, and aren't.
const UNSUPPORTED: [&str; 9] = [
    "sslcacert",
    "sslclientcert",
    "sslclientkey",
    "username",
    "password",
    "proxy",
    "proxy_username",
    "proxy_password",
    "gpgcakey",
];

/// The enabled repositories of a file.
pub(super) fn parse(text: &str, file: &Path, variables: Variables<'_>) -> Result<Vec<Repo>, BaseError> {
    let mut repos = Vec::new();
    for section in sections(text, file)? {
        if section.id == "main" {
            continue;
        }
        let reader = Reader { file, section: &section, variables };
        if reader.flag("enabled", true)? {
            repos.push(reader.repo()?);
        }
    }
    Ok(repos)
}

/// Splits the file; knows nothing about what options mean.
fn sections(text: &str, file: &Path) -> Result<Vec<Section>, BaseError> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let place = || Place { file: file.to_owned(), line };
        let trimmed = raw.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let last = sections.last_mut();
        if raw.starts_with([' ', '\t']) {
            // A line that starts with a space goes on with the value before.
            let Some((_, value, _)) = last.and_then(|section| section.values.last_mut()) else {
                return Err(wrong(place(), "this line continues no value", None));
            };
            value.push('\n');
            value.push_str(trimmed);
        } else if let Some(rest) = trimmed.strip_prefix('[') {
            let id = rest.split_once(']').map(|(id, after)| (id.trim(), after.trim()));
            match id {
                Some((id, after))
                    if !id.is_empty() && (after.is_empty() || after.starts_with(['#', ';'])) =>
                {
                    sections.push(Section { id: id.to_owned(), line, values: Vec::new() });
                }
                _ => return Err(wrong(place(), "expected `[repository]`", None)),
            }
        } else if let Some((key, value)) = trimmed.split_once(['=', ':']) {
            let Some(section) = last else {
                return Err(wrong(place(), "an option before the first `[repository]`", None));
            };
            section.values.push((key.trim().to_ascii_lowercase(), value.trim().to_owned(), line));
        } else {
            return Err(wrong(place(), format!("expected `option=value`, found `{trimmed}`"), None));
        }
    }
    Ok(sections)
}

/// Reads a section's options.
struct Reader<'a> {
    file: &'a Path,
    section: &'a Section,
    variables: Variables<'a>,
}

impl Reader<'_> {
    fn repo(&self) -> Result<Repo, BaseError> {
        let id = &self.section.id;
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if !id.chars().all(valid) {
            let message = format!("`{id}` is no name for a repository");
            return Err(wrong(
                self.start(),
                message,
                Some("use letters, digits, `-`, `_`, `.` and `:`".to_owned()),
            ));
        }
        for key in UNSUPPORTED {
            if let Some((_, line)) = self.raw(key) {
                return Err(wrong(self.at(line), format!("`{key}` isn't supported"), None));
            }
        }
        let gpgcheck = self.flag("gpgcheck", true)?;
        let repo_gpgcheck = self.flag("repo_gpgcheck", false)?;
        let keys = self.keys()?;
        if keys.is_empty() && (gpgcheck || repo_gpgcheck) {
            let line =
                self.raw("gpgcheck").or_else(|| self.raw("repo_gpgcheck")).map_or(self.section.line, |v| v.1);
            let message = format!("the repository `{id}` is to be checked, but names no key");
            let hint = "add `gpgkey=` (a path relative to this file, file:// or https://); without a check anybody \
                        on the network decides what is installed";
            return Err(wrong(self.at(line), message, Some(hint.to_owned())));
        }
        let (mut fingerprints, sslverify) = (self.fingerprints()?, self.flag("sslverify", true)?);
        let source = self.source()?;
        let default = pins::default(&source).filter(|_| fingerprints.is_empty());
        let pinned_by_default = default.is_some();
        fingerprints.extend(default.map(str::to_owned));
        if fingerprints.is_empty() {
            self.check_ways(&keys, sslverify)?;
        }
        let mut options = Vec::new();
        for (key, dnf) in [
            ("exclude", "excludepkgs"),
            ("excludepkgs", "excludepkgs"),
            ("includepkgs", "includepkgs"),
            ("priority", "priority"),
            ("cost", "cost"),
            ("module_hotfixes", "module_hotfixes"),
        ] {
            if let Some((value, _)) = self.value(key)? {
                options.push((dnf, value.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
        Ok(Repo {
            id: id.clone(),
            place: self.start(),
            list: self.list()?,
            source,
            gpgcheck,
            repo_gpgcheck,
            keys,
            fingerprints,
            pinned_by_default,
            sslverify,
            options,
            lines: self.section.values.iter().map(|(key, _, line)| (key.clone(), *line)).collect(),
            ignored: self.ignored(),
        })
    }

    /// Refuses keys that anybody on the way could have replaced: then signatures say nothing.
    fn check_ways(&self, keys: &[(KeyFile, Place)], sslverify: bool) -> Result<(), BaseError> {
        for (key, place) in keys {
            let KeyFile::Url(url) = key else { continue };
            let how = match url.split_once("://").map(|(scheme, _)| scheme) {
                Some("http") => "over plain http",
                Some("https") if !sslverify => "from a server that isn't checked (`sslverify=0`)",
                _ => continue,
            };
            let message = format!("the key `{url}` comes {how}, and no fingerprint is pinned");
            let hint = format!(
                "add `fingerprints=`, from where you trust it; `curl -s {url} | gpg --show-keys --with-fingerprint` \
                 shows that of the key there now"
            );
            return Err(wrong(place.clone(), message, Some(hint)));
        }
        Ok(())
    }

    /// The URLs that an option holds.
    fn urls(&self, key: &str) -> Result<Vec<String>, BaseError> {
        let Some((value, line)) = self.value(key)? else { return Ok(Vec::new()) };
        let urls: Vec<String> = words(&value).map(|url| url.trim_end_matches('/').to_owned()).collect();
        match urls.iter().find(|url| !is_url(url)) {
            Some(url) => {
                let message = format!("`{url}` is no http://, https:// or file:// URL");
                Err(wrong(self.at(line), message, None))
            }
            None => Ok(urls),
        }
    }

    /// The list of mirrors that is named, beside URLs or alone.
    fn list(&self) -> Result<Option<String>, BaseError> {
        Ok(self.urls("metalink")?.into_iter().chain(self.urls("mirrorlist")?).next())
    }

    fn source(&self) -> Result<Source, BaseError> {
        let base = self.urls("baseurl")?;
        if !base.is_empty() {
            return Ok(Source::Urls(base));
        }
        if let Some(url) = self.urls("metalink")?.into_iter().next() {
            return Ok(Source::Metalink(url));
        }
        if let Some(url) = self.urls("mirrorlist")?.into_iter().next() {
            return Ok(Source::MirrorList(url));
        }
        let message =
            format!("the repository `{}` has no `baseurl`, `mirrorlist` or `metalink`", self.section.id);
        Err(wrong(self.start(), message, None))
    }

    fn keys(&self) -> Result<Vec<(KeyFile, Place)>, BaseError> {
        let Some((value, line)) = self.value("gpgkey")? else { return Ok(Vec::new()) };
        let dir = self.file.parent().unwrap_or(Path::new("."));
        let mut keys = Vec::new();
        for word in words(&value) {
            let key = if let Some(path) = word.strip_prefix("file://") {
                KeyFile::File(dir.join(path))
            } else if is_url(word) {
                KeyFile::Url(word.to_owned())
            } else if word.contains("://") {
                return Err(wrong(self.at(line), format!("can't fetch a key from `{word}`"), None));
            } else {
                KeyFile::File(dir.join(word))
            };
            if let KeyFile::File(path) = &key
                && !path.is_file()
            {
                let message = format!("the key file `{}` doesn't exist", path.display());
                let hint = "relative paths start at the .repo file's directory";
                return Err(wrong(self.at(line), message, Some(hint.to_owned())));
            }
            keys.push((key, self.at(line)));
        }
        Ok(keys)
    }

    fn fingerprints(&self) -> Result<Vec<String>, BaseError> {
        let Some((value, line)) = self.value("fingerprints")? else { return Ok(Vec::new()) };
        // People write fingerprints in groups of four: a comma or a new line separates two of them.
        let mut fingerprints = Vec::new();
        for word in value.split([',', '\n']) {
            let hex: String = word.split_whitespace().collect::<String>().to_ascii_uppercase();
            if hex.is_empty() {
                continue;
            }
            if !matches!(hex.len(), 40 | 64) || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
                let message = format!("`{}` is no fingerprint: expected 40 hex digits", word.trim());
                return Err(wrong(
                    self.at(line),
                    message,
                    Some("separate two of them by a comma".to_owned()),
                ));
            }
            fingerprints.push(hex);
        }
        Ok(fingerprints)
    }

    fn ignored(&self) -> Vec<String> {
        const KNOWN: [&str; 15] = [
            "baseurl",
            "mirrorlist",
            "metalink",
            "gpgcheck",
            "repo_gpgcheck",
            "gpgkey",
            "fingerprints",
            "sslverify",
            "exclude",
            "excludepkgs",
            "includepkgs",
            "priority",
            "cost",
            "module_hotfixes",
            "enabled",
        ];
        let known = |key: &str| KNOWN.contains(&key) || MEANINGLESS.contains(&key);
        let keys = self.section.values.iter().map(|(key, _, _)| key);
        keys.filter(|key| !known(key)).cloned().collect()
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, BaseError> {
        let Some((value, line)) = self.value(key)? else { return Ok(default) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => Ok(true),
            "0" | "no" | "false" | "off" => Ok(false),
            _ => Err(wrong(self.at(line), format!("`{key}` is `{value}`, expected 1 or 0"), None)),
        }
    }

    /// The last value given for `key`, and its line.
    fn raw(&self, key: &str) -> Option<(&str, usize)> {
        let mut values = self.section.values.iter().rev();
        values.find(|(k, _, _)| k == key).map(|(_, value, line)| (value.as_str(), *line))
    }

    /// The same with variables substituted.
    fn value(&self, key: &str) -> Result<Option<(String, usize)>, BaseError> {
        let Some((value, line)) = self.raw(key) else { return Ok(None) };
        let value = substitute(value, self.variables).map_err(|name| {
            let message = format!("the variable `${name}` isn't known here");
            wrong(self.at(line), message, Some("known are $releasever, $basearch and $arch".to_owned()))
        })?;
        Ok(Some((value, line)))
    }

    fn start(&self) -> Place {
        self.at(self.section.line)
    }

    fn at(&self, line: usize) -> Place {
        Place { file: self.file.to_owned(), line }
    }
}

fn wrong(place: Place, message: impl Into<String>, hint: Option<String>) -> BaseError {
    BaseError::Definition { place, message: message.into(), hint }
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty())
}

fn is_url(word: &str) -> bool {
    ["http://", "https://", "file://"].iter().any(|scheme| word.starts_with(scheme))
}

/// Replaces `$name` and `${name}`; the name of one that isn't known else.
fn substitute(value: &str, variables: Variables<'_>) -> Result<String, String> {
    let (mut result, mut rest) = (String::with_capacity(value.len()), value);
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let (name, next) = if let Some((name, next)) = after.strip_prefix('{').and_then(|a| a.split_once('}'))
        {
            (name, next)
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at(end)
        };
        result.push_str(match name.to_ascii_lowercase().as_str() {
            "" => "$",
            "releasever" => variables.releasever,
            "arch" => variables.arch,
            "basearch" => variables.basearch,
            _ => return Err(name.to_owned()),
        });
        rest = next;
    }
    result.push_str(rest);
    Ok(result)
}

mod pins;
#[cfg(test)]
mod tests;
