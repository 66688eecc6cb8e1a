//! Budgets of bytes: of requests that are read and not yet decoded, and of answers that are given and not yet taken.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// At most this number of bytes at once.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    taken: AtomicUsize,
    max: usize,
}

/// Bytes of one request or answer, in each of the budgets that it draws from. They are given back when it
/// is dropped.
#[derive(Debug, Default)]
pub(crate) struct TakenBytes {
    budgets: Vec<Arc<ByteBudget>>,
    bytes: usize,
}

impl ByteBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            max,
        })
    }

    /// How many bytes are taken now.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.checked_add(bytes).is_some_and(|after| after <= self.max);
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl TakenBytes {
    /// None yet, of all these budgets.
    pub(crate) fn of(budgets: Vec<Arc<ByteBudget>>) -> Self {
        Self { budgets, bytes: 0 }
    }

    /// Takes more from each budget; takes nothing if one has too little left.
    #[must_use]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        for (position, budget) in self.budgets.iter().enumerate() {
            if !budget.take(bytes) {
                self.budgets
                    .iter()
                    .take(position)
                    .for_each(|earlier| earlier.give_back(bytes));
                return false;
            }
        }
        self.bytes += bytes;
        true
    }

    /// Gives some back.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.budgets.iter().for_each(|budget| budget.give_back(bytes));
        self.bytes -= bytes;
    }
}

impl Drop for TakenBytes {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_draws_from_all_budgets_or_from_none() {
        let (wide, narrow) = (ByteBudget::new(100), ByteBudget::new(10));
        let mut taken = TakenBytes::of(vec![Arc::clone(&wide), Arc::clone(&narrow)]);
        assert!(taken.take(10));
        assert!(!taken.take(1));
        assert_eq!((wide.taken(), narrow.taken()), (10, 10));
        taken.give_back(4);
        assert_eq!((wide.taken(), narrow.taken()), (6, 6));
        drop(taken);
        assert_eq!((wide.taken(), narrow.taken()), (0, 0));
    }

    #[test]
    fn a_length_that_overflows_is_refused() {
        let budget = ByteBudget::new(usize::MAX);
        let mut taken = TakenBytes::of(vec![Arc::clone(&budget)]);
        assert!(taken.take(1));
        assert!(!taken.take(usize::MAX));
        assert_eq!(budget.taken(), 1);
    }
}
