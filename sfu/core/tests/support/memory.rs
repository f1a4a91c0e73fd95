//! What the server allocates, its clients left out. What C libraries allocate is not seen.

/// What measured calls have allocated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Bytes that they have not given back.
    pub(crate) held: i64,
    /// The most bytes that they held at a time.
    pub(crate) peak: i64,
    /// How often they allocated.
    pub(crate) allocations: u64,
}

impl Memory {
    pub(crate) fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let mut result = None;
        let info = allocation_counter::measure(|| result = Some(call()));
        let most = i64::try_from(info.bytes_max).unwrap();
        self.peak = self.peak.max(self.held + most);
        self.held += info.bytes_current;
        self.allocations += info.count_total;
        result.unwrap()
    }

    /// Forgets what was held until now.
    pub(crate) fn begin(&mut self) {
        *self = Self::default();
    }

    /// Asserts how many bytes are held, and were held at a time, at most.
    pub(crate) fn assert_within(self, held: i64, peak: i64, label: &str) {
        println!("{label}: {} bytes stay, {} at most", self.held, self.peak);
        assert!(self.held <= held && self.peak <= peak, "{label}: {self:?}");
    }
}
