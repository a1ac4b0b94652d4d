//! Labels of any integer type.

use arbitrary::{Result, Unstructured};
use ndarray::{ArrayD, IxDyn};

use _core::error::Error;
use _core::maps::{LabelMaps, LabelSpace};

use crate::Numbers;
use crate::arrays::Laid;

/// Labels in any layout.
pub enum Labels {
    I8(Laid<i8>),
    I16(Laid<i16>),
    I32(Laid<i32>),
    I64(Laid<i64>),
    U8(Laid<u8>),
    U16(Laid<u16>),
    U32(Laid<u32>),
    U64(Laid<u64>),
}

/// Calls `$body` with `$laid` bound to the labels, once for each type.
#[macro_export]
macro_rules! with_labels {
    ($labels:expr, |$laid:ident| $body:expr) => {
        match $labels {
            $crate::labels::Labels::I8($laid) => $body,
            $crate::labels::Labels::I16($laid) => $body,
            $crate::labels::Labels::I32($laid) => $body,
            $crate::labels::Labels::I64($laid) => $body,
            $crate::labels::Labels::U8($laid) => $body,
            $crate::labels::Labels::U16($laid) => $body,
            $crate::labels::Labels::U32($laid) => $body,
            $crate::labels::Labels::U64($laid) => $body,
        }
    };
}

/// Marks of void pixels.
pub const IGNORED: [i64; 8] = [255, -1, 254, 0, 1, i64::MAX, i64::MIN, 1000];

impl Labels {
    /// Labels of K classes; a few are void or, if this is allowed, no class.
    pub fn any(
        u: &mut Unstructured<'_>,
        shape: &[usize],
        n_classes: usize,
        ignored: &[i64],
        may_be_wrong: bool,
    ) -> Result<Self> {
        let kind: u8 = u.arbitrary()?;
        let order: [u8; 24] = u.arbitrary()?;
        let mut numbers = Numbers::new(u)?;
        let is_wrong = may_be_wrong && numbers.byte() & 3 == 0;
        let wrong: i64 =
            numbers.pick(&[-1, 255, 256, 65536, 1 << 32, -256, i64::MAX, i64::MIN, n_classes as i64]);
        let mut label = || -> i64 {
            let byte = numbers.byte();
            match byte >> 5 {
                0 if !ignored.is_empty() => ignored[usize::from(byte) % ignored.len()],
                1 if is_wrong => wrong,
                _ => (numbers.word() % n_classes.max(1) as u64) as i64,
            }
        };
        let n: usize = shape.iter().product();
        let values: Vec<i64> = (0..n).map(|_| label()).collect();
        let values = ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many");
        let mut order = Unstructured::new(&order);
        macro_rules! laid {
            ($variant:path, $int:ty) => {
                // A label that does not fit the type wraps, and may then be no class. An ignored label can only occur if it fits.
                $variant(Laid::new(&mut order, &values.mapv(|value| value as $int), <$int>::MAX)?)
            };
        }
        Ok(match kind % 8 {
            0 => laid!(Self::I8, i8),
            1 => laid!(Self::I16, i16),
            2 => laid!(Self::I32, i32),
            3 => laid!(Self::I64, i64),
            4 => laid!(Self::U8, u8),
            5 => laid!(Self::U16, u16),
            6 => laid!(Self::U32, u32),
            _ => laid!(Self::U64, u64),
        })
    }

    /// The maps.
    pub fn maps(&self, ignored: &[i64], space: LabelSpace) -> std::result::Result<LabelMaps<'_>, Error> {
        with_labels!(self, |laid| LabelMaps::new(laid.view(), ignored.to_vec(), space))
    }

    /// The labels, row by row.
    pub fn plain(&self) -> ArrayD<i128> {
        with_labels!(self, |laid| laid.plain().mapv(i128::from))
    }
}
