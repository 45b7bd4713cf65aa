//! A root as its own processes would see it: every link is followed inside, by us, and nothing is opened
//! through one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::fd;

/// Nothing that a unit is made of is larger.
const LARGEST: u64 = 1 << 20;
/// As the kernel's.
const MOST_LINKS: usize = 40;
/// Where generators put what they make.
pub(super) const GENERATED: [&str; 3] =
    ["/run/systemd/generator.early", "/run/systemd/generator", "/run/systemd/generator.late"];

/// A root that is only read.
#[derive(Debug)]
pub(super) struct Tree {
    top: OwnedFd,
    /// What generators made: directories `early`, `normal` and `late`.
    generated: Option<OwnedFd>,
    /// What links say, `None` for what is none: the same directories are on the way to nearly everything.
    links: RefCell<HashMap<String, Option<String>>>,
}

impl Tree {
    pub(super) fn open(root: &Path, generated: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
        };
        let generated = generated.map(open).transpose()?;
        Ok(Self { top: open(root)?, generated, links: RefCell::default() })
    }

    /// The path that `path` leads to once all links on the way are followed. What isn't there stays as it is.
    pub(super) fn resolve(&self, path: &str) -> String {
        let mut done: Vec<String> = Vec::new();
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut links = 0;
        while let Some(name) = left.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            done.push(name);
            let Some(target) = self.read_link(&joined(&done)) else { continue };
            links += 1;
            if links > MOST_LINKS {
                continue;
            }
            done.pop();
            if target.starts_with('/') {
                done.clear();
            }
            left.extend(target.rsplit('/').map(str::to_owned));
        }
        joined(&done)
    }

    /// What a symbolic link says, if there is one; no other link may be on the way.
    fn read_link(&self, path: &str) -> Option<String> {
        if let Some(known) = self.links.borrow().get(path) {
            return known.clone();
        }
        let said = self.ask_link(path);
        self.links.borrow_mut().insert(path.to_owned(), said.clone());
        said
    }

    fn ask_link(&self, path: &str) -> Option<String> {
        let file = self.open_as_is(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        if fd::stat(&file).ok()?.kind != FileType::Symlink {
            return None;
        }
        rustix::fs::readlinkat(&file, c"", Vec::new()).ok()?.into_string().ok()
    }

    /// What the link at `path` says, `None` where that is no link.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let (directory, name) = path.rsplit_once('/')?;
        self.read_link(&format!("{}/{name}", self.resolve(directory).trim_end_matches('/')))
    }

    /// The content of a regular file, `None` where there is none.
    pub(super) fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open_as_is(&self.resolve(path), flags) {
            Ok(file) => file,
            // A socket, a device that is gone, a loop of links.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::LOOP | Errno::NODEV) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fd::stat(&file)?;
        if stat.kind != FileType::RegularFile {
            return Ok(None);
        }
        if stat.size > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be read"));
        }
        let mut bytes = Vec::new();
        let mut limited = io::Read::take(std::fs::File::from(file), LARGEST);
        io::Read::read_to_end(&mut limited, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// What is at `path`, links followed.
    pub(super) fn kind(&self, path: &str) -> Option<FileType> {
        let file = self.open_as_is(&self.resolve(path), OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        Some(fd::stat(&file).ok()?.kind)
    }

    /// Whether there is a file at `path` that somebody may execute.
    pub(super) fn is_executable(&self, path: &str) -> bool {
        let file = self.open_as_is(&self.resolve(path), OFlags::PATH | OFlags::NOFOLLOW).ok();
        let stat = file.and_then(|file| fd::stat(&file).ok());
        stat.is_some_and(|stat| stat.kind == FileType::RegularFile && stat.mode & 0o111 != 0)
    }

    /// The names in a directory, sorted; nothing where there is none. Names that no unit can have are left
    /// out.
    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory = match self.open_as_is(&self.resolve(path), flags) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let listed = fd::children(&directory)?.into_iter();
        let names = listed.filter_map(|it| String::from_utf8(it.name).ok());
        let mut names: Vec<String> = names.filter(|name| !name.contains(char::is_control)).collect();
        names.sort();
        Ok(names)
    }

    fn open_as_is(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let (top, path) = self.place(path);
        let Some(top) = top else { return Err(Errno::NOENT) };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // Of a link itself only `NOFOLLOW` gives a descriptor.
        let resolve =
            if flags.contains(OFlags::PATH) { resolve - ResolveFlags::NO_SYMLINKS } else { resolve };
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(top, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Which directory a path is in, and where there.
    fn place<'a>(&self, path: &'a str) -> (Option<BorrowedFd<'_>>, &'a str) {
        for directory in GENERATED {
            let rest = path.strip_prefix(directory).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            if rest.is_some() {
                // `generator.late/x` of the root is `generator.late/x` there.
                let inside = path.strip_prefix("/run/systemd/").unwrap_or(path);
                return (self.generated.as_ref().map(AsFd::as_fd), inside);
            }
        }
        (Some(self.top.as_fd()), path.trim_start_matches('/'))
    }
}

fn joined(names: &[String]) -> String {
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_inside_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib/deep")).unwrap();
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        symlink("/run", dir.path().join("var-run")).unwrap();
        symlink("../../../../../../lib/deep", dir.path().join("usr/up")).unwrap();
        symlink("/etc/passwd", dir.path().join("usr/lib/out")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        fs::write(dir.path().join("usr/lib/deep/file"), "inside").unwrap();
        let tree = Tree::open(dir.path(), None).unwrap();
        assert_eq!(tree.resolve("/lib/../lib/./deep//file"), "/usr/lib/deep/file");
        assert_eq!(tree.resolve("/var-run/x/y"), "/run/x/y");
        assert_eq!(tree.resolve("/usr/up/file"), "/usr/lib/deep/file");
        assert_eq!(tree.resolve("/loop"), "/loop");
        assert_eq!(tree.resolve("/.."), "/");
        assert_eq!(tree.read("/usr/up/file").unwrap().unwrap(), b"inside");
        assert_eq!(tree.read("/usr/lib/out").unwrap(), None);
        assert_eq!(tree.read("/usr/lib").unwrap(), None);
        assert_eq!(tree.read("/loop").unwrap(), None);
        assert_eq!(tree.link("/lib/out").as_deref(), Some("/etc/passwd"));
        assert_eq!(tree.list("/lib/deep").unwrap(), ["file"]);
        assert!(tree.list("/nowhere").unwrap().is_empty());
    }

    #[test]
    fn what_generators_made_stands_below_run() {
        let dir = tempfile::tempdir().unwrap();
        let made = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr")).unwrap();
        fs::write(dir.path().join("usr/u.service"), "of the root").unwrap();
        fs::create_dir_all(made.path().join("generator/a.service.wants")).unwrap();
        symlink("/usr/u.service", made.path().join("generator/a.service.wants/u.service")).unwrap();
        let tree = Tree::open(dir.path(), Some(made.path())).unwrap();
        let link = "/run/systemd/generator/a.service.wants/u.service";
        assert_eq!(tree.read(link).unwrap().unwrap(), b"of the root");
        assert_eq!(tree.list("/run/systemd/generator/a.service.wants").unwrap(), ["u.service"]);
        assert!(Tree::open(dir.path(), None).unwrap().list("/run/systemd/generator").unwrap().is_empty());
    }
}
