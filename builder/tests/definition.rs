//! What a sound `rootbuild.toml` is read as, and which roots a command line means.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;

use rootbuild::definition::{BaseKind, Definition};
use rootbuild::render::Report;
use rootbuild_playbooks::run::Services;
use rootbuild_roots::checkout::Areas;
use rootbuild_roots::sandbox::Network;
use tempfile::TempDir;

const FULL: &str = r#"
[root.hgweb]                        # a root may stand before its base
base = "web"
host = "hgweb0"
playbooks = ["ansible/common.yml", "./ansible/hgweb.yml"]
vars = { zeta = 1, is_testing = true, list = [1, "two", 3.5, { k = "v" }], big = 18446744073709551615, hex = 0xff }
network = "host"
boot = true
services = "fail"

[root.common]
base = "centos7"

[root.other]
base = "files"

[base.centos7]
source = "rpm"
repos = ["bases/centos7.repo"]
packages = ["@core", "python"]
lock = "bases/centos7.lock"

[base.web]
source = "root"
root = "common"

[base.bookworm]
source = "debian"
suite = "bookworm"
packages = ["python3"]
mirror = "http://deb.mirror.lan/debian"
components = ["main"]
variant = "minbase"

[base.files]
source = "archive"
file = "rootfs.tar.zst"
sha256 = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
strip_components = 1
devices = true

[ansible]
core = "2.16.19"
project = "ansible"
inventory = "ansible/hosts"
vault_password_file = "not/here/yet"
"#;

fn project(definition: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["ansible", "bases", "deep/down"] {
        fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    for file in
        ["ansible/common.yml", "ansible/hgweb.yml", "ansible/hosts", "bases/centos7.repo", "rootfs.tar.zst"]
    {
        fs::write(dir.path().join(file), "").unwrap();
    }
    fs::write(dir.path().join("rootbuild.toml"), definition).unwrap();
    dir
}

fn load(dir: &TempDir) -> Definition {
    Definition::load(None, dir.path()).unwrap_or_else(|error| panic!("{:#?}", error.diagnostics))
}

#[test]
fn everything_in_a_definition_is_read() {
    let dir = project(FULL);
    let definition = load(&dir);
    let names: Vec<&str> = definition.bases.iter().map(|base| base.name.as_str()).collect();
    assert_eq!(names, ["centos7", "web", "bookworm", "files"], "in the order of the file");
    let names: Vec<&str> = definition.roots.iter().map(|root| root.name.as_str()).collect();
    assert_eq!(names, ["hgweb", "common", "other"], "in the order of the file");

    let BaseKind::Rpm(rpm) = &definition.bases[0].kind else { panic!() };
    assert_eq!(rpm.repos[0].value, dir.path().join("bases/centos7.repo"));
    assert_eq!(rpm.packages.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["@core", "python"]);
    assert_eq!(rpm.lock.as_ref().unwrap().value, dir.path().join("bases/centos7.lock"));
    assert_eq!((rpm.releasever.as_str(), rpm.arch.as_str()), ("7", std::env::consts::ARCH));
    let BaseKind::Root(root) = &definition.bases[1].kind else { panic!() };
    assert_eq!(root.value, "common");
    let BaseKind::Debian(debian) = &definition.bases[2].kind else { panic!() };
    assert_eq!(debian.variant.as_ref().unwrap().value, "minbase");
    let BaseKind::Archive(archive) = &definition.bases[3].kind else { panic!() };
    assert!(archive.sha256.as_ref().unwrap().starts_with("e3b0c442"), "in lower case");
    assert_eq!((archive.strip_components, archive.devices), (1, true));

    let ansible = definition.ansible.as_ref().unwrap();
    assert_eq!(ansible.project, dir.path().join("ansible"));
    assert_eq!(ansible.vault_password_file.as_ref().unwrap().value, dir.path().join("not/here/yet"));

    let root = &definition.roots[0];
    assert_eq!((root.span.line, root.span.column, root.span.width), (2, 7, 5));
    assert_eq!((root.base.as_str(), root.host.as_str()), ("web", "hgweb0"));
    assert_eq!(root.playbooks[1].name, "./ansible/hgweb.yml", "as written");
    assert_eq!(root.playbooks[1].path, dir.path().join("ansible/hgweb.yml"), "without the dot");
    assert_eq!((root.network, root.boot, root.services), (Network::Host, true, Services::Fail));
    assert_eq!(
        serde_json::to_string(&root.vars).unwrap(),
        r#"{"zeta":1,"is_testing":true,"list":[1,"two",3.5,{"k":"v"}],"big":18446744073709551615,"hex":255}"#
    );
}

#[test]
fn what_is_left_out_has_a_default() {
    let dir = project(
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n",
    );
    let definition = load(&dir);
    let root = &definition.roots[0];
    assert_eq!(root.host.value, "a");
    assert!(root.playbooks.is_empty() && root.vars.is_empty() && !root.boot);
    assert_eq!((root.network, root.services), (Network::None, Services::Defer));
    assert_eq!(root.private, None);
    assert!(definition.ansible.is_none());
}

#[test]
fn a_linked_root_has_private_areas_of_its_own_or_the_usual_ones() {
    let with = |keys: &str| {
        format!(
            "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n{keys}\n"
        )
    };
    let private = |keys: &str| load(&project(&with(keys))).roots[0].private.clone();
    assert_eq!(private("checkout = \"linked\""), Some(Areas::default()));
    let own = private("checkout = \"linked\"\nprivate = [\"/etc\", \"/var/lib/app/\"]");
    assert_eq!(own, Some(Areas::new(["etc", "var/lib/app"])));
    assert_eq!(private("checkout = \"private\""), None);
    for wrong in [
        "private = [\"/etc\"]",
        "checkout = \"shared\"",
        "checkout = \"linked\"\nprivate = [\"etc\"]",
        "checkout = \"linked\"\nprivate = [\"/\"]",
        "checkout = \"linked\"\nprivate = [\"/var/../etc\"]",
    ] {
        let dir = project(&with(wrong));
        assert!(Definition::load(None, dir.path()).is_err(), "{wrong}");
    }
}

#[test]
fn the_nearest_definition_upward_is_found() {
    let dir = project(FULL);
    let deep = dir.path().join("deep/down");
    assert_eq!(Definition::load(None, &deep).unwrap().path, dir.path().join("rootbuild.toml"));
    let sound = "[base.b]\nsource = \"archive\"\nfile = \"../rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n";
    fs::write(dir.path().join("deep/rootbuild.toml"), sound).unwrap();
    assert_eq!(Definition::load(None, &deep).unwrap().dir, dir.path().join("deep"));
}

#[test]
fn a_definition_may_be_named_by_its_file_or_its_directory() {
    let dir = project(FULL);
    let file = dir.path().join("rootbuild.toml");
    for (named, cwd) in [
        (file.as_path(), Path::new("/")),
        (dir.path(), Path::new("/")),
        (Path::new("../rootbuild.toml"), &dir.path().join("deep")),
        (Path::new("."), dir.path()),
    ] {
        let definition = Definition::load(Some(named), cwd).unwrap();
        assert_eq!(definition.path.canonicalize().unwrap(), file, "{named:?}");
    }
    fs::rename(&file, dir.path().join("other.toml")).unwrap();
    assert!(Definition::load(Some(Path::new("other.toml")), dir.path()).is_ok(), "any name will do");
}

#[test]
fn other_versions_of_ansible_core_are_allowed_with_requirements() {
    let dir = project(
        "[ansible]\ncore = \"2.17.1rc1\"\nrequirements = \"req.txt\"\n\
         [base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n",
    );
    fs::write(dir.path().join("req.txt"), "ansible-core==2.17.1rc1\n").unwrap();
    assert_eq!(load(&dir).ansible.unwrap().core.value, "2.17.1rc1");
}

#[test]
fn a_selection_brings_what_its_roots_stand_on_before_them() {
    let dir = project(FULL);
    let definition = load(&dir);
    let select = |names: &[&str]| -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        definition.select(&names).unwrap().into_iter().map(|root| root.name.clone()).collect()
    };
    assert_eq!(select(&[]), ["common", "hgweb", "other"], "all of them");
    assert_eq!(select(&["hgweb"]), ["common", "hgweb"]);
    assert_eq!(select(&["other", "common", "other"]), ["common", "other"], "in the order of the file, once");
    assert_eq!(definition.parent(&definition.roots[0]).unwrap().name, "common");
    assert!(definition.parent(&definition.roots[1]).is_none());
}

#[test]
fn unknown_roots_are_named_together_with_the_nearest() {
    let dir = project(FULL);
    let definition = load(&dir);
    let error = definition.select(&["hgwep".into(), "common".into(), "hgwep".into()]).unwrap_err();
    assert_eq!(error.unknown, [("hgwep".to_owned(), Some("hgweb".to_owned()))]);
    assert_eq!(error.hint(), "did you mean `hgweb`?");
    let error = definition.select(&["hgwep".into(), "zzz".into()]).unwrap_err();
    assert_eq!(error.hint(), "roots are `hgweb`, `common`, `other`");
}

#[test]
fn a_deeply_nested_file_is_refused_without_falling_over() {
    for text in ["x = ".to_owned() + &"[".repeat(100_000), format!("{}x = 1", "a.".repeat(100_000))] {
        let dir = project(&text);
        assert!(Definition::load(None, dir.path()).is_err());
    }
    let vars = format!("[root.a.vars]\nx = {}{}\n", "{a=".repeat(5_000), "}".repeat(5_000));
    let dir = project(&vars);
    assert!(Definition::load(None, dir.path()).is_err());
}

#[test]
fn however_a_definition_is_damaged_its_errors_lie_within_the_file() {
    let dir = project(FULL);
    let path = dir.path().join("rootbuild.toml");
    let check = |text: &str| {
        fs::write(&path, text).unwrap();
        let Err(error) = Definition::load(None, dir.path()) else { return };
        assert!(!error.diagnostics.is_empty());
        for diagnostic in &error.diagnostics {
            let (line, column) = (diagnostic.line.unwrap(), diagnostic.column.unwrap());
            let shown = text.split('\n').nth(line - 1).unwrap_or_else(|| panic!("{diagnostic}: {text:?}"));
            assert!(column <= shown.chars().count() + 1, "{diagnostic}: {text:?}");
        }
        let _ = Report::from(error).render(Some(dir.path()));
    };
    for (index, _) in FULL.char_indices() {
        check(&FULL[..index]);
    }
    for (index, character) in FULL.char_indices().step_by(9) {
        for other in ["\"", "[", "=", "\n", "é", "{", "."] {
            check(&format!("{}{other}{}", &FULL[..index], &FULL[index + character.len_utf8()..]));
        }
    }
}

#[test]
fn a_later_error_can_be_told_at_its_place() {
    let dir = project(FULL);
    let definition = load(&dir);
    let diagnostic = definition.diagnostic(definition.roots[0].playbooks[0].span, "no play matches `hgweb0`");
    assert_eq!((diagnostic.line, diagnostic.column, diagnostic.width), (Some(5), Some(14), 20));
    assert!(diagnostic.source_line.unwrap().contains("ansible/hgweb.yml"));
}

#[test]
fn limits_are_numbers_or_have_a_unit() {
    use rootbuild_cache::{Limit, Limits};
    let base = "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n";
    assert_eq!(load(&project(base)).limits, Limits::default());
    let definition = load(&project(&format!("{base}[limits]\nfile_size = \"1T\"\nentries = 1_000\n")));
    assert_eq!(
        definition.limits,
        Limits::default().with(Limit::FileSize, 1 << 40).with(Limit::Entries, 1000)
    );
}

#[test]
fn how_roots_run_is_read_and_completed() {
    use rootbuild_roots::units::{Protocol, Writable};
    use std::time::Duration;
    let base = "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n";
    let dir = project(&format!(
        "{base}[cluster]\nnetwork = \"10.9.0.0/28\"\ndomain = \"vcs.test\"\noutgoing = true\n\
         [root.db]\nbase = \"b\"\nhost = \"db0\"\n\
         [root.db.run]\nstart = false\nafter = [\"ldap_1\"]\nrequires = [\"ldap_1\"]\naddress = \"10.9.0.5\"\n\
         ports = [\"5432:5432\", \"127.0.0.1:53:53/udp\"]\nmemory = \"1G\"\ncpu_weight = 200\ntasks = 512\n\
         state = [\"/var/lib/postgresql/\"]\nwritable = \"overlay\"\nready_timeout = \"2m\"\n\
         soften = {{ \"haproxy.service\" = [\"PrivateDevices\"], \"*\" = [] }}\n\
         [root.ldap_1]\nbase = \"b\"\nhost = \"localhost\"\n\
         [root.web]\nbase = \"b\"\nhost = \"h\"\nrun = {{ network = \"host\" }}\n\
         [root.web2]\nbase = \"b\"\nhost = \"h\"\nrun.hostname = \"www\"\n"
    ));
    let definition = load(&dir);
    let run = &definition.root("db").unwrap().run;
    assert_eq!((run.start, run.ready_timeout), (false, Duration::from_secs(120)));
    let units = &run.units;
    assert_eq!((units.after.as_slice(), &units.requires), (["ldap_1".to_owned()].as_slice(), &units.after));
    assert_eq!((units.address, units.hostname.as_str()), ("10.9.0.5".parse().ok(), "db0"));
    assert_eq!((units.ports.len(), units.ports[1].protocol), (2, Protocol::Udp));
    assert_eq!((units.memory, units.cpu_weight, units.tasks), (Some(1 << 30), Some(200), Some(512)));
    assert_eq!(
        (units.state.as_slice(), units.writable),
        (["/var/lib/postgresql".to_owned()].as_slice(), Writable::Overlay)
    );
    assert_eq!(units.softened.len(), 1);
    assert_eq!(units.softened[0].unit.as_deref(), Some("haproxy.service"));

    let run = |name: &str| &definition.root(name).unwrap().run;
    assert_eq!((run("ldap_1").start, run("ldap_1").ready_timeout), (true, Duration::from_secs(90)));
    // A name that others have as well is nobody's.
    let hostname = |name: &str| run(name).units.hostname.clone();
    assert_eq!([hostname("ldap_1"), hostname("web"), hostname("web2")], ["ldap-1", "web", "www"]);
    assert_eq!(run("web").units.address, None);
    let names: Vec<&[String]> = definition.cluster.members.iter().map(|it| it.names.as_slice()).collect();
    assert_eq!(names[0], ["db.vcs.test", "db0.vcs.test", "db", "db0"]);
    assert_eq!(names[1], ["ldap-1.vcs.test", "ldap-1"]);
    assert_eq!(definition.cluster.members[2].address.to_string(), "10.9.0.1", "the host's");
    assert!(definition.cluster.subnet.has(run("web2").units.address.unwrap()) && definition.cluster.outgoing);

    // Without a word of it a cluster has a network that its path decides.
    let plain = load(&project(&format!("{base}[root.a]\nbase = \"b\"\n")));
    assert!(plain.cluster.subnet.to_string().starts_with("10.213.") && !plain.cluster.outgoing);
    assert_eq!(plain.roots[0].run.units.hostname, "a");
}
