use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rootbuild_playbooks::run::RunError;
use rootbuild_roots::Cancelled;
use rootbuild_roots::base::{BaseError, Place};
use rootbuild_roots::sandbox::SandboxError;

use super::Report;
use crate::definition::{Definition, Diagnostic};
use crate::engine::{RootFailure, StepError};
use crate::exit;

fn plain(report: &Report) -> String {
    anstream::adapter::strip_str(&report.render(None)).to_string()
}

fn disk_full() -> rootbuild_cache::Error {
    rootbuild_cache::Error::Io {
        action: "write",
        path: PathBuf::from("/store/objects/ab"),
        source: io::Error::from_raw_os_error(28),
    }
}

#[test]
fn an_error_is_told_with_its_causes_and_a_hint() {
    insta::assert_snapshot!(plain(&Report::from(disk_full())), @r"
    error: can't write `/store/objects/ab`
    caused by: no space left on device
    hint: free some space (`rootbuild cache gc`), or name a store on a larger file system with `--store`
    ");
}

#[test]
fn the_exit_code_says_what_kind_of_error_it_was() {
    use rootbuild_cache::{Error, Holder};
    let damaged = Error::Damaged { what: "a hole".into(), path: PathBuf::from("/x") };
    let newer = Error::Format { path: PathBuf::from("/x"), found: "9".into(), known: 1 };
    let waited = Error::LockTimeout {
        what: "layer".into(),
        holder: Holder { pid: 12, what: String::new() },
        waited_seconds: 5,
    };
    assert_eq!(Report::from(damaged).exit_code(), exit::STORE_DAMAGED);
    assert_eq!(Report::from(newer).exit_code(), exit::USAGE);
    assert_eq!(Report::from(waited).exit_code(), exit::LOCK_TIMEOUT);
    assert_eq!(Report::from(disk_full()).exit_code(), exit::FAILED);
    assert_eq!(Report::from(StepError::from(disk_full())).exit_code(), exit::FAILED);
    assert_eq!(Report::interrupted(2).exit_code(), exit::INTERRUPTED);
    assert_eq!(Report::interrupted(15).exit_code(), exit::TERMINATED);
    assert_eq!(Report::from(Diagnostic::file(Path::new("/x"), "no")).exit_code(), exit::USAGE);
}

#[test]
fn every_error_of_the_store_has_its_words() {
    use rootbuild_cache::{Error, Holder};
    let errors = [
        Error::Format { path: PathBuf::from("/store"), found: "9".into(), known: 1 },
        Error::NotAStore { path: PathBuf::from("/etc") },
        Error::LockTimeout {
            what: "layer `x`".into(),
            holder: Holder { pid: 4711, what: "starting roots".into() },
            waited_seconds: 30,
        },
        Error::Missing { what: "object b3:12".into() },
    ];
    let texts: Vec<String> = errors.into_iter().map(|error| plain(&Report::from(error))).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

/// A definition with the root that the failures here are of.
fn definition(dir: &Path) -> Definition {
    for file in ["rootfs.tar", "common.yml", "hgweb.yml"] {
        std::fs::write(dir.join(file), "").unwrap();
    }
    let text = "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar\"\nunverified = true\n[ansible]\ncore = \"2.16.19\"\n\n\
                [root.hgweb]\nbase = \"b\"\nhost = \"hgwep0\"\nplaybooks = [\"common.yml\", \"hgweb.yml\"]\n";
    std::fs::write(dir.join("rootbuild.toml"), text).unwrap();
    Definition::load(None, dir).unwrap()
}

fn from_failure(failure: &RootFailure, sharers: &[&str]) -> Report {
    let dir = tempfile::tempdir().unwrap();
    Report::from_failure(failure, sharers, &definition(dir.path()))
}

fn failure(root: &str, error: StepError) -> RootFailure {
    RootFailure {
        root: root.to_owned(),
        step: Some("ansible/hgweb.yml".to_owned()),
        error: Arc::new(error),
        log: Some(PathBuf::from("/store/logs/hgweb/7.log")),
        kept: Some("hgweb".into()),
    }
}

#[test]
fn a_failed_root_is_told_with_its_step_its_log_and_how_to_look_at_it() {
    let failure = failure("hgweb", StepError::from(disk_full()));
    insta::assert_snapshot!(plain(&from_failure(&failure, &["hgweb", "hgssh"])));
}

#[test]
fn a_failed_task_is_told_with_its_output_and_its_place() {
    let error = RunError::TaskFailed {
        task: "httpd : install the package".to_owned(),
        source_line: "roles/httpd/tasks/main.yml:3".to_owned(),
        detail: "no package httpd\nrc: 1".to_owned(),
    };
    let report = from_failure(&failure("hgweb", StepError::from(error)), &["hgweb"]);
    assert_eq!(report.exit_code(), exit::FAILED);
    insta::assert_snapshot!(plain(&report), @r"
    error: root `hgweb`, step `ansible/hgweb.yml` failed
    caused by: task `httpd : install the package` failed (roles/httpd/tasks/main.yml:3)
      no package httpd
      rc: 1
    log: /store/logs/hgweb/7.log
    hint: look around in it with `rootbuild shell --failed hgweb`
    ");
}

#[test]
fn what_ansible_does_not_know_is_shown_where_the_definition_says_it() {
    let dir = tempfile::tempdir().unwrap();
    let definition = definition(dir.path());
    let errors = [
        RunError::UnknownHost {
            host: "hgwep0".to_owned(),
            nearest: Some("hgweb0".to_owned()),
            known: vec!["hgweb0".to_owned()],
        },
        RunError::NoPlayMatched {
            playbook: dir.path().join("hgweb.yml"),
            host: "hgwep0".to_owned(),
            plays: vec!["web".to_owned()],
        },
    ];
    let texts: Vec<String> = errors
        .into_iter()
        .map(|error| {
            let error = StepError::from(error);
            assert!(!error.leaves_something());
            let failure = RootFailure { kept: None, ..failure("hgweb", error) };
            let report = Report::from_failure(&failure, &["hgweb"], &definition);
            assert!(report.to_json()["error"]["line"].is_number());
            let text = anstream::adapter::strip_str(&report.render(Some(dir.path()))).to_string();
            text.replace(dir.path().to_str().unwrap(), "/p")
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn an_error_of_ansible_itself_does_not_send_anybody_into_the_root() {
    let error = RunError::Ansible { message: "the role 'x' was not found".to_owned() };
    let text = plain(&from_failure(&failure("hgweb", StepError::from(error)), &["hgweb"]));
    assert!(text.contains("the role 'x' was not found") && !text.contains("shell --failed"), "{text}");
}

#[test]
fn a_file_of_the_definition_that_is_wrong_is_shown_at_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.repo");
    std::fs::write(&file, "[base]\nbaseurll=http://x/\n").unwrap();
    let error = BaseError::Definition {
        place: Place { file: file.clone(), line: 2 },
        message: "unknown key `baseurll`".to_owned(),
        hint: Some("did you mean `baseurl`?".to_owned()),
    };
    let report = from_failure(&failure("hgweb", StepError::from(error)), &["hgweb"]);
    assert_eq!(report.exit_code(), exit::USAGE);
    let text = anstream::adapter::strip_str(&report.render(Some(dir.path()))).to_string();
    insta::assert_snapshot!(text);
    assert_eq!(report.to_json()["error"]["line"], 2);
}

#[test]
fn what_was_cancelled_is_no_failure_of_its_own_whoever_met_it() {
    let errors = [
        StepError::from(Cancelled),
        StepError::from(RunError::Cancelled(Cancelled)),
        StepError::from(RunError::Sandbox(SandboxError::Cancelled(Cancelled))),
        StepError::from(BaseError::Cancelled(Cancelled)),
        StepError::from(rootbuild_cache::Error::Cancelled { what: "layer".to_owned() }),
    ];
    for error in errors {
        assert!(error.is_cancelled(), "{error:?}");
        assert_eq!(Report::from(error).exit_code(), exit::INTERRUPTED);
    }
}

#[test]
fn a_root_that_only_follows_another_is_told_in_one_line() {
    let failure = failure("hgweb", StepError::Dependency("common".to_owned()));
    assert_eq!(
        plain(&from_failure(&failure, &["hgweb"])),
        "error: root `hgweb` wasn't built: it stands on root `common`, which failed\n"
    );
}

#[test]
fn several_errors_are_told_one_after_the_other_and_the_worst_decides() {
    let several = Report::several(vec![
        Report::usage("first").hint("do this"),
        Report::new(exit::INTERRUPTED, "cancelled"),
        Report::new(exit::STORE_DAMAGED, "second"),
    ]);
    assert_eq!(several.exit_code(), exit::STORE_DAMAGED);
    assert_eq!(plain(&several), "error: first\nhint: do this\n\nerror: second\n");
    assert_eq!(several.to_json()["error"]["errors"][1]["message"], "second");
    let only = Report::several(vec![Report::new(exit::INTERRUPTED, "cancelled")]);
    assert_eq!(only.exit_code(), exit::INTERRUPTED);
}

#[test]
fn output_of_programs_is_shown_indented_and_obeys_nobody() {
    let report = Report::failed("task `x` failed").output("one\n\x1b[2Jtwo\n\n").note("log", "/a/b");
    insta::assert_snapshot!(plain(&report), @r"
    error: task `x` failed
      one
      \u{1b}[2Jtwo
    log: /a/b
    ");
}

#[test]
fn a_cause_that_repeats_the_message_is_not_told_again() {
    let error = StepError::from(disk_full());
    let report = Report::failed("can't write `/store/objects/ab`").caused_by(&error);
    assert_eq!(plain(&report).matches("can't write").count(), 1);
}

#[test]
fn colours_mark_what_matters_and_nothing_else() {
    let text = Report::failed("broken").hint("mend it").render(None);
    assert_eq!(
        text,
        "\u{1b}[1m\u{1b}[31merror\u{1b}[0m: broken\n\u{1b}[1m\u{1b}[36mhint\u{1b}[0m: mend it\n"
    );
}

#[test]
fn a_path_that_is_not_utf8_can_be_told_as_json() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new(std::ffi::OsStr::from_bytes(b"/caf\xe9/rootbuild.toml"));
    let json = Report::from(Diagnostic::file(path, "no")).to_json();
    assert_eq!(json["error"]["path"], "/caf\u{fffd}/rootbuild.toml");
}
