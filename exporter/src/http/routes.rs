//! What each path answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use record::Snapshot;
use serde::Deserialize;
use tokio::sync::watch;

use super::{ExportStats, Failure, Role};
use crate::encode::{Format, encode};
use crate::{Encoding, status};

/// What handlers share. All on one thread; the locks are never contended.
pub(super) struct App {
    encoding: Encoding,
    stale_after: Duration,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stats: Arc<ExportStats>,
    changed: Mutex<Instant>,
    cache: Mutex<Option<Encoded>>,
}

/// Bodies of the newest snapshot, shared by all who scrape it: a flood of scrapes costs
/// one encoding per tick, and stuck ones hold one body between them.
struct Encoded {
    snapshot: Arc<Snapshot>,
    text: Option<Bytes>,
    protobuf: Option<Bytes>,
}

impl App {
    pub(super) fn new(
        encoding: Encoding,
        stale_after: Duration,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        stats: Arc<ExportStats>,
    ) -> Arc<Self> {
        Arc::new(Self {
            encoding,
            stale_after,
            snapshots,
            stats,
            changed: Mutex::new(Instant::now()),
            cache: Mutex::new(None),
        })
    }

    /// Notes when snapshots come.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut snapshots = self.snapshots.clone();
        while snapshots.changed().await.is_ok() {
            *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            // A body of many targets is large: not kept from one scrape to the next.
            *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Why measuring cannot be trusted to go on; empty: it goes on.
    fn stale(&self) -> Option<String> {
        let since = self
            .changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        (since > self.stale_after).then(|| {
            format!(
                "the publisher has published nothing for {} s",
                since.as_secs()
            )
        })
    }

    fn body(&self, format: Format) -> Option<Bytes> {
        let snapshot = self.newest();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = cache
            .as_ref()
            .is_some_and(|cached| Arc::ptr_eq(&cached.snapshot, &snapshot));
        if !fresh {
            *cache = None;
        }
        let cached = cache.get_or_insert_with(|| Encoded {
            snapshot: Arc::clone(&snapshot),
            text: None,
            protobuf: None,
        });
        let slot = match format {
            Format::Text => &mut cached.text,
            Format::Protobuf => &mut cached.protobuf,
        };
        if slot.is_none() {
            let begin = Instant::now();
            let body = encode(&snapshot, &self.encoding, &self.stats, format).ok()?;
            self.stats.encoded(begin.elapsed());
            *slot = Some(body.into());
        }
        slot.clone()
    }
}

pub(super) fn router(app: Arc<App>, role: Role) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz));
    match role {
        Role::Metrics => router,
        Role::Full => router
            .route("/", get(page))
            .route("/api/v1/status", get(api_status))
            .route("/api/v1/events", get(api_events)),
    }
    .with_state(app)
}

async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    // Several Accept headers mean the same as one with commas.
    let accept: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = Format::negotiate(&accept.join(","));
    // Counted before encoding, so that a scrape shows itself.
    app.stats.scraped(format);
    match app.body(format) {
        Some(body) => (
            [
                (header::CONTENT_TYPE, format.content_type()),
                (header::VARY, "Accept"),
            ],
            body,
        )
            .into_response(),
        None => {
            app.stats.fail(Failure::Encode);
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "cannot encode the snapshot\n",
            )
                .into_response()
        }
    }
}

fn verdict(reasons: &[String], good: &'static str) -> Response {
    if reasons.is_empty() {
        return (StatusCode::OK, good).into_response();
    }
    let mut text = reasons.join("\n");
    text.push('\n');
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn healthz(State(app): State<Arc<App>>) -> Response {
    let reasons: Vec<String> = app.stale().into_iter().collect();
    verdict(&reasons, "healthy\n")
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    let mut reasons: Vec<String> = app.newest().unready().collect();
    reasons.extend(app.stale());
    verdict(&reasons, "ready\n")
}

fn json(value: &serde_json::Value) -> Response {
    let mut text = value.to_string();
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn api_status(State(app): State<Arc<App>>) -> Response {
    let mut value = status::status(&app.newest());
    if let Some(reason) = app.stale() {
        status::add_problem(&mut value, &reason);
    }
    json(&value)
}

#[derive(Deserialize)]
struct EventsQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

async fn api_events(State(app): State<Arc<App>>, query: Query<EventsQuery>) -> Response {
    let events = status::events(
        &app.newest(),
        query.after.unwrap_or(0),
        query.limit.unwrap_or(usize::MAX),
    );
    json(&events)
}

const PAGE: &str = "<!doctype html>
<html lang=\"en\"><meta charset=\"utf-8\"><title>netsonde</title>
<h1>netsonde</h1>
<ul>
<li><a href=\"/metrics\">/metrics</a>: for Prometheus
<li><a href=\"/api/v1/status\">/api/v1/status</a>: what is measured, and whether the agent is healthy (also: netsonde status)
<li><a href=\"/api/v1/events\">/api/v1/events</a>: what happened; ?after=NUMBER for what is new, ?limit=COUNT for the newest
<li><a href=\"/healthz\">/healthz</a>, <a href=\"/readyz\">/readyz</a>: for supervisors
</ul>
</html>
";

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Body::from(PAGE)).into_response()
}
