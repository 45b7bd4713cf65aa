//! The Python side: embedded in this crate, written out where Ansible and the sandbox can read it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rootbuild_cache::KeyHasher;

macro_rules! files {
    ($($path:literal from $source:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../plugins/", $source)))),*]
    };
}

/// Every file: where it goes below the runtime's directory, and what is in it.
const FILES: &[(&str, &str)] = files![
    "agent/agent.py" from "agent/agent.py",
    "agent/channel.py" from "agent/channel.py",
    "agent/command.py" from "agent/command.py",
    "agent/environment.py" from "agent/environment.py",
    "agent/files.py" from "agent/files.py",
    "agent/forkserver.py" from "agent/forkserver.py",
    "agent/job.py" from "agent/job.py",
    "agent/loop.py" from "agent/loop.py",
    "agent/netstate.py" from "agent/netstate.py",
    "agent/payload.py" from "agent/payload.py",
    "agent/pid1.py" from "agent/pid1.py",
    "agent/routine.py" from "agent/routine.py",
    "agent/session.py" from "agent/session.py",
    "agent/signature.py" from "agent/signature.py",
    "agent/start.sh" from "agent/start.sh",
    "agent/volatile.py" from "agent/volatile.py",
    "agent/watch.py" from "agent/watch.py",
    "agent/wire.py" from "agent/wire.py",
    "agent/worker.py" from "agent/worker.py",
    "agent/zygote.py" from "agent/zygote.py",
    "python/ansible_collections/rootbuild/sandbox/plugins/callback/events.py"
        from "ansible_collections/rootbuild/sandbox/plugins/callback/events.py",
    "python/ansible_collections/rootbuild/sandbox/plugins/connection/agent.py"
        from "ansible_collections/rootbuild/sandbox/plugins/connection/agent.py",
    "python/ansible_collections/rootbuild/sandbox/plugins/lookup/env.py"
        from "ansible_collections/rootbuild/sandbox/plugins/lookup/env.py",
    "python/ansible_collections/rootbuild/sandbox/plugins/plugin_utils/client.py"
        from "ansible_collections/rootbuild/sandbox/plugins/plugin_utils/client.py",
    "python/ansible_collections/rootbuild/sandbox/plugins/plugin_utils/place.py"
        from "ansible_collections/rootbuild/sandbox/plugins/plugin_utils/place.py",
    "python/ansible_collections/rootbuild/sandbox/plugins/plugin_utils/preload.py"
        from "ansible_collections/rootbuild/sandbox/plugins/plugin_utils/preload.py",
    "python/ansible_collections/rootbuild/sandbox/plugins/plugin_utils/report.py"
        from "ansible_collections/rootbuild/sandbox/plugins/plugin_utils/report.py",
    // One file serves both ends of the wire.
    "python/ansible_collections/rootbuild/sandbox/plugins/plugin_utils/wire.py" from "agent/wire.py",
];

/// The written files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runtime {
    dir: PathBuf,
}

impl Runtime {
    /// The files below `cache`, written there unless an earlier run has done so. Their directory's
    /// name is their digest, and it appears complete: by rename.
    pub(crate) fn written(cache: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let mut hasher = KeyHasher::new("runtime", 1);
        for (path, text) in FILES {
            hasher.text(path, text);
        }
        let dir = cache.join(format!("runtime-{}", hasher.finish().short()));
        if !dir.is_dir() {
            write(cache, &dir).map_err(|error| (dir.clone(), error))?;
        }
        Ok(Self { dir })
    }

    /// What goes on Ansible's `PYTHONPATH`.
    pub(crate) fn python(&self) -> PathBuf {
        self.dir.join("python")
    }

    /// What is shown in the sandbox.
    pub(crate) fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }
}

fn write(cache: &Path, dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(cache)?;
    let new = tempfile::Builder::new().prefix(".runtime-").tempdir_in(cache)?;
    for (path, text) in FILES {
        let path = new.path().join(path);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        fs::write(path, text)?;
    }
    match fs::rename(new.path(), dir) {
        Ok(()) => {
            let _moved = new.keep();
            Ok(())
        }
        // Another run was faster, with the same files.
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_file_of_the_python_side_is_forgotten() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
        let wanted = walkdir::WalkDir::new(&top)
            .into_iter()
            .filter_entry(|entry| !matches!(entry.file_name().to_str(), Some("tests" | "__pycache__")))
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "py" || ending == "sh"))
            .map(|path| {
                let path = path.strip_prefix(&top).unwrap().to_str().unwrap();
                if path.starts_with("agent/") { path.to_owned() } else { format!("python/{path}") }
            });
        let wanted: BTreeSet<String> = wanted.collect();
        let embedded: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(wanted, embedded);
    }

    #[test]
    fn files_are_written_once() {
        let cache = tempfile::tempdir().unwrap();
        let first = Runtime::written(cache.path()).unwrap();
        let marker = first.agent().join("marker");
        fs::write(&marker, "").unwrap();
        assert_eq!(Runtime::written(cache.path()).unwrap(), first);
        assert!(marker.exists() && first.python().join("ansible_collections").is_dir());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }
}
