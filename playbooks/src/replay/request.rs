//! What Ansible asks of the root, and by what it is known again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem;
use rootbuild_cache::Digest;
use serde::{Deserialize, Serialize};

use super::names::Names;
use super::payload::{self, Payload};
use super::seal::Secret;
use super::wire::{self, Kind};

/// Longer data is kept in a file.
const IN_MEMORY: usize = 4 << 20;

/// What follows a request.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// Data of this length or less is in memory: [`IN_MEMORY`].
    Bytes(Vec<u8>),
    /// Longer data, and its length.
    File(File, u64),
}

/// One request, complete.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    /// The command, or the path.
    pub(super) subject: Vec<u8>,
    pub(super) body: Body,
}

/// The head of a command.
#[derive(Debug, Serialize, Deserialize)]
struct Exec {
    command: String,
    #[serde(default)]
    input: bool,
}

/// The head of a file's transfer.
#[derive(Debug, Serialize, Deserialize)]
struct Transfer {
    path: String,
}

/// By what a request is known, and what its answer is sealed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Of the request and the number of times that it was asked before in the same state.
    pub(super) digest: Digest,
    /// Of the request alone.
    pub(super) request: Digest,
    pub(super) seal: [u8; 32],
}

impl Request {
    /// The next request of a client, with Ansible's names; nothing when it hangs up. `spool` is a
    /// directory for long data.
    pub(super) fn read(stream: &mut impl Read, spool: &Path) -> io::Result<Option<Self>> {
        let Some(head) = wire::read(stream)? else { return Ok(None) };
        let (subject, has_data) = match head.kind {
            Kind::Exec => {
                let Exec { command, input } = head.parse()?;
                (command, input)
            }
            Kind::Put | Kind::Get => (head.parse::<Transfer>()?.path, head.kind == Kind::Put),
            _ => return Err(wire::odd("a frame that is no request")),
        };
        let body = if has_data { data(stream, spool)? } else { Body::None };
        Ok(Some(Self { kind: head.kind, subject: wire::bytes(&subject)?, body }))
    }

    /// The same request once more, if that can be had.
    pub(super) fn twin(&self) -> Option<Self> {
        let body = match &self.body {
            Body::None => Body::None,
            Body::Bytes(bytes) => Body::Bytes(bytes.clone()),
            Body::File(file, length) => Body::File(file.try_clone().ok()?, *length),
        };
        Some(Self { kind: self.kind, subject: self.subject.clone(), body })
    }

    /// The request with the journals' names.
    pub(super) fn canonical(mut self, names: &mut Names, state: Option<&Digest>) -> Self {
        self.subject = names.learn(&self.subject, state);
        let is_text = self.kind == Kind::Exec || self.is_module_file();
        if let (true, Body::Bytes(body)) = (is_text, &mut self.body) {
            let ours = |part: &[u8]| names.without_own_file(&names.inward(part)).into_owned();
            *body = match Payload::of(body) {
                Some(Payload { before, zip, after }) => [&ours(before), zip, &ours(after)].concat(),
                None => ours(body),
            };
        }
        self
    }

    /// Whether a file is put that is a module, its arguments or a script: in a temporary directory of
    /// Ansible's, and not under the name that it gives copied files there.
    fn is_module_file(&self) -> bool {
        let mut parts = self.subject.rsplit(|byte| *byte == b'/');
        let (name, dir) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_copied = name.strip_prefix(b".").unwrap_or(name).starts_with(b"source");
        self.kind == Kind::Put && dir.starts_with(b"ansible-tmp-") && !is_copied
    }

    /// Whether it only asks how far a job is that runs on.
    pub(super) fn is_poll(&self) -> bool {
        let Body::Bytes(body) = &self.body else { return false };
        let has = |text: &[u8]| memmem::find(body, text).is_some();
        self.kind == Kind::Exec
            && has(b"async_status\", ")
            && has(b"\"jid\": ")
            && !has(b"\"mode\": \"cleanup\"")
    }

    /// What it is, in words that tell nothing of its content.
    pub(super) fn what(&self) -> &'static str {
        match self.kind {
            Kind::Exec => "another command or module",
            Kind::Put => "another file to write",
            _ => "another file to read",
        }
    }

    /// By what it is known. The request must be canonical. `asked` tells how often one was asked in this
    /// state already: who asks twice (for a random number, say) may be answered in two ways.
    pub(super) fn identity(
        &self,
        secret: &Secret,
        state: &Digest,
        asked: impl FnOnce(&Digest) -> u64,
    ) -> io::Result<Identity> {
        let mut hasher = secret.requests();
        let mut field = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        };
        field(match self.kind {
            Kind::Exec => b"exec",
            Kind::Put => b"put",
            _ => b"get",
        });
        field(&self.subject);
        match &self.body {
            Body::None => field(b"no data"),
            Body::Bytes(bytes) => {
                match Payload::of(bytes).filter(|_| self.kind == Kind::Exec || self.is_module_file()) {
                    Some(Payload { before, zip, after }) => {
                        field(b"payload");
                        payload::without_date(before).iter().for_each(|part| field(part));
                        field(payload::content(zip).as_bytes());
                        payload::without_date(after).iter().for_each(|part| field(part));
                    }
                    None => {
                        field(b"data");
                        field(bytes);
                    }
                }
            }
            Body::File(file, length) => {
                field(b"data");
                hasher.update(&length.to_le_bytes());
                let mut reader = At { file, at: 0 };
                io::copy(&mut reader, &mut hasher)?;
            }
        }
        let mut both = [[0; 32]; 2];
        let mut output = hasher.finalize_xof();
        output.fill(&mut both[0]);
        output.fill(&mut both[1]);
        let seal = secret.sealing(state, &both[1]);
        let request = Digest::from_bytes(both[0]);
        // How often somebody looks after a job is of no importance.
        let asked = if self.is_poll() { 0 } else { asked(&request) };
        Ok(Identity { digest: super::state::repeated(&request, asked), request, seal })
    }

    /// Its head as a frame, with the root's names.
    pub(super) fn head(&self, names: &Names) -> io::Result<Vec<u8>> {
        let subject = wire::latin(&names.to_root(&self.subject));
        let mut head = Vec::new();
        match self.kind {
            Kind::Exec => {
                let input = !matches!(self.body, Body::None);
                wire::message(&mut head, self.kind, &Exec { command: subject, input })?;
            }
            kind => wire::message(&mut head, kind, &Transfer { path: subject })?,
        }
        Ok(head)
    }

    /// Its data as frames, piece by piece, with the root's names.
    pub(super) fn data(&self, names: &Names) -> Data<'_> {
        let body = match &self.body {
            Body::Bytes(bytes) if self.kind == Kind::Exec || self.is_module_file() => {
                Source::Owned(names.to_root(bytes).into_owned(), 0)
            }
            Body::Bytes(bytes) => Source::Borrowed(bytes),
            Body::File(file, _) => Source::File(At { file, at: 0 }),
            Body::None => Source::Done,
        };
        Data(body)
    }
}

/// The frames of a request's data.
pub(super) struct Data<'a>(Source<'a>);

enum Source<'a> {
    Owned(Vec<u8>, usize),
    Borrowed(&'a [u8]),
    File(At<'a>),
    Done,
}

impl Data<'_> {
    /// The next frames, no more than some; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        const AT_ONCE: usize = 4 * wire::CHUNK;
        let mut frames = Vec::new();
        match &mut self.0 {
            Source::Done => return Ok(None),
            Source::Owned(bytes, at) => {
                let to = bytes.len().min(*at + AT_ONCE);
                wire::pieces(&mut frames, Kind::Data, &bytes[*at..to]);
                *at = to;
            }
            Source::Borrowed(bytes) => {
                let (now, later) = bytes.split_at(bytes.len().min(AT_ONCE));
                wire::pieces(&mut frames, Kind::Data, now);
                *bytes = later;
            }
            Source::File(file) => {
                let mut piece = Vec::with_capacity(AT_ONCE);
                file.take(AT_ONCE as u64).read_to_end(&mut piece)?;
                wire::pieces(&mut frames, Kind::Data, &piece);
            }
        }
        if frames.is_empty() {
            wire::frame(&mut frames, Kind::End, b"");
            self.0 = Source::Done;
        }
        Ok(Some(frames))
    }
}

/// Reads a file from a place of its own.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Reads data up to its end.
fn data(stream: &mut impl Read, spool: &Path) -> io::Result<Body> {
    let mut bytes = Vec::new();
    let mut file: Option<(File, u64)> = None;
    loop {
        let frame = wire::read(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match frame.kind {
            Kind::Data => bytes.extend_from_slice(&frame.payload),
            Kind::End => break,
            _ => return Err(wire::odd("a frame in the middle of a request")),
        }
        if bytes.len() > IN_MEMORY {
            let (file, length) = match &mut file {
                Some(there) => there,
                None => file.insert((tempfile::tempfile_in(spool)?, 0)),
            };
            file.write_all(&bytes)?;
            *length += bytes.len() as u64;
            bytes.clear();
        }
    }
    match file {
        None => Ok(Body::Bytes(bytes)),
        Some((mut file, length)) => {
            file.write_all(&bytes)?;
            Ok(Body::File(file, length + bytes.len() as u64))
        }
    }
}
