//! Power is lost at any moment of a provision.
//!
//! The store lies on a journaled ext4 in an image file. What the image holds while a call is held up is what
//! the disk would hold: all that was written there, nothing that only the page cache has. A copy of it is
//! mounted later (which replays its journal), looked at, and worked on. A disk that loses, at the cut, what
//! was written to it and not flushed, is not played: for that one would have to log each block.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_tests::{Project, privileged, skipped};

use crate::launch;
use crate::mounts::{self, mount, run};
use crate::project::{PROVISION, Small, tree};
use crate::supervise::{Done, Say};
use crate::whole;

const NAME: &str = "power::after_a_power_cut_at_any_moment_everything_visible_is_whole";
/// How often power is lost in each of the two provisions; `ROOTBUILD_POWER_CUTS` says otherwise.
const CUTS: usize = 5;
const IMAGE: u64 = 192 << 20;

/// Copies an image as it is at one moment, which is somewhere between two looks at each block that show the same.
fn snapshot(image: &Path, copy: &Path) {
    for _ in 0..20 {
        run("cp", &["--sparse=always".as_ref(), image.as_ref(), copy.as_ref()]);
        let same = Command::new("cmp").arg("-s").arg(image).arg(copy).status().expect("cmp runs");
        if same.success() {
            return;
        }
    }
    panic!("the image never stands still");
}

#[test]
fn after_a_power_cut_at_any_moment_everything_visible_is_whole() {
    if !privileged(NAME) {
        return;
    }
    if !Path::new("/dev/loop-control").exists() {
        return skipped(NAME, "needs loop devices");
    }
    if !mounts::are_private(NAME) {
        return;
    }
    let cuts = std::env::var("ROOTBUILD_POWER_CUTS").ok().and_then(|it| it.parse().ok()).unwrap_or(CUTS);
    let dir = tempfile::tempdir().expect("there is room");
    let [image, at] = ["image", "at"].map(|name| dir.path().join(name));
    fs::create_dir(&at).expect("there is room");
    File::create(&image).and_then(|file| file.set_len(IMAGE)).expect("there is room");
    let all_at_once = "lazy_itable_init=0,lazy_journal_init=0";
    run("mkfs.ext4", &["-q".as_ref(), "-E".as_ref(), all_at_once.as_ref(), image.as_ref()]);
    mount(&image, &at);
    let small = Small::on(Project::on_store(at.join("store")));
    let mut expected: Vec<String> = Vec::new();
    let mut taken: Vec<(PathBuf, String, usize)> = Vec::new();
    for (round, which) in ["a", "b"].into_iter().enumerate() {
        small.define(which);
        // How many calls there are is known from the same on another disk.
        let other = Small::new();
        for which in ["a", "b"].iter().take(round) {
            other.define(which);
            let _ = other.provision();
        }
        other.define(which);
        let (ran, done) =
            launch::run(&other.project.command(PROVISION), &other.store(), Box::new(|_| Say::GoOn));
        expected.push(tree(&ran.expect(0)));
        let count = done.calls.len();
        let moments: BTreeSet<usize> = (1..=cuts).map(|cut| count * cut / (cuts + 1)).collect();
        let (from, to) = (image.clone(), dir.path().join(format!("cut-{round}")));
        let copies: Vec<_> = moments
            .iter()
            .map(|moment| {
                (to.with_extension(moment.to_string()), format!("{which} at {moment} of {count}"), round)
            })
            .collect();
        let say = move |done: &Done| {
            let number = done.calls.len();
            if moments.contains(&number) {
                snapshot(&from, &to.with_extension(number.to_string()));
            }
            Say::GoOn
        };
        let (ran, _) = launch::run(&small.project.command(PROVISION), &small.store(), Box::new(say));
        assert_eq!(tree(&ran.expect(0)), expected[round]);
        taken.extend(copies.into_iter().filter(|(copy, ..)| copy.exists()));
        // What was told to be done is done.
        let last = dir.path().join(format!("last-{round}"));
        snapshot(&image, &last);
        taken.push((last, format!("{which}, told to be done"), round));
    }
    run("umount", &[at.as_ref()]);
    for (copy, when, round) in &taken {
        mount(copy, &at);
        assert_eq!(whole::faults(&small.store()), Vec::<String>::new(), "{when}");
        let link = at.join("store/roots/r");
        if when.contains("told") || *round > 0 {
            assert!(link.exists(), "{when}: the root is gone");
        }
        for (which, tree) in ["a", "b"].iter().zip(&expected) {
            small.define(which);
            assert_eq!(small.provision(), *tree, "{when}");
        }
        assert_eq!(whole::left_over(&small.store()), Vec::<String>::new(), "{when}");
        assert_eq!(whole::faults(&small.store()), Vec::<String>::new(), "{when}");
        run("umount", &[at.as_ref()]);
        fs::remove_file(copy).expect("it is there");
    }
    println!("{} power cuts", taken.len());
}
