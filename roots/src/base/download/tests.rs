//! Downloads from real servers (`tests/standin/serve.py`), good ones and bad ones.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use rootbuild_cache::Store;
use tempfile::TempDir;

use super::*;
use crate::cancel::Cancel;

#[path = "../../../tests/common/server.rs"]
mod server;
use server::{DEAD, Server};

/// Packages in a directory, and a store.
struct World {
    dir: TempDir,
    store: Store,
    files: Vec<File>,
    events: Mutex<Vec<StepEvent>>,
    cancel: Cancel,
}

/// How long a package is.
const SIZE: usize = 300_000;

impl World {
    fn new(count: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("repo")).unwrap();
        let mut files = Vec::new();
        for number in 0..count {
            let byte = |at: usize| u8::try_from((at / 7 + at * usize::from(number + 1)) % 256).unwrap();
            let content: Vec<u8> = (0..SIZE).map(byte).collect();
            let location = format!("p{number}^1.rpm");
            fs::write(dir.path().join("repo").join(&location), &content).unwrap();
            files.push(File {
                what: format!("p{number}-1-1.noarch"),
                repo: "os".to_owned(),
                location,
                size: SIZE as u64,
                sha256: hex(Sha256::new_with_prefix(&content)),
            });
        }
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store, files, events: Mutex::default(), cancel: Cancel::new() }
    }

    fn server(&self, how: &[&str]) -> Server {
        Server::new(&self.dir.path().join("repo"), how)
    }

    fn get(&self, urls: &[&str]) -> Result<(), BaseError> {
        self.get_as(&of(urls), false)
    }

    fn get_as(&self, origins: &Origins, offline: bool) -> Result<(), BaseError> {
        let patience = Patience {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(1),
            pause: Duration::from_millis(20),
            window: Duration::from_secs(30),
        };
        let sink = |event| self.events.lock().unwrap().push(event);
        let context = BaseContext {
            store: &self.store,
            cancel: &self.cancel,
            sink: &sink,
            scratch: self.dir.path(),
            offline,
            mirror: None,
        };
        files_with(context, &self.files, &|_| origins.clone(), patience)
    }

    fn kept(&self, number: usize) -> PathBuf {
        kept(self.store.dir(), &self.files[number].sha256)
    }

    fn part(&self, number: usize) -> PathBuf {
        part::path_of(&self.kept(number))
    }

    /// Every package is there, whole, and nothing else.
    fn assert_whole(&self) {
        for (number, file) in self.files.iter().enumerate() {
            assert!(is_intact(&self.kept(number), file.size, &file.sha256), "{}", file.what);
            assert!(!self.part(number).exists(), "{} has left something", file.what);
            assert_eq!(fs::metadata(self.kept(number)).unwrap().mode() & 0o777, 0o644);
        }
    }

    fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let text = |event: &StepEvent| match event {
            StepEvent::Warning(text) => Some(text.clone()),
            _ => None,
        };
        events.iter().filter_map(text).collect()
    }
}

fn of(urls: &[&str]) -> Origins {
    let place = Place { file: PathBuf::from("test.repo"), line: 3 };
    Origins { place, urls: urls.iter().map(|&url| url.to_owned()).collect(), sslverify: true, list: None }
}

fn ranges(server: &Server) -> Vec<String> {
    server.asked().into_iter().filter_map(|(_, range)| range).collect()
}

#[test]
fn every_package_is_asked_for_once_and_then_kept() {
    let world = World::new(5);
    let server = world.server(&[]);
    world.get(&[&server.url]).unwrap();
    world.assert_whole();
    assert_eq!(server.asked().len(), 5);
    let total = 5 * SIZE as u64;
    let end = StepEvent::Progress { done: total, total, bytes: true };
    assert!(world.events.lock().unwrap().contains(&end), "progress is told in bytes, to the end");
    world.get(&[DEAD]).unwrap();
    fs::write(world.kept(1), "damaged").unwrap();
    world.get(&[&server.url]).unwrap();
    world.assert_whole();
    assert_eq!(server.asked().len(), 6, "only the damaged one came again");
}

#[test]
fn a_download_goes_on_where_an_earlier_run_was_killed() {
    let world = World::new(1);
    let server = world.server(&[]);
    let content = fs::read(world.dir.path().join("repo/p0^1.rpm")).unwrap();
    fs::create_dir_all(world.part(0).parent().unwrap()).unwrap();
    fs::write(world.part(0), &content[..200_001]).unwrap();
    world.get(&[&server.url]).unwrap();
    world.assert_whole();
    assert_eq!(ranges(&server), ["bytes=200001-"]);
    // One that only lacked its name needs no server at all.
    fs::rename(world.kept(0), world.part(0)).unwrap();
    world.get(&[DEAD]).unwrap();
    world.assert_whole();
}

#[test]
fn what_an_earlier_run_left_is_not_believed() {
    for garbage in [100_000, SIZE, SIZE + 1] {
        let world = World::new(1);
        let server = world.server(&[]);
        fs::create_dir_all(world.part(0).parent().unwrap()).unwrap();
        fs::write(world.part(0), vec![0; garbage]).unwrap();
        world.get(&[&server.url]).unwrap();
        world.assert_whole();
        assert!(world.warnings().is_empty(), "the server isn't blamed: {:?}", world.warnings());
    }
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all_again() {
    let world = World::new(1);
    let server = world.server(&["--no-ranges"]);
    let content = fs::read(world.dir.path().join("repo/p0^1.rpm")).unwrap();
    fs::create_dir_all(world.part(0).parent().unwrap()).unwrap();
    fs::write(world.part(0), &content[..1000]).unwrap();
    world.get(&[&server.url]).unwrap();
    world.assert_whole();
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_hangs_up_is_asked_for_the_rest() {
    let world = World::new(3);
    let server = world.server(&["--truncate", "0.5", "--once"]);
    world.get(&[&server.url]).unwrap();
    world.assert_whole();
    assert_eq!(ranges(&server), ["bytes=150000-"; 3]);
}

#[test]
fn the_rest_of_what_one_mirror_breaks_off_comes_from_the_next() {
    let world = World::new(3);
    let (short, good) = (world.server(&["--truncate", "0.1"]), world.server(&[]));
    world.get(&[&short.url, &good.url]).unwrap();
    world.assert_whole();
    assert!(ranges(&good).contains(&"bytes=30000-".to_owned()), "{:?}", good.asked());
}

#[test]
fn a_mirror_that_sends_nothing_any_more_is_given_up() {
    let world = World::new(1);
    let (stuck, good) = (world.server(&["--truncate", "0.1", "--stall", "60"]), world.server(&[]));
    let start = Instant::now();
    world.get(&[&stuck.url, &good.url]).unwrap();
    world.assert_whole();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_tampered_package_is_taken_from_elsewhere_and_told() {
    let world = World::new(4);
    let (evil, good) = (world.server(&["--tamper"]), world.server(&[]));
    world.get(&[&evil.url, &good.url]).unwrap();
    world.assert_whole();
    let warnings = world.warnings();
    assert!(warnings.iter().any(|w| w.contains(&evil.url) && w.contains("expected sha256")), "{warnings:?}");
}

#[test]
fn a_tampered_package_that_nobody_has_right_is_refused() {
    let world = World::new(1);
    let evil = world.server(&["--tamper"]);
    let error = world.get(&[&evil.url, DEAD]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("p0-1-1.noarch") && text.contains("expected sha256"), "{text}");
    assert!(!world.kept(0).exists());
}

#[test]
fn a_bad_beginning_from_one_mirror_does_not_spoil_the_good_rest_of_another() {
    let world = World::new(1);
    // The first sends half of something else; who ends it can't tell.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("p0^1.rpm"), vec![1; SIZE]).unwrap();
    let (evil, good) = (Server::new(other.path(), &["--truncate", "0.5"]), world.server(&[]));
    world.get(&[&evil.url, &good.url]).unwrap();
    world.assert_whole();
    assert!(ranges(&good).len() == 1 && good.asked().len() == 2, "{:?}", good.asked());
}

#[test]
fn a_longer_body_is_cut_off() {
    let world = World::new(1);
    let long = world.server(&["--longer", "5000"]);
    world.get(&[&long.url]).unwrap();
    world.assert_whole();
    // One that says so beforehand isn't even begun.
    let world = World::new(1);
    let server = world.server(&[]);
    let path = world.dir.path().join("repo/p0^1.rpm");
    fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
    let text = world.get(&[&server.url]).unwrap_err().to_string();
    assert!(text.contains("expected 300000 bytes, found 300004 bytes"), "{text}");
}

#[test]
fn a_dead_mirror_is_asked_once_and_then_last() {
    let world = World::new(30);
    // It counts who asks, and answers nobody.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            counter.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
    });
    let good = world.server(&[]);
    let start = Instant::now();
    world.get(&[&dead, &good.url]).unwrap();
    world.assert_whole();
    let asked = count.load(Ordering::Relaxed);
    assert!(asked <= PARALLEL, "{asked} times: once by each who started with it");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&dead) && warnings[0].contains("timed out"), "{warnings:?}");
}

#[test]
fn one_good_mirror_among_bad_ones_is_enough() {
    let world = World::new(20);
    let bad = [
        &["--truncate", "0.3"][..],
        &["--tamper"],
        &["--no-ranges", "--truncate", "0.9"],
        &["--status", "503"],
    ];
    let bad: Vec<Server> = bad.iter().map(|how| world.server(how)).collect();
    let empty = tempfile::tempdir().unwrap();
    let (gone, good) = (Server::new(empty.path(), &[]), world.server(&[]));
    let mut urls = vec![DEAD];
    urls.extend(bad.iter().map(|server| server.url.as_str()));
    urls.extend([gone.url.as_str(), "http://nowhere.invalid", good.url.as_str()]);
    world.get(&urls).unwrap();
    world.assert_whole();
}

#[test]
fn where_nobody_has_it_each_url_is_named_with_its_cause() {
    let world = World::new(1);
    let empty = tempfile::tempdir().unwrap();
    let (gone, ill) = (Server::new(empty.path(), &[]), world.server(&["--status", "503"]));
    let text = world.get(&[&gone.url, &ill.url, DEAD, "http://nowhere.invalid"]).unwrap_err().to_string();
    for part in [
        format!("{}/p0%5E1.rpm: the server says 404", gone.url),
        format!("{}/p0%5E1.rpm: the server says 503", ill.url),
        "http://127.0.0.1:9/p0%5E1.rpm: connection refused".to_owned(),
        "no such host `nowhere.invalid`".to_owned(),
        "can't download p0-1-1.noarch of the repository `os` (test.repo:3)".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} not in {text}");
    }
    assert_eq!(gone.asked().len(), 1, "what isn't there isn't asked for again");
    assert!(ill.asked().len() > 1, "what may come back is");
}

#[test]
fn a_list_of_mirrors_helps_where_the_known_ones_are_gone() {
    let world = World::new(2);
    let server = world.server(&[]);
    let list = world.dir.path().join("list");
    fs::write(&list, format!("# mirrors\n{}/\n", server.url)).unwrap();
    let origins = Origins { list: Some(format!("file://{}", list.display())), ..of(&[DEAD]) };
    world.get_as(&origins, false).unwrap();
    world.assert_whole();
}

#[test]
fn offline_uses_what_is_kept_and_files_and_names_what_is_missing() {
    let world = World::new(7);
    let server = world.server(&[]);
    let error = world.get_as(&of(&[&server.url]), true).unwrap_err();
    let (text, hint) = (error.to_string(), error.hint().unwrap());
    assert!(text.starts_with("offline, and not in the store: `p0-1-1.noarch` of `os`, `p1-"), "{text}");
    assert!(text.ends_with("`p4-1-1.noarch` of `os` and 2 more"), "{text}");
    assert!(hint.contains("without `--offline`"), "{hint}");
    assert!(server.asked().is_empty());
    let repo = format!("file://{}/repo", world.dir.path().display());
    world.get_as(&of(&[&server.url, &repo]), true).unwrap();
    world.get_as(&of(&[DEAD]), true).unwrap();
    world.assert_whole();
    assert!(server.asked().is_empty());
}

#[test]
fn two_at_once_share_each_download() {
    let world = World::new(6);
    let slow = world.server(&["--rate", "600000"]);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| world.get(&[&slow.url]).unwrap());
        }
    });
    world.assert_whole();
    assert_eq!(slow.asked().len(), 6, "{:?}", slow.asked());
}

#[test]
fn cancelling_ends_it_and_leaves_what_came_for_the_next() {
    let world = World::new(1);
    let slow = world.server(&["--rate", "100000"]);
    let cancel = world.cancel.clone();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(800));
        cancel.cancel();
    });
    assert!(world.get(&[&slow.url]).unwrap_err().is_cancelled());
    canceller.join().unwrap();
    let came = fs::metadata(world.part(0)).unwrap().len();
    assert!(came > 0 && came < SIZE as u64, "{came}");
    assert!(!world.kept(0).exists());
    let world = World { cancel: Cancel::new(), ..world };
    let fast = world.server(&[]);
    world.get(&[&fast.url]).unwrap();
    world.assert_whole();
    assert_eq!(ranges(&fast).len(), 1);
}

#[test]
fn a_link_in_the_place_of_a_download_is_not_followed() {
    let world = World::new(1);
    let server = world.server(&[]);
    let victim = world.dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::create_dir_all(world.part(0).parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&victim, world.part(0)).unwrap();
    world.get(&[&server.url]).unwrap_err();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}
