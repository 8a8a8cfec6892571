//! Bounds what clients can make the shim hold: bytes of frames, of calls in progress, of execs that nobody starts.

use std::cell::Cell;
use std::rc::Rc;

/// An amount that shares are taken of. Clones are the same budget.
#[derive(Clone)]
pub struct Budget(Rc<Amounts>);

struct Amounts {
    limit: usize,
    used: Cell<usize>,
}

/// A part of a budget, given back on drop.
pub struct Share {
    budget: Budget,
    amount: usize,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(limit: usize) -> Self {
        let used = Cell::new(0);
        Self(Rc::new(Amounts { limit, used }))
    }

    /// A share of nothing, to be grown.
    pub fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            amount: 0,
        }
    }

    /// Takes a share of `amount`; `None` where less is left.
    pub fn take(&self, amount: usize) -> Option<Share> {
        let mut share = self.share();
        share.resize(amount).then_some(share)
    }
}

impl Share {
    /// Makes the share `amount` large. Says false, and changes nothing, where the budget does not hold that much more.
    #[must_use]
    pub fn resize(&mut self, amount: usize) -> bool {
        let Amounts { limit, used } = &*self.budget.0;
        let total = (used.get() - self.amount).saturating_add(amount);
        if amount > self.amount && total > *limit {
            return false;
        }
        used.set(total);
        self.amount = amount;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let used = &self.budget.0.used;
        used.set(used.get() - self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Budget::new(10);
        let mut one = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let two = budget.take(4).unwrap();
        assert!(!one.resize(7));
        assert!(one.resize(1));
        drop(two);
        assert!(one.resize(10));
        assert!(!one.resize(usize::MAX));
        assert!(budget.take(1).is_none());
        drop(one);
        assert!(budget.take(10).is_some());
    }
}
