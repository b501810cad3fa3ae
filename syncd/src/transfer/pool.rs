//! A few threads for work that blocks; tasks wait for its result.

use std::io;
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that end when the pool is dropped.
pub(super) struct Pool(crossbeam_channel::Sender<Work>);

impl Pool {
    pub fn start(name: &str, threads: usize) -> io::Result<Self> {
        // Bounded by the callers, each of which waits for one piece of work at a time.
        let (give, work) = crossbeam_channel::unbounded::<Work>();
        for index in 0..threads {
            let work = work.clone();
            let run = move || work.iter().for_each(|work| work());
            std::thread::Builder::new().name(format!("{name}-{index}")).spawn(run)?;
        }
        Ok(Self(give))
    }

    /// Runs `work` on one of the threads; `None` when it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (give, done) = oneshot::channel();
        let work: Work = Box::new(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // Whoever asked may have stopped waiting.
            let _ = give.send(result.ok());
        });
        self.0.send(work).ok()?;
        done.await.ok().flatten()
    }
}
