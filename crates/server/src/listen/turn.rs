//! A connection is served after the calls that are ready to run, so that their answers are written together.
//!
//! Each answer wakes its connection. tokio runs the task that was woken last first, so every answer would be sent by
//! itself, and sending costs as much as many calls do.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;
use tokio::task::yield_now;

/// A future whose turn comes after that of the tasks that its thread has to run.
pub(super) struct AfterOthers<F> {
    inner: F,
    turn: Arc<Turn>,
    is_waiting: bool,
}

/// Whether the turn has come, and the task to wake.
struct Turn {
    has_come: AtomicBool,
    task: Mutex<Waker>,
}

impl<F> AfterOthers<F> {
    pub(super) fn new(inner: F) -> Self {
        let turn = Turn {
            has_come: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        };
        Self {
            inner,
            turn: Arc::new(turn),
            is_waiting: false,
        }
    }

    /// The served future.
    pub(super) fn inner(&mut self) -> &mut F {
        &mut self.inner
    }
}

impl<F: Future + Unpin> Future for AfterOthers<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.turn.has_come.swap(false, Ordering::AcqRel) {
            self.is_waiting = false;
            return Pin::new(&mut self.inner).poll(cx);
        }
        self.turn.task.lock().clone_from(cx.waker());
        if !self.is_waiting {
            self.is_waiting = true;
            let turn = Waker::from(Arc::clone(&self.turn));
            // It wakes `turn` once the others have run, or at once if there are no others.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&turn));
        }
        Poll::Pending
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_come.store(true, Ordering::Release);
        self.task.lock().wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use super::*;

    /// What tasks have done, and the waker of the waiting task.
    #[derive(Default)]
    struct Done {
        tasks: AtomicUsize,
        waiting: Mutex<Option<Waker>>,
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_many_tasks_did_is_seen_at_once() {
        const TASKS: usize = 20;
        let done = Arc::new(Done::default());
        let seen = Arc::clone(&done);
        let serving = poll_fn(move |cx| {
            *seen.waiting.lock() = Some(cx.waker().clone());
            let tasks = seen.tasks.load(Ordering::Relaxed);
            if tasks == 0 {
                Poll::Pending
            } else {
                Poll::Ready(tasks)
            }
        });
        // On the one thread of the runtime, so that none runs before all are spawned.
        let all = tokio::spawn(async move {
            let serving = tokio::spawn(AfterOthers::new(serving));
            while done.waiting.lock().is_none() {
                yield_now().await;
            }
            for _ in 0..TASKS {
                let done = Arc::clone(&done);
                tokio::spawn(async move {
                    done.tasks.fetch_add(1, Ordering::Relaxed);
                    done.waiting.lock().as_ref().unwrap().wake_by_ref();
                });
            }
            serving.await.unwrap()
        });
        assert_eq!(all.await.unwrap(), TASKS);
    }

    #[tokio::test]
    async fn one_without_others_is_served_at_once() {
        assert_eq!(AfterOthers::new(std::future::ready(7)).await, 7);
        let mut polled = 0;
        let serving = poll_fn(|cx| {
            polled += 1;
            cx.waker().wake_by_ref();
            if polled < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        });
        AfterOthers::new(serving).await;
        assert_eq!(polled, 3);
    }
}
