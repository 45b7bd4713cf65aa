//! The server's side: HTTP in, HTTP out.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::answer::{Head, Reply};

/// Chunks that may wait for a client.
const WAITING: usize = 4;

/// A proxy at work, until it is dropped.
#[derive(Debug)]
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub(super) fn start(shared: Arc<Shared>, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("repositories".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(shared, listener) => {}
                    _ = stopped => {}
                }
            });
            // Not waited for: a server that doesn't answer must hold nobody up.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: tokio::net::TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, mostly: it passes.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new();
            // That a client goes away is its own affair.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Stream>, io::Error> {
    let (send_head, head) = oneshot::channel();
    let (send_body, body) = mpsc::channel(WAITING);
    let reply = Reply::new(send_head, send_body);
    let method = match *request.method() {
        Method::GET => super::answer::Method::Get,
        Method::HEAD => super::answer::Method::Head,
        Method::CONNECT => super::answer::Method::Connect,
        _ => super::answer::Method::Other,
    };
    let target = request.uri().to_string();
    tokio::task::spawn_blocking(move || shared.answer(method, &target, reply));
    let gone = || io::Error::other("nobody answered");
    let Head { status, fields, length } = head.await.map_err(|_| gone())?;
    let mut response = Response::builder().status(StatusCode::from_u16(status).map_err(io::Error::other)?);
    for (name, value) in fields {
        response = response.header(name, value);
    }
    if let (super::answer::Method::Head, Some(length)) = (method, length) {
        response = response.header("content-length", length);
    }
    response.body(Stream { body, left: length }).map_err(io::Error::other)
}

/// A body as it comes.
struct Stream {
    body: mpsc::Receiver<io::Result<Bytes>>,
    left: Option<u64>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.body.poll_recv(context).map(|chunk| {
            let chunk = chunk?;
            if let (Ok(bytes), Some(left)) = (&chunk, &mut self.left) {
                *left = left.saturating_sub(bytes.len() as u64);
            }
            Some(chunk.map(Frame::data))
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
