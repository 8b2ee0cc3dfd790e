//! When people last asked for anything. A local fleet ends itself when that is long ago and nothing runs.
//!
//! Agents do not count: they are always there. A call counts from its beginning until its answer begins; a
//! stream that goes on after that does not. A build that is watched while it runs keeps the fleet by itself.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use tower::{Layer, Service};

use crate::authorization::{Caller, Role};

#[derive(Debug)]
struct State {
    open: usize,
    last: Instant,
}

/// When people last asked for anything.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { open: 0, last: Instant::now() })))
    }
}

impl Activity {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long nobody has called; zero while a call is open.
    pub(crate) fn quiet(&self) -> Duration {
        let state = self.lock();
        if state.open > 0 { Duration::ZERO } else { state.last.elapsed() }
    }

    /// Counts the calls that pass through.
    pub(crate) fn layer(&self) -> ActivityLayer {
        ActivityLayer(self.clone())
    }

    fn begin(&self) -> OpenCall {
        self.lock().open += 1;
        OpenCall(self.clone())
    }
}

struct OpenCall(Activity);

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.open = state.open.saturating_sub(1);
        state.last = Instant::now();
    }
}

/// See [`Activity::layer`].
#[derive(Debug, Clone)]
pub(crate) struct ActivityLayer(Activity);

impl<S> Layer<S> for ActivityLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { activity: self.0.clone(), inner }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    activity: Activity,
    inner: S,
}

impl<S, A> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<tonic::body::Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let people = request.extensions().get::<Caller>().is_some_and(|caller| caller.role() != Role::Agent);
        let open = people.then(|| self.activity.begin());
        let called = self.inner.call(request);
        Box::pin(async move {
            let response = called.await;
            drop(open);
            response
        })
    }
}
