//! Names that Ansible makes up at random, and the ones that stand for them in journals and roots.
//!
//! Three parties use names: Ansible (`ansible-tmp-1732229.1-4711-9137`), the journals, and the root.
//! The journals' names are a function of the state in which Ansible first used its own, so that the
//! same run gives the same requests and the same tree. The root uses the journals' names, but for
//! one: the process id that it adds to the name of a job that runs on (`j123.4711`).
//!
//! Only names seen in a request's head are ever replaced, letter by letter: what a file or a
//! template holds by chance is never taken for one.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use memchr::memmem;
use rootbuild_cache::Digest;

/// What a random name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// A temporary directory in the root.
    Directory,
    /// What `become` prints when it has become somebody.
    Become,
    /// A job that runs on.
    Job,
}

const DIRECTORY: &[u8] = b"ansible-tmp-";
const BECOME: &[u8] = b"BECOME-SUCCESS-";
/// How many letters follow.
const BECOME_LETTERS: usize = 32;
/// What a job's name stands behind when it is first used.
const WRAPPER: &[u8] = b"async_wrapper.py ";
/// How Ansible removes a temporary directory.
const REMOVAL: &[u8] = b"rm -f -r ";
/// What stands for a job's process id.
const NO_PID: &[u8] = b".1";
/// The argument that tells where a copied file's content came from.
const BASENAME: &[u8] = b"\"_original_basename\": \"";
/// Beginnings of the names of Ansible's own temporary files, and what stands for them.
const OWN_FILES: [(&[u8], &[u8]); 2] = [(b"tmp", b"tmprootbld0"), (b".", b".rootbld0")];
/// How many characters follow.
const OWN_LETTERS: usize = 8;

/// A name in a text.
struct Found {
    sort: Sort,
    from: usize,
    to: usize,
}

/// The names of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// Ansible's to the journals'.
    ours: HashMap<Vec<u8>, Vec<u8>>,
    /// The journals' to Ansible's.
    theirs: HashMap<Vec<u8>, Vec<u8>>,
    /// The process ids (`.4711`) of jobs in the root, by the journals' names.
    pids: HashMap<Vec<u8>, Vec<u8>>,
    /// Whether there are names of jobs: they are looked for only then.
    jobs: bool,
    /// Names of files that Ansible has made for itself.
    files: HashSet<Vec<u8>>,
    /// Temporary directories that haven't been removed yet, by the journals' names.
    directories: HashSet<Vec<u8>>,
}

impl Names {
    /// A request's head with the journals' names, learning those that are new in it. Without a
    /// state nothing is learnt.
    pub(super) fn learn(&mut self, head: &[u8], state: Option<&Digest>) -> Vec<u8> {
        if let Some(state) = state {
            let mut count = 0_u64;
            for found in scan(head, true) {
                let name = &head[found.from..found.to];
                let is_new = found.sort != Sort::Job || head[..found.from].ends_with(WRAPPER);
                if is_new && !self.ours.contains_key(name) {
                    let ours = made_up(found.sort, state, count);
                    count += 1;
                    self.jobs |= found.sort == Sort::Job;
                    self.theirs.insert(ours.clone(), name.to_vec());
                    if found.sort == Sort::Directory {
                        self.directories.insert(ours.clone());
                    }
                    self.ours.insert(name.to_vec(), ours);
                }
            }
        }
        let head = self.inward(head).into_owned();
        if !self.directories.is_empty() && memmem::find(&head, REMOVAL).is_some() {
            for found in scan(&head, false) {
                self.directories.remove(&head[found.from..found.to]);
            }
        }
        head
    }

    /// Whether there is a temporary directory of the task that runs.
    pub(super) fn has_directory(&self) -> bool {
        !self.directories.is_empty()
    }

    /// A new task begins: what directories are left nobody removes.
    pub(super) fn forget_directories(&mut self) {
        self.directories.clear();
    }

    /// A text of Ansible's with the journals' names.
    pub(super) fn inward<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.replaced(text, &self.ours)
    }

    /// A text of the journals' with Ansible's names.
    pub(super) fn outward<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.replaced(text, &self.theirs)
    }

    /// A text of the journals' with the root's names.
    pub(super) fn to_root<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if self.pids.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut result = Vec::with_capacity(text.len());
        let mut done = 0;
        for found in scan(text, true) {
            if found.sort == Sort::Job
                && let Some(pid) = self.pids.get(&text[found.from..found.to])
                && text[found.to..].starts_with(NO_PID)
                && !text.get(found.to + NO_PID.len()).is_some_and(u8::is_ascii_digit)
            {
                result.extend_from_slice(&text[done..found.to]);
                result.extend_from_slice(pid);
                done = found.to + NO_PID.len();
            }
        }
        result.extend_from_slice(&text[done..]);
        Cow::Owned(result)
    }

    /// A text of the root's with the journals' names, learning the process ids of jobs.
    pub(super) fn out_of_root<'a>(&mut self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.jobs {
            return Cow::Borrowed(text);
        }
        let mut result = Vec::with_capacity(text.len());
        let mut done = 0;
        for found in scan(text, true) {
            let name = &text[found.from..found.to];
            if found.sort != Sort::Job || !self.theirs.contains_key(name) {
                continue;
            }
            let digits = text[found.to..].iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
            if text.get(found.to) == Some(&b'.') && digits > 0 {
                let pid = &text[found.to..=found.to + digits];
                self.pids.insert(name.to_vec(), pid.to_vec());
                result.extend_from_slice(&text[done..found.to]);
                result.extend_from_slice(NO_PID);
                done = found.to + pid.len();
            }
        }
        result.extend_from_slice(&text[done..]);
        Cow::Owned(result)
    }

    /// Notes the files that Ansible has made for itself below `dir` and that are there now.
    pub(super) fn see_files(&mut self, dir: &Path) {
        let Ok(runs) = fs::read_dir(dir) else { return };
        for file in runs.flatten().filter_map(|run| fs::read_dir(run.path()).ok()).flatten().flatten() {
            let name = file.file_name();
            if let Some(name) = name.to_str().filter(|name| own_file(name.as_bytes()).is_some())
                && !self.files.contains(name.as_bytes())
            {
                self.files.insert(name.as_bytes().to_vec());
            }
        }
    }

    /// A module's arguments with a fixed name for a file that Ansible has made for itself.
    pub(super) fn without_own_file<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(at) = memmem::find(text, BASENAME) else { return Cow::Borrowed(text) };
        let from = at + BASENAME.len();
        let Some(length) = memchr::memchr(b'"', &text[from..]) else { return Cow::Borrowed(text) };
        let name = &text[from..from + length];
        match own_file(name).filter(|_| self.files.contains(name)) {
            Some(instead) => Cow::Owned([&text[..from], instead, &text[from + length..]].concat()),
            None => Cow::Borrowed(text),
        }
    }

    fn replaced<'a>(&self, text: &'a [u8], names: &HashMap<Vec<u8>, Vec<u8>>) -> Cow<'a, [u8]> {
        let mut result = Vec::new();
        let mut done = 0;
        for found in scan(text, self.jobs) {
            if let Some(name) = names.get(&text[found.from..found.to]) {
                result.extend_from_slice(&text[done..found.from]);
                result.extend_from_slice(name);
                done = found.to;
            }
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        result.extend_from_slice(&text[done..]);
        Cow::Owned(result)
    }
}

/// What stands for a name that has the shape of Ansible's own files'.
fn own_file(name: &[u8]) -> Option<&'static [u8]> {
    let shaped = |rest: &[u8]| {
        rest.len() == OWN_LETTERS && rest.iter().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    OWN_FILES
        .iter()
        .find(|(start, _)| name.strip_prefix(*start).is_some_and(shaped))
        .map(|(_, instead)| *instead)
}

/// What has the shape of a random name, in order.
fn scan(text: &[u8], jobs: bool) -> Vec<Found> {
    let mut found = Vec::new();
    for from in memmem::find_iter(text, DIRECTORY) {
        let mut to = from + DIRECTORY.len();
        let run = |to: usize, also: u8| {
            text[to..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == also).count()
        };
        // Seconds, a process id, a number.
        let mut parts = 0;
        for (part, also) in [b'.', b'0', b'0'].into_iter().enumerate() {
            let length = run(to, also);
            if length == 0 {
                break;
            }
            to += length;
            parts += 1;
            if part < 2 {
                if text.get(to) != Some(&b'-') {
                    break;
                }
                to += 1;
            }
        }
        if parts == 3 {
            found.push(Found { sort: Sort::Directory, from, to });
        }
    }
    for from in memmem::find_iter(text, BECOME) {
        let start = from + BECOME.len();
        let letters = text[start..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        if letters == BECOME_LETTERS {
            found.push(Found { sort: Sort::Become, from, to: start + letters });
        }
    }
    if jobs {
        for from in memchr::memchr_iter(b'j', text) {
            let digits = text[from + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let to = from + 1 + digits;
            let bounded = !from.checked_sub(1).is_some_and(|at| text[at].is_ascii_alphanumeric())
                && !text.get(to).is_some_and(u8::is_ascii_alphabetic);
            if digits > 0 && bounded {
                found.push(Found { sort: Sort::Job, from, to });
            }
        }
    }
    found.sort_unstable_by_key(|found| found.from);
    found
}

/// The name that stands for the `count`-th new one of a request in a state.
fn made_up(sort: Sort, state: &Digest, count: u64) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key("rootbuild replay 2026 names");
    hasher.update(state.as_bytes()).update(&count.to_le_bytes()).update(&[sort as u8]);
    let mut bytes = [0; BECOME_LETTERS];
    hasher.finalize_xof().fill(&mut bytes);
    let digits = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| char::from(b'0' + byte % 10)).collect()
    };
    match sort {
        Sort::Directory => {
            let (second, part) = (digits(0..9), digits(9..15));
            format!("ansible-tmp-1{second}.1{part}-1-1{}", digits(15..29)).into_bytes()
        }
        Sort::Become => {
            let letters = bytes.iter().map(|byte| b'a' + byte % 26);
            BECOME.iter().copied().chain(letters).collect()
        }
        Sort::Job => format!("j1{}", digits(0..11)).into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn two_runs_use_the_same_names_whatever_ansible_makes_up() {
        let state = Digest::of(b"state");
        let head = |n: u32, c: char| {
            let user = c.to_string().repeat(32);
            format!("mkdir /t/ansible-tmp-17.{n}-{n}-{n}{n} && echo BECOME-SUCCESS-{user}")
        };
        let (mut one, mut two) = (Names::default(), Names::default());
        let (first, second) = (head(1, 'a'), head(22, 'b'));
        let sent = one.learn(first.as_bytes(), Some(&state));
        assert_eq!(sent, two.learn(second.as_bytes(), Some(&state)));
        assert!(!text(&sent).contains("17.1"));
        // What the root says reaches Ansible in its own words.
        assert_eq!(text(&two.outward(&sent)), second);
        // Another state gives others, and no state none.
        assert_ne!(Names::default().learn(first.as_bytes(), Some(&Digest::of(b"x"))), sent);
        assert_eq!(text(&Names::default().learn(first.as_bytes(), None)), first);
        // A name that was never in a head stays.
        let stranger = b"ansible-tmp-1.2-3-4 BECOME-SUCCESS-x j17.5";
        assert_eq!(&*one.inward(stranger), stranger);
    }

    #[test]
    fn the_process_id_of_a_job_is_no_part_of_a_journal() {
        let mut names = Names::default();
        let head = names.learn(b"python /x/AnsiballZ_async_wrapper.py j77 45 /y _", Some(&Digest::of(b"")));
        let job = text(&head).split(' ').nth(2).unwrap().to_owned();
        let said = format!("{{\"ansible_job_id\": \"{job}.4711\"}}");
        let kept = names.out_of_root(said.as_bytes()).into_owned();
        assert_eq!(text(&kept), said.replace("4711", "1"));
        let told = names.outward(&kept).into_owned();
        assert_eq!(text(&told), "{\"ansible_job_id\": \"j77.1\"}");
        let asked = names.inward(&told).into_owned();
        assert_eq!(asked, kept);
        assert_eq!(text(&names.to_root(&asked)), said);
    }

    #[test]
    fn only_files_of_ansibles_own_lose_their_names() {
        let text = br#"{"dest": "/x", "_original_basename": ".abcdefgh", "y": 1}"#;
        let mut names = Names::default();
        assert_eq!(&*names.without_own_file(text), text);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ansible-local-1")).unwrap();
        fs::write(dir.path().join("ansible-local-1/.abcdefgh"), "").unwrap();
        names.see_files(dir.path());
        assert!(names.without_own_file(text).windows(9).any(|it| it == b".rootbld0"));
    }
}
