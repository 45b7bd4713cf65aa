//! What is damaged beside objects, trees and records is found, and put right or left as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rootbuild_tests::{Project, Ran, privileged};

use crate::mounts;
use crate::played;
use crate::project::{Small, definition};
use crate::whole;

/// The findings by path: severity and kind.
pub(crate) fn findings(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let told = ran.json();
    let all = told["findings"].as_array().expect("findings").iter();
    all.map(|it| (text(&it["path"]), (text(&it["severity"]), text(&it["kind"])))).collect()
}

/// Changes a byte of a file where it stands, and nothing of what is told about it.
fn spoil(path: &Path) {
    let found = fs::metadata(path).expect("it is there");
    let mut bytes = fs::read(path).expect("it can be read");
    bytes[0] ^= 1;
    let file = fs::File::options().write(true).open(path).expect("it can be written");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("it can be written");
    file.set_modified(found.modified().expect("a time")).expect("it can be set");
}

/// All that is in `quarantine`, without the names of the repairs.
fn quarantined(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![store.join("quarantine")];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().expect("a type").is_dir() {
                left.push(entry.path());
            } else {
                let path = entry.path();
                let inner = path.strip_prefix(store.join("quarantine")).expect("it is there");
                found.push(inner.iter().skip(1).collect());
            }
        }
    }
    found.sort();
    found
}

/// A project whose root shares files, and what it shares with the farm.
fn linked(small: &Small) {
    small.project.write("rootbuild.toml", &format!("{}checkout = \"linked\"\n", definition("a", "r")));
}

/// A project with something of each kind damaged that a repair puts right.
pub(crate) fn project() -> Small {
    let small = Small::new();
    linked(&small);
    let _ = small.provision();
    spoil(&small.project.root("r").join("usr/share/middling"));
    let objects = small.store().join("objects");
    let mut found: Vec<PathBuf> = Vec::new();
    for fan in fs::read_dir(&objects).expect("it is there").flatten() {
        found.extend(fs::read_dir(fan.path()).expect("it is there").flatten().map(|it| it.path()));
    }
    // Where it is a small one, which the checkout still has.
    let smallest = found.iter().filter(|it| it.metadata().is_ok_and(|it| it.len() > 0));
    spoil(smallest.min_by_key(|it| it.metadata().map_or(0, |it| it.len())).expect("an object"));
    let strange = small.store().join("latest/p/r/1.json");
    fs::create_dir_all(strange.parent().expect("a parent")).expect("there is room");
    fs::write(&strange, "{").expect("there is room");
    small
}

#[test]
fn what_a_linked_root_shares_is_looked_at_and_written_anew_and_the_rest_left_alone() {
    if !privileged("what_a_linked_root_shares_is_looked_at_and_written_anew_and_the_rest_left_alone") {
        return;
    }
    let small = Small::new();
    linked(&small);
    let tree = small.provision();
    let (store, root) = (small.store(), small.project.root("r"));
    let fsck =
        |arguments: &[&str]| small.project.rootbuild(&[&["cache", "fsck", "--json"], arguments].concat());
    assert_eq!(findings(&fsck(&[]).expect(0)), BTreeMap::new());
    // What services write where they may is theirs.
    fs::write(root.join("etc/1"), "mine").expect("it can be written");
    fs::write(root.join("etc/new"), "mine").expect("it can be written");
    assert_eq!(findings(&fsck(&[]).expect(0)), BTreeMap::new());

    let (middling, link) = (root.join("usr/share/middling"), root.join("usr/share/link"));
    let before = (fs::read(&middling).expect("it is there"), fs::metadata(&middling).expect("it is there"));
    spoil(&middling);
    fs::remove_file(&link).expect("it is there");
    fs::create_dir(&link).expect("there is room");
    fs::write(link.join("evidence"), "").expect("there is room");
    fs::remove_file(root.join("usr/share/sparse")).expect("it is there");
    let found = findings(&fsck(&[]).expect(4));
    let damaged = |kind: &str| ("damage".to_owned(), kind.to_owned());
    assert_eq!(found.get("checkouts/r/1"), Some(&damaged("checkout")), "{found:?}");
    let shared = before.1.nlink() > 1;
    let farm = found.iter().filter(|(path, _)| path.starts_with("links/")).collect::<Vec<_>>();
    assert_eq!(
        farm.iter().map(|(_, told)| *told).collect::<Vec<_>>(),
        vec![&damaged("content"); usize::from(shared)]
    );
    // Without reading it is seen what is gone.
    assert!(findings(&fsck(&["--quick"]).expect(4)).contains_key("checkouts/r/1"));

    let repaired = fsck(&["--repair"]).expect(0);
    assert_eq!(findings(&repaired), BTreeMap::new(), "{}", repaired.stdout);
    assert_eq!(findings(&fsck(&[]).expect(0)), BTreeMap::new());
    let after = fs::metadata(&middling).expect("it is there");
    assert!(fs::read(&middling).expect("it is there") == before.0 && after.ino() != before.1.ino());
    let told = |it: &fs::Metadata| (it.mode(), it.uid(), it.gid(), it.mtime(), it.mtime_nsec());
    assert_eq!(told(&after), told(&before.1));
    assert_eq!(fs::read_link(&link).expect("a link"), Path::new("../bin/tool"));
    assert_eq!(fs::read_to_string(root.join("etc/1")).expect("it is there"), "mine");
    assert_eq!(fs::read_to_string(root.join("etc/new")).expect("it is there"), "mine");
    let kept = quarantined(&store);
    for inner in ["checkouts/r/1/usr/share/link/evidence", "checkouts/r/1/usr/share/middling"] {
        assert!(kept.contains(&PathBuf::from(inner)), "{kept:?}");
    }
    // The next checkout gets none of it.
    let other = Small::on(Project::on_store(store.clone()));
    let text = definition("a", "other");
    other.project.write("rootbuild.toml", &format!("{text}checkout = \"linked\"\n"));
    assert_eq!(other.provision(), tree);
    assert_eq!(fs::read(store.join("roots/other/usr/share/middling")).expect("it is there"), before.0);
    fs::write(root.join("etc/1"), "1\n").expect("it can be written");
    small.define("b");
    let _ = small.provision();
    assert_eq!(whole::faults(&store), Vec::<String>::new());
}

#[test]
fn what_a_repair_moved_away_goes_after_a_month_and_not_without_a_word() {
    if !privileged("what_a_repair_moved_away_goes_after_a_month_and_not_without_a_word") {
        return;
    }
    let small = Small::new();
    let _ = small.provision();
    let store = small.store();
    let strange = store.join("latest/p/r/1.json");
    fs::create_dir_all(strange.parent().expect("a parent")).expect("there is room");
    fs::write(&strange, "{").expect("there is room");
    let _ = small.project.rootbuild(&["cache", "fsck", "--repair"]).expect(0);
    let id = || fs::read_dir(store.join("quarantine")).expect("it is there").flatten().next();
    let dir = id().expect("a repair's").path();
    let says = |arguments: &[&str], parts: &[&str]| {
        let ran = small.project.rootbuild(arguments).expect(0);
        assert!(parts.iter().all(|part| ran.stdout.contains(part)), "{parts:?}: {}", ran.stdout);
    };
    says(&["cache", "size"], &["quarantine", "after 30 days"]);
    let collect = ["cache", "gc", "-v", "--max-age", "0s", "--max-size", "1"];
    says(&collect, &["stays", "`quarantine/", "it goes in 30 days"]);
    assert!(dir.exists());
    let past = SystemTime::now() - Duration::from_secs(31 * 24 * 3600);
    fs::File::open(&dir).and_then(|dir| dir.set_modified(past)).expect("it can be set");
    says(&["cache", "gc", "--dry-run"], &["goes", "`quarantine/", "more than 30 days ago"]);
    assert!(dir.exists());
    says(&["cache", "gc"], &["freed"]);
    assert!(!dir.exists());
}

#[test]
fn what_steps_stand_on_is_looked_at_and_made_again() {
    if !privileged("what_steps_stand_on_is_looked_at_and_made_again") {
        return;
    }
    let small = played::project();
    let tree = small.provision();
    let store = small.store();
    assert_eq!(findings(&small.project.rootbuild(&["cache", "fsck", "--json"]).expect(0)), BTreeMap::new());
    let mut expected = BTreeMap::new();
    for place in fs::read_dir(store.join("lowers")).expect("it is there").flatten() {
        for part in fs::read_dir(place.path()).expect("it is there").flatten().map(|it| it.path()) {
            let root = if part.ends_with("delta") { part.join("root") } else { part.clone() };
            let (file, copy) = (root.join("etc/mark"), root.join("etc/copy"));
            // The store that this one is a copy of has the same file.
            fs::copy(&file, &copy).and_then(|_| fs::rename(&copy, &file)).expect("there is room");
            spoil(&file);
            let path = part.strip_prefix(&store).expect("it is there").display().to_string();
            expected.insert(path, ("damage".to_owned(), "checkout".to_owned()));
        }
    }
    assert!(expected.keys().any(|path| path.ends_with("delta")), "{expected:?}");
    assert_eq!(findings(&small.project.rootbuild(&["cache", "fsck", "--json"]).expect(4)), expected);
    let _ = small.project.rootbuild(&["cache", "fsck", "--repair"]).expect(0);
    assert!(expected.keys().all(|path| !store.join(path).exists()));
    let again = small.project.rootbuild(&["provision", "--json", "--rebuild", "site.yml"]).expect(0);
    assert_eq!(again.json()["roots"][0]["tree"], tree.as_str());
    assert_eq!(findings(&small.project.rootbuild(&["cache", "fsck", "--json"]).expect(0)), BTreeMap::new());
}

/// A path in the store, its text, and how it is told; nothing where it isn't.
type Plant = (&'static str, &'static str, Option<(&'static str, &'static str)>);
const PLANTED: &[Plant] = &[
    (DOWNLOAD, "x", Some(("damage", "content"))),
    ("packages/ab/short", "x", Some(("unknown", "unknown"))),
    ("packages/strange", "x", Some(("unknown", "unknown"))),
    ("packages/urls/ab/cd", "{", Some(("damage", "malformed"))),
    ("replays/strange", "x", Some(("unknown", "unknown"))),
    ("latest/p/r/1.json", "{", Some(("damage", "malformed"))),
    ("generations/p/1.json", "[]", Some(("damage", "malformed"))),
    ("ansible-inputs", "x", Some(("damage", "content"))),
    ("published/q/1.json", "{}", Some(("damage", "malformed"))),
    ("published/q/strange", "x", Some(("unknown", "unknown"))),
    ("published/-q", "x", Some(("unknown", "unknown"))),
    ("checkouts/q/strange", "x", Some(("unknown", "unknown"))),
    ("checkouts/q/7.lock", "", None),
    ("checkouts/q/7.index", "x", None),
    ("roots/odd/file", "x", None),
    ("roots/odd", "", Some(("unknown", "unknown"))),
    ("lowers/strange", "x", Some(("unknown", "unknown"))),
    (LOWER, "x", None),
    ("failed/f/failed.json", "{", Some(("damage", "malformed"))),
    ("strange", "x", Some(("unknown", "unknown"))),
    // As if one of another kind of thing were there.
    ("links/ab/strange", "x", Some(("unknown", "unknown"))),
    (LINK, "x", Some(("damage", "content"))),
];
const DOWNLOAD: &str = "packages/ab/abababababababababababababababababababababababababababababababab";
const LOWER: &str = "lowers/abababababababababababababababababababababababababababababababab/delta/root/x";
const LINK: &str = "links/ab/ababababababababababababababababababababababababababababababab";

#[test]
fn whatever_is_damaged_in_the_store_is_told_and_what_is_not_known_stays() {
    if !privileged("whatever_is_damaged_in_the_store_is_told_and_what_is_not_known_stays") {
        return;
    }
    let small = Small::new();
    let tree = small.provision();
    let store = small.store();
    for (path, text, _) in PLANTED {
        let path = store.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("there is room");
        if !path.is_dir() {
            fs::write(&path, text).expect("there is room");
        }
    }
    std::os::unix::fs::symlink("../checkouts/dead/3", store.join("roots/dead")).expect("there is room");
    let mut expected: BTreeMap<String, (String, String)> = PLANTED
        .iter()
        .filter_map(|(path, _, told)| {
            told.map(|(severity, kind)| (path, (severity.to_owned(), kind.to_owned())))
        })
        .map(|(path, told)| ((*path).to_owned(), told))
        .collect();
    let damage = |kind: &str| ("damage".to_owned(), kind.to_owned());
    let delta = Path::new(LOWER).parent().and_then(Path::parent).expect("a parent").display().to_string();
    expected.insert(delta, damage("malformed"));
    expected.insert("roots/dead".to_owned(), damage("link"));
    let told = small.project.rootbuild(&["cache", "fsck", "--json"]).expect(4);
    assert_eq!(findings(&told), expected);

    let repaired = small.project.rootbuild(&["cache", "fsck", "--repair", "--json"]).expect(0);
    let unknown = expected.iter().filter(|(_, (severity, _))| severity == "unknown");
    let unknown: BTreeMap<_, _> = unknown.map(|(path, told)| (path.clone(), told.clone())).collect();
    assert_eq!(findings(&repaired), unknown);
    let kept = quarantined(&store);
    for (path, _, told) in PLANTED {
        let is_damage = told.is_some_and(|(severity, _)| severity == "damage");
        assert_eq!(!store.join(path).exists(), is_damage || *path == LOWER, "{path}");
        assert!(!is_damage || kept.contains(&PathBuf::from(path)), "{path}: {kept:?}");
    }
    assert_eq!(small.provision(), tree);
}

#[test]
fn nothing_is_collected_while_nobody_can_tell_what_stands() {
    if !privileged("nothing_is_collected_while_nobody_can_tell_what_stands") {
        return;
    }
    let small = Small::new();
    let tree = small.provision();
    let store = small.store();
    fs::write(store.join("published/r/1.json"), "{").expect("it can be written");
    let collect = ["cache", "gc", "--max-age", "0s"];
    let _ = small.project.rootbuild(&collect).expect(4).says(&["published/r/1.json", "cache fsck"]);
    let _ = small.project.rootbuild(&["cache", "fsck", "--repair"]).expect(0);
    assert_eq!(small.provision(), tree);
    let _ = small.project.rootbuild(&collect).expect(0);
    assert_eq!(whole::faults(&store), Vec::<String>::new());
}

const APART: &str = "damage::generations_on_a_mount_of_their_own_are_collected_and_repaired";

#[test]
fn generations_on_a_mount_of_their_own_are_collected_and_repaired() {
    if !privileged(APART) || !mounts::are_private(APART) {
        return;
    }
    let small = Small::new();
    let (store, checkouts) = (small.store(), small.store().join("checkouts"));
    let _ = small.project.rootbuild(&["provision"]).expect(0);
    let _ = small.project.rootbuild(&["cache", "gc"]).expect(0);
    // Of the same file system, but for renames another one.
    let elsewhere = small.project.dir().join("elsewhere");
    fs::rename(&checkouts, &elsewhere).expect("it can be moved");
    fs::create_dir(&checkouts).expect("there is room");
    mounts::run("mount", &["--bind".as_ref(), elsewhere.as_ref(), checkouts.as_ref()]);
    // A name of its own: who uses such a generation of another store would count here as well.
    let define = |which: &str, more: &str| {
        small.project.write("rootbuild.toml", &format!("{}{more}", definition(which, "apart")));
    };
    for which in ["a", "b", "a"] {
        define(which, "");
        let _ = small.provision();
    }
    let generations = || fs::read_dir(checkouts.join("apart")).expect("it is there").flatten().count();
    let before = generations();
    let told = small.project.rootbuild(&["cache", "gc", "-v", "--keep-generations", "1"]).expect(0);
    assert!(!told.stdout.contains("can't be removed"), "{}", told.stdout);
    // Directory, lock and index of one.
    assert!(before > 3 && generations() == 3, "{before} {} {}", generations(), told.stdout);
    let staged = fs::read_dir(checkouts.join(".staging")).into_iter().flatten().count();
    assert_eq!(staged, 0);

    define("a", "checkout = \"linked\"\n");
    let _ = small.provision();
    let middling = small.project.root("apart").join("usr/share/middling");
    let good = fs::read(&middling).expect("it is there");
    spoil(&middling);
    let _ = small.project.rootbuild(&["cache", "fsck"]).expect(4);
    let _ = small.project.rootbuild(&["cache", "fsck", "--repair"]).expect(0);
    assert_eq!(fs::read(&middling).expect("it is there"), good);
    assert!(quarantined(&store).iter().any(|path| path.ends_with("usr/share/middling")));
}
