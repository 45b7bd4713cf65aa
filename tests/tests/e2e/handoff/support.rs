//! A host that runs rootbuild itself, roots that serve, and clients that never rest.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rootbuild_tests::{Project, Ran, TestHost, rootbuild_binary, skipped};
use serde_json::Value;

use super::copy_program;

/// A server that is ready when it says so: `server PORT [SECONDS TO START]`. It takes the socket that it is given, if it
/// is. To everybody it tells what root it is of, and its process.
const SERVER: &str = r#"
select(undef, undef, undef, $ARGV[1] || 0);
if ($ENV{LISTEN_FDS}) { open(S, "+<&=", 3) or die "fd: $!" }
else {
    socket(S, 2, 1, 0) or die; setsockopt(S, 1, 2, 1);
    bind(S, pack("Sna4x8", 2, $ARGV[0], "\0\0\0\0")) or die "bind: $!"; listen(S, 128) or die;
}
if ($ENV{NOTIFY_SOCKET}) {
    socket(N, 1, 2, 0) or die;
    send(N, "READY=1\nSTATUS=serves", 0, pack("Sa108", 1, $ENV{NOTIFY_SOCKET})) or die "notify: $!";
}
open(F, "/etc/marker"); my $marker = <F>; chomp $marker; close F;
my $stop = 0;
$SIG{PIPE} = "IGNORE";
$SIG{TERM} = sub { $stop = 1 };
until ($stop) { accept(C, S) or next; syswrite(C, "$marker $$\n"); close C; }
"#;

/// Asks each of some ports every so often until its input ends; then tells what it heard, as JSON.
const CLIENT: &str = r#"
import json, select, socket, sys, time
pause, ports = float(sys.argv[1]), [int(port) for port in sys.argv[2:]]
heard = {port: {"answers": 0, "lost": [], "said": []} for port in ports}
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    begin = time.monotonic()
    for port in ports:
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                text = connection.makefile().readline().strip()
            if not text:
                raise OSError("no answer")
            heard[port]["answers"] += 1
            if text not in heard[port]["said"]:
                heard[port]["said"].append(text)
        except OSError as error:
            heard[port]["lost"].append(str(error))
    time.sleep(max(0, pause - (time.monotonic() - begin)))
print(json.dumps(heard))
"#;

/// A service of a root.
pub(super) struct Service<'a> {
    /// `web.service`, or a socket.
    pub(super) name: &'a str,
    /// Its unit's text.
    pub(super) text: &'a str,
    /// The target that wants it; `None`: it isn't enabled.
    pub(super) wanted_by: Option<&'a str>,
}

/// A service that is wanted at boot.
pub(super) fn service<'a>(name: &'a str, text: &'a str) -> Service<'a> {
    Service { name, text, wanted_by: Some("multi-user.target") }
}

/// The text of a unit that serves on a port.
pub(super) fn serving(port: u16) -> String {
    format!("[Service]\nType=notify\nTimeoutStopSec=5\nExecStart=/usr/bin/perl /srv/server {port}\n")
}

/// The little that all roots here have, made once.
fn skeleton() -> &'static Path {
    static SKELETON: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = SKELETON.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "proc",
            "sys",
            "dev",
            "run",
            "tmp",
            "var/lib",
            "etc/systemd/system",
            "usr/bin",
            "usr/lib",
            "srv",
            "root",
        ] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        for program in ["/usr/bin/sh", "/usr/bin/cat", "/usr/bin/perl", "/usr/bin/sleep", "/usr/bin/id"] {
            copy_program(root, program);
        }
        fs::write(root.join("etc/machine-id"), "").unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        fs::write(root.join("srv/server"), SERVER).unwrap();
        dir
    });
    dir.path()
}

/// A project whose roots run on a host of their own.
pub(super) struct Cluster {
    pub(super) project: Project,
    pub(super) host: TestHost,
}

impl Cluster {
    /// Boots a host for a project with a store of its own; `None`, with a line that says so, where that can't be done.
    pub(super) fn boot(test: &str) -> Option<Self> {
        Self::with(test, Project::with_own_store(), &[])
    }

    /// The same for a project that is there, and with more directories of this machine's.
    pub(super) fn with(test: &str, project: Project, shared: &[&Path]) -> Option<Self> {
        if !Path::new("/usr/bin/perl").exists() || !Path::new("/usr/bin/python3").exists() {
            skipped(test, "needs perl and python3");
            return None;
        }
        for dir in shared {
            fs::create_dir_all(dir).unwrap();
        }
        let shared: Vec<(&Path, &Path)> =
            shared.iter().copied().chain([project.dir()]).map(|it| (it, it)).collect();
        let host = TestHost::boot_with(test, &shared, &[rootbuild_binary()])?;
        Some(Self { project, host })
    }

    /// Writes what a root is made of: its services, and a word that tells this make from others.
    pub(super) fn make(&self, name: &str, marker: &str, services: &[Service<'_>]) -> &Self {
        let dir = tempfile::tempdir_in(self.project.dir()).unwrap();
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(dir.path().join("etc/marker"), &format!("{marker}\n"));
        for Service { name, text, wanted_by } in services {
            write(dir.path().join("usr/lib/systemd/system").join(name), text);
            if let Some(target) = wanted_by {
                let wants = dir.path().join(format!("etc/systemd/system/{target}.wants"));
                fs::create_dir_all(&wants).unwrap();
                symlink(format!("/usr/lib/systemd/system/{name}"), wants.join(name)).unwrap();
            }
        }
        let archive = self.project.dir().join(format!("{name}.tar"));
        let packed = Command::new("tar")
            .args(["--sort=name", "--mtime=@0", "-cf"])
            .arg(&archive)
            .arg("-C")
            .arg(skeleton())
            .arg(".")
            .arg("-C")
            .arg(dir.path())
            .arg(".")
            .status();
        assert!(packed.unwrap().success());
        self
    }

    /// Writes the definition: these roots, with what `[root.NAME.run]` says of each.
    pub(super) fn define(&self, roots: &[(&str, &str)]) -> &Self {
        let mut text = "[ansible]\ncore = \"2.19.14\"\n".to_owned();
        for (name, run) in roots {
            text.push_str(&format!(
                "[base.{name}]\nsource = \"archive\"\nfile = \"{name}.tar\"\nunverified = true\n\
                 [root.{name}]\nbase = \"{name}\"\nplaybooks = []\n[root.{name}.run]\n{run}\n"
            ));
        }
        self.project.write("rootbuild.toml", &text);
        self
    }

    /// Provisions, on the machine around the host: to the store it's the same.
    #[track_caller]
    pub(super) fn provision(&self) -> Ran {
        self.project.rootbuild(&["provision"]).expect(0)
    }

    /// rootbuild, about to run on the host.
    pub(super) fn command(&self, binary: &str, arguments: &[&str]) -> Command {
        let mut command = self.host.command("sh");
        command
            .args(["-c", "cd \"$1\" && shift && export ROOTBUILD_STORE=\"$1\" && shift && exec \"$@\"", "sh"])
            .arg(self.project.dir())
            .arg(self.project.store())
            .arg(binary)
            .args(arguments);
        command
    }

    /// Runs rootbuild on the host to its end.
    pub(super) fn rootbuild(&self, arguments: &[&str]) -> Ran {
        let binary = rootbuild_binary().to_str().unwrap();
        Ran::new(&self.command(binary, arguments).output().unwrap())
    }

    /// What a port of the host says: what its server's root was made with, and its process.
    pub(super) fn ask(&self, port: u16) -> String {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && cat <&3");
        self.host.sh(&format!("bash -c '{script}'")).stdout.trim().to_owned()
    }

    /// The state of the only root asked about.
    pub(super) fn status(&self, root: &str) -> Value {
        let ran = self.rootbuild(&["status", root, "--json"]);
        let json = ran.json();
        json["roots"][0].clone()
    }

    /// Clients of these ports, at work every so many seconds until they are asked what they heard.
    pub(super) fn clients(&self, pause: f64, ports: &[u16]) -> Clients {
        let mut command = self.host.command("python3");
        command.args(["-c", CLIENT, &pause.to_string()]).args(ports.iter().map(u16::to_string));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Clients(child)
    }

    /// All files below some directories of the host, to be compared.
    pub(super) fn listing(&self) -> BTreeSet<String> {
        let found = self.host.sh("find /run/systemd/system /etc /run/userdb /run/rootbuild /var/lib -xdev \
             -not -path '/var/lib/systemd/*' -not -path '/etc/machine-id' 2>/dev/null; true");
        found.stdout.lines().map(str::to_owned).collect()
    }
}

/// Clients at work.
pub(super) struct Clients(Child);

impl Clients {
    /// Ends them; gives by port what they heard: `answers`, `lost`, `said`.
    pub(super) fn finish(mut self) -> Value {
        let mut stdin = self.0.stdin.take().unwrap();
        let _ = stdin.write_all(b"\n");
        drop(stdin);
        let mut text = String::new();
        std::io::Read::read_to_string(self.0.stdout.as_mut().unwrap(), &mut text).unwrap();
        let _ = self.0.wait();
        serde_json::from_str(&text).unwrap()
    }
}
