//! Whose packages are installed, and whose aren't.

use std::fs;
use std::path::Path;
use std::process::Command;

use rootbuild_roots::base::rpm::Bootstrap;

use super::server::Server;
use super::support::{Keys, Project, key, repo, says, standin};

/// A base of the good repository, and of another that names the key `file`.
fn with_key(dir: &Path, file: &Path, more: &str) -> Project {
    let os = format!("file://{}/os", dir.display());
    let named = format!("gpgkey=file://{}\n{more}", file.display());
    Project::new(&(repo("os", &[&os], &key(dir)) + &repo("other", &[&os], &named)))
}

#[test]
fn keys_that_expired_or_were_revoked_are_refused() {
    let Some((dir, _)) = standin() else { return };
    let keys = Keys::new(
        "gen expired 20200101T000000 30d; export_ expired expired.asc; gen revoked
         sed 's/^:---/---/' openpgp-revocs.d/$(fpr revoked).rev > revocation
         gpg --batch --quiet --import revocation; export_ revoked revoked.asc",
    );
    let text = with_key(&dir, &keys.path("expired.asc"), "").error();
    says(&text, &["test.repo:9: the key ", &keys.run("fpr expired"), "expired.asc` expired on 2020-01-31\n"]);
    says(&text, &["hint: get the key anew"]);
    let text = with_key(&dir, &keys.path("revoked.asc"), "").error();
    says(
        &text,
        &[
            "test.repo:9: the key ",
            &keys.run("fpr revoked"),
            "was revoked by its owner",
            "hint: find out why",
        ],
    );
}

#[test]
fn a_package_signed_with_a_subkey_that_expired_or_was_revoked_is_refused() {
    let Some((dir, bad)) = standin() else { return };
    let unsigned = fs::read_dir(bad.join("unsigned/Packages")).unwrap().flatten().next().unwrap().path();
    if !Command::new("rpmsign").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no rpmsign");
        return;
    }
    let keys = Keys::new(&format!(
        "gen sub; f=$(fpr sub)
         g --faked-system-time 20200101T000000! --quick-add-key $f rsa2048 sign 30d
         sub=$(g --with-colons --list-keys sub | awk -F: '/^sub/ {{ print $5 }}')
         echo $sub > id; mkdir -p repo/Packages; cp {} repo/Packages/
         rpmsign --define \"_gpg_name $sub!\" --define '__gpg /usr/bin/gpg' --define '_gpg_digest_algo sha256' \
             --define '_gpg_sign_cmd_extra_args --faked-system-time 20200102T000000!' --addsign repo/Packages/*.rpm >&2
         createrepo_c --quiet --checksum sha256 repo; export_ sub sub.asc",
        unsigned.display()
    ));
    let named = format!("gpgkey=file://{}\n", keys.path("sub.asc").display());
    let good = repo("os", &[&format!("file://{}/os", dir.display())], &key(&dir));
    let subs = repo("subs", &[&format!("file://{}", keys.path("repo").display())], &named);
    let text = Project::new(&(good + &subs)).error();
    let id = fs::read_to_string(keys.path("id")).unwrap().trim().to_lowercase();
    says(
        &text,
        &["standin-hello-1.9", "`subs`", &format!("signed with the key {id}, which expired on 2020-01-31")],
    );
}

#[test]
fn a_key_whose_time_is_over_is_still_good_for_what_was_locked_before() {
    let Some((dir, bad)) = standin() else { return };
    let unsigned = fs::read_dir(bad.join("unsigned/Packages")).unwrap().flatten().next().unwrap().path();
    if !Command::new("rpmsign").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no rpmsign");
        return;
    }
    let keys = Keys::new(&format!(
        "gen late; f=$(fpr late); mkdir -p repo/Packages; cp {} repo/Packages/
         rpmsign --define \"_gpg_name $f\" --define '__gpg /usr/bin/gpg' --define '_gpg_digest_algo sha256' \
             --define '_gpg_sign_cmd_extra_args --faked-system-time 20200102T000000!' --addsign repo/Packages/*.rpm >&2
         createrepo_c --quiet --checksum sha256 repo; export_ late late.asc",
        unsigned.display()
    ));
    let named = format!("gpgkey=file://{}\n", keys.path("late.asc").display());
    let good = repo("os", &[&format!("file://{}/os", dir.display())], &key(&dir));
    let late = repo("late", &[&format!("file://{}", keys.path("repo").display())], &named);
    let mut project = Project::new(&(good + &late));
    project.build().unwrap();
    let lock = project.path("hello.lock");
    let locked = fs::read_to_string(&lock).unwrap();
    assert!(locked.contains("late") && !locked.contains("expired"), "{locked}");
    // Its owner says afterwards that its time was over long ago: it is the same key.
    let _ = keys.run(
        "f=$(fpr late); g --faked-system-time 20200102T000000! --quick-set-expire $f 2020-01-31; export_ late late.asc",
    );
    project.build().unwrap();
    // gpg's word for it is good as well; what is missing then is an rpm to install with.
    project.base.bootstrap = Bootstrap::Root;
    let text = project.error();
    assert!(!text.contains("expired") && text.contains("own rpm"), "{text}");
    // Not where it was so when the lock was written, nor without a lock: who chooses packages today needs a good key.
    project.base.bootstrap = Bootstrap::Auto;
    let id = keys.run("fpr late | tail -c 17 | tr A-F a-f").trim().to_owned();
    let at = locked.find("id = \"late\"").unwrap();
    fs::write(&lock, format!("{}expired = [\"{id}\"]\n{}", &locked[..at], &locked[at..])).unwrap();
    says(&project.error(), &["the key ", "expired on 2020-01-31"]);
    fs::remove_file(&lock).unwrap();
    says(&project.error(), &["the key ", "expired on 2020-01-31", "hint: get the key anew"]);
}

#[test]
fn only_pinned_keys_are_taken() {
    let Some((dir, bad)) = standin() else { return };
    let other = "0123456789ABCDEF0123456789ABCDEF01234567";
    let file = dir.join("RPM-GPG-KEY-standin");
    let text = with_key(&dir, &file, &format!("fingerprints={other}\n")).error();
    says(&text, &["test.repo:9: the key ", "is not the one that is expected: ", other, "hint: don't trust"]);
    // A second key in the same file isn't taken along.
    let keys = Keys::new("gen second; export_ second second.asc");
    let both = fs::read_to_string(&file).unwrap() + &fs::read_to_string(keys.path("second.asc")).unwrap();
    fs::write(keys.path("both.asc"), both).unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("standin.json")).unwrap()).unwrap();
    let pin = format!("fingerprints={}\n", manifest["key_fingerprint"].as_str().unwrap());
    says(&with_key(&dir, &keys.path("both.asc"), &pin).error(), &[&keys.run("fpr second"), "is not the one"]);
    with_key(&dir, &file, &pin).build().unwrap();
    // A foreign key for a package is found out by its signature.
    let foreign = repo("bad", &[&format!("file://{}/wrongkey", bad.display())], &key(&dir));
    let good = repo("os", &[&format!("file://{}/os", dir.display())], &key(&dir));
    says(&Project::new(&(good + &foreign)).error(), &["standin-hello-1.9", "isn't one of the repository's"]);
}

#[test]
fn the_vaults_repositories_are_pinned_to_centos_7s_key() {
    let Some((dir, _)) = standin() else { return };
    let vault = repo("base", &["http://vault.centos.org/7.9.2009/os/$basearch"], &key(&dir));
    let text = Project::new(&vault).error();
    says(&text, &["test.repo:4: the key ", "6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5 (CentOS 7's own"]);
    says(&text, &["hint: put the repository's own key there"]);
}

#[test]
fn a_key_that_came_by_url_must_be_the_pinned_one_too() {
    let Some((dir, bad)) = standin() else { return };
    let server = Server::new(&bad, &[]);
    let pin = "6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5";
    let more = format!("gpgkey={}/RPM-GPG-KEY-wrong\nfingerprints={pin}\n", server.url);
    let project = Project::new(&repo("os", &[&format!("file://{}/os", dir.display())], &more));
    says(&project.error(), &["test.repo:4: the key ", "is not the one that is expected", pin]);
    assert!(!project.path("store/packages/keys").exists(), "a wrong key isn't kept");
}
