//! Provisions and collections side by side on one store, one of them killed at any moment.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rootbuild_tests::{Ran, privileged, rootbuild_binary};

use crate::project::{PROVISION, Small, tree};
use crate::whole;

/// Rounds in the suite; `ROOTBUILD_ROUNDS` says otherwise.
const ROUNDS: u64 = 500;
/// After how many rounds all of the store is looked at.
const LOOK: u64 = 50;
/// How many stores are worked on at a time, each with its share of the rounds.
const LANES: u64 = 4;

/// What isn't there yet isn't run.
pub(crate) fn collects() -> bool {
    let mut help = Command::new(rootbuild_binary());
    help.args(["cache", "gc", "--help"]).stdout(Stdio::null()).stderr(Stdio::null());
    help.status().expect("rootbuild runs").success()
}

/// The command that collects all that nobody needs.
pub(crate) const COLLECT: &[&str] = &["cache", "gc", "--max-age", "0s", "--keep-generations", "1"];

/// Numbers in no order.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

fn spawn(small: &Small, arguments: &[&str]) -> Child {
    let mut command = small.project.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rootbuild runs")
}

/// An archive that there never was: all of its layer is built.
fn fresh(small: &Small, name: &str, random: &mut Random) {
    let text = random.below(u64::MAX).to_string();
    let script = "rm -rf t; mkdir -p t/etc/deep t/bin; for n in 1 2 3 4 5 6 7 8 9; do echo $1 $n > t/etc/deep/$n; done
        echo $1 > t/bin/x; ln t/bin/x t/bin/y; ln -s $1 t/etc/link; head -c 100000 /dev/zero | tr '\\0' x > t/bin/big
        tar -C t -cf $2.tar .; rm -rf t";
    let mut sh = Command::new("sh");
    sh.args(["-euc", script, "sh", &text, name]).current_dir(small.project.dir());
    assert!(sh.status().expect("sh runs").success());
    small.define(name);
}

/// Ends well, or was killed by us.
#[track_caller]
fn ended(child: Child, killed: bool, what: &str) {
    let ran = Ran::new(&child.wait_with_output().expect("it ends"));
    assert!(
        ran.code == 0 || (killed && ran.code == 128 + 9),
        "{what} ended with {}: {}",
        ran.code,
        ran.stderr
    );
}

fn lane(seed: u64, rounds: u64) {
    let small = Small::new();
    let (store, mut random) = (small.store(), Random::new(seed));
    let collect = collects();
    let started = Instant::now();
    let _ = small.provision();
    let took = started.elapsed().max(Duration::from_millis(20));
    let mut worked = 0;
    for round in 1..=rounds {
        // New content, or what there was before.
        match random.below(4) {
            0 => small.define("a"),
            1 => small.define("b"),
            _ => fresh(&small, "c", &mut random),
        }
        let mut provision = spawn(&small, PROVISION);
        let mut collection = collect.then(|| spawn(&small, COLLECT));
        let longest = u64::try_from(took.as_micros() * 3 / 2).expect("it isn't that long");
        std::thread::sleep(Duration::from_micros(random.below(longest)));
        let both = random.below(8) == 0;
        let kill_provision = both || collection.is_none() || random.below(3) > 0;
        let kill_collection = both || !kill_provision;
        if kill_provision {
            worked += u64::from(provision.try_wait().expect("it is ours").is_none());
            let _ = provision.kill();
        }
        if let Some(collection) = collection.as_mut().filter(|_| kill_collection) {
            worked += u64::from(collection.try_wait().expect("it is ours").is_none());
            let _ = collection.kill();
        }
        let what = format!("seed {seed}, round {round}");
        ended(provision, kill_provision, &format!("{what}: the provision"));
        if let Some(collection) = collection {
            ended(collection, kill_collection, &format!("{what}: the collection"));
        }
        if round.is_multiple_of(LOOK) || round == rounds {
            let faults = whole::faults(&store);
            assert!(faults.is_empty(), "{what}: {faults:#?}");
            let _ = small.project.rootbuild(&["cache", "fsck"]).expect(0);
            let once = small.provision();
            assert_eq!(tree(&small.project.rootbuild(PROVISION).expect(0)), once, "{what}");
            let left: Vec<String> = whole::left_over(&store);
            assert!(left.is_empty(), "{what}: {left:?}");
            // The same from nothing.
            let other = Small::new();
            for archive in ["a.tar", "b.tar", "c.tar", "rootbuild.toml"] {
                let _ = std::fs::copy(small.project.dir().join(archive), other.project.dir().join(archive));
            }
            assert_eq!(other.provision(), once, "{what}");
        }
    }
    println!(
        "seed {seed}: {rounds} rounds, {worked} kills in the middle of something, in {:?}",
        started.elapsed()
    );
    assert!(worked * 4 > rounds, "hardly ever anything was killed: {worked} of {rounds}");
}

#[test]
fn killed_at_any_moment_nothing_is_lost() {
    if !privileged("killed_at_any_moment_nothing_is_lost") {
        return;
    }
    let rounds = std::env::var("ROOTBUILD_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(ROUNDS);
    let seed = u64::from(std::process::id());
    std::thread::scope(|scope| {
        for lane_ in 0..LANES {
            scope.spawn(move || lane(seed + lane_, rounds / LANES));
        }
    });
}
