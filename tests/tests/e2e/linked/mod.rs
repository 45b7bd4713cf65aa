//! A linked root's users can't change what they share, whatever they try.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::checkout::{Areas, Sharing};
use rootbuild_roots::publish::{Published, Wanted, publish_as};
use rootbuild_tests::TestHost;

const STORE: &str = "/var/lib/rootbuild";

/// Everything of a file that anybody could change.
type State = (Digest, u64, u32, (u32, u32), (i64, i64), u64, Vec<u8>);

fn state(path: &Path) -> State {
    let stat = fs::symlink_metadata(path).unwrap();
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    names.truncate(length);
    let time = (stat.mtime(), stat.mtime_nsec());
    let owner = (stat.uid(), stat.gid());
    (Digest::of(&fs::read(path).unwrap()), stat.ino(), stat.mode(), owner, time, stat.len(), names)
}

/// Every file of the store's farm and every object.
fn states(store: &Store) -> BTreeMap<PathBuf, State> {
    let mut found = BTreeMap::new();
    for home in ["links", "objects"] {
        for dir in fs::read_dir(store.dir().join(home)).unwrap() {
            for file in fs::read_dir(dir.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                found.insert(path.clone(), state(&path));
            }
        }
    }
    found
}

/// A root with a program's files in `/app`, and room to write in `/etc`. The host's `/usr` is bound into it.
fn root(store: &Store) -> Digest {
    let dir = tempfile::tempdir_in(store.dir()).unwrap();
    for name in ["app/lib", "etc", "usr", "proc", "sys", "dev", "run", "tmp", "var/tmp"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("app/data"), "what all roots share").unwrap();
    fs::write(dir.path().join("app/lib/empty"), "").unwrap();
    fs::copy("/usr/bin/true", dir.path().join("app/program")).unwrap();
    fs::set_permissions(dir.path().join("app/program"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(dir.path().join("top"), "a file at the top").unwrap();
    fs::write(dir.path().join("etc/conf"), "private").unwrap();
    fs::write(dir.path().join("etc/attack.py"), include_str!("attack.py")).unwrap();
    let tree = capture_directory(store, dir.path(), &Cancel::new()).unwrap();
    store.sync().unwrap();
    store.put_tree(&tree).unwrap()
}

fn hand_over(store: &Store, name: &str, tree: &Digest) -> Published {
    let private = Areas::default();
    let definition = Path::new("/nonexistent/rootbuild.toml");
    let wanted = Wanted { tree, definition, private: Some(&private), prepared: None };
    publish_as(store, name, wanted, &Cancel::new()).unwrap().0
}

/// What came of each attempt, by its name, as a service with these settings tried it in a root.
fn attack(host: &TestHost, root: &Published, number: u64, settings: &str) -> BTreeMap<String, String> {
    let unit = format!(
        "[Service]\nType=oneshot\nRootDirectory={STORE}/checkouts/{}/{number}\nMountAPIVFS=yes\n\
         BindReadOnlyPaths=/usr\nExecStart=/usr/bin/python3 -B /etc/attack.py\n{settings}\n",
        root.name
    );
    let name = format!("attack-{}", root.name);
    host.write(&format!("/etc/systemd/system/{name}.service"), &unit);
    let ran = host.sh(&format!("systemctl daemon-reload && systemctl start {name}.service"));
    let told = fs::read_to_string(root.checkout.join("etc/outcome.json"));
    let told = told.unwrap_or_else(|_| panic!("{}\n{}\n{}", ran.stderr, host.journal(), host.console()));
    serde_json::from_str(&told).unwrap()
}

#[test]
fn whatever_a_service_tries_what_it_shares_with_other_roots_stays_as_it_is() {
    let Some(host) = TestHost::boot("a service that attacks what it shares") else { return };
    let store = Store::open(&host.path(STORE)).unwrap();
    if Sharing::where_needed(&store, store.dir(), &Areas::default()) == Sharing::Private {
        rootbuild_tests::skipped(
            "a service that attacks what it shares",
            "nothing is shared where there is reflink",
        );
        return;
    }
    let tree = root(&store);
    let [one, two] = ["one", "two"].map(|name| hand_over(&store, name, &tree));
    let inode = |root: &Published, name: &str| fs::symlink_metadata(root.checkout.join(name)).unwrap().ino();
    for name in ["app/data", "app/lib/empty", "app/program"] {
        assert_eq!(inode(&one, name), inode(&two, name), "{name} is shared");
    }
    // Where no mount can protect it, nothing is shared.
    for name in ["top", "etc/conf", "app", "etc"] {
        assert_ne!(inode(&one, name), inode(&two, name), "{name} is private");
    }
    let before = states(&store);
    assert!(before.len() > 6);

    let without =
        "CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_MKNOD CAP_SYS_RAWIO";
    let outcomes = attack(&host, &one, 1, &format!("ReadOnlyPaths=+/app\n{without}"));
    let done: Vec<_> =
        outcomes.iter().filter(|(name, what)| what.as_str() == "done" && !name.starts_with("own ")).collect();
    assert_eq!(done, [], "these worked; all: {outcomes:#?}");
    assert!(outcomes.len() > 25, "{outcomes:#?}");
    // The service could work: it was the mount that kept it out.
    assert_eq!(outcomes["own write in /etc"], "done", "{outcomes:#?}");
    assert_eq!(states(&store), before);
    for (name, text) in [("app/data", "what all roots share"), ("app/lib/empty", "")] {
        assert_eq!(fs::read_to_string(two.checkout.join(name)).unwrap(), text);
    }

    // The same service without the mount does harm: the attempts are real, and the look at the store sees it.
    let outcomes = attack(&host, &two, 1, without);
    assert_eq!(outcomes["write"], "done", "{outcomes:#?}");
    assert_ne!(states(&store), before);
}
