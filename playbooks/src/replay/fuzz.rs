//! What the fuzz targets run (`fuzz/`): each takes any bytes, and panics if a promise is broken. Not for
//! anything else.

use std::path::PathBuf;
use std::sync::OnceLock;

use rootbuild_cache::Digest;

use super::agent::Agent;
use super::answer::Answer;
use super::journal;
use super::names::Names;
use super::payload;
use super::request::Request;
use super::wire;

/// What comes over a connection of the agent's protocol, in either direction.
///
/// # Panics
/// A frame isn't the same after it was sent.
pub fn agent(data: &[u8]) {
    let mut stream = data;
    while let Ok(Some(frame)) = wire::read(&mut stream) {
        let mut sent = Vec::new();
        wire::frame(&mut sent, frame.kind, &frame.payload);
        let again = wire::read(&mut sent.as_slice());
        assert!(
            matches!(again, Ok(Some(again)) if (again.kind, &again.payload) == (frame.kind, &frame.payload))
        );
    }
    requests(data);
    // What an agent may send instead of answers.
    let _ = Agent::fuzz(data);
}

fn requests(data: &[u8]) {
    static SPOOL: OnceLock<PathBuf> = OnceLock::new();
    let spool = SPOOL.get_or_init(std::env::temp_dir);
    let state = Digest::of(b"state");
    let mut names = Names::default();
    let mut stream = data;
    while let Ok(Some(request)) = Request::read(&mut stream, spool) {
        let request = request.canonical(&mut names, Some(&state));
        let _ = (request.is_poll(), request.head(&names));
        let mut data = request.data(&names);
        while let Ok(Some(_)) = data.next() {}
        if let Ok(answer) = Answer::of(stream.to_vec(), Vec::new(), true, b"{}") {
            let answer = answer.canonical(&request, &mut names);
            let _ = (answer.is_finished(), answer.agrees(&answer), answer.send(&request, &names));
        }
    }
}

/// The entries of a journal, and what stands in them.
///
/// # Panics
/// An entry isn't the same after it was written.
pub fn journal(data: &[u8]) {
    let mut rest = data;
    while let Some(entry) = journal::decode(&mut rest) {
        let mut written = Vec::new();
        journal::encode(&mut written, &entry);
        assert_eq!(journal::decode(&mut written.as_slice()), Some(entry));
    }
    if let Some(answer) = Answer::decode(data) {
        assert_eq!(answer.encode(), data);
    }
    if let Some(payload) = payload::Payload::of(data) {
        let _ = payload::content(payload.zip);
        let _ = (payload::without_date(payload.before), payload::without_date(payload.after));
    }
    let _ = payload::content(data);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rootbuild_cache::fuzz::smoke;

    use super::*;

    const MOMENT: Duration = Duration::from_secs(1);

    #[test]
    fn what_an_agent_may_say_at_random_harms_nobody() {
        smoke("agent", 20_000, MOMENT, agent);
    }

    #[test]
    fn journals_made_at_random_harm_nobody() {
        smoke("journal", 20_000, MOMENT, journal);
    }
}
