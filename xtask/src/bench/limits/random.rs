//! Random numbers that are the same on every machine.

use std::time::Duration;

/// Mean of the latencies in seconds: 0.2 times the root of e^(sigma squared).
pub(crate) const MEAN_LATENCY: f64 = 0.226_6;

/// The generator SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D))
    }

    /// Between 0 and 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Lognormal around 200 ms, sigma 0.5.
    pub(crate) fn latency(&mut self) -> Duration {
        let (radius, angle) = (self.uniform().max(1e-12), self.uniform());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        Duration::from_secs_f64(0.2 * (0.5 * normal).exp())
    }
}
