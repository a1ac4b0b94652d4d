//! Kernels that go through the planes of a tile.

/// Hands the planes of a tile to a kernel, eight at a time with the class of the first: the per-pixel state is then loaded
/// and stored an eighth as often, and memory is read in several streams.
macro_rules! stream {
    ($tile:expr, |$planes:ident, $k:ident| $call:expr) => {{
        let mut $k = 0;
        macro_rules! step {
            ($n:literal) => {{
                let $planes: [&[R]; $n] = std::array::from_fn(|i| $tile.plane($k + i));
                $call;
                #[allow(unused_assignments)]
                {
                    $k += $n;
                }
            }};
        }
        while $k + 8 <= $tile.n_classes() {
            step!(8);
        }
        match $tile.n_classes() - $k {
            1 => step!(1),
            2 => step!(2),
            3 => step!(3),
            4 => step!(4),
            5 => step!(5),
            6 => step!(6),
            7 => step!(7),
            _ => {}
        }
    }};
}
pub(crate) use stream;
