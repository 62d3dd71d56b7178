//! The model: a step is computation, which ranks share, and communication, which grows with their number.

/// How the ranks add gradients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    /// Each rank adds a slice and sends it on: `2(R - 1)` messages of `1/R` of the gradients.
    Ring,
    /// Sums go up a binary tree, and the result comes down: `2·log₂ R` messages of all gradients.
    Tree,
}

/// What connects the ranks, and what an update costs.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// Seconds until a message arrives,
    pub(crate) latency: f64,
    /// and the bytes of it that arrive each second.
    pub(crate) bandwidth: f64,
    pub(crate) seconds_per_byte_of_update: f64,
}

impl Machine {
    /// The seconds in which so many ranks add so many bytes (Thakur, Rabenseifner and Gropp 2005).
    pub(crate) fn sum(&self, algorithm: Algorithm, ranks: usize, bytes: f64) -> f64 {
        let r = ranks as f64;
        match algorithm {
            Algorithm::Ring => 2.0 * (r - 1.0) * (self.latency + bytes / r / self.bandwidth),
            Algorithm::Tree => 2.0 * r.log2().ceil() * (self.latency + bytes / self.bandwidth),
        }
    }
}

/// A network that is trained.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) name: &'static str,
    /// The bytes of its gradients.
    pub(crate) bytes: f64,
    /// The samples of a step, whatever the number of ranks.
    pub(crate) batch: usize,
    /// The samples of each rank if the batch grows with the number of ranks.
    pub(crate) batch_per_rank: usize,
    /// Forward and backward pass: the seconds of a part without samples, and of each sample.
    pub(crate) fixed: f64,
    pub(crate) per_sample: f64,
    /// The gradients become ready in so many pieces.
    pub(crate) layers: f64,
}

impl Network {
    /// The seconds of a step on so many ranks.
    pub(crate) fn step(
        &self,
        machine: &Machine,
        ranks: usize,
        algorithm: Algorithm,
        overlap: bool,
    ) -> f64 {
        self.step_of(machine, ranks, algorithm, overlap, self.batch)
    }

    fn step_of(
        &self,
        machine: &Machine,
        ranks: usize,
        algorithm: Algorithm,
        overlap: bool,
        batch: usize,
    ) -> f64 {
        // a rank cannot have less than one sample
        let samples = batch.div_ceil(ranks) as f64;
        let compute = self.fixed + samples * self.per_sample;
        let update = self.bytes * machine.seconds_per_byte_of_update;
        let sum = machine.sum(algorithm, ranks, self.bytes);
        if !overlap {
            return compute + sum + update;
        }
        // a third of the work is the forward pass; then the gradients of one layer after the other are
        // ready, and those of the last one have nothing left to overlap with
        let (forward, backward) = (compute / 3.0, compute * 2.0 / 3.0);
        let (first, last) = (backward / self.layers, sum / self.layers);
        forward + (backward + last).max(first + sum) + update
    }

    /// The fastest way.
    pub(crate) fn best(&self, machine: &Machine, ranks: usize) -> f64 {
        let all = [Algorithm::Ring, Algorithm::Tree].map(|a| self.step(machine, ranks, a, true));
        all[0].min(all[1])
    }

    /// The useful fraction of the time if the batch grows with the number of ranks.
    pub(crate) fn weak_efficiency(&self, machine: &Machine, ranks: usize) -> f64 {
        let step = |ranks: usize, algorithm| {
            self.step_of(machine, ranks, algorithm, true, self.batch_per_rank * ranks)
        };
        step(1, Algorithm::Ring) / step(ranks, Algorithm::Ring).min(step(ranks, Algorithm::Tree))
    }
}
