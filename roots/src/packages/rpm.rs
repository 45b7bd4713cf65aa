//! rpm's database, read by the tree's own rpm: no other is sure to know its form.

use std::io::{self, Read};

use rootbuild_cache::{Digest, Store, Tree};

use super::{Family, Package, PackagesError, one_line, within};
use crate::cancel::Cancel;
use crate::sandbox::{Console, Network, Nspawn, Sandbox, SandboxSpec};
use crate::working::WorkingRoot;

/// Where a database can be.
pub(super) const PLACES: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];

/// The file that a database is, one for each kind.
const FILES: [&str; 3] = ["Packages", "rpmdb.sqlite", "Packages.db"];

/// Where the program can be.
const PROGRAMS: [&str; 2] = ["usr/bin/rpm", "bin/rpm"];

/// What is asked for each package. Fields end with a form feed, packages with a vertical tab: what packages say
/// of themselves may have lines.
const QUERY: &str = "%{NAME}\\f%{EPOCH}\\f%{VERSION}\\f%{RELEASE}\\f%{ARCH}\\f%{SOURCERPM}\\f%{LICENSE}\\f%{VENDOR}\\f%{URL}\\v";

/// Fields of [`QUERY`].
const FIELDS: usize = 9;

/// Most bytes that are read of what the root's rpm prints.
const MOST: u64 = 256 << 20;

/// What imported keys are called: rpm lists them as packages.
const KEY: &str = "gpg-pubkey";

/// Whether there is a database.
pub(super) fn has_database(tree: &Tree) -> bool {
    PLACES.iter().any(|place| FILES.iter().any(|file| within::has_file(tree, &format!("{place}/{file}"))))
}

/// The installed packages.
pub(super) fn packages(
    store: &Store,
    digest: &Digest,
    tree: &Tree,
    cancel: &Cancel,
) -> Result<Vec<Package>, PackagesError> {
    let program = PROGRAMS.into_iter().find(|program| within::has_file(tree, program));
    let program = program.ok_or(PackagesError::NoRpm)?;
    // rpm writes beside its database even when it is only asked: into this view, which is thrown away.
    let view = WorkingRoot::on(store, digest, cancel)?;
    let spec = SandboxSpec {
        name: "packages".to_owned(),
        root: view.mount(),
        writable: true,
        argv: vec![format!("/{program}").into(), "-qa".into(), "--qf".into(), QUERY.into()],
        env: vec![
            ("LC_ALL".to_owned(), "C".to_owned()),
            ("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME".to_owned(), "/nonexistent".to_owned()),
        ],
        binds: Vec::new(),
        network: Network::None,
        hostname: "localhost".to_owned(),
        boot: false,
        console: Console::Pipe,
        chdir: None,
    };
    let mut running = Nspawn.start(&spec, cancel)?;
    let tail = running.stderr_tail();
    let mut printed = Vec::new();
    let read = match running.take_stdout() {
        Some(stdout) => stdout.take(MOST + 1).read_to_end(&mut printed),
        None => Err(io::Error::other("it has no output")),
    };
    if printed.len() as u64 > MOST {
        return Err(PackagesError::Rpm("it doesn't end".to_owned()));
    }
    match running.wait()? {
        0 => {}
        code => return Err(PackagesError::Rpm(format!("exit status {code}\n{tail}"))),
    }
    read.map_err(|error| PackagesError::Rpm(error.to_string()))?;
    parse(&String::from_utf8_lossy(&printed))
}

/// What the root's rpm printed.
fn parse(printed: &str) -> Result<Vec<Package>, PackagesError> {
    let mut packages = Vec::new();
    let Some(all) = printed.strip_suffix('\u{b}') else {
        return if printed.is_empty() {
            Ok(packages)
        } else {
            Err(PackagesError::Rpm("its answer is cut off".to_owned()))
        };
    };
    for package in all.split('\u{b}') {
        let fields: Vec<&str> = package.split('\u{c}').collect();
        let &[name, epoch, version, release, arch, source, license, vendor, url] = fields.as_slice() else {
            let found = fields.len();
            return Err(PackagesError::Rpm(format!("a package has {found} fields, not {FIELDS}")));
        };
        let (Some(name), Some(version)) = (one_line(name), one_line(version)) else {
            return Err(PackagesError::Rpm("a package has no name or version".to_owned()));
        };
        if name == KEY {
            continue;
        }
        packages.push(Package {
            family: Family::Rpm,
            name,
            // 0 is what having none means.
            epoch: one_line(epoch).filter(|epoch| epoch != "0"),
            version,
            release: one_line(release),
            arch: one_line(arch).unwrap_or_else(|| "noarch".to_owned()),
            source: one_line(source),
            license: one_line(license),
            vendor: one_line(vendor),
            homepage: one_line(url),
        });
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rpm_prints_is_read_whatever_packages_say_of_themselves() {
        let printed = "bash\u{c}(none)\u{c}4.2.46\u{c}35.el7_9\u{c}x86_64\u{c}bash-4.2.46-35.el7_9.src.rpm\u{c}GPLv3+\nand more\u{c}CentOS\u{c}(none)\u{b}\
                       gpg-pubkey\u{c}(none)\u{c}f4a80eb5\u{c}53a7ff4b\u{c}(none)\u{c}(none)\u{c}pubkey\u{c}(none)\u{c}(none)\u{b}\
                       bind\u{c}32\u{c}9.11\u{c}1\u{c}noarch\u{c}\u{c}\u{c}\u{c}https://x.example\u{b}";
        let packages = parse(printed).unwrap();
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].full_version(), "4.2.46-35.el7_9");
        assert_eq!(packages[0].license.as_deref(), Some("GPLv3+ and more"));
        assert_eq!(packages[0].homepage, None);
        assert_eq!((packages[1].full_version().as_str(), packages[1].source.clone()), ("32:9.11-1", None));
        assert!(parse("").unwrap().is_empty());
        for bad in ["bash", "a\u{c}b\u{b}", "\u{c}\u{c}\u{c}\u{c}\u{c}\u{c}\u{c}\u{c}\u{b}"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
