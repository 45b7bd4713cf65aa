//! Without a network, from what an earlier run has kept.

use std::fs;

use super::server::Server;
use super::support::{Project, key, repo, says, standin};

/// A base whose repository and key come over HTTP.
fn over_http(server: &Server, fingerprint: &str) -> Project {
    let more = format!("gpgkey={}/RPM-GPG-KEY-standin\nfingerprints={fingerprint}\n", server.url);
    Project::new(&repo("os", &[&format!("{}/os", server.url)], &more))
}

fn fingerprint() -> Option<String> {
    let (dir, _) = standin()?;
    let manifest = fs::read(dir.join("standin.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    Some(manifest["key_fingerprint"].as_str().unwrap().to_owned())
}

#[test]
fn a_warm_store_needs_no_network() {
    let (Some((dir, _)), Some(fingerprint)) = (standin(), fingerprint()) else { return };
    let server = Server::new(&dir, &[]);
    let mut project = over_http(&server, &fingerprint);
    let facts = project.build().unwrap();
    let asked = server.asked().len();
    project.offline = true;
    let again = project.build().unwrap();
    assert_eq!((&again["lock"], &again["packages"]), (&"used".into(), &facts["packages"]));
    assert_eq!(server.asked().len(), asked, "nobody was asked");
    drop(server);
    project.build().unwrap();

    // What is missing is named, and how much.
    for file in project.kept() {
        fs::remove_file(file).unwrap();
    }
    let text = project.error();
    says(
        &text,
        &["offline, and not in the store: the key http://", "of the repository `os`", "without `--offline`"],
    );
}

#[test]
fn offline_names_the_packages_that_are_missing() {
    let Some((dir, _)) = standin() else { return };
    let server = Server::new(&dir, &[]);
    let mut project = Project::new(&repo("os", &[&format!("{}/os", server.url)], &key(&dir)));
    let facts = project.build().unwrap();
    project.offline = true;
    let kept = project.kept();
    let damaged = kept.last().unwrap();
    fs::write(damaged, "damaged").unwrap();
    let digest = damaged.file_name().unwrap().to_str().unwrap();
    let package = facts["packages"].as_array().unwrap().iter().find(|p| p["sha256"] == digest).unwrap();
    let named = format!("not in the store: `{}` of `os`\n", package["nevra"].as_str().unwrap());
    says(&project.error(), &[&named]);
    for file in kept {
        let _ = fs::remove_file(file);
    }
    let count = facts["packages"].as_array().unwrap().len();
    if count > 5 {
        says(&project.error(), &[&format!(" and {} more", count - 5)]);
    }
}

#[test]
fn offline_without_a_lock_says_that_one_is_needed() {
    let Some((dir, _)) = standin() else { return };
    let server = Server::new(&dir, &[]);
    let mut project = Project::new(&repo("os", &[&format!("{}/os", server.url)], &key(&dir)));
    project.offline = true;
    says(
        &project.error(),
        &["offline, and the lock file `", "hello.lock` isn't there", "`os`", "test.repo:1", "rootbuild lock"],
    );
    project.base.lock = None;
    says(&project.error(), &["offline, and the base has no lock", "add `lock = "]);
    assert!(server.asked().is_empty());
    // Files are no network.
    let mut local = Project::new(&repo("os", &[&format!("file://{}/os", dir.display())], &key(&dir)));
    local.offline = true;
    local.build().unwrap();
}

#[test]
fn a_key_whose_server_is_gone_is_taken_from_the_store_and_told() {
    let (Some((dir, _)), Some(fingerprint)) = (standin(), fingerprint()) else { return };
    let server = Server::new(&dir, &[]);
    let project = over_http(&server, &fingerprint);
    project.build().unwrap();
    drop(server);
    assert_eq!(project.build().unwrap()["lock"], "used");
    let warnings = project.warnings();
    assert!(
        warnings.iter().any(|w| w.contains("(connection refused): the copy in the store")),
        "{warnings:?}"
    );
}
