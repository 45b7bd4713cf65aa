//! Frames of the agent's protocol (`playbooks/plugins/PROTOCOL.md`): a type byte, a big-endian length,
//! a payload.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The protocol's version.
pub(super) const PROTOCOL: u64 = 1;

/// Nobody sends a longer payload; a longer one ends the conversation.
pub(super) const LIMIT: usize = 1 << 20;

/// Data is cut into pieces of this size.
pub(super) const CHUNK: usize = 1 << 16;

/// Bytes before a payload.
pub(super) const HEADER: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hello,
    Exec,
    Put,
    Get,
    Data,
    End,
    Out,
    Err,
    Status,
    Failure,
    Save,
    Restore,
    Look,
}

impl Kind {
    const ALL: [(u8, Self); 13] = [
        (b'H', Self::Hello),
        (b'X', Self::Exec),
        (b'P', Self::Put),
        (b'G', Self::Get),
        (b'D', Self::Data),
        (b'E', Self::End),
        (b'O', Self::Out),
        (b'R', Self::Err),
        (b'S', Self::Status),
        (b'F', Self::Failure),
        (b'V', Self::Save),
        (b'U', Self::Restore),
        (b'N', Self::Look),
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == byte).map(|(_, kind)| *kind)
    }

    fn byte(self) -> u8 {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or(0, |(byte, _)| *byte)
    }
}

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The JSON object that it holds.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.payload).map_err(odd)
    }
}

/// The other side doesn't speak the protocol.
pub(super) fn odd(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Type and payload's length of a frame that begins so.
pub(super) fn header(bytes: &[u8; HEADER]) -> io::Result<(Kind, usize)> {
    let kind = Kind::of(bytes[0]).ok_or_else(|| odd("unknown frame type"))?;
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    if length > LIMIT {
        return Err(odd("a frame is too long"));
    }
    Ok((kind, length))
}

/// The next frame; nothing at the end of the stream.
pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut start = [0; HEADER];
    loop {
        match stream.read(&mut start[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.read_exact(&mut start[1..])?;
    let (kind, length) = header(&start)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(Some(Frame { kind, payload }))
}

/// Appends a frame to `to`. The payload is no longer than [`LIMIT`].
pub(super) fn frame(to: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    to.push(kind.byte());
    to.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(payload);
}

/// Appends data of any length as frames of [`CHUNK`] bytes.
pub(super) fn pieces(to: &mut Vec<u8>, kind: Kind, data: &[u8]) {
    for piece in data.chunks(CHUNK) {
        frame(to, kind, piece);
    }
}

/// Appends a frame with a JSON object.
pub(super) fn message(to: &mut Vec<u8>, kind: Kind, body: &impl Serialize) -> io::Result<()> {
    let payload = serde_json::to_vec(body)?;
    if payload.len() > LIMIT {
        return Err(odd("a frame is too long"));
    }
    frame(to, kind, &payload);
    Ok(())
}

/// Writes one frame with a JSON object.
pub(super) fn send(stream: &mut impl Write, kind: Kind, body: &impl Serialize) -> io::Result<()> {
    let mut bytes = Vec::new();
    message(&mut bytes, kind, body)?;
    stream.write_all(&bytes)
}

/// A byte string as JSON holds it: each character stands for one byte.
pub(super) fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The byte string that JSON held.
pub(super) fn bytes(text: &str) -> io::Result<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| odd("no byte string"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_and_long_ones_are_refused() {
        let mut sent = Vec::new();
        pieces(&mut sent, Kind::Data, &vec![7; CHUNK + 1]);
        frame(&mut sent, Kind::End, b"");
        let mut stream = sent.as_slice();
        let mut lengths = Vec::new();
        while let Some(frame) = read(&mut stream).unwrap() {
            lengths.push((frame.kind, frame.payload.len()));
        }
        assert_eq!(lengths, [(Kind::Data, CHUNK), (Kind::Data, 1), (Kind::End, 0)]);
        assert!(read(&mut [b'D', 0xff, 0, 0, 0].as_slice()).is_err());
        assert!(read(&mut [b'?', 0, 0, 0, 0].as_slice()).is_err());
        assert!(read(&mut [b'D', 0].as_slice()).is_err());
    }

    #[test]
    fn every_byte_string_survives_json() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&latin(&all)).unwrap(), all);
        assert!(bytes("\u{100}").is_err());
    }
}
