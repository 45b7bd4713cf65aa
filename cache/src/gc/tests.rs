use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::fs::{self, File};

use proptest::prelude::*;

use super::ledger::{Ledger, list};
use super::sweep::hold_leased;
use super::*;
use crate::layer::{LayerKey, Record};
use crate::lease;
use crate::pins::{self, Pin};
use crate::store::Store;
use crate::tree::{Entry, Kind, Meta, Tree};

/// A tree with the contents of these numbers.
fn put(store: &Store, contents: &BTreeSet<u8>) -> Digest {
    let mut entries = vec![Entry { path: Vec::new(), meta: Meta::default(), kind: Kind::Directory }];
    for number in contents {
        let object = store.put_object_bytes(&[*number]).unwrap();
        let kind = Kind::File { object, size: 1 };
        entries.push(Entry { path: number.to_string().into_bytes(), meta: Meta::default(), kind });
    }
    store.put_tree(&Tree::from_entries(entries).unwrap()).unwrap()
}

fn there(store: &Store, kind: &str) -> BTreeSet<Digest> {
    let found = std::sync::Mutex::new(BTreeSet::new());
    list(store, kind, |digest, _| {
        found.lock().unwrap().insert(digest);
    })
    .unwrap();
    found.into_inner().unwrap()
}

fn record(tree: Digest, seconds: f64) -> Record {
    let created = "2026-01-01T00:00:00Z".to_owned();
    Record { tree, inputs: Vec::new(), seconds, created, facts: serde_json::json!({}) }
}

fn age_records(store: &Store, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    for (dir, _) in records::keys(store).unwrap() {
        for name in names(&dir).unwrap() {
            File::open(dir.join(name)).unwrap().set_modified(then).unwrap();
        }
    }
}

fn run(store: &Store, collection: &Collection, policy: Policy, total: u64) -> Outcome {
    let (needs, mut items) = pins::needs(store, false).unwrap();
    items.extend(record_items(store, &Layers::new()).unwrap());
    collect(collection, &needs, items, policy, total, &()).unwrap()
}

fn begin(store: &Store) -> Collection {
    Collection::begin(store, None, &|_| (), &|| false).unwrap()
}

/// Who puts a tree says so first, and has it to write then: a look at the leases between the two finds no tree.
#[test]
fn a_tree_that_is_put_between_two_looks_at_the_leases_keeps_what_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(&dir.path().join("store")).unwrap();
    let file = dir.path().join("content");
    fs::write(&file, "found").unwrap();
    let find = |store: &Store| store.put_object(&File::open(&file).unwrap()).unwrap().0;
    let earlier = open();
    let object = find(&earlier);
    earlier.sync().unwrap();
    drop(earlier);
    let (ours, other) = (open(), open());
    assert_eq!(find(&ours), object);
    let kind = Kind::File { object, size: 5 };
    let entries = [(Vec::new(), Kind::Directory), (b"a".to_vec(), kind)];
    let entries = entries.map(|(path, kind)| Entry { path, meta: Meta::default(), kind });
    let tree = Tree::from_entries(entries.into()).unwrap();

    let _collection = begin(&other);
    let mut ledger = Ledger::new(&other, SystemTime::now()).unwrap();
    let mut known = HashSet::new();
    ours.hold_tree(&tree.digest()).unwrap();
    let mut look = || {
        let leased = lease::read_and_mark(&other).unwrap();
        hold_leased(&other, &mut ledger, &leased, &mut known).unwrap();
        ledger.free_object(&object).is_some()
    };
    assert!(look(), "nothing names it yet");
    ours.put_tree(&tree).unwrap();
    assert!(!look(), "the tree that is there now names it");
}

#[test]
fn nothing_is_collected_while_a_pin_or_a_reference_makes_no_sense() {
    for name in ["pins/it.json", "refs/it.json"] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let tree = put(&store, &BTreeSet::from([1]));
        store.pin("it", &Pin { tree, what: String::new(), created: String::new() }).unwrap();
        fs::write(store.dir().join(name), "{\"tree\": ").unwrap();
        let told = pins::needs(&store, false).err().unwrap().to_string();
        assert!(told.contains(name) && told.contains("the store is damaged"), "{told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Trees of random contents, some pinned, some with a record, young or old.
    #[test]
    fn nothing_reachable_is_ever_removed_and_everything_else_goes(
        trees in prop::collection::vec((prop::collection::btree_set(0..12_u8, 0..6), 0..4_u8), 1..8)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (mut live_trees, mut live_objects) = (BTreeSet::new(), BTreeSet::new());
        for (number, (contents, fate)) in trees.iter().enumerate() {
            let tree = put(&store, contents);
            let key = LayerKey(Digest::of(&[u8::try_from(number).unwrap()]));
            match fate {
                0 => {
                    let pin = Pin { tree, what: String::new(), created: String::new() };
                    store.pin(&number.to_string(), &pin).unwrap();
                }
                1 => store.add_record(&key, &record(tree, 1.0)).unwrap(),
                2 => {
                    store.add_record(&key, &record(tree, 1.0)).unwrap();
                    let path = store.dir().join("layers").join(&key.0.hex()[..2]).join(&key.0.hex()[2..]);
                    let old = SystemTime::now() - DEFAULT_AGE - Duration::from_secs(60);
                    File::open(path.join("1.json")).unwrap().set_modified(old).unwrap();
                }
                _ => {}
            }
            if *fate < 2 {
                live_trees.insert(tree);
                live_objects.extend(contents.iter().map(|it| Digest::of(&[*it])));
            }
        }
        drop(store);
        let store = Store::open(&dir.path().join("store")).unwrap();
        let policy = Policy::new(None, None);
        let told = run(&store, &Collection::look(&store), policy, 0);
        let all = (there(&store, "trees"), there(&store, "objects"));
        let done = run(&store, &begin(&store), policy, 0);
        prop_assert_eq!(&told, &done);
        prop_assert_eq!(there(&store, "trees"), live_trees.clone());
        prop_assert_eq!(there(&store, "objects"), live_objects.clone());
        let gone = all.0.len() - live_trees.len() + all.1.len() - live_objects.len();
        let of = |class: Class| done.classes.get(&class).map_or(0, |share| share.freed.files);
        prop_assert_eq!(of(Class::Trees) + of(Class::Objects), gone as u64);
        let again = run(&store, &begin(&store), policy, 0);
        prop_assert_eq!(again.freed(), Usage::default());
    }
}

#[test]
fn a_budget_takes_what_is_cheap_first_and_no_more_than_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    for (number, seconds) in [(0_u8, 100.0), (1, 1.0), (2, 10.0)] {
        let tree = put(&store, &BTreeSet::from([number, 9]));
        store.add_record(&LayerKey(Digest::of(&[number])), &record(tree, seconds)).unwrap();
    }
    drop(store);
    let store = Store::open(&dir.path().join("store")).unwrap();
    let fate = |policy: Policy| -> Vec<(f64, Why)> {
        let items = record_items(&store, &Layers::new()).unwrap();
        let seconds: Vec<f64> = items.iter().map(|item| item.seconds).collect();
        let outcome = collect(&Collection::look(&store), &[], items, policy, 1_000_000, &()).unwrap();
        let mut told: Vec<_> = seconds.into_iter().zip(outcome.items.into_iter().map(|it| it.why)).collect();
        told.sort_by(|a, b| a.0.total_cmp(&b.0));
        told
    };
    let budget = |size| Policy::new(None, Some(size));
    assert_eq!(
        fate(budget(1_000_000)).into_iter().map(|it| it.1).collect::<Vec<_>>(),
        [Why::Fits, Why::Fits, Why::Fits]
    );
    let one = fate(budget(999_999));
    assert_eq!(one.into_iter().map(|it| it.1).collect::<Vec<_>>(), [Why::Budget, Why::Fits, Why::Fits]);
    let all = fate(budget(0));
    assert!(all.iter().all(|it| it.1 == Why::Budget));
    age_records(&store, 30);
    assert!(fate(Policy::new(Some(DEFAULT_AGE), Some(1_000_000))).iter().all(|it| it.1 == Why::Old));
    // Age alone isn't asked for where only a size is named.
    assert!(fate(budget(1_000_000)).iter().all(|it| it.1 == Why::Fits));
}

#[test]
fn what_is_unused_for_long_goes_before_what_took_as_long_to_make() {
    let now = SystemTime::now();
    let candidate = |days: u64, seconds: f64, standing| Candidate {
        standing,
        last_used: now - Duration::from_secs(days * 86_400),
        seconds,
        share: 10_000,
    };
    let candidates = [
        candidate(0, 10.0, Standing::Cached),
        candidate(9, 10.0, Standing::Cached),
        candidate(99, 1.0, Standing::Needed("root".to_owned())),
        candidate(0, 1e9, Standing::Useless("broken".to_owned())),
    ];
    let mut order = Vec::new();
    let decisions = plan(&candidates, Policy::new(None, Some(1)), now, 25_000, |at| {
        order.push(at);
        Ok::<_, Infallible>(10_000)
    })
    .unwrap();
    assert_eq!(order, [3, 1, 0]);
    assert_eq!(
        decisions,
        [Why::Budget, Why::Budget, Why::Needed("root".to_owned()), Why::Useless("broken".to_owned())]
    );
}

#[test]
fn nothing_is_collected_where_a_tree_that_stays_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let tree = put(&store, &BTreeSet::from([1]));
    put(&store, &BTreeSet::from([2]));
    store.pin("x", &Pin { tree, what: String::new(), created: String::new() }).unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("store")).unwrap();
    let path = crate::objects::by_digest(&store.dir().join("trees"), &tree);
    fs::write(&path, "damaged").unwrap();
    let (needs, items) = pins::needs(&store, false).unwrap();
    let collected = collect(&begin(&store), &needs, items, Policy::new(None, None), 0, &());
    assert!(matches!(collected, Err(crate::Error::Damaged { .. })));
    assert_eq!(there(&store, "objects").len(), 2);
}
