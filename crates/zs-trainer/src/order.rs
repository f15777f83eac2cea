//! Items that a step takes: every item once an epoch, in an order drawn for that epoch.

use rand::RngExt;
use zs_core::{Domain, StreamKey};

/// An order of items, a function of the seed alone: any step can be asked for on its own.
///
/// ```
/// use zs_trainer::EpochOrder;
///
/// let order = EpochOrder::new(7, 5);
/// let mut first_epoch: Vec<usize> = order.step(0, 5);
/// first_epoch.sort();
/// assert_eq!(first_epoch, [0, 1, 2, 3, 4]);
/// assert_eq!(order.step(1, 3), order.walk().skip(3).take(3).collect::<Vec<_>>());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EpochOrder {
    seed: u64,
    len: usize,
}

impl EpochOrder {
    /// An order of `len` items.
    #[must_use]
    pub fn new(seed: u64, len: usize) -> Self {
        Self { seed, len }
    }

    /// The items of step `step` (from 0), with `per_step` items a step.
    ///
    /// A step may end one epoch and begin the next; nothing is dropped.
    #[must_use]
    pub fn step(&self, step: usize, per_step: usize) -> Vec<usize> {
        self.range(step * per_step, per_step)
    }

    /// `count` items from place `first` of the order on.
    #[must_use]
    pub fn range(&self, first: usize, count: usize) -> Vec<usize> {
        if self.len == 0 {
            return Vec::new();
        }
        let epochs = (first / self.len..).flat_map(|epoch| self.epoch(epoch));
        epochs.skip(first % self.len).take(count).collect()
    }

    /// All items, epoch after epoch, without end where there is one.
    pub fn walk(self) -> impl Iterator<Item = usize> {
        let epochs = if self.len == 0 { 0..0 } else { 0..usize::MAX };
        epochs.flat_map(move |epoch| self.epoch(epoch))
    }

    /// All items in the order of one epoch (Fisher and Yates' shuffle).
    fn epoch(self, epoch: usize) -> Vec<usize> {
        let key = StreamKey { step: epoch as u64, ..StreamKey::new(self.seed) };
        let mut rng = key.rng(Domain::Questions);
        let mut order: Vec<usize> = (0..self.len).collect();
        for end in (1..order.len()).rev() {
            order.swap(end, rng.random_range(0..=end));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn steps_walk_through_whole_epochs() {
        let walked = |seed| -> Vec<usize> {
            let order = EpochOrder::new(seed, 7);
            (0..7).flat_map(|step| order.step(step, 3)).collect()
        };
        for epoch in walked(1).chunks(7) {
            assert_eq!(epoch.iter().copied().collect::<BTreeSet<_>>().len(), 7, "{epoch:?}");
        }
        assert_ne!(walked(1)[..7], walked(1)[7..14], "epochs differ");
        assert_ne!(walked(1), walked(2), "seeds differ");
        assert_eq!(walked(1), EpochOrder::new(1, 7).walk().take(21).collect::<Vec<_>>());
    }

    #[test]
    fn no_items_give_an_empty_step() {
        assert!(EpochOrder::new(1, 0).step(0, 3).is_empty());
        assert_eq!(EpochOrder::new(1, 0).walk().next(), None);
    }
}
