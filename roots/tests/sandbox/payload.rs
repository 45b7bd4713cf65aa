//! The payload: its streams, its exit code, what it finds.

use super::harness::*;

#[test]
fn propagates_exit_code() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    for code in [0, 1, 7, 125, 255] {
        assert_eq!(run(&root.spec(&format!("exit {code}"))).0, code);
    }
}

#[test]
fn closing_stdin_asks_the_payload_to_end() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut running = start(&root.spec("echo up; cat > /dev/null; exit 3"));
    assert_eq!(first_line(&mut running), "up\n");
    assert_eq!(running.stop().unwrap(), 3);
}

#[test]
fn output_nobody_reads_stops_nothing() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let running =
        start(&root.spec("dd if=/dev/zero bs=1M count=3; dd if=/dev/zero bs=1M count=3 >&2; exit 4"));
    assert_eq!(running.wait().unwrap(), 4);
}

#[test]
fn stderr_is_kept_for_the_error() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let running = start(&root.spec("echo one >&2; echo two >&2; exit 1"));
    let tail = running.stderr_tail();
    assert_eq!(running.wait().unwrap(), 1);
    assert_eq!(tail.to_string(), "one\ntwo");
}

#[test]
fn the_environment_is_what_was_asked_for() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut spec = root.spec("env; hostname; pwd; cat /proc/1/comm");
    spec.env.push(("ODD".to_owned(), "a=b c\td\\".to_owned()));
    spec.chdir = Some("/etc".into());
    let (code, out) = run(&spec);
    assert_eq!(code, 0);
    for line in ["ODD=a=b c\td\\", "SYSTEMD_OFFLINE=1", "inside", "/etc", "sh"] {
        assert!(out.lines().any(|l| l == line), "{line} not in:\n{out}");
    }
    assert!(out.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"), "{out}");
    assert!(!out.contains("CARGO") && !out.contains("HOSTNAME"), "the caller's environment leaked:\n{out}");
}

#[test]
fn no_fd_of_ours_leaks_inside() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let file = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let (code, out) = run(&root.spec("ls /proc/1/fd"));
    assert_eq!((code, out.as_str()), (0, "0\n1\n2\n"));
}

#[test]
fn the_fd_limit_is_small_enough_for_el7() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let (code, out) = run(&root.spec("ulimit -Sn; ulimit -Hn"));
    let limits: Vec<u32> = out.lines().map(|line| line.parse().unwrap()).collect();
    assert!(code == 0 && limits[0] == 1024 && limits[1] <= 524_288, "{out}");
}

#[test]
fn a_shell_has_the_terminal() {
    if !privileged() {
        return;
    }
    // script(1) gives a terminal; the starter hands it through.
    let script = format!(
        "stty rows 33 cols 77; ROOTBUILD_TEST_SHELL=1 {} --exact payload::shell_starter --nocapture",
        std::env::current_exe().unwrap().display()
    );
    let output = Command::new("script").args(["-qec", &script, "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SIZE 33 77") && text.contains("TTY /dev/"), "{text}");
    assert!(text.contains("JOBS Running"), "job control works:\n{text}");
}

/// Not a test by itself: runs a shell in the caller's terminal for [`a_shell_has_the_terminal`].
#[test]
fn shell_starter() {
    if std::env::var_os("ROOTBUILD_TEST_SHELL").is_none() {
        return;
    }
    let root = Root::new();
    // nspawn tells the terminal's size soon after the start, not before.
    let script = "for _ in $(seq 50); do [ \"$(stty size)\" = '0 0' ] && sleep 0.1; done; echo SIZE $(stty size); \
                  echo TTY $(tty); set -m; sleep 9 & jobs | sed 's/.*Running.*/JOBS Running/'; kill %1";
    let spec = SandboxSpec {
        console: Console::Inherit,
        argv: vec!["/bin/bash".into(), "-c".into(), script.into()],
        ..root.spec("")
    };
    start(&spec).wait().unwrap();
}
