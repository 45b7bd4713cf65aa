//! Programs that are traced: real ones, under a real filter.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rootbuild_playbooks::inputs::{self, Project, Reader, Traced};
use rootbuild_playbooks::trace::{self, Launcher, Trace, Tracing};
use tempfile::TempDir;

fn launcher() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_trace-launcher").into(), arguments: Vec::new() }
}

fn privileged(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {test} needs root privileges");
    }
    root
}

macro_rules! privileged {
    ($test:literal) => {
        if !privileged($test) {
            return;
        }
    };
}

/// A project and a playbook that isn't there: a shell script stands for it.
struct Bench {
    dir: TempDir,
    project: Project,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap().join("project");
        fs::create_dir(&top).unwrap();
        let project = Project { dir: top, inventory: None, vault_password_file: None, exclude: Vec::new() };
        Self { dir, project }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.project.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn script(&self, name: &str, text: &str) -> &Self {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn trace_of(&self, command: &[&str], own: bool, task: &Arc<AtomicU32>) -> Trace {
        let mut scope =
            inputs::scope(&self.project, &self.path("site.yml"), Path::new("/usr/bin/python3"), []);
        if own {
            scope = scope.about(command);
        }
        let mut tracing = Tracing::new(scope, Arc::clone(task)).unwrap();
        let mut start = Command::new(launcher().program);
        start
            .args(command)
            .stdout(Stdio::null())
            .current_dir(&self.project.dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        tracing.attach(&mut start);
        let status = start.status().unwrap();
        let trace = tracing.finish().unwrap();
        assert!(status.success(), "{command:?}: {status}");
        trace
    }

    fn reader(&self) -> Reader {
        Reader::new(&self.project, None)
    }

    fn traced(&self, command: &[&str]) -> Traced {
        let trace = self.trace_of(command, false, &Arc::default());
        assert_eq!(trace.gaps, [""; 0]);
        self.reader().settle(&trace)
    }

    fn sh(&self, script: &str) -> Traced {
        self.traced(&["/bin/sh", "-c", script])
    }

    /// Python as the program that the trace is about.
    fn python(&self, script: &str) -> Traced {
        let trace = self.trace_of(&["/usr/bin/python3", "-IBc", script], true, &Arc::default());
        assert_eq!(trace.gaps, [""; 0]);
        self.reader().settle(&trace)
    }

    fn holds(&self, traced: &Traced) -> bool {
        self.reader().holds(&traced.inputs)
    }
}

fn has(traced: &Traced, kind: &str, name: &str) -> bool {
    traced.inputs.iter().any(|input| input.kind == kind && input.name == name)
}

/// Kinds and names of what lies in the project, but for the configuration that Ansible would have.
fn inside(traced: &Traced) -> Vec<(&str, &str)> {
    let inside = traced.inputs.iter();
    let inside = inside.filter(|input| !input.name.starts_with('/') && input.name != "ansible.cfg");
    inside.map(|input| (input.kind.as_str(), input.name.as_str())).collect()
}

#[test]
fn this_machine_can_trace() {
    privileged!("this_machine_can_trace");
    trace::possible(&launcher()).unwrap();
    let wrong = Launcher { program: "/nonexistent".into(), arguments: Vec::new() };
    trace::possible(&wrong).unwrap_err();
    // A program that never becomes traced.
    let wrong = Launcher { program: "/bin/echo".into(), arguments: Vec::new() };
    trace::possible(&wrong).unwrap_err();
}

#[test]
fn a_file_that_was_read_is_an_input_and_one_that_was_not_is_none() {
    privileged!("a_file_that_was_read_is_an_input_and_one_that_was_not_is_none");
    let bench = Bench::new();
    bench.write("used", "1").write("unused", "1").write("roles/x/tasks.yml", "1");
    let traced = bench.sh("cat used; cd roles; read line < x/tasks.yml || :");
    assert_eq!(inside(&traced), [("exists", "roles"), ("file", "roles/x/tasks.yml"), ("file", "used")]);
    assert!(bench.holds(&traced));
    bench.write("unused", "2");
    assert!(bench.holds(&traced));
    bench.write("used", "2");
    assert!(!bench.holds(&traced));
    bench.write("used", "1");
    assert!(bench.holds(&traced), "a revert is no change");
    fs::set_permissions(bench.path("used"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!bench.holds(&traced), "permissions are handed on");
}

#[test]
fn a_file_outside_the_project_is_an_input_under_its_own_name() {
    privileged!("a_file_outside_the_project_is_an_input_under_its_own_name");
    let bench = Bench::new();
    let outside = bench.project.dir.parent().unwrap().join("outside");
    fs::write(&outside, "1").unwrap();
    let traced = bench.sh("cat ../outside");
    assert!(has(&traced, "file", outside.to_str().unwrap()), "{traced:?}");
    fs::write(&outside, "2").unwrap();
    assert!(!bench.holds(&traced));
}

#[test]
fn what_was_looked_for_in_vain_is_an_input() {
    privileged!("what_was_looked_for_in_vain_is_an_input");
    let bench = Bench::new();
    let traced = bench.python("import os; os.path.exists('host_vars/web0.yml')");
    assert_eq!(inside(&traced), [("absent", "host_vars/web0.yml")]);
    bench.write("host_vars/web1.yml", "");
    assert!(bench.holds(&traced));
    bench.write("host_vars/web0.yml", "");
    assert!(!bench.holds(&traced));
}

#[test]
fn a_listed_directory_is_an_input_with_its_names() {
    privileged!("a_listed_directory_is_an_input_with_its_names");
    let bench = Bench::new();
    bench.write("files/a", "1").write("library/x.py", "").write("library/__pycache__/x.pyc", "");
    let traced = bench.python("import os; os.listdir('files'); list(os.scandir('library'))");
    assert_eq!(inside(&traced), [("directory", "files"), ("directory", "library")]);
    bench.write("files/a", "2");
    assert!(bench.holds(&traced), "only the names were read");
    fs::remove_dir_all(bench.path("library/__pycache__")).unwrap();
    assert!(bench.holds(&traced), "what Python leaves there says nothing");
    bench.write("files/b", "");
    assert!(!bench.holds(&traced));
    fs::remove_file(bench.path("files/b")).unwrap();
    assert!(bench.holds(&traced));
    fs::remove_file(bench.path("files/a")).unwrap();
    fs::create_dir(bench.path("files/a")).unwrap();
    assert!(!bench.holds(&traced), "a directory in a file's place");
}

#[test]
fn ansible_looks_at_files_that_it_does_not_read_and_others_do_not() {
    privileged!("ansible_looks_at_files_that_it_does_not_read_and_others_do_not");
    let bench = Bench::new();
    bench.write("module.py", "1");
    let looked = bench.python("import os; os.path.isfile('module.py')");
    assert_eq!(inside(&looked), [("exists", "module.py")]);
    let other = bench.python("import subprocess; subprocess.run(['stat', 'module.py'], check=True)");
    assert!(has(&other, "file", "module.py"), "{other:?}");
    let forked = bench.python("import os\nif not os.fork(): os.stat('module.py')\nelse: os.wait()");
    assert_eq!(inside(&forked), [("exists", "module.py")]);
    bench.write("module.py", "2");
    assert!(bench.holds(&looked) && !bench.holds(&other) && bench.holds(&forked));
}

#[test]
fn links_count_by_what_they_say_and_by_what_they_lead_to() {
    privileged!("links_count_by_what_they_say_and_by_what_they_lead_to");
    let bench = Bench::new();
    bench.write("v1/conf", "1").write("v2/conf", "1");
    symlink("v1", bench.path("current")).unwrap();
    let followed = bench.sh("cat current/conf");
    let read = bench.python("import os; os.path.realpath('current/conf')");
    assert!(has(&read, "link", "current"), "{read:?}");
    fs::remove_file(bench.path("current")).unwrap();
    symlink("v2", bench.path("current")).unwrap();
    assert!(bench.holds(&followed), "the content is the same");
    assert!(!bench.holds(&read));
}

#[test]
fn no_process_gets_away() {
    privileged!("no_process_gets_away");
    let bench = Bench::new();
    for name in ["shell", "thread", "daemon", "namespace", "static", "relative", "empty", "proc", "script"] {
        bench.write(name, "1");
    }
    bench.write("dir/opened", "1");
    bench.script("interpreter", "#!/bin/sh\ncat ../script\n");
    bench.script("run/me", "#!../interpreter\n");
    let source = bench.dir.path().join("static.c");
    fs::write(&source, "#include <fcntl.h>\n#include <unistd.h>\nint main(){char c;return read(open(\"static\",0),&c,1)!=1;}").unwrap();
    let program = bench.dir.path().join("static");
    let made = Command::new("gcc").args(["-static", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(made.success());
    let python = format!(
        r#"
import os, subprocess, threading, sys
subprocess.run("cat shell | cat", shell=True, check=True)
t = threading.Thread(target=lambda: open("thread").read()); t.start(); t.join()
r, w = os.pipe()
if not os.fork():
    os.setsid()
    if not os.fork():
        open("daemon").read()
        os.write(w, b"x")
    os._exit(0)
os.wait(); os.read(r, 1)
subprocess.run("unshare --mount --pid --fork --mount-proc cat namespace", shell=True, check=True)
subprocess.run(["{}"], check=True)
d = os.open("dir", os.O_PATH)
os.open("opened", os.O_RDONLY, dir_fd=d)
fd = os.open("empty", os.O_PATH)
open(f"/proc/self/fd/{{fd}}").read()
open("/proc/self/cwd/proc").read()
"#,
        program.display()
    );
    let trace = bench.trace_of(&["/usr/bin/python3", "-IBc", &python], false, &Arc::default());
    // `unshare --mount-proc` mounts: what follows might have meant anything.
    assert_eq!(trace.gaps, ["a program called `mount`"]);
    let traced = bench.reader().settle(&trace);
    for name in ["shell", "thread", "daemon", "namespace", "static", "dir/opened", "empty", "proc"] {
        assert!(has(&traced, "file", name), "{name}: {traced:?}");
    }
    assert!(has(&traced, "file", program.to_str().unwrap()));
    assert_eq!(traced.changed, [""; 0]);
}

#[test]
fn a_script_is_read_and_so_is_its_interpreter() {
    privileged!("a_script_is_read_and_so_is_its_interpreter");
    let bench = Bench::new();
    bench.script("inner", "#!/bin/sh\nexec cat data\n").write("data", "1");
    let inner = bench.path("inner");
    bench.script("outer", &format!("#!{}\n", inner.display()));
    let traced = bench.sh("./outer");
    for name in ["outer", "inner", "data"] {
        assert!(has(&traced, "file", name), "{name}: {traced:?}");
    }
    bench.script("inner", "#!/bin/sh\nexec cat data #\n");
    assert!(!bench.holds(&traced));
}

#[test]
fn what_changes_meanwhile_is_named() {
    privileged!("what_changes_meanwhile_is_named");
    let bench = Bench::new();
    bench.write("a", "1").write("b", "1").write("dir/x", "");
    let task = Arc::new(AtomicU32::new(4));
    task.store(7, Ordering::Relaxed);
    let trace = bench.trace_of(&["/bin/sh", "-c", "cat a b; ls dir; [ ! -e c ]"], false, &task);
    bench.write("a", "2").write("c", "").write("dir/y", "");
    let traced = bench.reader().settle(&trace);
    assert_eq!(traced.changed, ["a", "c", "dir"]);
    assert_eq!(traced.first_use["b"], 7);
}

#[test]
fn what_the_run_itself_writes_is_no_change() {
    privileged!("what_the_run_itself_writes_is_no_change");
    let bench = Bench::new();
    bench.write("state", "before").write("out/old", "");
    let script = "cat state; ls out; echo after > state; cat state; echo x > out/new; cat out/new; \
                  echo t > transient; cat transient; rm transient";
    let traced = bench.sh(script);
    assert_eq!(traced.changed, [""; 0]);
    let expected = [("directory", "out"), ("file", "state"), ("output", "out/new"), ("output", "state")];
    assert_eq!(inside(&traced), expected);
    // It reads something else now than then: the next run may come to something else.
    assert!(!bench.holds(&traced));
    let again = bench.sh(script);
    assert!(bench.holds(&again));
    // What a run leaves beside itself is there again only if it runs again.
    fs::remove_file(bench.path("out/new")).unwrap();
    assert!(!bench.holds(&again));
}

#[test]
fn secrets_and_the_programs_that_print_them_are_no_inputs() {
    privileged!("secrets_and_the_programs_that_print_them_are_no_inputs");
    let mut bench = Bench::new();
    bench.script("password.sh", "#!/bin/sh\ncat deep/password; (cat shared)\n");
    bench.write("deep/password", "1").write("shared", "1").write("log", "").write("vaulted.yml", "1");
    bench.write("ansible.cfg", "[defaults]\nlog_path = log\n");
    bench.project.vault_password_file = Some(bench.path("password.sh"));
    let traced = bench.sh("echo x >> log; cat log; ./password.sh; cat vaulted.yml shared");
    assert_eq!(inside(&traced), [("file", "shared"), ("file", "vaulted.yml")]);
    bench.write("deep/password", "2");
    assert!(bench.holds(&traced));
    bench.write("vaulted.yml", "2");
    assert!(!bench.holds(&traced));
}

#[test]
fn connections_are_told() {
    privileged!("connections_are_told");
    let bench = Bench::new();
    let script =
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.connect(('127.0.0.1', 9))";
    let trace = bench.trace_of(&["/usr/bin/python3", "-IBc", script], true, &Arc::default());
    assert_eq!(trace.connections, ["127.0.0.1:9"]);
    assert!(trace.calls > 100 && trace.gaps.is_empty());
}

#[test]
fn io_uring_is_not_there() {
    privileged!("io_uring_is_not_there");
    let bench = Bench::new();
    let script = "import ctypes; assert ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0) == -1; \
                  assert ctypes.get_errno() == 38";
    bench.python(script);
}

#[test]
fn a_program_of_another_architecture_is_a_gap() {
    privileged!("a_program_of_another_architecture_is_a_gap");
    if cfg!(not(target_arch = "x86_64")) {
        println!("skipped: there is no such program for this machine");
        return;
    }
    let bench = Bench::new();
    let (source, program) = (bench.dir.path().join("old.c"), bench.dir.path().join("old"));
    // getpid, as a program of 32 bits calls it.
    let code =
        "int main() { int r; __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20)); return r <= 0; }\n";
    fs::write(&source, code).unwrap();
    assert!(Command::new("gcc").arg("-o").arg(&program).arg(&source).status().unwrap().success());
    let trace = bench.trace_of(&[program.to_str().unwrap()], false, &Arc::default());
    assert_eq!(trace.gaps, ["a program of another architecture ran"]);
}

#[test]
fn processes_may_be_killed_and_interrupted_at_any_moment() {
    privileged!("processes_may_be_killed_and_interrupted_at_any_moment");
    let bench = Bench::new();
    bench.write("a", "1").write("b", "1");
    let script =
        "for i in $(seq 60); do (while :; do cat a; done) & sleep 0.00$((i % 10)); kill -9 $!; done; cat b";
    let trace = bench.trace_of(&["/bin/sh", "-c", script], false, &Arc::default());
    assert_eq!(trace.gaps, [""; 0]);
    let traced = bench.reader().settle(&trace);
    assert!(has(&traced, "file", "a") && has(&traced, "file", "b"));
    let script = "import os, signal, time\nsignal.signal(signal.SIGALRM, lambda *_: None)\n\
                  signal.siginterrupt(signal.SIGALRM, False)\n\
                  signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)\n\
                  end = time.time() + 1\nwhile time.time() < end: open('a').close(); os.stat('b')\n\
                  signal.setitimer(signal.ITIMER_REAL, 0)\n";
    bench.python(script);
}

#[test]
fn where_somebody_traces_already_that_is_told_and_the_program_runs() {
    privileged!("where_somebody_traces_already_that_is_told_and_the_program_runs");
    let bench = Bench::new();
    // The kernel has one listener for a process: this test's other half is traced itself.
    let own = std::env::current_exe().unwrap();
    bench.traced(&[own.to_str().unwrap(), "--exact", "inside_another_trace", "--ignored"]);
}

#[test]
#[ignore = "the other half of the test above"]
fn inside_another_trace() {
    let why = trace::possible(&launcher()).unwrap_err().to_string();
    assert!(why.starts_with("seccomp refuses the filter"), "{why}");
    let dir = tempfile::tempdir().unwrap();
    let mut tracing = Tracing::new(trace::Scope::default(), Arc::default()).unwrap();
    let mut start = Command::new(launcher().program);
    start.args(["/bin/sh", "-c", "echo ran > ran"]).current_dir(dir.path());
    tracing.attach(&mut start);
    assert!(start.status().unwrap().success());
    tracing.finish().unwrap_err();
    assert_eq!(fs::read_to_string(dir.path().join("ran")).unwrap(), "ran\n");
}

#[test]
fn when_the_tracer_is_gone_nobody_hangs() {
    privileged!("when_the_tracer_is_gone_nobody_hangs");
    let bench = Bench::new();
    let mut tracing = Tracing::new(trace::Scope::default(), Arc::default()).unwrap();
    let mut start = Command::new(launcher().program);
    start
        .args(["/bin/sh", "-c", "read x < ready; while cat ready; do :; done"])
        .current_dir(&bench.project.dir);
    bench.write("ready", "x\n");
    tracing.attach(&mut start);
    let mut child = start.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let trace = tracing.finish().unwrap();
    assert!(trace.calls > 0);
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "it hangs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn many_processes_at_once_are_all_seen() {
    privileged!("many_processes_at_once_are_all_seen");
    let bench = Bench::new();
    for n in 0..200 {
        bench.write(&format!("f{n}"), "1");
    }
    let traced = bench.sh("seq 0 199 | xargs -P 16 -I{} cat f{}");
    let files = inside(&traced).into_iter().filter(|(kind, name)| *kind == "file" && name.starts_with('f'));
    assert_eq!(files.count(), 200);
}
