//! Connections of Ansible's workers: one thread each, one request at a time.

use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::answer::refuse;
use super::broker::{Broker, Refused};
use super::request::Request;
use super::wire::{self, Kind};
use crate::run::Listener;

impl Broker<'_> {
    /// Serves connections until `closing` is set and the listener woken; then ends those that there are.
    pub(crate) fn serve(&self, listener: &Listener, spool: &Path, closing: &AtomicBool) {
        let number = AtomicU64::new(0);
        thread::scope(|scope| {
            while let Ok(stream) = listener.accept() {
                if closing.load(Ordering::SeqCst) {
                    break;
                }
                let number = number.fetch_add(1, Ordering::Relaxed);
                let Ok(ours) = stream.try_clone() else { continue };
                self.clients().insert(number, ours);
                scope.spawn(move || {
                    if let Err(error) = self.converse(stream, spool) {
                        tracing::debug!(%error, "a connection of Ansible's ended");
                    }
                    self.clients().remove(&number);
                });
            }
            for client in self.clients().values() {
                let _ = client.shutdown(Shutdown::Both);
            }
        });
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<u64, UnixStream>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, stream: UnixStream, spool: &Path) -> io::Result<()> {
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::with_capacity(wire::CHUNK, stream);
        let Some(hello) = wire::read(&mut reader)? else { return Ok(()) };
        let asked: Value = hello.parse()?;
        if hello.kind != Kind::Hello || asked.get("protocol") != Some(&json!(wire::PROTOCOL)) {
            return refuse(&mut writer, &format!("this agent speaks protocol {}", wire::PROTOCOL));
        }
        wire::send(&mut writer, Kind::Hello, &json!({"protocol": wire::PROTOCOL}))?;
        while let Some(request) = Request::read(&mut reader, spool)? {
            match self.request(request, &writer) {
                Ok(Some(frames)) => writer.write_all(&frames)?,
                Ok(None) => {}
                // There is no answer: Ansible sees that the connection is lost.
                Err(Refused) => break,
            }
        }
        writer.shutdown(Shutdown::Both)
    }
}
