//! Each call of a provision fails once: what is visible stays whole, the error says what happened, and the
//! next provision gives the same.

use rootbuild_tests::{Ran, privileged};
use rustix::io::Errno;

use crate::calls::Call;
use crate::launch;
use crate::project::{PROVISION, Small, tree};
use crate::supervise::{Done, Say};
use crate::whole;

/// How many of the calls fail in turn, of each way to fail; all with `ROOTBUILD_FAULTS=all`.
const SAMPLE: usize = 8;

/// A way in which calls fail.
struct Way {
    name: &'static str,
    /// What the call at which it begins gets.
    say: Say,
    /// Which calls can fail so.
    can: fn(&Done) -> bool,
    /// Whether all later ones fail as well.
    lasts: bool,
}

const WAYS: &[Way] = &[
    Way { name: "EIO", say: Say::Fail(Errno::IO), can: |_| true, lasts: false },
    Way { name: "ENOSPC", say: Say::Fail(Errno::NOSPC), can: takes_room, lasts: false },
    Way { name: "EDQUOT for good", say: Say::Fail(Errno::DQUOT), can: takes_room, lasts: true },
    Way { name: "ENOSPC for good", say: Say::Fail(Errno::NOSPC), can: takes_room, lasts: true },
    Way { name: "EMLINK", say: Say::Fail(Errno::MLINK), can: |done| done.last().links(), lasts: false },
    Way { name: "half", say: Say::Half, can: |_| true, lasts: true },
];

fn takes_room(done: &Done) -> bool {
    done.last().takes_room()
}

/// Whether this of `count` is in the sample.
fn sampled(number: usize, count: usize) -> bool {
    if std::env::var("ROOTBUILD_FAULTS").is_ok_and(|which| which == "all") {
        return true;
    }
    number * SAMPLE / count != (number + 1) * SAMPLE / count
}

fn says(way: &'static Way, number: usize) -> Box<dyn FnMut(&Done) -> Say + Send> {
    let mut seen = 0;
    Box::new(move |done| {
        if !(way.can)(done) {
            return Say::GoOn;
        }
        seen += 1;
        if seen - 1 == number || (way.lasts && seen > number) { way.say } else { Say::GoOn }
    })
}

/// Lets the calls of a provision after `before` fail in all ways in turn, and looks at what that leaves.
fn every(what: &str, before: fn(&Small)) {
    let small = Small::new();
    before(&small);
    let (ran, done) = launch::run(&small.project.command(PROVISION), &small.store(), Box::new(|_| Say::GoOn));
    let expected = tree(&ran.expect(0));
    assert!(done.calls.len() > 50, "{done:?}");
    let (mut tried, mut wrong) = (0, Vec::new());
    for way in WAYS {
        let mut upto = Done::default();
        let can = done.calls.iter().filter(|call| {
            upto.calls.push((*call).clone());
            (way.can)(&upto)
        });
        let count = can.count();
        for number in (0..count).filter(|number| sampled(*number, count)) {
            let small = Small::new();
            before(&small);
            let (ran, done) =
                launch::run(&small.project.command(PROVISION), &small.store(), says(way, number));
            let Some(fault) = done.faults.first() else { continue };
            let call = &done.calls[fault.0];
            tried += 1;
            if let Err(why) = looked_at(&small, way, call, &ran, &expected) {
                let (call, path) = (call.name, call.path.display());
                wrong.push(format!("{} at {call} `{path}` ({number}): {why}\n{}", way.name, ran.stderr));
            }
        }
    }
    println!("{what}: {} calls, {tried} faults", done.calls.len());
    assert!(wrong.is_empty(), "{what}: {} of {tried}\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong after a provision in which `call` was the first to fail.
fn looked_at(small: &Small, way: &Way, call: &Call, ran: &Ran, expected: &str) -> Result<(), String> {
    let store = small.store();
    let is = |good: bool, what: &str| if good { Ok(()) } else { Err(what.to_owned()) };
    is(!ran.stderr.contains("panicked"), "it panicked")?;
    match (ran.code, way.say) {
        (0, _) => is(tree(ran) == expected, "another tree")?,
        (1, Say::Fail(errno)) => {
            let text = ran.stderr.to_lowercase();
            let why: &[&str] = match errno {
                Errno::IO => &["input/output error"],
                Errno::NOSPC => &["no space left on device"],
                Errno::DQUOT => &["disk quota exceeded"],
                _ => &["too many links", "no more hardlinks"],
            };
            is(why.iter().any(|why| text.contains(why)), "the error doesn't say why")?;
            is(ran.stderr.contains(&*store.to_string_lossy()), "the error doesn't say where")?;
        }
        (code, _) => return Err(format!("exit code {code}")),
    }
    let empty = |list: Vec<String>, when: &str| {
        if list.is_empty() { Ok(()) } else { Err(format!("{when}: {list:?}")) }
    };
    empty(whole::faults(&store), "not whole")?;
    if !call.name.starts_with("unlink") && call.name != "rmdir" {
        empty(whole::left_over(&store), "left over")?;
    }
    let checked = small.project.rootbuild(&["cache", "fsck"]);
    // There may be no store yet.
    is(matches!(checked.code, 0 | 2), &format!("fsck: {}{}", checked.stdout, checked.stderr))?;
    let again = small.project.rootbuild(PROVISION);
    is(again.code == 0, &format!("the next provision: {}", again.stderr))?;
    is(tree(&again) == expected, "the next provision gives another tree")?;
    empty(whole::left_over(&store), "left over at last")?;
    empty(whole::faults(&store), "not whole at last")
}

#[test]
fn whatever_fails_in_a_first_provision_nothing_is_half_done() {
    if privileged("whatever_fails_in_a_first_provision_nothing_is_half_done") {
        every("first", |_| ());
    }
}

#[test]
fn whatever_fails_in_a_later_provision_nothing_is_half_done() {
    if privileged("whatever_fails_in_a_later_provision_nothing_is_half_done") {
        // Three generations: the next one is made of the one before the current.
        every("later", |small| {
            for which in ["a", "b", "a"] {
                small.define(which);
                let _ = small.provision();
            }
            small.define("b");
        });
    }
}
