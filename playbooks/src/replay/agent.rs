//! Our end of a connection to the agent in the root.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::Pid;
use serde::Deserialize;

use super::answer::{Answer, LONGEST, Watched};
use super::request::Data;
use super::wire::{self, HEADER, Kind};

/// More output of one command than anybody can want; it ends the connection.
const TOO_LONG: usize = 1 << 30;

/// A connection that was greeted.
#[derive(Debug)]
pub(super) struct Agent {
    stream: UnixStream,
    /// Received, and not yet a whole frame.
    buffer: Vec<u8>,
    /// What the root's volatile directories were when the agent began.
    pub(super) pristine: Option<String>,
}

/// How a request went.
pub(super) enum Ended {
    /// The whole answer.
    Answer(Answer),
    /// It was so long that it was handed on as it came.
    Streamed,
}

/// The agent's greeting.
#[derive(Debug, Deserialize)]
struct Hello {
    #[serde(default)]
    volatile: Option<String>,
}

impl Agent {
    /// Connects to the socket `name` in `dir`, in which the root can do what it likes: to nothing but a
    /// socket that is ours, whatever links there are.
    pub(super) fn connect(dir: &OwnedFd, name: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&socket)?;
        let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        if !is_socket || stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no socket of the agent's"));
        }
        let mut stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
        wire::send(
            &mut stream,
            Kind::Hello,
            &serde_json::json!({"protocol": wire::PROTOCOL, "watch": true}),
        )?;
        let answer = wire::read(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if answer.kind != Kind::Hello {
            return Err(wire::odd("the agent doesn't greet"));
        }
        let Hello { volatile } = answer.parse()?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: Vec::new(), pristine: volatile })
    }

    /// The process that listens at the other end.
    pub(super) fn peer(&self) -> io::Result<Pid> {
        Ok(rustix::net::sockopt::socket_peercred(&self.stream)?.pid)
    }

    /// Sends a request (its head, its data) and takes its answer, both at the same time. `client` is who
    /// asks: when it hangs up, this ends with an error. Too long an answer goes to it at once.
    pub(super) fn ask(
        &mut self,
        head: Vec<u8>,
        mut data: Data<'_>,
        client: Option<&UnixStream>,
    ) -> io::Result<Ended> {
        self.converse(head, &mut || data.next(), client)
    }

    /// The root's volatile state as one image, and its digest; an error's text where it can't be saved.
    pub(super) fn save(&mut self) -> io::Result<Result<(Vec<u8>, String), String>> {
        let mut head = Vec::new();
        wire::frame(&mut head, Kind::Save, b"");
        let ended = self.converse(head, &mut || Ok(None), None)?;
        let Ended::Answer(answer) = ended else { return Ok(Err("it is too large".to_owned())) };
        let body: serde_json::Value = serde_json::from_slice(&answer.last)?;
        let text = |key: &str| body.get(key).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
        Ok(if answer.done { Ok((answer.out, text("digest"))) } else { Err(text("message")) })
    }

    /// Puts back such an image; tells what the state is now called.
    pub(super) fn restore(&mut self, image: &[u8]) -> io::Result<Option<String>> {
        let mut head = Vec::new();
        wire::frame(&mut head, Kind::Restore, b"");
        wire::pieces(&mut head, Kind::Data, image);
        wire::frame(&mut head, Kind::End, b"");
        let ended = self.converse(head, &mut || Ok(None), None)?;
        match ended {
            Ended::Answer(answer) if answer.done => Ok(self.look()?.volatile),
            Ended::Answer(answer) => Err(wire::odd(String::from_utf8_lossy(&answer.last).into_owned())),
            Ended::Streamed => Err(wire::odd("too long an answer")),
        }
    }

    /// What requests have left in the root.
    pub(super) fn look(&mut self) -> io::Result<Watched> {
        let mut request = Vec::new();
        wire::frame(&mut request, Kind::Look, b"");
        // Some bytes, which a socket that holds nothing else takes at once.
        self.stream.write_all(&request)?;
        loop {
            self.wait(false, None)?;
            if let Some(frame) = self.receive()?.pop() {
                return match frame.kind {
                    Kind::Look => frame.parse(),
                    _ => Err(wire::odd("a frame that tells nothing of the root")),
                };
            }
        }
    }

    /// Takes what an agent may say, whatever was asked.
    pub(super) fn fuzz(said: &[u8]) -> io::Result<()> {
        let (stream, mut other) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        // As much as the socket takes.
        let _ = other.write(said)?;
        other.shutdown(std::net::Shutdown::Write)?;
        let mut agent = Self { stream, buffer: Vec::new(), pristine: None };
        let mut head = Vec::new();
        wire::frame(&mut head, Kind::Exec, b"{}");
        if let Ended::Answer(answer) = agent.converse(head, &mut || Ok(None), None)? {
            let _ = (answer.is_finished(), answer.encode());
        }
        agent.look().map(drop)
    }

    fn converse(
        &mut self,
        head: Vec<u8>,
        data: &mut dyn FnMut() -> io::Result<Option<Vec<u8>>>,
        client: Option<&UnixStream>,
    ) -> io::Result<Ended> {
        let (mut unsent, mut sent) = (head, 0);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut last: Option<(bool, Vec<u8>)> = None;
        let is_get = unsent.first() == Some(&b'G');
        let mut streamed = false;
        loop {
            // The request first, as far as it is taken.
            while sent < unsent.len() {
                match self.stream.write(&unsent[sent..]) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                if sent == unsent.len()
                    && let Some(more) = data()?
                {
                    (unsent, sent) = (more, 0);
                }
            }
            if sent == unsent.len()
                && let Some((done, body)) = last.take()
            {
                let answer = Answer::of(out, err, done, &body)?;
                if !streamed {
                    return Ok(Ended::Answer(answer));
                }
                if let Some(mut client) = client {
                    let mut frames = Vec::new();
                    wire::pieces(&mut frames, Kind::Out, &answer.out);
                    let kind = if done { Kind::Status } else { Kind::Failure };
                    wire::frame(&mut frames, kind, &answer.last);
                    client.write_all(&frames)?;
                }
                return Ok(Ended::Streamed);
            }
            self.wait(sent < unsent.len(), client)?;
            for frame in self.receive()? {
                match frame.kind {
                    Kind::Out => out.extend_from_slice(&frame.payload),
                    Kind::Err => err.extend_from_slice(&frame.payload),
                    Kind::Status | Kind::Failure if last.is_none() => {
                        last = Some((frame.kind == Kind::Status, frame.payload));
                    }
                    _ => return Err(wire::odd("a frame that is no answer")),
                }
            }
            if out.len() + err.len() > TOO_LONG {
                return Err(wire::odd("the answer is too long"));
            }
            // Only files are handed on as they come: a command's output has names to replace.
            if is_get && out.len() > LONGEST {
                streamed = true;
                if let Some(mut client) = client {
                    let mut frames = Vec::new();
                    wire::pieces(&mut frames, Kind::Out, &out);
                    client.write_all(&frames)?;
                }
                out.clear();
            }
        }
    }

    /// Waits until there is something to do. Who waits for an answer says nothing: if its end of the
    /// connection can be read, it has hung up.
    fn wait(&self, writing: bool, client: Option<&UnixStream>) -> io::Result<()> {
        let mut events = PollFlags::IN;
        if writing {
            events |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(&self.stream, events)];
        fds.extend(client.map(|client| PollFd::new(client, PollFlags::IN | PollFlags::RDHUP)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds.get(1).is_some_and(|client| !client.revents().is_empty()) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "nobody waits for the answer"));
        }
        Ok(())
    }

    /// The frames that have come.
    fn receive(&mut self) -> io::Result<Vec<wire::Frame>> {
        let mut piece = vec![0; 1 << 18];
        match self.stream.read(&mut piece) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent is gone")),
            Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some(start) = self.buffer[at..].first_chunk::<HEADER>() {
            let (kind, length) = wire::header(start)?;
            let Some(payload) = self.buffer.get(at + HEADER..at + HEADER + length) else { break };
            frames.push(wire::Frame { kind, payload: payload.to_vec() });
            at += HEADER + length;
        }
        self.buffer.drain(..at);
        Ok(frames)
    }
}

/// Opens a directory to connect through.
pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(OwnedFd::from(File::open(path)?))
}
