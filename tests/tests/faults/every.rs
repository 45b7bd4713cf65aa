//! Each call of a provision, a collection and a repair fails once: what is visible stays whole, the error says what
//! happened, and the next provision gives the same.

use rootbuild_tests::{Ran, privileged};
use rustix::io::Errno;

use crate::calls::Call;
use crate::damage;
use crate::kills::COLLECT;
use crate::launch;
use crate::played;
use crate::project::{PROVISION, Small, tree};
use crate::supervise::{Done, Say};
use crate::whole;

/// A command whose calls fail.
struct Case {
    /// For messages.
    what: &'static str,
    /// A project, about to run it.
    before: fn() -> Small,
    command: &'static [&'static str],
    /// How many of the calls fail in turn, of each way to fail; all with `ROOTBUILD_FAULTS=all`.
    sample: usize,
}

impl Case {
    fn provisions(&self) -> bool {
        self.command == PROVISION
    }

    fn repairs(&self) -> bool {
        self.command == REPAIR
    }
}

const REPAIR: &[&str] = &["cache", "fsck", "--repair"];

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

/// Whether this of `count` is in a sample of so many.
fn sampled(number: usize, count: usize, sample: usize) -> bool {
    if std::env::var("ROOTBUILD_FAULTS").is_ok_and(|which| which == "all") {
        return true;
    }
    number * sample / count != (number + 1) * sample / count
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

/// Lets the calls of a command fail in all ways in turn, and looks at what that leaves.
fn every(case: &Case) {
    let what = case.what;
    let small = (case.before)();
    let command = small.project.command(case.command);
    let (ran, done) = launch::run(&command, &small.store(), Box::new(|_| Say::GoOn));
    let ran = ran.expect(0);
    let expected = if case.provisions() { tree(&ran) } else { small.provision() };
    assert!(done.calls.len() > 20, "{done:?}");
    let (mut tried, mut wrong) = (0, Vec::new());
    for way in WAYS {
        let mut upto = Done::default();
        let can = done.calls.iter().filter(|call| {
            upto.calls.push((*call).clone());
            (way.can)(&upto)
        });
        let count = can.count();
        for number in (0..count).filter(|number| sampled(*number, count, case.sample)) {
            let small = (case.before)();
            let command = small.project.command(case.command);
            let (ran, done) = launch::run(&command, &small.store(), says(way, number));
            let Some(fault) = done.faults.first() else { continue };
            let call = &done.calls[fault.0];
            tried += 1;
            if let Err(why) = looked_at(case, &small, way, call, &ran, &expected) {
                let (call, path) = (call.name, call.path.display());
                wrong.push(format!("{} at {call} `{path}` ({number}): {why}\n{}", way.name, ran.stderr));
            }
        }
    }
    println!("{what}: {} calls, {tried} faults", done.calls.len());
    assert!(wrong.is_empty(), "{what}: {} of {tried}\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong after a command in which `call` was the first to fail.
fn looked_at(
    case: &Case,
    small: &Small,
    way: &Way,
    call: &Call,
    ran: &Ran,
    expected: &str,
) -> Result<(), String> {
    let store = small.store();
    let is = |good: bool, what: &str| if good { Ok(()) } else { Err(what.to_owned()) };
    is(!ran.stderr.contains("panicked"), "it panicked")?;
    match (ran.code, way.say) {
        (0, _) => is(!case.provisions() || tree(ran) == expected, "another tree")?,
        // What couldn't be put right is still told.
        (4, _) if case.repairs() => {}
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
    if case.repairs() {
        let again = small.project.rootbuild(REPAIR);
        is(again.code == 0, &format!("the next repair: {}{}", again.stdout, again.stderr))?;
    }
    empty(whole::faults(&store), "not whole")?;
    if case.provisions() && !call.name.starts_with("unlink") && call.name != "rmdir" {
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
        every(&Case { what: "first", before: Small::new, command: PROVISION, sample: 8 });
    }
}

/// Three generations: the next one is made of the one before the current.
fn later() -> Small {
    let small = Small::new();
    for which in ["a", "b", "a"] {
        small.define(which);
        let _ = small.provision();
    }
    small.define("b");
    small
}

#[test]
fn whatever_fails_in_a_later_provision_nothing_is_half_done() {
    if privileged("whatever_fails_in_a_later_provision_nothing_is_half_done") {
        every(&Case { what: "later", before: later, command: PROVISION, sample: 8 });
    }
}

#[test]
fn whatever_fails_in_a_provision_with_a_playbook_nothing_is_half_done() {
    if privileged("whatever_fails_in_a_provision_with_a_playbook_nothing_is_half_done") {
        every(&Case { what: "playbook", before: played::project, command: PROVISION, sample: 1 });
    }
}

#[test]
fn whatever_fails_in_a_collection_what_stands_stays_whole() {
    if privileged("whatever_fails_in_a_collection_what_stands_stays_whole") {
        let before = || {
            let small = later();
            // Trees, objects and a record that nobody needs.
            let _ = small.provision();
            small.define("a");
            small
        };
        every(&Case { what: "collection", before, command: COLLECT, sample: 4 });
    }
}

#[test]
fn whatever_fails_in_a_repair_the_next_one_does_the_rest() {
    if privileged("whatever_fails_in_a_repair_the_next_one_does_the_rest") {
        every(&Case { what: "repair", before: damage::project, command: REPAIR, sample: 4 });
    }
}
