//! What the engine shows over HTTP: the metrics page, and on request its TCP connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::connections::{self, Requests};

/// The content type that scrapers know the format of metrics by.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Time that a client has to send its request and take the answer: one that does neither must not stay.
const LIMIT: Duration = Duration::from_secs(5);

/// A socket that clients connect to.
pub(super) type Listener = TcpListener;

/// Opens the socket.
pub(super) async fn bind(address: SocketAddr) -> std::io::Result<Listener> {
    TcpListener::bind(address).await
}

/// The next client; waits for ever if there is no socket, and gives `None` for one that was gone at once.
pub(super) async fn accept(listener: Option<&Listener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Answers a client on the side: with `metrics`, or with what the workers say about their connections.
pub(super) fn answer(stream: TcpStream, metrics: String, workers: Requests) {
    let metrics = Bytes::from(metrics);
    let service = service_fn(move |request: Request<Incoming>| {
        let (metrics, workers) = (metrics.clone(), Requests::clone(&workers));
        async move { Ok::<_, Infallible>(respond(&request, metrics, workers).await) }
    });
    tokio::spawn(tokio::time::timeout(LIMIT, async move {
        let mut http = hyper::server::conn::http1::Builder::new();
        // The page is of this moment: a scraper that asks again is to connect again.
        http.keep_alive(false);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!("a client of the metrics went away: {error}");
        }
    }));
}

async fn respond(request: &Request<Incoming>, metrics: Bytes, workers: Requests) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        "/metrics" | "/" => (StatusCode::OK, OPEN_METRICS, metrics),
        "/connections" => match connections::ask(&workers).await {
            Some(listings) if request.uri().query() == Some("json") => {
                (StatusCode::OK, JSON, connections::json(&listings).into())
            }
            Some(listings) => (StatusCode::OK, TEXT, connections::table(&listings).into()),
            None => (StatusCode::SERVICE_UNAVAILABLE, TEXT, Bytes::from_static(b"the workers are busy: ask again\n")),
        },
        _ => {
            let known = b"metrics are at /metrics, TCP connections at /connections and /connections?json\n";
            (StatusCode::NOT_FOUND, TEXT, Bytes::from_static(known))
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
