//! An answer as it comes: nothing keeps the whole of it in memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::CONTENT_ENCODING;
use kube::client::Body;
use tokio::runtime::Runtime;

use super::error::chain;

/// How many more bytes may be read. Shared with who raises it again after each event of a watch.
pub(super) type Allowance = Rc<Cell<u64>>;

/// The text of an answer, of at most as many bytes as are allowed. `silence` is how long nothing
/// may come; zero: for good.
pub(super) fn text<'a>(
    runtime: &'a Runtime,
    answer: Response<Body>,
    allowance: Allowance,
    silence: Duration,
) -> impl Read + use<'a> {
    let is_compressed = answer.headers().get(CONTENT_ENCODING).is_some_and(|of| of == "gzip");
    let body = BodyReader { runtime, body: answer.into_body(), chunk: Bytes::new(), silence };
    let text: Box<dyn Read + 'a> =
        if is_compressed { Box::new(GzDecoder::new(body)) } else { Box::new(body) };
    BoundedReader { text, allowance }
}

/// What comes over the connection.
struct BodyReader<'a> {
    runtime: &'a Runtime,
    body: Body,
    /// What came and was not read.
    chunk: Bytes,
    silence: Duration,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let frame = self.runtime.block_on(within(self.silence, self.body.frame()));
            match frame.map_err(io::Error::other)? {
                None => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(chain(&error))),
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.chunk.len().min(into.len());
        into[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}

/// What comes out of the decompression, which may be much more.
struct BoundedReader<'a> {
    text: Box<dyn Read + 'a>,
    allowance: Allowance,
}

impl Read for BoundedReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.text.read(into)?;
        let left = self.allowance.get().checked_sub(length as u64);
        let too_long = || io::Error::other("it is longer than this program reads");
        self.allowance.set(left.ok_or_else(too_long)?);
        Ok(length)
    }
}

/// Waits for this long; zero: for good.
pub(super) async fn within<T>(time: Duration, of: impl Future<Output = T>) -> Result<T, String> {
    if time.is_zero() {
        return Ok(of.await);
    }
    let late = |_| format!("nothing came within {} s (--request-timeout)", time.as_secs_f64());
    tokio::time::timeout(time, of).await.map_err(late)
}
