//! The watching side: each stopped call is looked at and goes on.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use libseccomp::{ScmpArch, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::calls::{Act, Call, Operand, by_number};
use super::enter::HERE;
use super::notes::Notes;
use super::processes::Processes;
use super::{Scope, Trace, Untraced, memory};

/// Waits for the listening end and answers it until nobody is left, or until `stop` hangs up.
pub(super) fn watch(
    child: &UnixStream,
    stop: &UnixStream,
    scope: Scope,
    task: &AtomicU32,
) -> Result<Trace, Untraced> {
    let listener = listener(child, stop)?;
    let mut watch = Watch::new(scope);
    while wait(&listener, stop) {
        watch.task = task.load(Ordering::Relaxed);
        if !watch.one(&listener) {
            break;
        }
    }
    let calls = watch.count;
    let (uses, connections, gaps) = watch.notes.into_uses();
    Ok(Trace { uses, connections, gaps, calls, ..Trace::default() })
}

/// Waits until there is something to receive; `false` if there never will be.
fn wait(wanted: &impl AsFd, stop: &UnixStream) -> bool {
    loop {
        let mut both = [PollFd::new(wanted, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut both, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return false,
            Ok(_) => {}
        }
        let [wanted, stop] = both.map(|one| one.revents());
        if wanted.contains(PollFlags::IN) {
            return true;
        }
        if !wanted.is_empty() || !stop.is_empty() {
            return false;
        }
    }
}

fn listener(child: &UnixStream, stop: &UnixStream) -> Result<OwnedFd, Untraced> {
    let never = || Untraced::new("the traced program didn't come up");
    if !wait(child, stop) {
        return Err(never());
    }
    let mut text = [0; 512];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(child, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .map_err(|error| Untraced::new(error.to_string()))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match (text[..received.bytes].split_first(), descriptor) {
        (Some((&HERE, _)), Some(listener)) => Ok(listener),
        (Some((_, why)), _) => Err(Untraced::new(String::from_utf8_lossy(why))),
        (None, _) => Err(never()),
    }
}

/// How something is used; each name is looked at once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Read,
    Probe { closely: bool },
    Target { closely: bool },
    List,
    Write { keeps: bool },
    Move,
    Run,
}

impl How {
    fn letter(self) -> u8 {
        match self {
            Self::Read => b'r',
            Self::Probe { closely: false } => b'p',
            Self::Probe { closely: true } => b'P',
            Self::Target { closely: false } => b't',
            Self::Target { closely: true } => b'T',
            Self::List => b'l',
            Self::Write { keeps: false } => b'w',
            Self::Write { keeps: true } => b'W',
            Self::Move => b'm',
            Self::Run => b'x',
        }
    }
}

struct Watch {
    scope: Scope,
    calls: HashMap<i32, &'static Call>,
    notes: Notes,
    processes: Processes,
    /// Processes that are known to be the program itself, or not to be.
    own: HashMap<u32, bool>,
    /// Letters and names that have been looked at.
    seen: HashSet<Vec<u8>>,
    task: u32,
    count: u64,
    /// How often nothing could be received in a row.
    failures: u32,
    name: Vec<u8>,
}

/// How often in a row receiving may fail: as many processes may die at once.
const PATIENCE: u32 = 100_000;

impl Watch {
    fn new(scope: Scope) -> Self {
        Self {
            calls: by_number(),
            notes: Notes::default(),
            processes: Processes::new(scope.own().to_owned()),
            own: HashMap::new(),
            seen: HashSet::new(),
            task: 0,
            count: 0,
            failures: 0,
            name: Vec::new(),
            scope,
        }
    }

    /// Answers one call; `false` if there won't be another.
    fn one(&mut self, listener: &OwnedFd) -> bool {
        let request = match ScmpNotifReq::receive(listener.as_raw_fd()) {
            Ok(request) => request,
            // Whoever called was interrupted, and will call again, or has died. libseccomp tells all of the
            // kernel's errors alike: one that stays must not keep us busy for ever.
            Err(error) if error.sysrawrc().is_some() && self.failures < PATIENCE => {
                self.failures += 1;
                return true;
            }
            Err(error) => {
                self.gap(format!("the kernel's messages can't be read: {error}"));
                return false;
            }
        };
        self.failures = 0;
        self.count += 1;
        let call = self.calls.get(&request.data.syscall.as_raw_syscall()).copied();
        match call.filter(|_| request.data.arch == ScmpArch::native()) {
            Some(call) => self.call(call, &request),
            None => self.gap("a program of another architecture ran".to_owned()),
        }
        let go_on = ScmpNotifResp::new_continue(request.id, ScmpNotifRespFlags::empty());
        // That it is no longer there to be answered is no fault.
        let _ = go_on.respond(listener.as_raw_fd());
        true
    }

    fn gap(&mut self, what: String) {
        self.notes.gaps.insert(what);
    }

    fn call(&mut self, call: &Call, request: &ScmpNotifReq) {
        let (pid, arguments) = (request.pid, &request.data.args);
        for operand in call.operands {
            match operand.act {
                Act::Connect => self.connect(pid, arguments),
                Act::Escape => self.gap(format!("a program called `{}`", call.name)),
                act => {
                    if self.find(pid, operand, arguments) {
                        self.act(pid, act, arguments);
                    }
                }
            }
        }
    }

    /// Reads the name that a call is about into `self.name`, absolute.
    fn find(&mut self, pid: u32, operand: &Operand, arguments: &[u64; 6]) -> bool {
        let mut name = std::mem::take(&mut self.name);
        let found = memory::text(pid, arguments[operand.name], &mut name);
        let base = operand.dir.map(|dir| arguments[dir]);
        let absolute = match name.first() {
            Some(b'/') if name.starts_with(b"/proc/") => {
                name = out_of_proc(pid, &name);
                found
            }
            Some(b'/') => found,
            first => match start(pid, base) {
                Some(mut start) if found => {
                    if first.is_some() {
                        start.push(b'/');
                        start.append(&mut name);
                    }
                    name = start;
                    true
                }
                _ => false,
            },
        };
        self.name = name;
        absolute
    }

    fn act(&mut self, pid: u32, act: Act, arguments: &[u64; 6]) {
        let nofollow = |argument: usize| arguments[argument] & u64::from(AT_SYMLINK_NOFOLLOW) != 0;
        match act {
            Act::Open(flags) => self.open(pid, flags_of(arguments[flags])),
            Act::OpenHow(how) => {
                let mut flags = [0; 8];
                memory::bytes(pid, arguments[how], &mut flags);
                self.open(pid, flags_of(u64::from_ne_bytes(flags)));
            }
            Act::Creat => self.used(pid, How::Write { keeps: false }),
            Act::Stat => self.probe(pid, true),
            Act::StatAt(flags) => self.probe(pid, !nofollow(flags)),
            Act::Lstat => self.probe(pid, false),
            Act::Exec => self.run(pid),
            Act::Make | Act::Remove => {
                self.used(pid, How::Target { closely: false });
                self.used(pid, How::Write { keeps: false });
            }
            Act::Replace => self.used(pid, How::Write { keeps: false }),
            Act::Change => {
                self.used(pid, How::Probe { closely: false });
                self.used(pid, How::Write { keeps: true });
            }
            Act::Move => self.used(pid, How::Move),
            Act::Connect | Act::Escape => {}
        }
    }

    fn open(&mut self, pid: u32, flags: OFlags) {
        if flags.contains(OFlags::PATH) {
            // It may be opened again by its descriptor.
            if flags.contains(OFlags::NOFOLLOW) {
                self.used(pid, How::Target { closely: true });
            } else {
                self.used(pid, How::Probe { closely: true });
            }
            return;
        }
        if flags.contains(OFlags::TMPFILE) {
            return;
        }
        if flags.contains(OFlags::NOFOLLOW) {
            self.used(pid, How::Target { closely: false });
        }
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC);
        if !writes {
            self.used(pid, if flags.contains(OFlags::DIRECTORY) { How::List } else { How::Read });
            return;
        }
        let empties = flags.contains(OFlags::TRUNC) || flags.contains(OFlags::CREATE | OFlags::EXCL);
        if flags.contains(OFlags::EXCL) || !flags.contains(OFlags::CREATE) {
            // Whether it can be opened tells whether it is there.
            self.used(pid, How::Probe { closely: false });
        }
        if !empties && !flags.contains(OFlags::WRONLY) {
            self.used(pid, How::Read);
        }
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) || !self.exists() {
            self.used(pid, How::Write { keeps: !empties });
        }
    }

    fn exists(&self) -> bool {
        Path::new(std::ffi::OsStr::from_bytes(&self.name)).exists()
    }

    fn probe(&mut self, pid: u32, follow: bool) {
        let processes = &self.processes;
        let own = *self.own.entry(pid).or_insert_with(|| processes.is_own(pid));
        self.used(pid, if follow { How::Probe { closely: !own } } else { How::Target { closely: !own } });
    }

    fn run(&mut self, pid: u32) {
        // It is another program now, or will be at its next call.
        self.own.remove(&pid);
        self.used(pid, How::Run);
    }

    /// The name in `self.name` is about to be used.
    fn used(&mut self, pid: u32, how: How) {
        self.name.insert(0, how.letter());
        let again = self.seen.contains(&self.name);
        if !again || how == How::Run {
            let key = self.name.clone();
            let path = clean(Path::new(std::ffi::OsStr::from_bytes(&key[1..])));
            let noted = self.note(pid, &path, how);
            if noted {
                self.seen.insert(key);
            }
        }
        self.name.remove(0);
    }

    /// Notes it; `false` if another process may have to be asked again.
    fn note(&mut self, pid: u32, path: &Path, how: How) -> bool {
        let plain = plain(path);
        if how == How::Run && self.scope.is_secret(&plain) {
            self.processes.silence(pid);
        }
        if !self.scope.has(&plain) {
            return true;
        }
        if self.processes.is_silent(pid) {
            return false;
        }
        let bare = self.scope.is_bare(&plain);
        let task = self.task;
        match how {
            How::Probe { .. } | How::Target { .. } if bare => {}
            How::Read => self.notes.read(path, task),
            How::Probe { closely } => self.notes.probe(path, task, closely),
            How::Target { closely } => self.notes.target(path, task, closely),
            How::List => self.notes.list(path, task),
            How::Write { keeps } => self.notes.write(path, task, keeps),
            How::Move => {
                if path.is_dir() && !self.notes.is_written(path) {
                    self.gap(format!("the directory `{}` was moved", path.display()));
                }
                self.notes.read(path, task);
                self.notes.write(path, task, true);
            }
            How::Run => {
                self.notes.read(path, task);
                self.interpreter(pid, path);
            }
        }
        true
    }

    /// The kernel opens what a script's first line names by itself.
    fn interpreter(&mut self, pid: u32, script: &Path) {
        let mut start = [0; 256];
        let read = File::open(script).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
        let Some(line) = start[..read].strip_prefix(b"#!") else { return };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let program = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if program.first() == Some(&b'/') && program != script.as_os_str().as_bytes() {
            let before = std::mem::replace(&mut self.name, program.to_vec());
            if !self.seen.contains(&[b"x", program].concat()) {
                self.used(pid, How::Run);
            }
            self.name = before;
        }
    }

    fn connect(&mut self, pid: u32, arguments: &[u64; 6]) {
        let mut address = [0; 110];
        let length = usize::try_from(arguments[2]).unwrap_or(0).min(address.len());
        let length = memory::bytes(pid, arguments[1], &mut address[..length]);
        if let Some(to) = destination(&address[..length], &self.scope)
            && !self.processes.is_silent(pid)
        {
            self.notes.connections.insert(to);
        }
    }
}

/// `AT_SYMLINK_NOFOLLOW`.
const AT_SYMLINK_NOFOLLOW: u32 = rustix::fs::AtFlags::SYMLINK_NOFOLLOW.bits();

/// `AT_FDCWD`: there is no constant for it in safe code.
const AT_FDCWD: i32 = -100;

#[allow(clippy::cast_possible_truncation, reason = "flags are 32 bits")]
fn flags_of(argument: u64) -> OFlags {
    OFlags::from_bits_retain(argument as u32)
}

/// Where a relative name starts.
#[allow(clippy::cast_possible_truncation, reason = "descriptors are 32 bits")]
fn start(pid: u32, dir: Option<u64>) -> Option<Vec<u8>> {
    let dir = dir.map_or(AT_FDCWD, |dir| dir as i32);
    let link = if dir == AT_FDCWD { format!("/proc/{pid}/cwd") } else { format!("/proc/{pid}/fd/{dir}") };
    let start = rustix::fs::readlink(link, Vec::new()).ok()?.into_bytes();
    (start.first() == Some(&b'/')).then_some(start)
}

/// Names like `/proc/self/cwd/x` lead out of there.
fn out_of_proc(pid: u32, name: &[u8]) -> Vec<u8> {
    let mut parts = name.splitn(5, |byte| *byte == b'/').skip(3);
    let (Some(what), Some(rest)) = (parts.next(), parts.next()) else { return name.to_vec() };
    let lead = |link: String, rest: &[u8]| {
        let start = rustix::fs::readlink(link, Vec::new()).map(std::ffi::CString::into_bytes);
        start.map_or_else(|_| name.to_vec(), |start| [&start, &b"/"[..], rest].concat())
    };
    match what {
        b"root" => [b"/", rest].concat(),
        b"cwd" => lead(format!("/proc/{pid}/cwd"), rest),
        b"fd" => {
            let mut parts = rest.splitn(2, |byte| *byte == b'/');
            match (parts.next().map(String::from_utf8_lossy), parts.next()) {
                (Some(fd), Some(rest)) => lead(format!("/proc/{pid}/fd/{fd}"), rest),
                _ => name.to_vec(),
            }
        }
        _ => name.to_vec(),
    }
}

/// The same name without what says nothing. `..` stays where it follows a link.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if clean.file_name().is_some()
                    && std::fs::symlink_metadata(&clean).is_ok_and(|meta| meta.is_dir()) =>
            {
                clean.pop();
            }
            _ => clean.push(component),
        }
    }
    clean
}

fn plain(path: &Path) -> PathBuf {
    crate::inputs::plain(path)
}

/// Where a connection goes; nothing for what is no concern of ours.
fn destination(address: &[u8], scope: &Scope) -> Option<String> {
    let (family, rest) = address.split_first_chunk()?;
    let port = || rest.first_chunk().map(|port| u16::from_be_bytes(*port));
    match u16::from_ne_bytes(*family) {
        1 => match rest.split(|byte| *byte == 0).next() {
            Some(path) if !path.is_empty() => {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                // The name service's cache and the one that makes names are asked by every program.
                let everybodys = ["nscd/socket", "uuidd/request"].iter().any(|name| path.ends_with(name));
                let ours = path.is_absolute() && !scope.has(&plain(path));
                (!ours && !everybodys).then(|| path.display().to_string())
            }
            _ => Some("an abstract socket".to_owned()),
        },
        2 => {
            let host: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
            Some(format!("{}:{}", Ipv4Addr::from(host), port()?))
        }
        10 => {
            let host: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
            Some(format!("[{}]:{}", Ipv6Addr::from(host), port()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
