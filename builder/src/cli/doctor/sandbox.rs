//! Whether a sandbox starts: the real one, over a root that borrows the host's `/usr`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rootbuild_roots::Cancel;
use rootbuild_roots::sandbox::{Bind, Console, Network, Nspawn, Running, Sandbox, SandboxSpec};
use rootbuild_roots::working::RootMount;

use super::Check;
use crate::render::Report;

const NAME: &str = "sandbox";

/// Starts one in `scratch`, which lies where the store's roots will.
pub(super) fn check(scratch: &Path) -> Check {
    if !rustix::process::geteuid().is_root() {
        return Check::warning(NAME, "not tried", "run it with `sudo`");
    }
    let root = scratch.join("root");
    let binds = match furnish(&root) {
        Ok(binds) => binds,
        Err(error) => return Check::warning(NAME, "not tried", crate::definition::plain(&error)),
    };
    let spec = SandboxSpec {
        name: format!("doctor-{}", std::process::id()),
        root: RootMount::Plain(root),
        writable: true,
        argv: vec!["/bin/sh".into(), "-c".into(), "test -r /proc/self/stat && test -w /dev/null".into()],
        env: Vec::new(),
        binds,
        network: Network::None,
        hostname: "doctor".to_owned(),
        boot: false,
        console: Console::Pipe,
        chdir: None,
    };
    let start = Instant::now();
    match Nspawn.start(&spec, &Cancel::new()).and_then(Running::wait) {
        Ok(0) => Check::ok(NAME, format!("runs a program in {:.2} s", start.elapsed().as_secs_f64())),
        Ok(code) => Check::missing(
            NAME,
            format!("a program in it ended with {code}"),
            "in a container, it must be privileged: systemd-nspawn makes namespaces and mounts",
        ),
        Err(error) => {
            let report = Report::from(error);
            let hint = report.first_hint().unwrap_or(
                "in a container, it must be privileged: systemd-nspawn makes namespaces and mounts",
            );
            Check::missing(NAME, report.message(), hint)
        }
    }
}

/// Makes a root of the host's own programs: empty but for links and mount points.
fn furnish(root: &Path) -> io::Result<Vec<Bind>> {
    for dir in ["usr", "etc", "proc", "sys", "dev", "run", "tmp", "var", "root"] {
        fs::create_dir_all(root.join(dir))?;
    }
    // nspawn takes only what calls itself an operating system.
    fs::write(root.join("etc/os-release"), "ID=doctor\n")?;
    let mut binds = vec![bind("/usr")];
    for name in ["bin", "sbin", "lib", "lib64", "lib32"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, root.join(name))?,
            Err(_) if host.is_dir() => {
                fs::create_dir(root.join(name))?;
                binds.push(bind(&format!("/{name}")));
            }
            Err(_) => {}
        }
    }
    Ok(binds)
}

fn bind(path: &str) -> Bind {
    Bind { source: PathBuf::from(path), target: PathBuf::from(path), read_only: true }
}
