//! Repositories of a few empty packages, made on the spot: what matters is who needs whom in which version.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::specs::Spec;

/// A repository in `dir` with all these packages, and nothing that was there before.
pub(super) fn repository(dir: &Path, packages: &[Spec<'_>]) {
    let work = tempfile::tempdir().expect("a temporary directory");
    let out = work.path().join("repository");
    fs::create_dir(&out).expect("the directory is new");
    for spec in packages {
        package(work.path(), &out, spec);
    }
    let mut create = Command::new("createrepo_c");
    create.args(["--quiet", "--simple-md-filenames", "--general-compress-type=gz"]).arg(&out);
    run(&mut create);
    let _ = fs::remove_dir_all(dir);
    let mut copy = Command::new("cp");
    run(copy.arg("-r").arg(&out).arg(dir));
}

fn package(work: &Path, out: &Path, &(name, version, source, more): &Spec<'_>) {
    // Package and source package have names of their own, as sub-packages have.
    let text = format!(
        "%global use_source_date_epoch_as_buildtime 1\n%global clamp_mtime_to_source_date_epoch 1\n\
         %global _buildhost test.invalid\nName: src-{source}\nVersion: {version}\nRelease: 1.el7\nSummary: none\n\
         License: MIT\nBuildArch: noarch\n%description\nNone.\n%package -n {name}\nSummary: none\n{more}\n\
         %description -n {name}\nNone.\n%files -n {name}\n"
    );
    let spec = work.join("package.spec");
    fs::write(&spec, text).expect("the directory is writable");
    let top = work.join("top");
    let mut build = Command::new("rpmbuild");
    build.arg("-bb").arg("--quiet").arg(spec).env("SOURCE_DATE_EPOCH", "1").env("HOME", work);
    build.arg("--define").arg(format!("_topdir {}", top.display()));
    build.arg("--define").arg(format!("_dbpath {}", work.join("db").display()));
    run(&mut build);
    let file = format!("{name}-{version}-1.el7.noarch.rpm");
    fs::rename(top.join("RPMS/noarch").join(&file), out.join(&file)).expect("the package was made");
}

fn run(command: &mut Command) {
    let output = command.output().expect("the tools of the stand-in are installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
