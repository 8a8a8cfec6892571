//! Shuffling.

/// xorshift: shuffling needs no more, and no crate.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a clock");
        Self(u64::from(now.subsec_nanos()) | 1)
    }

    pub(crate) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let bound = u64::try_from(last).expect("small") + 1;
            order.swap(last, usize::try_from(self.0 % bound).expect("small"));
        }
        order
    }
}
