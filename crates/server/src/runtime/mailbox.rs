//! The queue in front of each thread of a member. It is emptied whole: a thread that wakes takes
//! all that waits under one lock, so that the cost of waking is shared by everything that gathered
//! meanwhile, and a thread that is busy is not woken again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A queue with many writers and one reader.
///
/// Invariants:
/// - nothing is taken in once it is closed; what was in it by then is still handed out.
/// - items come out in the order in which they went in.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    closed: bool,
    reader_waits: bool,
}

/// Why an item was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many items wait as the writer allows.
    Full,
    /// The reader is gone or about to go.
    Closed,
}

/// What a reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Items, or none where the deadline passed first.
    Open,
    /// The mailbox is closed and these were the last items.
    Closed,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        let state = State { items: Vec::new(), closed: false, reader_waits: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes the item in unless `waiting_max` items wait already.
    pub(crate) fn try_push(&self, item: T, waiting_max: usize) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= waiting_max {
            return Err(Refused::Full);
        }
        state.items.push(item);
        self.wake(state);
        Ok(())
    }

    /// Takes the item in however many wait: for items whose number is bounded by what the member
    /// itself has under way. Dropped where the mailbox is closed.
    pub(crate) fn push(&self, item: T) {
        let _ = self.try_push(item, usize::MAX);
    }

    /// Moves everything that waits into `items`, which must be empty. Waits for the first item, or
    /// until `deadline`; for ever where there is none.
    pub(crate) fn take(&self, items: &mut Vec<T>, deadline: Option<Instant>) -> Taken {
        assert!(items.is_empty(), "what was taken before must have been handled");
        let mut state = self.lock();
        while state.items.is_empty() && !state.closed {
            let wait = match deadline {
                None => None,
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(wait) if !wait.is_zero() => Some(wait),
                    _ => break,
                },
            };
            state.reader_waits = true;
            state = match wait {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.reader_waits = false;
        }
        std::mem::swap(items, &mut state.items);
        if state.closed { Taken::Closed } else { Taken::Open }
    }

    /// Takes nothing in from now on, and wakes the reader to find that out.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// How many items wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().items.len()
    }

    fn wake(&self, state: MutexGuard<'_, State<T>>) {
        let reader_waits = state.reader_waits;
        drop(state);
        if reader_waits {
            self.changed.notify_one();
        }
    }

    /// The state is consistent between any two statements that change it, so a writer that
    /// panicked elsewhere while it held the lock has not broken it.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn hands_out_everything_in_order_and_then_says_that_it_is_closed() {
        let mailbox = Mailbox::new();
        mailbox.push(1);
        mailbox.push(2);
        let mut items = Vec::new();
        assert_eq!(mailbox.take(&mut items, None), Taken::Open);
        assert_eq!(items, [1, 2]);
        items.clear();
        mailbox.push(3);
        mailbox.close();
        mailbox.push(4);
        assert_eq!(mailbox.take(&mut items, None), Taken::Closed);
        assert_eq!(items, [3]);
    }

    #[test]
    fn refuses_beyond_the_limit_and_after_closing() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.try_push(1, 1), Ok(()));
        assert_eq!(mailbox.try_push(2, 1), Err(Refused::Full));
        mailbox.close();
        assert_eq!(mailbox.try_push(3, 9), Err(Refused::Closed));
        assert_eq!(mailbox.waiting(), 1);
    }

    #[test]
    fn a_passed_deadline_ends_the_wait_with_nothing() {
        let mailbox: Mailbox<u8> = Mailbox::new();
        let mut items = Vec::new();
        assert_eq!(mailbox.take(&mut items, Some(Instant::now())), Taken::Open);
        assert!(items.is_empty());
    }

    #[test]
    fn an_item_wakes_a_reader_that_waits() {
        let mailbox = Arc::new(Mailbox::new());
        let reader = std::thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                let mut items = Vec::new();
                mailbox.take(&mut items, None);
                items
            }
        });
        mailbox.push(7);
        assert_eq!(reader.join().expect("the reader ends"), [7]);
    }
}
