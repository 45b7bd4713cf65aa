//! What a real run of Ansible reads becomes its inputs, and nothing else does.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_playbooks::inputs::{Reader, Traced};
use rootbuild_playbooks::run::Outcome;
use rootbuild_playbooks::trace::Launcher;
use support::{Bench, VERSIONS, privileged, shared};

fn launcher() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_trace-launcher").into(), arguments: Vec::new() }
}

fn traced(bench: &Bench, outcome: &Outcome) -> Traced {
    let trace = outcome.trace.as_ref().unwrap().as_ref().unwrap();
    assert_eq!(trace.gaps, [""; 0]);
    Reader::new(&bench.run.project, None).settle(trace)
}

fn holds(bench: &Bench, traced: &Traced) -> bool {
    Reader::new(&bench.run.project, None).holds(&traced.inputs)
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program without libraries, which prints the file that it is given.
fn static_program(dir: &Path) -> PathBuf {
    let (source, program) = (dir.join("show.c"), dir.join("show"));
    let code = "#include <fcntl.h>\n#include <unistd.h>\nint main(int n, char **v) { char b[99];\n\
                return write(1, b, read(open(v[1], O_RDONLY), b, 99)) < 0; }\n";
    fs::write(&source, code).unwrap();
    let made =
        Command::new("gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(made.success());
    program
}

const PLAYBOOK: &str = r#"- hosts: web
  gather_facts: false
  vars_files: [vars/secret.yml]
  roles: [used]
  tasks:
    - copy: {src: ../../beside, dest: /etc/beside}
    - copy: {content: "{{ lookup('file', 'looked-up') }}{{ lookup('pipe', 'cat piped') }}", dest: /etc/looked-up}
    - copy: {content: "{{ query('fileglob', 'globbed/*') | length }} {{ secret }} {{ flavour }}", dest: /etc/globbed}
    - copy: {content: "{{ lookup('own') }}", dest: /etc/own}
    - copy: {src: tree/, dest: /etc/tree/}
    - command: "{{ program }} static"
      delegate_to: localhost
      args: {chdir: "{{ playbook_dir }}"}
    - local_action: slurp src={{ playbook_dir }}/slurped
    - include_tasks: "{{ item }}"
      with_first_found: [missing.yml, there.yml]
    - debug: {msg: "{{ lookup('env', 'CARGO_PKG_NAME') }}"}
"#;

const OWN_LOOKUP: &str = "from ansible.plugins.lookup import LookupBase\nclass LookupModule(LookupBase):\n    \
                          def run(self, terms, variables=None, **kwargs):\n        \
                          return [open(self._loader.get_basedir() + '/of-plugin').read()]\n";

fn project(bench: &mut Bench) {
    bench.write("site.yml", PLAYBOOK).write("lookup_plugins/own.py", OWN_LOOKUP);
    for name in ["looked-up", "piped", "static", "slurped", "of-plugin", "inventory/data"] {
        bench.write(name, "1");
    }
    for name in ["globbed/a", "files/tree/a", "files/tree/sub/b", "roles/used/templates/t.j2"] {
        bench.write(name, "1");
    }
    bench.write("there.yml", "- debug:\n").write("library/unused.py", "1");
    bench.write("roles/used/tasks/main.yml", "- template: {src: t.j2, dest: /etc/t}\n");
    bench.write("roles/unused/tasks/main.yml", "- debug:\n").write("group_vars/web.yml", "flavour: plain\n");
    bench.write("password.data", "pass\n");
    let dir = bench.run.project.dir.clone();
    script(&dir.join("password.sh"), "#!/bin/sh\ncat \"$(dirname \"$0\")/password.data\"\n");
    script(
        &dir.join("inventory/hosts.sh"),
        "#!/bin/sh\ncat \"$(dirname \"$0\")/data\" >&2\necho '{\"web\": {\"hosts\": [\"web0\"]}}'\n",
    );
    fs::rename(dir.join("inventory"), dir.join("inv")).unwrap();
    bench.run.project.inventory = Some(dir.join("inv/hosts.sh"));
    fs::write(dir.parent().unwrap().parent().unwrap().join("beside"), "1").unwrap();
    let vault = bench.run.toolchain.program("ansible-vault");
    bench.write("vars/secret.yml", "secret: word\n");
    let encrypted = Command::new(bench.run.toolchain.python())
        .arg(vault)
        .args(["encrypt", "--vault-password-file", "password.data", "vars/secret.yml"])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(encrypted.status.success(), "{encrypted:?}");
    bench.write("ansible.cfg", "[defaults]\nvault_password_file = password.sh\n");
}

#[test]
fn an_edit_counts_exactly_if_the_run_has_read_it() {
    if !privileged("an_edit_counts_exactly_if_the_run_has_read_it") {
        return;
    }
    for version in VERSIONS {
        let mut bench = Bench::new(version);
        bench.run.launcher = Some(launcher());
        project(&mut bench);
        let dir = bench.run.project.dir.clone();
        let top = dir.parent().unwrap().to_owned();
        let program = static_program(&top);
        bench.run.vars = serde_json::json!({ "program": program });
        // Its own directory: the name beside the project's must be nobody else's.
        let beside = top.parent().unwrap().join("beside");
        let outcome = bench.go().unwrap_or_else(|error| panic!("{version}: {error}"));
        let reads = traced(&bench, &outcome);
        assert_eq!(reads.changed, [""; 0], "{version}");
        assert!(holds(&bench, &reads), "{version}: right after the run");

        let changes = |path: &Path, text: &str| {
            let before = fs::read(path).ok();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            let changed = !holds(&bench, &reads);
            match before {
                Some(before) => fs::write(path, before).unwrap(),
                None => {
                    fs::remove_file(path).unwrap();
                    // The directory too, if it was made for it.
                    let _ = fs::remove_dir(path.parent().unwrap());
                }
            }
            changed
        };
        for name in [
            "site.yml",
            "looked-up",
            "piped",
            "static",
            "slurped",
            "of-plugin",
            "inv/data",
            "inv/hosts.sh",
            "lookup_plugins/own.py",
            "files/tree/a",
            "files/tree/sub/b",
            "roles/used/templates/t.j2",
            "roles/used/tasks/main.yml",
            "there.yml",
            "vars/secret.yml",
            "ansible.cfg",
            "group_vars/web.yml",
            // What isn't there yet.
            "globbed/b",
            "files/tree/new",
            "missing.yml",
            "host_vars/web0.yml",
            "group_vars/all.yml",
            "roles/used/defaults/main.yml",
            "files/looked-up",
        ] {
            assert!(changes(&dir.join(name), "2"), "{version}: `{name}` counts");
        }
        assert!(changes(&beside, "2"), "{version}: what lies outside counts");
        assert!(changes(&program, "2"), "{version}: a program counts");
        for name in [
            "roles/unused/tasks/main.yml",
            "roles/unused/new.yml",
            "globbed/a",
            "password.data",
            "password.sh",
            "README.md",
            "library/__pycache__/x.pyc",
            ".git/HEAD",
        ] {
            assert!(!changes(&dir.join(name), "2"), "{version}: `{name}` doesn't count");
        }
        assert!(holds(&bench, &reads), "{version}: as it was");
        let touched = Command::new("find").arg(&dir).args(["-exec", "touch", "{}", "+"]).status().unwrap();
        assert!(touched.success() && holds(&bench, &reads), "{version}: times don't count");

        let is = |kind: &str, name: &str| {
            reads.inputs.iter().any(|input| input.kind == kind && input.name == name)
        };
        assert!(is("environment", "CARGO_PKG_NAME") && is("python", "/usr/bin/python3.11"));
        assert!(is("absent", "missing.yml") && is("directory", "files/tree"));
        // The project may lie anywhere, below somebody's home too.
        let text = format!("{:?}", reads.inputs).replace(shared().to_str().unwrap(), "");
        for outside in ["password", "/usr/lib", "toolchains", "/proc", "/root"] {
            assert!(!text.contains(outside), "{version}: {outside}: {text}");
        }
        // Twice the role's and then the play's own: the first task is the role's.
        assert_eq!(reads.first_use["roles/used/templates/t.j2"], 1);
        assert_eq!(reads.first_use["site.yml"], 0);
        assert!(reads.first_use["there.yml"] > 5);
    }
}

#[test]
fn what_is_edited_while_the_run_reads_it_is_named() {
    if !privileged("what_is_edited_while_the_run_reads_it_is_named") {
        return;
    }
    let mut bench = Bench::new(VERSIONS[0]);
    bench.run.launcher = Some(launcher());
    bench.write("files/a", "1").playbook(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {src: a, dest: /etc/a}\n    \
         - command: sleep 2\n",
    );
    let file = bench.run.project.dir.join("files/a");
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !format!("{:?}", bench.events()).contains("command") {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            fs::write(&file, "2").unwrap();
        });
        bench.go().unwrap()
    });
    assert_eq!(traced(&bench, &outcome).changed, ["files/a"]);
}

#[test]
fn what_the_run_leaves_in_the_project_has_to_stay() {
    if !privileged("what_the_run_leaves_in_the_project_has_to_stay") {
        return;
    }
    let mut bench = Bench::new(VERSIONS[1]);
    bench.run.launcher = Some(launcher());
    bench.playbook(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    \
         - fetch: {src: /etc/hostname, dest: fetched/, flat: true}\n    \
         - debug: {msg: \"{{ lookup('password', 'made length=8') }}\"}\n",
    );
    let first = traced(&bench, &bench.go().unwrap());
    assert_eq!(first.changed, [""; 0]);
    // It found nothing there, and now there is something: only another run tells what that comes to.
    assert!(!holds(&bench, &first));
    let second = traced(&bench, &bench.go().unwrap());
    assert_eq!(second.changed, [""; 0]);
    assert!(holds(&bench, &second));
    fs::remove_file(bench.run.project.dir.join("fetched/hostname")).unwrap();
    assert!(!holds(&bench, &second));
}
