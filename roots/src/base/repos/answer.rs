//! What a request is answered with.

use std::io::{self, Read, Write as _};
use std::sync::PoisonError;
use std::thread;

use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::{mpsc, oneshot};

use super::super::fetch::{self, FetchError, Patience, Raw};
use super::Shared;
use super::kept::{Content, Entry, hex};
use super::url::Url;

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// The largest file that is fetched, in bytes.
const LARGEST: u64 = 16 << 30;

/// So much of a list of mirrors is read, in bytes.
const LARGEST_LIST: u64 = 4 << 20;

/// How often a server may send on.
const REDIRECTIONS: usize = 5;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Connect,
    Other,
}

/// What comes before a body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) length: Option<u64>,
}

/// Where an answer goes.
pub(super) struct Reply {
    head: Option<oneshot::Sender<Head>>,
    body: mpsc::Sender<io::Result<Bytes>>,
}

/// The client is gone.
struct Gone;

impl Reply {
    pub(super) fn new(head: oneshot::Sender<Head>, body: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self { head: Some(head), body }
    }

    fn head(&mut self, head: Head) {
        if let Some(sender) = self.head.take() {
            let _ = sender.send(head);
        }
    }

    fn chunk(&self, chunk: impl Into<Bytes>) -> Result<(), Gone> {
        self.body.blocking_send(Ok(chunk.into())).map_err(|_| Gone)
    }

    /// A whole answer in words.
    fn words(mut self, status: u16, text: &str) {
        let text = format!("rootbuild: {text}\n");
        let fields = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        self.head(Head { status, fields, length: Some(text.len() as u64) });
        let _ = self.chunk(text);
    }

    /// Ends a body before its end.
    fn cut(self) {
        let _ = self.body.blocking_send(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
}

fn fields(content: &Content) -> Vec<(&'static str, String)> {
    let Content { etag, modified, kind, .. } = content;
    let all = [("content-type", kind), ("etag", etag), ("last-modified", modified)];
    all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
}

impl Shared {
    /// Answers a request for `target`, a whole URL. Takes as long as the server does.
    pub(super) fn answer(&self, method: Method, target: &str, reply: Reply) {
        match method {
            Method::Get | Method::Head => {}
            Method::Connect => {
                let root = &self.declared.root;
                let text = format!(
                    "`https://{target}` can't be reached with `network = \"repos\"` of `[root.{root}]`: write \
                     http:// in the root, what is declared as https:// is fetched by https all the same"
                );
                self.problem(&text);
                return reply.words(403, &text);
            }
            Method::Other => return reply.words(405, "repositories are only read: GET and HEAD"),
        }
        let Some(asked) = Url::parse(target) else {
            return reply.words(400, &format!("`{}` is no URL that is served here", target.escape_debug()));
        };
        let Some(url) = self.allowed(&asked) else { return self.refuse(&asked, reply) };
        let known = self.kept.entry(&url);
        if self.declared.offline {
            return match known {
                Some(entry) => self.give_kept(method, &entry, reply),
                None => {
                    let text = format!(
                        "offline, and not in the store: `{url}`; provision once without `--offline`: what is \
                         downloaded is kept for all projects"
                    );
                    self.problem(&text);
                    reply.words(504, &text);
                }
            };
        }
        self.fetch(method, &url, known.as_ref(), reply);
    }

    /// Where a URL is to be had, if it is declared.
    pub(super) fn allowed(&self, url: &Url) -> Option<Url> {
        self.urls.iter().find_map(|declared| url.below(declared)).or_else(|| self.on_mirror(url))
    }

    fn refuse(&self, url: &Url, reply: Reply) {
        let root = &self.declared.root;
        let text = format!(
            "`{url}` isn't below a repository of `[root.{root}]`: if it should be, add its repository, `repos = \
             [\"{}\"]`",
            url.parent()
        );
        self.problem(&text);
        reply.words(403, &text);
    }

    fn problem(&self, text: &str) {
        // Enough to see what is wrong.
        const MOST: usize = 100;
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < MOST {
            problems.insert(text.to_owned());
        }
    }

    /// Answers that a body didn't come.
    fn failed(&self, url: &Url, error: &io::Error, reply: Reply) {
        let text = format!("`{url}` can't be fetched: {}", fetch::words(error));
        self.problem(&text);
        reply.words(502, &text);
    }

    /// Hands a list of mirrors on. What it names is to be asked for by http, since that is all that is served;
    /// it is fetched as the list says.
    fn give_list(&self, entry: &Entry, content: &Content, mut reply: Reply) {
        let mut text = String::new();
        let read = self.kept.open(content).and_then(|file| file.take(LARGEST_LIST).read_to_string(&mut text));
        if let Err(error) = read {
            return reply.words(502, &format!("`{}` can't be read from the store: {error}", entry.url));
        }
        self.note(entry);
        self.learn(&entry.url, &text);
        let text = text.replace("https://", "http://");
        reply.head(Head { status: 200, fields: fields(content), length: Some(text.len() as u64) });
        let _ = reply.chunk(text);
    }

    /// Notes what is about to be handed over.
    fn note(&self, entry: &Entry) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.extend(entry.fetched());
    }

    fn give_kept(&self, method: Method, entry: &Entry, mut reply: Reply) {
        let Some(content) = &entry.content else {
            return reply.words(404, &format!("the server has no `{}`", entry.url));
        };
        if self.is_list(&entry.url) && method == Method::Get {
            return self.give_list(entry, content, reply);
        }
        let file = match self.kept.open(content) {
            Ok(file) => file,
            Err(error) => {
                return reply.words(502, &format!("`{}` can't be read from the store: {error}", entry.url));
            }
        };
        let head = Head { status: 200, fields: fields(content), length: Some(content.size) };
        if method == Method::Head {
            return reply.head(head);
        }
        self.note(entry);
        reply.head(head);
        let mut reader = file.take(content.size);
        loop {
            match chunk(&mut reader) {
                Ok(bytes) if bytes.is_empty() => return,
                Ok(bytes) => {
                    if reply.chunk(bytes).is_err() {
                        return;
                    }
                }
                Err(_) => return reply.cut(),
            }
        }
    }

    /// Asks the server, and hands on what it says.
    fn fetch(&self, method: Method, url: &Url, known: Option<&Entry>, reply: Reply) {
        let mut at = url.clone();
        for _ in 0..=REDIRECTIONS {
            let raw = match self.ask(&at, known) {
                Ok(raw) => raw,
                Err(error) => {
                    let text = format!("`{at}` can't be fetched: {error}");
                    self.problem(&text);
                    return reply.words(502, &text);
                }
            };
            match (raw.status, known) {
                (200, _) => return self.hand_on(method, url, raw, reply),
                (304, Some(entry)) => return self.give_kept(method, entry, reply),
                (404 | 410, _) => {
                    let entry = Entry { url: url.to_string(), content: None };
                    if let Err(error) = self.kept.add(url, &entry, None) {
                        tracing::warn!(%error, "what a server has not can't be kept");
                    }
                    return reply.words(404, &format!("the server has no `{url}`"));
                }
                (301 | 302 | 303 | 307 | 308, _) => {
                    let Some(next) = raw.header("location").and_then(|location| at.join(location)) else {
                        return reply.words(502, &format!("the server sends on from `{at}` to nowhere"));
                    };
                    match self.allowed(&next) {
                        Some(next) => at = next,
                        None => return self.refuse(&next, reply),
                    }
                }
                (status, _) => {
                    let text = format!("`{at}` can't be fetched: the server says {status}");
                    self.problem(&text);
                    return reply.words(502, &text);
                }
            }
        }
        reply.words(502, &format!("the server sends on from `{url}` too often"));
    }

    /// Asks for a URL; for another version than the one known, if there is one.
    fn ask(&self, url: &Url, known: Option<&Entry>) -> Result<Raw, FetchError> {
        let mut headers = Vec::new();
        if let Some(content) = known.and_then(|entry| entry.content.as_ref()) {
            // A date is a second long: what changed twice in one is told by nothing but its tag.
            match (&content.etag, &content.modified) {
                (Some(etag), _) => headers.push(("If-None-Match", etag.as_str())),
                (None, Some(modified)) => headers.push(("If-Modified-Since", modified.as_str())),
                (None, None) => {}
            }
        }
        let text = url.to_string();
        let from = self.declared.mirror.as_ref().map_or_else(|| text.clone(), |it| it.of(&text).into_owned());
        let (mut pause, mut round) = (Patience::default().pause, 1);
        loop {
            match fetch::ask(&from, &self.agent, &headers) {
                Ok(raw) if !matches!(raw.status, 408 | 425 | 429 | 500..) || round == fetch::TRIES => {
                    return Ok(raw);
                }
                Err(error) if matches!(error, FetchError::Lasting(_)) || round == fetch::TRIES => {
                    return Err(error);
                }
                _ => {}
            }
            thread::sleep(pause);
            pause *= 3;
            round += 1;
        }
    }

    /// Hands a body on while it comes, and keeps it. Its end is handed on when it is kept and noted.
    fn hand_on(&self, method: Method, url: &Url, raw: Raw, mut reply: Reply) {
        let text = |name: &str| raw.header(name).map(str::to_owned);
        let length = raw.header("content-length").and_then(|length| length.trim().parse::<u64>().ok());
        let mut content = Content {
            sha256: String::new(),
            size: 0,
            etag: text("etag"),
            modified: text("last-modified"),
            kind: text("content-type"),
        };
        let head = Head { status: 200, fields: fields(&content), length };
        if method == Method::Head {
            return reply.head(head);
        }
        if self.is_list(&url.to_string()) {
            let kept = self.keep(url, raw, length, &mut content, &mut |_| Ok(()));
            let entry = Entry { url: url.to_string(), content: Some(content) };
            return match kept {
                Ok(_) => self.give_kept(method, &entry, reply),
                Err(error) => self.failed(url, &error, reply),
            };
        }
        let mut head = Some(head);
        let kept = self.keep(url, raw, length, &mut content, &mut |chunk| {
            if let Some(head) = head.take() {
                reply.head(head);
            }
            reply.chunk(chunk)
        });
        match kept {
            Ok(Some(last)) => {
                if let Some(head) = head.take() {
                    reply.head(head);
                }
                let _ = reply.chunk(last);
            }
            // The client is gone.
            Ok(None) => {}
            Err(error) => {
                if head.is_some() {
                    self.failed(url, &error, reply);
                } else {
                    self.problem(&format!("`{url}` can't be fetched: {}", fetch::words(&error)));
                    reply.cut();
                }
            }
        }
    }

    /// Keeps a body; all of it but the last chunk, which is the result, goes to `hand` meanwhile.
    fn keep(
        &self,
        url: &Url,
        raw: Raw,
        length: Option<u64>,
        content: &mut Content,
        hand: &mut dyn FnMut(Vec<u8>) -> Result<(), Gone>,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut reader = raw.reader;
        let mut file = NamedTempFile::new_in(&self.scratch)?;
        let mut hasher = Sha256::new();
        let mut last = Vec::new();
        loop {
            let next = chunk(&mut reader)?;
            if next.is_empty() {
                break;
            }
            content.size += next.len() as u64;
            if content.size > LARGEST {
                return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
            }
            hasher.update(&next);
            file.write_all(&next)?;
            let before = std::mem::replace(&mut last, next);
            if !before.is_empty() && hand(before).is_err() {
                return Ok(None);
            }
        }
        if length.is_some_and(|length| length != content.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.sha256 = hex(hasher);
        let entry = Entry { url: url.to_string(), content: Some(content.clone()) };
        self.kept.add(url, &entry, Some(file))?;
        self.note(&entry);
        Ok(Some(last))
    }
}

/// What can be read next; nothing at the end.
fn chunk(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; CHUNK];
    loop {
        match reader.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                bytes.truncate(read?);
                return Ok(bytes);
            }
        }
    }
}
