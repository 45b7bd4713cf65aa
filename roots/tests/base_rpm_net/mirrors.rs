//! Several mirrors, few of them any good.

use std::fs;

use super::server::{DEAD, Server};
use super::support::{Project, key, repo, says, standin};

#[test]
fn a_base_comes_whole_though_mirrors_are_dead_short_tampering_or_know_no_ranges() {
    let Some((dir, _)) = standin() else { return };
    let expected = Project::new(&repo("os", &[&format!("file://{}/os", dir.display())], &key(&dir)));
    let expected = expected.build().unwrap();
    let short = Server::new(&dir, &["--truncate", "0.4"]);
    let tampering = Server::new(&dir, &["--tamper"]);
    let ignorant = Server::new(&dir, &["--no-ranges"]);
    let urls = [DEAD, &short.url, &tampering.url, &ignorant.url].map(|url| format!("{url}/os"));
    let project = Project::new(&repo("os", &urls.each_ref().map(String::as_str), &key(&dir)));
    let facts = project.build().unwrap();
    assert_eq!(facts["packages"], expected["packages"]);
    let count = facts["packages"].as_array().unwrap().len();
    let kept = project.kept();
    assert_eq!(kept.len(), count, "{kept:?}");
    assert!(kept.iter().all(|file| file.extension().is_none()), "nothing is left half: {kept:?}");
    let warnings = project.warnings();
    let told = |part: &str| warnings.iter().any(|warning| warning.contains(part));
    assert!(told("127.0.0.1:9` can't be used (connection refused)"), "{warnings:?}");
    assert!(told("is not what it should be: expected sha256"), "{warnings:?}");
    // All of it is there now: the next base asks nobody.
    let asked = ignorant.asked().len();
    project.build().unwrap();
    assert_eq!(ignorant.asked().len(), asked);
}

#[test]
fn a_locked_base_survives_the_end_of_its_mirrors_by_their_list() {
    let Some((dir, _)) = standin() else { return };
    let (first, second) = (Server::new(&dir, &[]), Server::new(&dir, &[]));
    let project = Project::new("");
    let list = project.path("mirrors");
    fs::write(&list, format!("{}/os\n", first.url)).unwrap();
    let text = format!("[os]\nmirrorlist=file://{}\n{}", list.display(), key(&dir));
    fs::write(project.path("test.repo"), text).unwrap();
    let facts = project.build().unwrap();
    drop(first);
    fs::write(&list, format!("{}/os\n", second.url)).unwrap();
    fs::remove_dir_all(project.path("store/packages")).unwrap();
    fs::create_dir(project.path("store/packages")).unwrap();
    let again = project.build().unwrap();
    assert_eq!((&again["lock"], &again["packages"]), (&"used".into(), &facts["packages"]));
    assert!(!second.asked().is_empty());
}

#[test]
fn an_unreachable_repository_says_why() {
    let Some((dir, _)) = standin() else { return };
    let server = Server::new(&dir, &[]);
    let good = repo("os", &[&format!("{}/os", server.url)], &key(&dir));
    let error = |urls: &[&str]| Project::new(&(good.clone() + &repo("gone", urls, &key(&dir)))).error();
    let text = error(&[&format!("{DEAD}/x")]);
    says(
        &text,
        &["`gone` (http://127.0.0.1:9/x), defined in ", "test.repo:6: connection refused", "hint: check the"],
    );
    says(&error(&["http://nowhere.invalid/x"]), &["no such host `nowhere.invalid`"]);
    says(&error(&[&format!("{}/nothing", server.url)]), &["the server says 404"]);
    says(&error(&["file:///nothing/here"]), &["no such file"]);
    let text = error(&[&format!("{DEAD}/x"), &format!("{}/nothing", server.url)]);
    says(&text, &["\nhttp://127.0.0.1:9/x: connection refused", "/nothing: the server says 404"]);
}

#[test]
fn a_package_that_no_mirror_has_is_told_with_each_cause() {
    let Some((dir, bad)) = standin() else { return };
    let server = Server::new(&bad, &["--status", "503"]);
    let urls = [format!("{}/missing", server.url), format!("file://{}/missing", bad.display())];
    let good = repo("os", &[&format!("file://{}/os", dir.display())], &key(&dir));
    let bad = repo("bad", &urls.each_ref().map(String::as_str), &key(&dir));
    let text = Project::new(&(good + &bad)).error();
    let package = "can't download standin-hello-1.9-1.el7.noarch of the repository `bad` (";
    says(
        &text,
        &[
            package,
            "test.repo:6):\n",
            &server.url,
            ".rpm: the server says 503",
            ".rpm: no such file",
            "hint: check the network",
        ],
    );
}
