//! What an edit costs: a small sibling of the example cluster, edited in every way that people edit, each time with
//! the tasks that may run and the tree of a build from nothing.

mod cluster;
mod lines;
mod random;

use std::collections::BTreeSet;

use rootbuild_tests::privileged;

use cluster::{Built, Cluster, Edit};
use lines::{Cost, LINES, Line};

/// What of `built` isn't as `line` says.
fn wrong(line: &Line, built: &Built, all: &[String]) -> Option<String> {
    let ran: BTreeSet<&str> = built.ran.iter().map(String::as_str).collect();
    let (status, must, may): (&str, BTreeSet<&str>, BTreeSet<&str>) = match line.cost {
        Cost::Cached => ("cached", BTreeSet::new(), BTreeSet::new()),
        Cost::Replayed => ("replayed", BTreeSet::new(), BTreeSet::new()),
        Cost::Only(tasks) => ("built", tasks.iter().copied().collect(), BTreeSet::new()),
        Cost::From(first) => ("built", lines::from(all, first).collect(), BTreeSet::new()),
        Cost::Between(must, until) => {
            let may = lines::from(all, must[0]).take_while(|name| *name != until).collect();
            ("built", must.iter().copied().collect(), may)
        }
    };
    let missing: Vec<_> = must.difference(&ran).collect();
    let extra: Vec<_> = ran.iter().filter(|name| !must.contains(*name) && !may.contains(*name)).collect();
    let right = built.status == status && missing.is_empty() && extra.is_empty();
    (!right).then(|| {
        format!(
            "{}: {} instead of {status}; ran for nothing: {extra:?}; didn't run: {missing:?}",
            line.name, built.status
        )
    })
}

#[test]
fn an_edit_runs_exactly_what_it_changes_and_gives_the_tree_of_a_build_from_nothing() {
    if !privileged("an_edit_runs_exactly_what_it_changes_and_gives_the_tree_of_a_build_from_nothing") {
        return;
    }
    let cluster = Cluster::new();
    // Before all that takes long: every edit finds what it changes.
    LINES.iter().for_each(|line| cluster.write(&line.edits.iter().collect::<Vec<_>>()));
    cluster.write(&[]);
    let first = cluster.provision(&[]).expect("it builds");
    assert_eq!(first.status, "built");
    assert_eq!(first.tree, cluster.built_from_nothing());
    let (all, journals) = (first.ran.clone(), cluster.journals());
    let only = std::env::var("ROOTBUILD_TEST_LINES").unwrap_or_default();
    let mut faults = Vec::new();
    for line in LINES.iter().filter(|line| line.name.contains(&only)) {
        let known = faults.len();
        // Each line starts from the same past: one run of the project as it is.
        cluster.bring_back(&journals);
        cluster.write(&line.edits.iter().collect::<Vec<_>>());
        let begin = std::time::Instant::now();
        match cluster.provision(line.arguments) {
            Ok(built) => {
                // What nothing in the root depends on needs no second build: the tree is the first one.
                let same = matches!(line.cost, Cost::Cached | Cost::Replayed);
                let fresh = if same { first.tree.clone() } else { cluster.built_from_nothing() };
                faults.extend(wrong(line, &built, &all_of(line, &all, &built)));
                if built.tree != fresh {
                    faults.push(format!("{}: another tree than from nothing", line.name));
                }
            }
            Err(error) => faults.push(format!("{}: {error}", line.name)),
        }
        // And back: nothing runs, and the tree is the first one.
        cluster.write(&[]);
        match cluster.provision(&[]) {
            Ok(back) if back.status == "cached" && back.tree == first.tree => {}
            Ok(back) => faults.push(format!("back from {}: {}, {:?}", line.name, back.status, back.ran)),
            Err(error) => faults.push(format!("back from {}: {error}", line.name)),
        }
        eprintln!("{}: {:.1} s, {:?}", line.name, begin.elapsed().as_secs_f64(), &faults[known..]);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The tasks of a run in their order: of the edited project, if it is another order than before.
fn all_of(line: &Line, before: &[String], built: &Built) -> Vec<String> {
    if line.reorders { built.all.clone() } else { before.to_vec() }
}

#[test]
fn a_failed_run_repaired_runs_only_from_where_it_failed() {
    if !privileged("a_failed_run_repaired_runs_only_from_where_it_failed") {
        return;
    }
    let cluster = Cluster::new();
    let _ = cluster.provision(&[]).expect("it builds");
    let broken = Edit::Replace(
        "roles/app/tasks/main.yml",
        "/usr/local/bin/app\n    group: app\n",
        "/usr/local/bin/app\n    group: nobody-has-this\n",
    );
    let issue = Edit::Replace("roles/common/templates/issue.j2", "issue_text }}", "issue_text }}!");
    cluster.write(&[&issue, &broken]);
    let error = cluster.provision(&[]).expect_err("there is no such group");
    assert!(error.contains("app : Program"), "{error}");
    // What ran before the failure is remembered, and the failed task isn't.
    cluster.write(&[&issue]);
    let repaired = cluster.provision(&[]).expect("it is repaired");
    assert_eq!(repaired.ran, lines::from(&repaired.all, "app : Program").collect::<Vec<_>>());
    assert_eq!(repaired.tree, cluster.built_from_nothing());
}

#[test]
fn verification_finds_replay_and_a_whole_build_equal() {
    if !privileged("verification_finds_replay_and_a_whole_build_equal") {
        return;
    }
    let cluster = Cluster::new();
    let first = cluster.provision(&["--verify-replay"]).expect("it builds");
    cluster.write(&[&Edit::Replace("roles/web/files/page.html", "hello", "good evening")]);
    let edited = cluster.provision(&["--verify-replay"]).expect("both ways give the same");
    assert_ne!(edited.tree, first.tree);
    assert_eq!(edited.tree, cluster.built_from_nothing());
}
