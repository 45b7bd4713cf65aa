//! A host to hand roots over to: systemd booted in a container, since process 1 here may be anything.
//!
//! It boots in about a second, says itself when it is up (nothing polls), and is gone when dropped. Each has
//! directories, network and control groups of its own, so that tests can have as many as they like at once.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bin::Ran;
use crate::{privileged, skipped};

/// How long a boot may take before a test fails.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// A booted systemd, gone when dropped. It dies with the thread that booted it.
#[derive(Debug)]
pub struct TestHost {
    machine: Machine,
    nspawn: Child,
    leader: Option<Pid>,
    told: Receiver<String>,
}

/// What is there of it when it is switched off.
#[derive(Debug)]
struct Machine {
    dir: tempfile::TempDir,
    name: String,
    binds: Vec<String>,
    cgroups: Cgroups,
}

impl Machine {
    fn switch_on(&self) -> io::Result<Child> {
        let console =
            fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("console"))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "sh", "-c", ENTER, "sh"])
            .args(&self.cgroups.0)
            .args(["--", "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no"])
            .args(["--notify-ready=yes", "--console=read-only", "--private-network", "--resolv-conf=off"])
            .args(["--timezone=off", "--link-journal=no", "--bind-ro=/usr", "--boot"])
            .args(&self.binds)
            .arg(format!("--machine={}", self.name))
            .arg("--directory")
            .arg(self.dir.path().join("root"));
        command
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
    }
}

impl TestHost {
    /// Boots a host with nothing on it, whose `/usr` is this machine's; `None`, with a line that says so,
    /// where that can't be done.
    #[must_use]
    pub fn boot(test: &str) -> Option<Self> {
        Self::boot_with(test, &[], &[])
    }

    /// [`TestHost::boot`], with directories of this machine's (where they are, and where there), and files of this
    /// machine's that only can be read, at the same place.
    #[must_use]
    pub fn boot_with(test: &str, shared: &[(&Path, &Path)], files: &[&PathBuf]) -> Option<Self> {
        if !privileged(test) {
            return None;
        }
        for needed in ["/usr/lib/systemd/systemd", "/usr/bin/systemd-nspawn", "/usr/bin/setpriv"] {
            if !Path::new(needed).exists() {
                skipped(test, &format!("needs {needed}"));
                return None;
            }
        }
        let escape = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:");
        let mut binds: Vec<String> = Vec::new();
        for (outside, inside) in shared {
            binds.push(format!("--bind={}:{}", escape(outside), escape(inside)));
        }
        binds.extend(files.iter().map(|file| format!("--bind-ro={}", escape(file))));
        Some(Self::start(binds).expect("the test host boots"))
    }

    fn start(binds: Vec<String>) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rbt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("rbt-").tempdir()?;
        furnish(&dir.path().join("root"))?;
        let told = listen(&dir.path().join("notify"))?;
        let cgroups = Cgroups::create(&name);
        let machine = Machine { dir, name, binds, cgroups };
        let nspawn = machine.switch_on()?;
        let mut host = Self { machine, nspawn, leader: None, told };
        host.wait_until_ready()?;
        Ok(host)
    }

    /// Reads what nspawn tells: first who the container's process 1 is, then that it is up.
    fn wait_until_ready(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < BOOT_LIMIT {
            match self.told.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                        self.leader = pid.parse().ok().and_then(Pid::from_raw);
                    }
                    if line == "READY=1" && self.leader.is_some() {
                        self.machine.cgroups.furnish();
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.nspawn.try_wait()?.is_none() => {}
                Err(_) => break,
            }
        }
        Err(io::Error::other(format!("the test host doesn't come up:\n{}", self.console())))
    }

    /// Shuts it down and boots it again, with all that is on its disk.
    ///
    /// # Panics
    /// It doesn't come up.
    pub fn reboot(&mut self) {
        let _ = self.sh("systemctl reboot");
        // Who keeps its unit leaves it to that to start it again.
        let _ = self.nspawn.wait();
        self.leader = None;
        self.nspawn = self.machine.switch_on().expect("the test host can be started again");
        self.wait_until_ready().expect("the test host comes up again");
    }

    /// Its process 1, as this machine numbers it.
    #[must_use]
    pub fn leader(&self) -> i32 {
        self.leader.map_or(0, |pid| pid.as_raw_nonzero().get())
    }

    /// What it said on its console.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read(self.machine.dir.path().join("console"))
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Where a path of the host, mounts of its own included, is for this process.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader())).join(inside.trim_start_matches('/'))
    }

    /// Writes a file on the host, parents included.
    pub fn write(&self, inside: &str, text: &str) -> &Self {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("the host is writable");
        fs::write(path, text).expect("the host is writable");
        self
    }

    /// A program of the host, about to run there, as root and with nothing of this process's environment.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", ENTER, "sh"])
            .args(self.machine.cgroups.inside())
            .args(["--", "nsenter"])
            .arg(format!("--target={}", self.leader()))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", program])
            .stdin(Stdio::null());
        command
    }

    /// Runs a script on the host to its end, as root.
    #[must_use]
    pub fn sh(&self, script: &str) -> Ran {
        Ran::new(&self.command("sh").args(["-c", script]).output().expect("nsenter runs"))
    }

    /// The last lines of the host's journal, for a test that fails.
    #[must_use]
    pub fn journal(&self) -> String {
        self.sh("journalctl --no-pager -o short-monotonic -n 60").stdout
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        // The kernel kills all the others with the first process; nspawn cleans up after it.
        let killed = self.leader.is_some_and(|leader| kill_process(leader, Signal::KILL).is_ok());
        if !killed {
            let _ = self.nspawn.kill();
        }
        let _ = self.nspawn.wait();
        // Nobody listens any more.
        let _ =
            UnixDatagram::unbound().and_then(|it| it.send_to(b"", self.machine.dir.path().join("notify")));
    }
}

/// Gives the lines that are sent to a socket, until one is empty. All are read at once, whoever asks for them: else
/// the host's systemd, which tells whatever it does, would stand still some hundred lines later.
fn listen(socket: &Path) -> io::Result<Receiver<String>> {
    let socket = UnixDatagram::bind(socket)?;
    let (sender, told) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = socket.recv(&mut buffer) {
            for line in String::from_utf8_lossy(&buffer[..length]).lines() {
                let _ = sender.send(line.to_owned());
            }
        }
    });
    Ok(told)
}

/// Enters control groups, then goes on.
const ENTER: &str =
    "while [ \"$1\" != -- ]; do echo 0 > \"$1/cgroup.procs\"; shift; done; shift; exec \"$@\"";

/// The little that a machine needs to boot.
fn furnish(root: &Path) -> io::Result<()> {
    for name in ["usr", "etc/systemd/system", "proc", "sys", "dev", "run", "tmp", "var/lib", "root"] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    let write = |name: &str, text: &str| fs::write(root.join("etc").join(name), text);
    write("os-release", "ID=rootbuild-test-host\nVERSION_ID=1\n")?;
    write("machine-id", "")?;
    write("hostname", "testhost\n")?;
    write("nsswitch.conf", "passwd: files systemd\ngroup: files systemd\nhosts: files\n")?;
    write("passwd", "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:990:990::/:/usr/sbin/nologin\n")?;
    write("group", "root:x:0:\nmessagebus:x:990:\nsystemd-journal:x:991:\ntty:x:5:\n")?;
    let target = "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=dbus.socket\n";
    write("systemd/system/default.target", target)?;
    // What only slows the boot of a machine without disks, devices and users.
    for unit in [
        "systemd-sysusers.service",
        "systemd-udevd.service",
        "systemd-udev-trigger.service",
        "systemd-hwdb-update.service",
        "systemd-journal-catalog-update.service",
        "systemd-update-utmp.service",
        "ldconfig.service",
        "systemd-timesyncd.service",
        "systemd-resolved.service",
        "systemd-networkd.service",
        "apt-daily.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
        "man-db.timer",
    ] {
        symlink("/dev/null", root.join("etc/systemd/system").join(unit))?;
    }
    Ok(())
}

/// Control groups of its own: `--keep-unit` would put every container into its caller's.
#[derive(Debug)]
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn create(name: &str) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let groups = own.lines().filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let mounts: &[&str] = match controllers {
                "" => &["/sys/fs/cgroup/unified", "/sys/fs/cgroup"],
                "name=systemd" => &["/sys/fs/cgroup/systemd"],
                _ => return None,
            };
            let parents = mounts.iter().map(|mount| Path::new(mount).join(path.trim_start_matches('/')));
            let mut parents = parents.filter(|parent| parent.join("cgroup.procs").exists());
            let group = parents.next()?.join(name);
            fs::create_dir(&group).ok().map(|()| group)
        });
        Self(groups.collect())
    }

    /// Where the host's own programs are, as if somebody had logged in: there are places for those that go there from
    /// outside.
    fn inside(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|group| group.join("payload/tests.scope")).filter(|it| it.exists())
    }

    fn furnish(&self) {
        for group in &self.0 {
            let _ = fs::create_dir(group.join("payload/tests.scope"));
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // A group is empty a moment after its last process has died.
        for group in &self.0 {
            for _ in 0..100 {
                if remove(group) {
                    break;
                }
                sleep(Duration::from_millis(10));
            }
        }
    }
}

fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
