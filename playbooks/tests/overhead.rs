//! What tracing costs, and what looking for changes does. Measured, not asserted upon but for goals that leave
//! room: `tests/bench/tracing.sh` runs these.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rootbuild_cache::Input;
use rootbuild_playbooks::inputs::{Project, Reader, kind};
use rootbuild_playbooks::trace::Launcher;
use rustix::time::{ClockId, clock_gettime};
use support::{Bench, VERSIONS, privileged};

/// How often each is run; the fastest counts.
const TIMES: usize = 3;

fn launcher() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_trace-launcher").into(), arguments: Vec::new() }
}

/// The processor time that this process has used, with all its threads.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The processor time of all processes that we have waited for so far, in seconds.
fn of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: f64 = fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap();
    ticks / 100.0
}

/// Six roles of ten tasks: files, templates, commands, conditions.
fn project(bench: &Bench) {
    let mut site = "- hosts: all\n  gather_facts: true\n  roles:\n".to_owned();
    for role in 0..6 {
        site.push_str(&format!("    - r{role}\n"));
        let mut tasks = String::new();
        for task in 0..10 {
            tasks.push_str(&match task % 4 {
                0 => format!("- copy: {{src: f{task}, dest: /etc/r{role}-f{task}}}\n"),
                1 => format!("- template: {{src: t{task}.j2, dest: /etc/r{role}-t{task}}}\n"),
                2 => format!("- file: {{path: /etc/r{role}-d{task}, state: directory}}\n"),
                _ => "- command: /bin/true\n".to_owned(),
            });
            bench.write(&format!("roles/r{role}/files/f{task}"), "content\n");
            bench.write(&format!("roles/r{role}/templates/t{task}.j2"), "{{ inventory_hostname }}\n");
        }
        bench.write(&format!("roles/r{role}/tasks/main.yml"), &tasks);
        bench.write(&format!("roles/r{role}/defaults/main.yml"), "one: 1\n");
    }
    bench.playbook(&site);
}

#[test]
#[ignore = "a measurement"]
fn a_cold_run_is_hardly_slower_when_it_is_traced() {
    assert!(privileged("a_cold_run_is_hardly_slower_when_it_is_traced"));
    for version in VERSIONS {
        let mut bench = Bench::new(version);
        project(&bench);
        bench.go().unwrap();
        // Seconds on the clock and of processor time, without and with a tracer.
        let mut fastest = [[f64::INFINITY; 2]; 2];
        let mut calls = 0;
        for _ in 0..TIMES {
            for (launcher, fastest) in [None, Some(launcher())].into_iter().zip(&mut fastest) {
                bench.run.launcher = launcher;
                let (started, before) = (Instant::now(), used().as_secs_f64() + of_children());
                let outcome = bench.go().unwrap();
                let processor = used().as_secs_f64() + of_children() - before;
                *fastest = [fastest[0].min(started.elapsed().as_secs_f64()), fastest[1].min(processor)];
                if let Some(trace) = outcome.trace {
                    calls = trace.unwrap().calls;
                }
            }
        }
        for (what, [plain, traced]) in ["clock", "processor"]
            .into_iter()
            .zip([[fastest[0][0], fastest[1][0]], [fastest[0][1], fastest[1][1]]])
        {
            let more = (traced / plain - 1.0) * 100.0;
            println!("{version}: {what}: untraced {plain:.2} s, traced {traced:.2} s: {more:+.1} %");
        }
        println!("{version}: {calls} calls looked at");
    }
}

#[test]
#[ignore = "a measurement"]
fn looking_for_changes_takes_no_time() {
    const ROOTS: usize = 8;
    const INPUTS: usize = 500;
    let dir = tempfile::tempdir().unwrap();
    let project = Project {
        dir: dir.path().join("project"),
        inventory: None,
        vault_password_file: None,
        exclude: Vec::new(),
    };
    let cache = dir.path().join("cache");
    let mut roots = Vec::new();
    for root in 0..ROOTS {
        let mut inputs = Vec::new();
        for number in 0..INPUTS {
            let (kind, name) = match number % 10 {
                0..5 => (kind::FILE, format!("roles/r{root}/{}/f{number}", number % 7)),
                5..9 => (kind::ABSENT, format!("roles/r{root}/{}/none{number}", number % 7)),
                _ => (kind::DIRECTORY, format!("roles/r{root}/{}", number % 7)),
            };
            let path = project.dir.join(&name);
            if kind == kind::FILE {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, format!("{number}\n").repeat(100)).unwrap();
            } else if kind == kind::DIRECTORY {
                fs::create_dir_all(&path).unwrap();
            }
            inputs.push(Input { kind: kind.to_owned(), name, digest: None });
        }
        roots.push(inputs);
    }
    // Files that have been left alone for a while.
    let mut old = Command::new("find");
    old.arg(&project.dir).args(["-exec", "touch", "-d", "2020-01-01", "{}", "+"]);
    assert!(old.status().unwrap().success());
    std::thread::sleep(Duration::from_millis(2100));
    let reader = Reader::new(&project, Some(&cache));
    for input in roots.iter_mut().flatten() {
        input.digest = reader.now(input);
    }
    reader.save();
    drop(reader);
    let mut best = Duration::MAX;
    for _ in 0..TIMES {
        let before = used();
        let reader = Reader::new(&project, Some(&cache));
        assert!(roots.iter().all(|inputs| reader.holds(inputs)));
        best = best.min(used() - before);
    }
    println!("{ROOTS} roots with {INPUTS} inputs each: {:.1} ms of processor time", best.as_secs_f64() * 1e3);
    assert!(best < Duration::from_millis(20), "{best:?}");
}
