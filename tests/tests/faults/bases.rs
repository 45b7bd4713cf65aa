//! Installing a base runs other programs, as root and in namespaces: after SIGKILL none of them runs on, and what they
//! left goes with the next command.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rootbuild_tests::{Project, privileged};

use crate::kills::Random;
use crate::project::{PROVISION, tree};
use crate::whole;

/// How often it is killed; `ROOTBUILD_ROUNDS` says a hundred times that.
const ROUNDS: u64 = 5;

/// Who installs: the host's rpm; and in a long run a small system unpacked for it, and the root's own rpm in a
/// sandbox, which needs all of `@core`.
const HOWS: [(&str, &str); 2] = [("host", "bash"), ("root", "@core")];

fn project(how: &str, package: &str) -> Project {
    let project = Project::with_own_store();
    project.write_standin_repo();
    let definition = format!(
        "[base.el7]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackages = [\"{package}\"]\nlock = \"el7.lock\"\n\
         bootstrap = \"{how}\"\n[root.r]\nbase = \"el7\"\n"
    );
    project.write("rootbuild.toml", &definition);
    project
}

/// Processes and mounts that have to do with the store.
fn traces(store: &Path) -> Vec<String> {
    let place = store.to_string_lossy().into_owned();
    let own = std::process::id().to_string();
    let mut found: Vec<String> = Vec::new();
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let of = |what: &str| fs::read(process.path().join(what)).unwrap_or_default();
        let mut told: Vec<Vec<u8>> = ["cmdline", "environ", "mountinfo"].map(of).to_vec();
        for link in ["cwd", "root"] {
            told.extend(
                fs::read_link(process.path().join(link)).map(|it| it.into_os_string().into_encoded_bytes()),
            );
        }
        if told.iter().any(|text| String::from_utf8_lossy(text).contains(&place)) {
            found.push(String::from_utf8_lossy(&told[0]).replace('\0', " "));
        }
    }
    found
}

/// Control groups of the sandboxes of these processes.
fn groups(killed: &[u32]) -> Vec<String> {
    let output = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", "rootbuild-*"]).output();
    let text = String::from_utf8_lossy(&output.expect("find runs").stdout).into_owned();
    let ours = |line: &&str| killed.iter().any(|pid| line.contains(&format!("/rootbuild-{pid}-")));
    text.lines().filter(ours).map(str::to_owned).collect()
}

#[test]
fn a_base_install_that_is_killed_runs_no_further_and_is_swept() {
    if !privileged("a_base_install_that_is_killed_runs_no_further_and_is_swept") {
        return;
    }
    let rounds = std::env::var("ROOTBUILD_ROUNDS").ok().and_then(|it| it.parse().ok());
    let hows = if rounds.is_some() { &HOWS[..] } else { &HOWS[..1] };
    let rounds = rounds.map_or(ROUNDS, |rounds: u64| rounds / 100).max(1);
    for (seed, (how, package)) in hows.iter().enumerate() {
        let first = project(how, package);
        let _ = first.rootbuild(&["lock"]).expect(0);
        let started = Instant::now();
        let expected = tree(&first.rootbuild(PROVISION).expect(0));
        let took = u64::try_from(started.elapsed().as_micros()).expect("it isn't that long");
        let killed = project(how, package);
        fs::copy(first.dir().join("el7.lock"), killed.dir().join("el7.lock")).expect("there is room");
        let mut random = Random::new(u64::from(std::process::id()) + seed as u64);
        let mut pids = Vec::new();
        for _ in 0..rounds {
            let mut command = killed.command(PROVISION);
            let mut child =
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("rootbuild runs");
            pids.push(child.id());
            std::thread::sleep(Duration::from_micros(random.below(took)));
            let _ = child.kill();
            child.wait().expect("it is ours");
            let patience = Instant::now();
            while !traces(killed.store()).is_empty() {
                assert!(patience.elapsed() < Duration::from_secs(10), "{how}: {:#?}", traces(killed.store()));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        assert_eq!(tree(&killed.rootbuild(PROVISION).expect(0)), expected, "{how}");
        assert_eq!(whole::left_over(killed.store()), Vec::<String>::new(), "{how}");
        assert_eq!(groups(&pids), Vec::<String>::new(), "{how}");
        let _ = killed.rootbuild(&["cache", "fsck"]).expect(0);
        println!("{how}: {rounds} kills in {:?}", started.elapsed());
    }
}
