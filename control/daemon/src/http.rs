//! The HTTP side of metrics: `/metrics` and `/healthz`, served by hyper. What is served is made in
//! `metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::server::Message;

/// Scrapers at one time. One Prometheus, its twin and a few humans; more wait in the accept queue.
const CLIENTS_MAX: usize = 16;
/// How long a client may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one exchange may take in all: clients that ask and never read would otherwise hold
/// every place for ever.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot serve metrics on {address}"))
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, messages: mpsc::Sender<Message>) {
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "cannot accept a metrics client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let messages = messages.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, messages.clone()));
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .keep_alive(false)
                .header_read_timeout(HEAD_TIMEOUT);
            let exchange = server.serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "metrics client"),
                Err(_elapsed) => tracing::debug!("a metrics client took too long"),
            }
            drop(slot);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    messages: mpsc::Sender<Message>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(page(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"));
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let (reply, page_of) = oneshot::channel();
            let asked = messages.send(Message::Scrape(reply)).await;
            match (asked, page_of.await) {
                (Ok(()), Ok(Ok(metrics))) => page(StatusCode::OK, metrics),
                (Ok(()), Ok(Err(error))) => {
                    page(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
                }
                _ => page(StatusCode::SERVICE_UNAVAILABLE, "control is stopping\n"),
            }
        }
        "/healthz" => {
            let (reply, complaints) = oneshot::channel();
            let asked = messages.send(Message::Health(reply)).await;
            match (asked, complaints.await) {
                (Ok(()), Ok(complaints)) if complaints.is_empty() => page(StatusCode::OK, "ok\n"),
                (Ok(()), Ok(complaints)) => page(
                    StatusCode::SERVICE_UNAVAILABLE,
                    complaints.join("\n") + "\n",
                ),
                _ => page(StatusCode::SERVICE_UNAVAILABLE, "control is stopping\n"),
            }
        }
        _ => page(StatusCode::NOT_FOUND, "/metrics or /healthz\n"),
    })
}

fn page(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let text = hyper::header::HeaderValue::from_static(prometheus::TEXT_FORMAT);
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}
