//! A payload in a booted root: a service of the root's own systemd.
//!
//! systemd is process 1 then, so the payload's streams can't be nspawn's: they are FIFOs in a directory
//! that `enter.sh` makes, shows inside, and joins to our pipes. The service's script notes that it runs
//! (`started`) and how it ended (`status`), and has the root powered off afterwards.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::SandboxSpec;
use crate::process::PATH;

/// The directory for FIFOs and notes, inside and in the outer mount namespace alike.
pub(super) const DIR: &str = "/run/rootbuild/boot";

/// The service's name.
const UNIT_NAME: &str = "rootbuild-payload.service";

/// The service. systemd 219 (EL7) must understand it. It has no default dependencies, so that it is
/// neither ordered before a target nor stopped with one.
pub(super) const UNIT: &str = "\
[Unit]
Description=Payload of rootbuild
DefaultDependencies=no
Wants=basic.target
After=basic.target dbus.service
Conflicts=shutdown.target
Before=shutdown.target
IgnoreOnIsolate=yes

[Service]
ExecStart=/bin/sh /run/rootbuild/boot/payload.sh
StandardInput=null
StandardOutput=null
StandardError=null
TimeoutStopSec=30
";

/// nspawn's arguments for a booted root, and systemd's after them.
pub(super) fn arguments() -> Vec<OsString> {
    [
        format!("--bind={DIR}"),
        format!("--bind-ro={DIR}/{UNIT_NAME}:/run/systemd/system/{UNIT_NAME}"),
        "--boot".to_owned(),
        "--".to_owned(),
        format!("systemd.wants={UNIT_NAME}"),
    ]
    .map(OsString::from)
    .to_vec()
}

/// The service's script: runs the payload with its own environment and streams.
pub(super) fn script(spec: &SandboxSpec) -> OsString {
    let mut text = OsString::from(format!(
        "here={DIR}\n: > $here/started\n# EL7's rpm closes every fd there could be, one by one.\nulimit -S -n 1024\n"
    ));
    text.push("cd -- ");
    text.push(quoted(spec.chdir.as_deref().map_or(OsStr::new("/"), |dir| dir.as_os_str())));
    text.push(" || exit 1\n");
    text.push(format!("env -i PATH={PATH} HOME=/root USER=root LOGNAME=root container=systemd-nspawn"));
    for (name, value) in &spec.env {
        text.push(" ");
        text.push(quoted(OsStr::new(&format!("{name}={value}"))));
    }
    for argument in &spec.argv {
        text.push(" ");
        text.push(quoted(argument));
    }
    text.push(" < $here/in > $here/out 2> $here/err\n");
    // SIGRTMIN+4 asks every systemd to power off, whether or not D-Bus is up.
    text.push("echo $? > $here/status\nkill -38 1\n");
    text
}

/// A word for sh, whatever is in it.
fn quoted(word: &OsStr) -> OsString {
    let mut bytes = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => bytes.extend_from_slice(b"'\\''"),
            other => bytes.push(other),
        }
    }
    bytes.push(b'\'');
    OsString::from_vec(bytes)
}
