//! `rootbuild init`: a definition to start from.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rootbuild_roots::base::Mirror;
use serde_json::json;

use super::mirror::Mirroring;
use super::{Global, out};
use crate::definition::FILE_NAME;
use crate::exit;
use crate::render::Report;

/// Arguments of `rootbuild init`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What roots start from
    #[arg(long, value_name = "NAME", env = "ROOTBUILD_BASE")]
    pub base: Start,

    /// The mirror to write down as where packages come from.
    #[command(flatten)]
    pub mirror: Mirroring,

    /// Where to write the definition, made if it isn't there
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// The bases there are definitions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Start {
    /// CentOS 7.9, from its vault
    #[value(name = "centos7")]
    Centos7,
    /// AlmaLinux 9
    #[value(name = "almalinux9")]
    Almalinux9,
    /// Debian 12
    #[value(name = "debian12")]
    Debian12,
}

/// The key that signs CentOS 7's packages; the example has the same.
const CENTOS_7_KEY: &str = include_str!("../../../playbooks/examples/vcs-cluster/bases/RPM-GPG-KEY-CentOS-7");

/// Debian's own mirror; the others are known where bases are made.
const DEBIAN: &str = "http://deb.debian.org/";

impl Start {
    fn name(self) -> &'static str {
        match self {
            Self::Centos7 => "centos7",
            Self::Almalinux9 => "almalinux9",
            Self::Debian12 => "debian12",
        }
    }

    /// The files, each with its path; the definition last: it is what makes a project.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Centos7 => &[
                ("bases/RPM-GPG-KEY-CentOS-7", CENTOS_7_KEY),
                ("bases/centos7.repo", include_str!("init/centos7.repo")),
                (FILE_NAME, include_str!("init/centos7.toml")),
            ],
            Self::Almalinux9 => &[
                ("bases/almalinux9.repo", include_str!("init/almalinux9.repo")),
                (FILE_NAME, include_str!("init/almalinux9.toml")),
            ],
            Self::Debian12 => &[(FILE_NAME, include_str!("init/debian12.toml"))],
        }
    }
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let (dir, start) = (&arguments.dir, arguments.base);
    let mirror = arguments.mirror.mirror.as_ref();
    let files: Vec<(PathBuf, String)> =
        start.files().iter().map(|(path, text)| (dir.join(path), mirrored(text, mirror))).collect();
    let there: Vec<String> = files
        .iter()
        .filter(|(path, _)| path.symlink_metadata().is_ok())
        .map(|(path, _)| format!("`{}`", path.display()))
        .collect();
    if !there.is_empty() {
        let verb = if there.len() == 1 { "is" } else { "are" };
        return Err(Report::usage(format!("{} {verb} there already", there.join(" and ")))
            .hint("nothing was written; name another directory: `rootbuild init --base NAME DIR`"));
    }
    write_all(&files)?;
    let paths = || files.iter().map(|(path, _)| path.to_string_lossy());
    if global.json {
        out::json(&json!({ "base": start.name(), "files": paths().collect::<Vec<_>>() }))?;
    } else if !global.quiet {
        let list: String = paths().map(|path| format!("wrote {path}\n")).collect();
        let go = if dir == Path::new(".") { String::new() } else { format!("cd {} && ", dir.display()) };
        out::text(&format!(
            "{list}next: look into {FILE_NAME}, then {go}rootbuild lock && rootbuild provision\n"
        ))?;
    }
    Ok(exit::OK)
}

/// A text with the URLs of well-known hosts replaced by those of the mirror.
fn mirrored(text: &str, mirror: Option<&Mirror>) -> String {
    let Some(mirror) = mirror else { return text.to_owned() };
    let line = |line: &str| -> String {
        let Some(at) = line.find("http").filter(|_| !line.starts_with('#')) else { return line.to_owned() };
        let end = line[at..].find(['"', ' ']).map_or(line.len(), |length| at + length);
        let url = &line[at..end];
        let url = match url.strip_prefix(DEBIAN) {
            Some(rest) => format!("{mirror}/{rest}"),
            None => mirror.of(url).into_owned(),
        };
        format!("{}{url}{}", &line[..at], &line[end..])
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// Writes all files or none; none that is there is replaced.
fn write_all(files: &[(PathBuf, String)]) -> Result<(), Report> {
    for (number, (path, text)) in files.iter().enumerate() {
        if let Err(error) = write(path, text) {
            for (path, _) in &files[..number] {
                let _ = fs::remove_file(path);
            }
            return Err(Report::usage(format!("can't write `{}`", path.display())).caused_by(&error));
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    // What isn't written whole has no name. (The mode is what the umask leaves of it.)
    let mut file = tempfile::Builder::new()
        .prefix(".rootbuild-init-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_takes_the_place_of_every_url_but_those_in_comments() {
        let mirror: Mirror = "http://m.lan/x".parse().unwrap();
        for start in [Start::Centos7, Start::Almalinux9, Start::Debian12] {
            for (path, text) in start.files() {
                assert_eq!(&mirrored(text, None), text);
                let mirrored = mirrored(text, Some(&mirror));
                assert_eq!(mirrored.lines().count(), text.lines().count());
                for line in mirrored.lines().filter(|line| line.contains("://") && !line.starts_with('#')) {
                    assert!(line.contains("http://m.lan/x/"), "{path}: {line}");
                }
            }
        }
        let repo = mirrored(include_str!("init/almalinux9.repo"), Some(&mirror));
        for line in [
            "baseurl=http://m.lan/x/almalinux/$releasever/BaseOS/$basearch/os/\n",
            "gpgkey=http://m.lan/x/almalinux/RPM-GPG-KEY-AlmaLinux-9\n",
        ] {
            assert!(repo.contains(line), "{repo}");
        }
        let toml = mirrored(include_str!("init/debian12.toml"), Some(&mirror));
        assert!(toml.contains("\nmirror = \"http://m.lan/x/debian\" "), "{toml}");
    }
}
