//! Score maps of any float type.

use arbitrary::{Result, Unstructured};
use half::f16;
use ndarray::{ArrayD, IxDyn};

use _core::maps::Inputs;
use _core::num::real::Element;

use crate::Numbers;
use crate::arrays::Laid;

/// The types of numbers in arrays.
pub trait Number: Element + PartialEq + std::fmt::Debug {
    /// The nearest number of the type.
    fn of(x: f64) -> Self;

    /// Any bits.
    fn of_bits(bits: u64) -> Self;
}

impl Number for f64 {
    fn of(x: f64) -> Self {
        x
    }

    fn of_bits(bits: u64) -> Self {
        Self::from_bits(bits)
    }
}

impl Number for f32 {
    fn of(x: f64) -> Self {
        x as Self
    }

    fn of_bits(bits: u64) -> Self {
        Self::from_bits(bits as u32)
    }
}

impl Number for f16 {
    fn of(x: f64) -> Self {
        Self::from_f64(x)
    }

    fn of_bits(bits: u64) -> Self {
        Self::from_bits(bits as u16)
    }
}

/// bfloat16.
impl Number for u16 {
    fn of(x: f64) -> Self {
        half::bf16::from_f64(x).to_bits()
    }

    fn of_bits(bits: u64) -> Self {
        bits as Self
    }
}

/// As float64.
pub fn double<E: Element>(x: E) -> f64 {
    x.widen().into()
}

/// A shape `(n, K, H, W)` or `(n, K, D, H, W)` of few pixels, or now and then of more than a tile.
pub fn shape(u: &mut Unstructured<'_>) -> Result<Vec<usize>> {
    let kind: u8 = u.arbitrary()?;
    let n = u.int_in_range(1..=3)?;
    let n_classes = if kind & 0x1f == 1 { u.int_in_range(10..=150)? } else { u.int_in_range(2..=9)? };
    let most = if n_classes > 9 { 12 } else { 20 };
    let mut shape = vec![n, n_classes, u.int_in_range(1..=most)?, u.int_in_range(1..=most)?];
    if kind & 0x60 == 0x60 {
        shape.insert(2, u.int_in_range(1..=3)?);
    } else if kind & 0xe0 == 0x80 && n_classes < 4 {
        shape[3] *= 40;
    }
    if kind == 7 {
        let axis = u.choose_index(shape.len())?;
        shape[axis] = u.int_in_range(0..=1)?;
    }
    Ok(shape)
}

/// The kinds of a pixel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Probabilities with many ties and extremes: they sum to 1.
    Probabilities,
    /// Finite logits.
    Logits,
    /// Weights of any sum above 0.
    Weights,
    /// Numbers in `[0, 1]`.
    Unit,
    /// Any bits.
    Any,
}

/// Numbers of a shape, pixel by pixel.
pub fn numbers<E: Number>(u: &mut Unstructured<'_>, shape: &[usize], kind: Kind) -> Result<ArrayD<E>> {
    let mut numbers = Numbers::new(u)?;
    let mut array = ArrayD::from_elem(IxDyn(shape), E::of(0.0));
    let (n, n_classes) = (shape[0], shape[1]);
    let rest: usize = shape[2..].iter().product();
    let values = array.as_slice_mut().expect("row by row");
    let mut weights = vec![0.0; n_classes];
    for image in 0..n {
        for pixel in 0..rest {
            for weight in &mut weights {
                let unit = numbers.unit();
                *weight = match kind {
                    Kind::Probabilities | Kind::Weights => {
                        numbers.pick(&[0.0, 1.0, 1.0, 1.0, 2.0, 3.0, 8.0, 1e-3, 1e-20, unit])
                    }
                    Kind::Logits => {
                        let small = 20.0 * (unit - 0.5);
                        numbers.pick(&[small, small, 0.0, 1.0, -1.0, 88.0, -104.0, 3e4, -6e4, 1e-9])
                    }
                    Kind::Unit => numbers.pick(&[unit, unit, 0.0, 1.0, 0.5, 1e-9, 1.0 - 1e-6]),
                    Kind::Any => 0.0,
                };
            }
            if matches!(kind, Kind::Probabilities | Kind::Weights) && n_classes > 0 {
                let top = numbers.word() as usize % n_classes;
                weights[top] += numbers.pick(&[1.0, 5.0, 100.0, 1e18]);
                let sum: f64 = weights.iter().sum();
                let scale =
                    if kind == Kind::Probabilities { sum } else { sum / numbers.pick(&[1.0, 1e-3, 300.0]) };
                weights.iter_mut().for_each(|weight| *weight /= scale);
            }
            for (class, &weight) in weights.iter().enumerate() {
                values[(image * n_classes + class) * rest + pixel] = if kind == Kind::Any {
                    let (byte, word) = (numbers.byte(), numbers.word());
                    match byte & 7 {
                        0 => E::of_bits(word),
                        1 => E::of(numbers.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.25, -0.0])),
                        _ => E::of(f64::from(byte >> 3) / 31.0),
                    }
                } else {
                    E::of(weight)
                };
            }
        }
    }
    Ok(array)
}

/// Score maps in any layout.
pub fn laid<E: Number>(u: &mut Unstructured<'_>, shape: &[usize], kind: Kind) -> Result<Laid<E>> {
    let layout: [u8; 24] = u.arbitrary()?;
    let numbers = numbers(u, shape, kind)?;
    Laid::new(&mut Unstructured::new(&layout), &numbers, E::of(f64::NAN))
}

/// As what the numbers of a kind are passed.
pub fn inputs_of(kind: Kind, choice: u8) -> Inputs {
    match kind {
        Kind::Probabilities => Inputs::Probabilities,
        Kind::Logits => Inputs::Logits,
        Kind::Weights => Inputs::Scores,
        Kind::Unit => Inputs::CriticalValues,
        Kind::Any => [
            Inputs::Probabilities,
            Inputs::CoarseProbabilities,
            Inputs::Logits,
            Inputs::Scores,
            Inputs::CriticalValues,
        ][usize::from(choice % 5)],
    }
}

/// Calls a generic function with each type that arrays may hold.
#[macro_export]
macro_rules! with_type {
    ($choice:expr, $function:ident($($argument:expr),*)) => {
        match $choice % 4 {
            0 => $function::<f32>($($argument),*),
            1 => $function::<f64>($($argument),*),
            2 => $function::<half::f16>($($argument),*),
            _ => $function::<u16>($($argument),*),
        }
    };
}
