//! What a call may cost: the bytes of its request and of its answer that are held, the time in
//! which the request has to come, and the time for which other calls wait for it.
//!
//! [`Limited`] is put around the service, so that a call counts from the head of its request until
//! its answer was sent.

mod body;
mod call;

use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};

use super::connections::Peer;
use body::{Answer, Upload};
pub(super) use call::{Call, Message};

/// A service whose requests and answers are counted.
#[derive(Debug, Clone)]
pub(super) struct Limited<S>(pub(super) S);

impl<S> Service<http::Request<Body>> for Limited<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // Each request of a connection has it.
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Box::pin(self.0.call(request));
        };
        let call = Call::of(peer);
        request.extensions_mut().insert(call.clone());
        let answer = self.0.call(request.map(|body| Body::new(Upload::of(body, call.clone()))));
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Answer::of(body, call))))
        })
    }
}
