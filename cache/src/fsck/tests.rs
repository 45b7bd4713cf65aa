use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::layer::{LayerKey, Record};
use crate::objects::by_digest;
use crate::pins::{Pin, Reference};
use crate::tree::{Entry, Kind as EntryKind, Meta, Tree};

/// A store with one tree of two files, a record and a pin of it.
struct Planted {
    dir: tempfile::TempDir,
    store: Store,
    tree: Digest,
    objects: [Digest; 2],
}

impl Planted {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let objects = [b"one".as_slice(), b"two"].map(|content| store.put_object_bytes(content).unwrap());
        let entry = |path: &[u8], kind| Entry { path: path.to_vec(), meta: Meta::default(), kind };
        let file = |object| EntryKind::File { object, size: 3 };
        let entries = vec![
            entry(b"", EntryKind::Directory),
            entry(b"a", file(objects[0])),
            entry(b"b", file(objects[1])),
        ];
        let tree = store.put_tree(&Tree::from_entries(entries).unwrap()).unwrap();
        let (created, facts) = (String::new(), serde_json::json!({}));
        let record = Record { tree, inputs: Vec::new(), seconds: 1.0, created, facts };
        store.add_record(&LayerKey(Digest::of(b"key")), &record).unwrap();
        let planted = Self { dir, store, tree, objects };
        assert_eq!(planted.look(false), []);
        planted
    }

    fn pin(&self) -> PathBuf {
        let pin = Pin { tree: self.tree, what: String::new(), created: String::new() };
        self.store.pin("it", &pin).unwrap();
        self.store.dir().join("pins/it.json")
    }

    fn findings(&self, quick: bool) -> Findings {
        let looking = Check::new(&self.store, quick, &());
        check(&looking, &[]).unwrap();
        looking.finish()
    }

    fn look(&self, quick: bool) -> Vec<(Severity, Kind, String)> {
        let all = self.findings(quick).all.into_iter();
        all.map(|it| (it.severity, it.kind, first(&it.path))).collect()
    }

    fn repair(&self, places: &[Place]) -> Vec<Repair> {
        repair(&self.store, &self.findings(false), places).unwrap()
    }

    fn object(&self, number: usize) -> PathBuf {
        by_digest(&self.store.dir().join("objects"), &self.objects[number])
    }

    fn tree_file(&self) -> PathBuf {
        by_digest(&self.store.dir().join("trees"), &self.tree)
    }

    fn record_file(&self) -> PathBuf {
        by_digest(&self.store.dir().join("layers"), &Digest::of(b"key")).join("1.json")
    }

    fn place(&self) -> Place {
        let dir = self.dir.path().join("checkout");
        fs::create_dir_all(&dir).unwrap();
        Place { tree: self.tree, dir }
    }
}

fn first(path: &Path) -> String {
    path.iter().next().unwrap_or_default().to_string_lossy().into_owned()
}

fn damage(kind: Kind, place: &str) -> (Severity, Kind, String) {
    (Severity::Damage, kind, place.to_owned())
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_changed_object_is_found_and_restored_from_a_checkout_that_holds_it() {
    let it = Planted::new();
    overwrite(&it.object(0), b"bad");
    assert_eq!(it.look(true), [], "only who reads it sees it");
    assert_eq!(it.look(false), [damage(Kind::Content, "objects"), damage(Kind::Incomplete, "trees")]);
    let place = it.place();
    // Neither a link that leads elsewhere nor what a service has written is taken for it.
    fs::write(it.dir.path().join("outside"), "one").unwrap();
    std::os::unix::fs::symlink(it.dir.path().join("outside"), place.dir.join("a")).unwrap();
    let wrong = Place { dir: it.dir.path().join("nowhere"), ..place.clone() };
    fs::create_dir(&wrong.dir).unwrap();
    fs::write(wrong.dir.join("a"), "bad").unwrap();
    let good = Place { dir: it.dir.path().join("good"), ..place.clone() };
    fs::create_dir(&good.dir).unwrap();
    fs::write(good.dir.join("a"), "one").unwrap();
    let done = it.repair(&[place, wrong, good]);
    assert_eq!(it.look(false), []);
    assert!(done.iter().any(|it| it.done == "its contents were restored"), "{done:?}");
    assert!(done.iter().any(|it| it.done.ends_with("and its content restored")), "{done:?}");
    assert_eq!(fs::read(it.object(0)).unwrap(), b"one");
}

#[test]
fn what_cannot_be_restored_goes_with_all_that_names_it_and_nothing_is_deleted() {
    let it = Planted::new();
    fs::remove_file(it.object(1)).unwrap();
    assert_eq!(it.look(true), [damage(Kind::Incomplete, "trees")]);
    it.repair(&[]);
    assert_eq!(it.look(false), [damage(Kind::Dangling, "layers")]);
    it.repair(&[]);
    assert_eq!(it.look(false), []);
    assert!(!it.tree_file().exists() && !it.record_file().exists());
    let kept = fs::read_dir(it.store.dir().join("quarantine")).unwrap().flatten().map(|it| it.path());
    let kept: Vec<_> =
        kept.flat_map(|dir| fs::read_dir(dir).unwrap().flatten().map(|it| it.file_name())).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
}

#[test]
fn a_shorter_object_is_found_without_reading_it() {
    let it = Planted::new();
    overwrite(&it.object(1), b"tw");
    assert_eq!(it.look(true), [damage(Kind::Incomplete, "trees")]);
    let place = it.place();
    fs::write(place.dir.join("b"), "two").unwrap();
    it.repair(&[place]);
    assert_eq!(it.look(false), []);
}

#[test]
fn a_damaged_tree_and_the_record_that_names_it_go_and_a_pin_of_it_stays_told() {
    let it = Planted::new();
    let pin = it.pin();
    let mut bytes = fs::read(it.tree_file()).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    overwrite(&it.tree_file(), &bytes);
    assert_eq!(it.look(true), [damage(Kind::Tree, "trees")]);
    it.repair(&[]);
    assert_eq!(it.look(false), [damage(Kind::Dangling, "layers"), damage(Kind::Dangling, "pins")]);
    it.repair(&[]);
    assert_eq!(it.look(false), [damage(Kind::Dangling, "pins")]);
    assert!(pin.exists());
}

#[test]
fn records_that_make_no_sense_go_and_those_of_another_version_stay() {
    let it = Planted::new();
    overwrite(&it.record_file(), b"{\"schema\": 1");
    assert_eq!(it.look(false), [damage(Kind::Malformed, "layers")]);
    it.repair(&[]);
    assert_eq!(it.look(false), []);
    fs::write(it.record_file(), "{\"schema\": 99}").unwrap();
    let told = [(Severity::Unknown, Kind::Unknown, "layers".to_owned())];
    assert_eq!(it.look(false), told);
    it.repair(&[]);
    assert_eq!(it.look(false), told);
}

#[test]
fn what_is_not_known_is_told_and_left_alone() {
    let it = Planted::new();
    let top = it.store.dir().to_owned();
    let strange =
        ["strange", "objects/strange", "objects/ab/cd", "trees/zz", "layers/zz", "pins/x.txt", "refs/y"];
    for name in strange {
        fs::create_dir_all(top.join(name).parent().unwrap()).unwrap();
        fs::write(top.join(name), "x").unwrap();
    }
    // Those of files that are just being written.
    fs::write(top.join("pins/.it.json.0123"), "x").unwrap();
    let findings = it.findings(false);
    assert!(findings.all.iter().all(|it| it.severity == Severity::Unknown && it.remedy == Remedy::Nothing));
    assert_eq!(findings.all.len(), strange.len(), "{:?}", findings.all);
    assert!(!findings.is_damaged() && it.repair(&[]).is_empty());
    assert!(strange.iter().all(|name| top.join(name).exists()));
}

#[test]
fn pins_and_references_that_make_no_sense_or_lead_nowhere_are_told() {
    let it = Planted::new();
    overwrite(&it.pin(), b"?");
    assert_eq!(it.look(false), [damage(Kind::Malformed, "pins")]);
    it.repair(&[]);
    let file = it.dir.path().join("reference");
    fs::write(&file, it.tree.to_string()).unwrap();
    it.store.refer(&Reference { tree: it.tree, path: file.clone() }).unwrap();
    assert_eq!(it.look(false), []);
    fs::remove_file(it.record_file()).unwrap();
    let aside = it.dir.path().join("tree");
    fs::rename(it.tree_file(), &aside).unwrap();
    assert_eq!(it.look(false), [damage(Kind::Dangling, "refs")]);
    fs::rename(&aside, it.tree_file()).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(it.look(false), [(Severity::Note, Kind::Leftover, "refs".to_owned())]);
}

#[test]
fn directories_that_everybody_can_read_are_closed_again() {
    let it = Planted::new();
    let objects = it.store.dir().join("objects");
    fs::set_permissions(&objects, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(it.look(false), [damage(Kind::Mode, "objects")]);
    it.repair(&[]);
    assert_eq!(it.look(false), []);
    assert_eq!(File::open(&objects).unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
}
