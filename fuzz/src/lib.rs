//! The common part of the targets: arrays in any memory layout, scores, losses, and slow exact twins to compare with.
//!
//! A target asserts laws: an error instead of a panic, the same bits in any layout and on any number of threads, and agreement
//! with the definition.

pub mod arrays;
pub mod labels;
pub mod losses;
pub mod maps;
pub mod matrices;
pub mod scores;
#[path = "../../tests/rust/twins.rs"]
pub mod twins;

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Runs work on one thread and on three, and compares what they give.
pub fn on_any_threads<T: Send + PartialEq + std::fmt::Debug>(work: impl Fn() -> T + Sync) -> T {
    static POOLS: OnceLock<[ThreadPool; 2]> = OnceLock::new();
    let build = |n_threads| ThreadPoolBuilder::new().num_threads(n_threads).build().expect("threads");
    let [one, three] = POOLS.get_or_init(|| [build(1), build(3)]);
    let found = one.install(&work);
    assert_eq!(three.install(&work), found, "on three threads and on one");
    found
}

/// Runs a function on the bytes of a target; if there are too few bytes, nothing is tested.
pub fn fuzz(data: &[u8], target: impl FnOnce(&mut Unstructured<'_>) -> Result<()>) {
    let _ = target(&mut Unstructured::new(data));
}

/// Numbers from a seed, once bytes are used up: `SplitMix64`.
pub struct Numbers<'u, 'd> {
    bytes: &'u mut Unstructured<'d>,
    state: u64,
}

impl<'u, 'd> Numbers<'u, 'd> {
    /// Takes the seed from the bytes.
    pub fn new(bytes: &'u mut Unstructured<'d>) -> Result<Self> {
        let state = bytes.arbitrary()?;
        Ok(Self { bytes, state })
    }

    /// One byte, from the data while there are any.
    pub fn byte(&mut self) -> u8 {
        if self.bytes.is_empty() { self.word() as u8 } else { self.bytes.arbitrary().unwrap_or_default() }
    }

    /// 64 bits from the seed.
    pub fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()].clone()
    }
}
