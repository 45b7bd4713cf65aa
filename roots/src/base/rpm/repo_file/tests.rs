use super::*;

const VARIABLES: Variables<'_> = Variables { releasever: "7", arch: "i686", basearch: "i386" };

fn parsed(text: &str) -> Result<Vec<Repo>, BaseError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("KEY"), "key").unwrap();
    parse(text, &dir.path().join("test.repo"), VARIABLES)
}

fn error(text: &str) -> String {
    let error = parsed(text).unwrap_err();
    assert!(error.is_definition_error());
    let text = error.to_string();
    text.rsplit_once("test.repo:").map_or(text.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn an_ordinary_file_is_understood() {
    let text = "\
# Comment
[main]
gpgcheck = 0
[base]
name=CentOS-$releasever - Base
baseurl = http://one/$releasever/os/$basearch/, https://two/${releasever}/$arch
    file:///three
gpgkey: KEY
exclude = kernel* ,
    foo
enabled=1
unheard_of=1
; another
[off]
enabled=0
";
    let repos = parsed(text).unwrap();
    assert_eq!(repos.len(), 1);
    let repo = &repos[0];
    let urls = ["http://one/7/os/i386", "https://two/7/i686", "file:///three"].map(str::to_owned).to_vec();
    assert_eq!(repo.source, Source::Urls(urls));
    assert_eq!((repo.id.as_str(), repo.place.line), ("base", 4));
    assert!(repo.gpgcheck && repo.sslverify && !repo.repo_gpgcheck);
    assert!(
        matches!(&repo.keys[0], (KeyFile::File(path), place) if path.ends_with("KEY") && place.line == 8)
    );
    assert_eq!(repo.options, [("excludepkgs", "kernel* , foo".to_owned())]);
    assert_eq!(repo.ignored, ["unheard_of"]);
}

#[test]
fn checking_without_a_key_is_refused_with_its_line() {
    assert!(error("[a]\nbaseurl=file:///x\n").starts_with("1: the repository `a` is to be checked"));
    assert!(error("[a]\nbaseurl=file:///x\n\ngpgcheck=1\n").starts_with("4: "));
}

#[test]
fn gpgcheck_can_be_switched_off() {
    assert!(!parsed("[a]\nbaseurl=file:///x\ngpgcheck=0\n").unwrap()[0].gpgcheck);
}

#[test]
fn fingerprints_may_be_written_in_groups() {
    let text =
        "[a]\nbaseurl=file:///x\ngpgkey=KEY\nfingerprints=6341 AB27 53D7 8A78 A7C2 7BB1 24C6 A8A7 F4A8 0EB5";
    assert_eq!(parsed(text).unwrap()[0].fingerprints, ["6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5"]);
    assert!(error("[a]\nbaseurl=file:///x\ngpgkey=KEY\nfingerprints=6341").starts_with("4: `6341` is no"));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, expected) in [
        ("x=1\n", "1: an option before"),
        ("  x=1\n", "1: this line continues no value"),
        ("[a\n", "1: expected `[repository]`"),
        ("[a]\nrubbish\n", "2: expected `option=value`, found `rubbish`"),
        ("[a/b]\nbaseurl=file:///x\ngpgkey=KEY\n", "1: `a/b` is no name"),
        ("[a]\ngpgkey=KEY\n", "1: the repository `a` has no `baseurl`"),
        ("[a]\nbaseurl=ftp://x\ngpgkey=KEY\n", "2: `ftp://x` is no http://"),
        ("[a]\nbaseurl=file:///x\ngpgkey=NOPE\n", "3: the key file"),
        ("[a]\nbaseurl=http://x/$infra\ngpgkey=KEY\n", "2: the variable `$infra` isn't known"),
        ("[a]\nbaseurl=file:///x\ngpgkey=KEY\ngpgcheck=maybe\n", "4: `gpgcheck` is `maybe`"),
        ("[a]\nbaseurl=file:///x\ngpgkey=KEY\npassword=x\n", "4: `password` isn't supported"),
    ] {
        let found = error(text);
        assert!(found.starts_with(expected), "{text:?} gave {found}");
    }
}

#[test]
fn keys_that_anybody_could_have_replaced_must_be_pinned() {
    let plain = "[a]\nbaseurl=file:///x\ngpgkey=http://x/KEY\n";
    assert!(error(plain).starts_with("3: the key `http://x/KEY` comes over plain http"));
    assert!(parsed(plain).unwrap_err().hint().unwrap().contains("curl -s http://x/KEY | gpg --show-keys"));
    let unchecked = "[a]\nbaseurl=file:///x\nsslverify=0\ngpgkey=https://x/KEY\n";
    assert!(
        error(unchecked).starts_with("4: the key `https://x/KEY` comes from a server that isn't checked")
    );
    let pin = "fingerprints=6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5\n";
    for text in [plain, unchecked] {
        assert!(parsed(&format!("{text}{pin}")).is_ok());
    }
    assert!(parsed("[a]\nbaseurl=file:///x\ngpgkey=https://x/KEY\n").is_ok());
}

#[test]
fn centos_7_on_its_archive_is_pinned_unless_the_file_pins_something() {
    let vault =
        "[a]\nbaseurl=http://vault.centos.org/7.9.2009/os/x86_64\ngpgkey=http://vault.centos.org/KEY\n";
    let repo = parsed(vault).unwrap().remove(0);
    assert_eq!(repo.fingerprints, ["6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5"]);
    assert!(repo.pinned_by_default);
    let other = "0123456789ABCDEF0123456789ABCDEF01234567";
    let repo = parsed(&format!("{vault}fingerprints={other}\n")).unwrap().remove(0);
    assert_eq!((repo.fingerprints, repo.pinned_by_default), (vec![other.to_owned()], false));
}

#[test]
fn a_list_of_mirrors_beside_urls_is_kept_for_when_those_fail() {
    let text = "[a]\nbaseurl=http://x\nmirrorlist=http://y/list\ngpgkey=KEY\n";
    let repo = parsed(text).unwrap().remove(0);
    assert_eq!(repo.source, Source::Urls(vec!["http://x".to_owned()]));
    assert_eq!(repo.list.as_deref(), Some("http://y/list"));
    assert!(
        error("[a]\nbaseurl=http://x\nmetalink=ftp://y\ngpgkey=KEY\n").starts_with("3: `ftp://y` is no http")
    );
}
