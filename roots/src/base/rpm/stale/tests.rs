use super::*;
use crate::base::rpm::repo_file::{self, Variables};
use crate::base::rpm::resolve::{Resolution, ResolvedRepo};

const FILE: &str = "[os]\nbaseurl=http://x/os\ngpgcheck=0\nexclude=kernel* foo\npriority=10\n\n[more]\nbaseurl=http://x/more\ngpgcheck=0\n";

fn repos(text: &str) -> Vec<Repo> {
    let variables = Variables { releasever: "7", arch: "x86_64", basearch: "x86_64" };
    repo_file::parse(text, Path::new("/p/bases/x.repo"), variables).unwrap()
}

fn base() -> RpmBase {
    RpmBase {
        repo_files: vec![],
        packages: vec!["@core".to_owned(), "bash".to_owned()],
        lock: None,
        arch: "x86_64".to_owned(),
        releasever: "7".to_owned(),
        bootstrap: super::super::Bootstrap::default(),
        written: Written {
            name: "el7".to_owned(),
            file: PathBuf::from("/p/rootbuild.toml"),
            base: 1,
            repos: 3,
            packages: vec![4, 5],
            lock: 6,
            releasever: 0,
            arch: 8,
        },
    }
}

fn lock() -> Lock {
    let trusted: Vec<_> = repos(FILE).into_iter().map(|repo| (repo, vec![])).collect();
    let resolved = |(repo, _): &(Repo, Vec<Key>)| ResolvedRepo {
        id: repo.id.clone(),
        urls: vec![],
        repomd_sha256: String::new(),
    };
    let resolution = Resolution { repos: trusted.iter().map(resolved).collect(), packages: vec![] };
    Lock::new(&base(), &trusted, &resolution)
}

/// What a definition and its .repo file differ in from the lock.
fn found(base: &RpmBase, text: &str) -> Vec<String> {
    let stale = stale(&lock(), Path::new("/p/bases/x.lock"), base, &repos(text));
    stale.into_iter().map(|stale| format!("{}: {}", stale.place, stale.message)).collect()
}

#[test]
fn a_lock_answers_the_definition_that_it_was_made_for_however_that_is_written() {
    assert!(found(&base(), FILE).is_empty());
    let mut base = base();
    base.packages = ["bash", "@core", "bash"].map(str::to_owned).to_vec();
    let text =
        FILE.replace("kernel* foo", "foo,\n  kernel*").replace("gpgcheck=0\n\n", "gpgcheck=0\n# x\n\n");
    assert!(found(&base, &text).is_empty());
}

#[test]
fn every_line_that_says_otherwise_is_named() {
    let mut base = base();
    base.packages = vec!["@core".to_owned(), "sed".to_owned()];
    (base.releasever, base.arch) = ("8".to_owned(), "aarch64".to_owned());
    let text = FILE
        .replace("http://x/os", "http://y/os")
        .replace("foo", "bar")
        .replace("priority=10", "cost=3\nincludepkgs=a")
        .replace("[more]", "[other]");
    assert_eq!(
        found(&base, &text),
        [
            "/p/rootbuild.toml:1: releasever is `8`, locked is `7`",
            "/p/rootbuild.toml:8: arch is `aarch64`, locked is `x86_64`",
            "/p/rootbuild.toml:5: the package `sed` isn't locked",
            "/p/rootbuild.toml:4: the package `bash` is locked, but not asked for",
            "/p/bases/x.repo:2: the repository `os` is at http://y/os, locked is http://x/os",
            "/p/bases/x.repo:5: the repository `os` says `cost=3`, none is locked",
            "/p/bases/x.repo:4: the repository `os` says `excludepkgs=bar kernel*`, `excludepkgs=foo kernel*` is locked",
            "/p/bases/x.repo:6: the repository `os` says `includepkgs=a`, none is locked",
            "/p/bases/x.repo:1: the repository `os` doesn't say `priority=10` any more, which is locked",
            "/p/bases/x.repo:8: the repository `other` isn't locked",
            "/p/rootbuild.toml:3: the repository `more` is locked, but not defined",
        ]
    );
}

#[test]
fn a_pin_that_the_locked_key_does_not_have_makes_it_stale() {
    let mut lock = lock();
    lock.repos.iter_mut().for_each(|repo| repo.fingerprints = vec!["AB".repeat(20)]);
    let other = "6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5";
    let pinned = FILE.replace("priority=10", &format!("priority=10\nfingerprints={other}"));
    let stale = |text: &str| stale(&lock, Path::new("x.lock"), &base(), &repos(text));
    let found = stale(&pinned);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place.line, 6);
    assert!(found[0].message.contains("is locked, but not among its fingerprints"), "{found:?}");
    assert!(stale(&pinned.replace(other, &format!("{other}, {}", "AB".repeat(20)))).is_empty());
}

#[test]
fn an_older_lock_is_refused_with_the_command_that_renews_it() {
    let mut old = lock();
    old.version = 1;
    let path = Path::new("/p/bases/x.lock");
    let error = refused(&base(), path, stale(&old, path, &base(), &repos(FILE))).unwrap();
    assert!(error.is_definition_error());
    assert_eq!(
        format!("{error}\n{}", error.hint().unwrap()),
        "/p/bases/x.lock: the lock file `bases/x.lock` doesn't answer the definition any more: it has version 1, written by an \
         older rootbuild; this one needs 2\n`rootbuild lock el7` writes it anew, and moves no package that it needn't"
    );
}
