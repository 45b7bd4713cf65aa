//! Open directories that know their way back.

use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::{Stat, join};

/// How many directories stay open at once in this process. Where more are wanted (a tree hundreds
/// deep), one in [`APART`] levels does, and the others are opened again from the nearest ancestor
/// that is.
const KEPT_OPEN: usize = 128;
const APART: usize = 16;
static OPEN: AtomicUsize = AtomicUsize::new(0);

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory inside a root, found once without following links. Its parents live as long as it.
#[derive(Debug)]
pub(crate) struct Dir {
    parent: Option<Arc<Dir>>,
    name: Vec<u8>,
    id: (u64, u64),
    depth: usize,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept(OwnedFd);

impl Kept {
    fn new(fd: OwnedFd) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(fd)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A directory's descriptor, kept or opened for this use.
#[derive(Debug)]
pub(crate) enum DirFd<'a> {
    Kept(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for DirFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kept(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

impl Dir {
    /// Opens the top of a root; the path is the caller's and may lead through links.
    pub(crate) fn top(path: &Path) -> io::Result<Arc<Self>> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let id = super::stat(&fd)?.id;
        Ok(Arc::new(Self { parent: None, name: Vec::new(), id, depth: 0, kept: Some(Kept::new(fd)) }))
    }

    /// Opens the directory `name` in this one; a symbolic link is refused (`ENOTDIR`).
    pub(crate) fn child(self: &Arc<Self>, name: &[u8]) -> io::Result<(Arc<Self>, Stat)> {
        let fd = open_directory(self.fd()?, name)?;
        let stat = super::stat(&fd)?;
        let depth = self.depth + 1;
        let most = if depth.is_multiple_of(APART) { 2 * KEPT_OPEN } else { KEPT_OPEN };
        let kept = (OPEN.load(Ordering::Relaxed) < most).then(|| Kept::new(fd));
        let parent = Some(Arc::clone(self));
        Ok((Arc::new(Self { parent, name: name.to_vec(), id: stat.id, depth, kept }), stat))
    }

    /// A descriptor to work with.
    pub(crate) fn fd(&self) -> io::Result<DirFd<'_>> {
        let mut missing = Vec::new();
        let mut at = self;
        let start = loop {
            match (&at.kept, &at.parent) {
                (Some(kept), _) => break kept.0.as_fd(),
                (None, Some(parent)) => {
                    missing.push(at);
                    at = parent;
                }
                (None, None) => return Err(Errno::BADF.into()),
            }
        };
        let mut opened: Option<OwnedFd> = None;
        while let Some(dir) = missing.pop() {
            let next = match &opened {
                Some(fd) => open_directory(fd, &dir.name)?,
                None => open_directory(start, &dir.name)?,
            };
            if super::stat(&next)?.id != dir.id {
                return Err(Errno::STALE.into());
            }
            opened = Some(next);
        }
        Ok(opened.map_or(DirFd::Kept(start), DirFd::Opened))
    }

    /// The path from the top, empty for the top itself.
    pub(crate) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(parent) = &at.parent {
            names.push(at.name.as_slice());
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// How many directories lie above it.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The path of `name` in this directory.
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path(), name)
    }
}

impl Drop for Dir {
    // One after the other: dropping a long chain of parents must not recurse.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut dir) = parent.and_then(Arc::into_inner) {
            parent = dir.parent.take();
        }
    }
}

/// What no name in a root may do: lead up, through a link, or onto another file system.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens one name; what is mounted there isn't the root's (`EXDEV`).
fn open_at(parent: impl AsFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    loop {
        match rustix::fs::openat2(&parent, name, flags, Mode::empty(), RESOLVE) {
            // A rename elsewhere came between.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Older kernels and some container policies don't know openat2.
            Err(Errno::NOSYS | Errno::PERM) => {
                let fd = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
                let mounted = name != b"." && super::stat(&fd).is_ok_and(|stat| stat.mount_root);
                return if mounted { Err(Errno::XDEV) } else { Ok(fd) };
            }
            done => return done,
        }
    }
}

fn open_directory(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    open_at(parent, name, FLAGS).map_err(|error| match error {
        Errno::XDEV => io::Error::new(io::ErrorKind::ResourceBusy, "something is mounted there"),
        error => error.into(),
    })
}

/// Opens the file `name` in a directory with these flags and those that keep a FIFO, a terminal, a link or
/// a mount from doing harm. Whether it is a regular file the caller has to see, before and after.
pub(crate) fn open_file(dir: impl AsFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_at(dir, name, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC)
}

/// Opens the directory at `path` below `top`; neither links nor mounts lead anywhere.
pub(crate) fn open_beneath(top: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let mut opened = open_directory(top, b".")?;
    let mut rest = path;
    while !rest.is_empty() {
        let piece = first_piece(rest);
        opened = match rustix::fs::openat2(&opened, piece, FLAGS, Mode::empty(), RESOLVE) {
            Ok(fd) => fd,
            // Older kernels and some container policies don't know openat2.
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(Errno::NOSYS | Errno::PERM) => {
                let mut names = piece.split(|byte| *byte == b'/');
                names.try_fold(opened, open_directory)?
            }
            Err(error) => return Err(error.into()),
        };
        rest = rest.get(piece.len() + 1..).unwrap_or_default();
    }
    Ok(opened)
}

/// As many components from the start of `path` as fit into one system call.
fn first_piece(path: &[u8]) -> &[u8] {
    const MOST: usize = 4000;
    match path.get(..MOST) {
        None => path,
        // A component has 255 bytes at most, so there is a slash.
        Some(start) => &path[..start.iter().rposition(|byte| *byte == b'/').unwrap_or(path.len())],
    }
}

/// A name as a directory lists it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub name: Vec<u8>,
    /// [`FileType::Unknown`] where the file system doesn't say.
    pub kind: FileType,
}

/// Everything in an open directory but `.` and `..`, in the order the file system gives.
pub(crate) fn children(dir: impl AsFd) -> io::Result<Vec<Listed>> {
    rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut raw = RawDir::new(&dir, &mut buffer);
    let mut listed = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            listed.push(Listed { name: name.to_vec(), kind: entry.file_type() });
        }
    }
    Ok(listed)
}
