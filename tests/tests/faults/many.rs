//! Many at once on one store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rootbuild_tests::{Project, privileged};

use crate::kills::{COLLECT, Random, collects};
use crate::project::{PROVISION, Small, definition, tree};
use crate::whole;

/// How many provision at a time; two each share a definition.
const PROVISIONS: u64 = 16;
const COLLECTIONS: u64 = 4;
/// How long, in seconds; `ROOTBUILD_MINUTES` says otherwise.
const SECONDS: u64 = 15;

/// So many contents more in each archive of a long run: a collection takes them away in several goes.
const CROWD: u32 = 2000;

/// Makes the archives of a project large.
fn crowd(small: &Small) {
    for which in ["a", "b"] {
        let dir = small.project.dir().join("crowd");
        std::fs::create_dir(&dir).expect("there is room");
        for number in 0..CROWD {
            std::fs::write(dir.join(number.to_string()), format!("{which} {number}")).expect("there is room");
        }
        let archive = small.project.dir().join(format!("{which}.tar"));
        let mut tar = std::process::Command::new("tar");
        tar.arg("-rf").arg(archive).arg("./crowd").current_dir(small.project.dir());
        assert!(tar.status().expect("tar runs").success());
        std::fs::remove_dir_all(&dir).expect("it was made");
    }
}

#[test]
fn many_at_once_lose_nothing_and_say_whom_they_wait_for() {
    if !privileged("many_at_once_lose_nothing_and_say_whom_they_wait_for") {
        return;
    }
    let minutes: Option<u64> = std::env::var("ROOTBUILD_MINUTES").ok().and_then(|it| it.parse().ok());
    let until = Instant::now() + Duration::from_secs(minutes.map_or(SECONDS, |minutes| minutes * 60));
    let first = Small::new();
    if minutes.is_some() {
        crowd(&first);
    }
    let trees = ["a", "b"].map(|which| {
        first.define(which);
        first.provision()
    });
    let projects: Vec<Small> =
        (0..PROVISIONS / 2).map(|_| Small::on(Project::on_store(first.store()))).collect();
    for (small, archive) in
        projects.iter().flat_map(|small| ["a.tar", "b.tar"].map(|archive| (small, archive)))
    {
        let (from, to) = (first.project.dir().join(archive), small.project.dir().join(archive));
        std::fs::copy(from, to).expect("there is room");
    }
    let (provisions, collections, waits) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let collect = collects();
    std::thread::scope(|scope| {
        for worker in 0..PROVISIONS {
            let number = worker / 2;
            let small = &projects[usize::try_from(number).expect("few")];
            let (provisions, waits, trees) = (&provisions, &waits, &trees);
            scope.spawn(move || {
                let mut random = Random::new(worker + 1);
                while Instant::now() < until {
                    let which = usize::try_from(random.below(2)).expect("few");
                    // Its own file, but the same roots as its twin's: they take turns.
                    let text = definition(["a", "b"][which], &format!("r{number}"));
                    let file = small.project.dir().join("rootbuild.toml");
                    let beside = small.project.dir().join(format!("new-{worker}"));
                    std::fs::write(&beside, text).expect("there is room");
                    std::fs::rename(&beside, &file).expect("it can be replaced");
                    let ran = small.project.rootbuild(PROVISION).expect(0);
                    assert!(trees.contains(&tree(&ran)), "another tree");
                    for line in ran.stderr.lines().filter(|line| line.contains("waiting for")) {
                        let told =
                            line.split_once("waiting for pid ").and_then(|(_, rest)| rest.split_once(": "));
                        let told = told.filter(|(pid, what)| pid.parse::<u32>().is_ok() && !what.is_empty());
                        assert!(told.is_some(), "{line}");
                        waits.fetch_add(1, Ordering::Relaxed);
                    }
                    provisions.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..if collect { COLLECTIONS } else { 0 } {
            let (first, collections) = (&first, &collections);
            scope.spawn(move || {
                while Instant::now() < until {
                    let _ = first.project.rootbuild(COLLECT).expect(0);
                    collections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{provisions:?} provisions, {collections:?} collections, {waits:?} waits");
    assert_eq!(whole::faults(&first.store()), Vec::<String>::new());
    for small in &projects {
        let ran = small.project.rootbuild(PROVISION).expect(0);
        assert!(trees.contains(&tree(&ran)));
    }
    assert_eq!(whole::left_over(&first.store()), Vec::<String>::new());
}
