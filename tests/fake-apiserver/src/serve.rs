//! The server's side of HTTP.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::respond::{self, Call};
use crate::state::{Fault, Locked, State};
use crate::table;
use crate::watch::{Watched, send_events};

/// From this length on answers are compressed for who takes that (apiserver's
/// defaultGzipThresholdBytes).
const GZIP_THRESHOLD: usize = 128 << 10;

/// An answer: whole, or as it comes.
type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

pub(crate) async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) -> Infallible {
    // They end with this.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((io, _)) = accepted else { continue };
        let state = state.clone();
        let service = service_fn(move |request| answer(request, state.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        connections.spawn(async move { drop(connection.await) });
    }
}

/// The error ends the connection.
async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Body>, String> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let as_table = table::asked_for(header(ACCEPT).unwrap_or_default());
    let call = Call {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: query(head.uri.query().unwrap_or_default()),
        content_type: header(CONTENT_TYPE).unwrap_or_default(),
        metadata_only: header(ACCEPT).is_some_and(|kind| kind.contains("PartialObjectMetadata")),
        as_table: as_table.as_ref().is_ok_and(|as_table| *as_table),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let shared = state.clone();
    let mut state = Locked(state.lock().map_err(|error| error.to_string())?);
    let fault = state.faults.pop_front();
    let known = header(AUTHORIZATION) == Some(&format!("Bearer {}", state.token));
    let (code, object) = match as_table {
        Ok(_) => state.respond(&call, known, fault),
        Err(refusal) => refusal,
    };
    if code == 200 && respond::is_watch(&call) {
        let watched = Watched::new(&call, &state.history);
        let (sender, body) = Channel::new(16);
        tokio::spawn(send_events(shared, watched, sender));
        let response = Response::builder().header(CONTENT_TYPE, "application/json");
        return response.body(Either::Right(body)).map_err(|error| error.to_string());
    }
    if fault == Some(Fault::LostAnswer) {
        return Err("the answer is lost".to_owned());
    }
    let mut response = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    if let Some(Fault::TooMany(seconds)) = fault {
        response = response.header(RETRY_AFTER, seconds);
    }
    let mut body = object.to_string().into_bytes();
    if body.len() > GZIP_THRESHOLD && header(ACCEPT_ENCODING) == Some("gzip") {
        body = compressed(&body);
        response = response.header(CONTENT_ENCODING, "gzip");
    }
    response.body(Either::Left(Full::from(body))).map_err(|error| error.to_string())
}

fn compressed(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// The pairs of a query.
fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decoded(value))).collect()
}

/// A value of a query without its escapes.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
