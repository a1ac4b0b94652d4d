//! Label maps of any integer type, as class codes.

use std::fmt;
use std::ops::Range;

use ndarray::{ArrayView4, ArrayViewD, Axis, Ix4, s};
use num_traits::{AsPrimitive, Bounded};

use super::{STRIP, rows, strips};
use crate::error::{Error, Result};
use crate::simd::{apply, vectorised};

/// The code of a void pixel where labels are class codes.
pub const VOID: i32 = -1;

/// A type for class codes.
pub trait Code: Copy + Send + Sync + 'static {
    /// The code of a void pixel.
    const VOID: Self;
    /// The largest K that fits the type.
    const MAX_CLASSES: usize;
}

impl Code for i32 {
    const VOID: Self = VOID;
    const MAX_CLASSES: usize = i32::MAX as usize;
}

/// For masks: if there are few classes, bytes are read and compared faster.
impl Code for i8 {
    const VOID: Self = -1;
    const MAX_CLASSES: usize = i8::MAX as usize;
}

/// An integer that label maps may hold.
pub trait Label:
    Copy
    + Default
    + Send
    + Sync
    + Into<i128>
    + TryFrom<i128>
    + Ord
    + Bounded
    + AsPrimitive<i32>
    + AsPrimitive<i8>
    + 'static
{
    /// The value sign-extended to 64 bits: a class in `[0, K)` is a small number, all other labels are large ones.
    fn extended(self) -> u64;

    /// The value, if it fits.
    fn from_i64(value: i64) -> Option<Self>;
}

macro_rules! impl_label {
    ($($int:ty),*) => {$(
        impl Label for $int {
            #[inline(always)]
            #[allow(clippy::cast_lossless)]
            fn extended(self) -> u64 {
                self as u64
            }

            fn from_i64(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
        }
    )*};
}

impl_label!(i8, i16, i32, i64, u8, u16, u32, u64);

/// What labels must fit.
#[derive(Debug, Clone, Copy)]
pub struct LabelSpace {
    /// `[n, D, H, W]`.
    pub shape: [usize; 4],
    /// K.
    pub n_classes: usize,
    /// What errors call image 0; `None` if there is one image that needs no name.
    pub first_image: Option<usize>,
}

/// The labels of void pixels, of which there may be none or several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(Vec<i64>);

impl Ignored {
    /// The ignored labels that a type can hold. The others cannot occur.
    pub fn of_type<L: Label>(&self) -> Vec<L> {
        self.0.iter().filter_map(|&label| L::from_i64(label)).collect()
    }
}

impl From<Option<i64>> for Ignored {
    fn from(label: Option<i64>) -> Self {
        Self(label.into_iter().collect())
    }
}

impl From<Vec<i64>> for Ignored {
    fn from(labels: Vec<i64>) -> Self {
        Self(labels)
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("None"),
            [label] => write!(f, "{label}"),
            [first, rest @ ..] => {
                write!(f, "{first}")?;
                rest.iter().try_for_each(|label| write!(f, ", {label}"))
            }
        }
    }
}

/// Labels of `n` images, `(n, D, H, W)`, with ignored labels, which win over any class; they are read as codes of type `C`.
pub struct LabelMaps<'a, C = i32> {
    reader: Box<dyn ReadLabels<C> + 'a>,
    name: &'static str,
    space: LabelSpace,
    ignored: Ignored,
}

/// Labels 0 and 1.
pub type BinaryLabels<'a> = LabelMaps<'a, i8>;

impl<'a, C: Code> LabelMaps<'a, C> {
    /// Takes `(n, H, W)` or `(n, D, H, W)`.
    pub fn new<L: Label + AsPrimitive<C>>(
        view: ArrayViewD<'a, L>,
        ignored: impl Into<Ignored>,
        space: LabelSpace,
    ) -> Result<Self> {
        let LabelSpace { shape: expected, n_classes, .. } = space;
        assert!(n_classes <= C::MAX_CLASSES, "codes tell all classes");
        let is_flat = view.ndim() == 3 && expected[1] == 1;
        let actual = view.shape().to_vec();
        let view = if is_flat { view.insert_axis(Axis(1)) } else { view };
        if view.shape() != expected {
            let mut expected = expected.to_vec();
            if expected[1] == 1 && actual.len() != 4 {
                expected.remove(1);
            }
            return Err(Error::Shape { name: "y", expected, actual });
        }
        let ignored = ignored.into();
        if let Some(&ignore_index) = ignored.0.iter().find(|&label| (0..n_classes as i64).contains(label)) {
            return Err(Error::IgnoreIndexIsClass { ignore_index, n_classes });
        }
        let view = view.into_dimensionality::<Ix4>().expect("rank 4 by the check above");
        let reader = Reader { view, void: ignored.of_type() };
        Ok(Self { reader: Box::new(reader), name: "y", space, ignored })
    }

    /// The same under another name, for error messages.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Writes the class of each pixel, [`Code::VOID`] where it is ignored.
    pub fn read(&self, image: usize, pixels: Range<usize>, codes: &mut Vec<C>) -> Result<()> {
        codes.resize(pixels.len(), C::VOID);
        let LabelSpace { n_classes, first_image, .. } = self.space;
        let name = self.name;
        self.reader.read(image, pixels, n_classes, codes).map_err(|value| match value {
            None => Error::Changed { name },
            Some(value) => Error::Label {
                name,
                image: first_image.map(|first| first + image),
                value,
                n_classes,
                ignore: self.ignored.to_string(),
            },
        })
    }
}

/// Label maps of any integer type: one virtual call per tile keeps the kernels free of it.
trait ReadLabels<C>: Sync {
    /// Writes class codes; the first bad label is the error, `None` if there was one and is no more.
    fn read(
        &self,
        image: usize,
        pixels: Range<usize>,
        n_classes: usize,
        codes: &mut [C],
    ) -> std::result::Result<(), Option<i128>>;
}

struct Reader<'a, L> {
    view: ArrayView4<'a, L>,
    void: Vec<L>,
}

impl<L: Label + AsPrimitive<C>, C: Code> ReadLabels<C> for Reader<'_, L> {
    fn read(
        &self,
        image: usize,
        pixels: Range<usize>,
        n_classes: usize,
        codes: &mut [C],
    ) -> std::result::Result<(), Option<i128>> {
        let image = self.view.index_axis(Axis(0), image);
        if let Some(values) = image.to_slice() {
            return encode(&values[pixels], n_classes, &self.void, codes);
        }
        let (_, height, width) = image.dim();
        let mut row_values = Vec::with_capacity(width);
        for (row, columns, offset) in rows(&pixels, width) {
            let run = &mut codes[offset..][..columns.len()];
            row_values.clear();
            row_values.extend(image.slice(s![row / height, row % height, columns]).iter().copied());
            encode(&row_values, n_classes, &self.void, run)?;
        }
        Ok(())
    }
}

/// Labels to class codes.
fn encode<L: Label + AsPrimitive<C>, C: Code>(
    values: &[L],
    n_classes: usize,
    void: &[L],
    codes: &mut [C],
) -> std::result::Result<(), Option<i128>> {
    let last = L::try_from(n_classes as i128 - 1).unwrap_or(L::max_value());
    let any_bad = match void {
        [] => encode_run(values, last, None, codes),
        [label] => encode_run(values, last, Some(*label), codes),
        several => encode_several(values, last, several, codes),
    };
    if !any_bad {
        return Ok(());
    }
    // Another thread may have replaced the bad label meanwhile.
    let bad = values.iter().find(|&&value| is_no_class(value, last) && !void.contains(&value));
    Err(bad.map(|&value| value.into()))
}

#[inline(always)]
fn is_no_class<L: Label>(value: L, last: L) -> bool {
    (value < L::default()) | (value > last)
}

#[apply(vectorised!)]
fn encode_run<L: Label + AsPrimitive<C>, C: Code>(
    values: &[L],
    last: L,
    void: Option<L>,
    codes: &mut [C],
) -> bool {
    let (has_void, void) = (void.is_some(), void.unwrap_or_default());
    let mut any_bad = [false; STRIP];
    let (len, planes) = (values.len(), [values]);
    strips!(len, planes, [], [codes], |j, lane| {
        let value = planes[0][j];
        let is_void = has_void & (value == void);
        any_bad[lane] |= is_no_class(value, last) & !is_void;
        codes[j] = if is_void { C::VOID } else { value.as_() };
    });
    any_bad.contains(&true)
}

/// [`encode_run`] with more than one label of void pixels.
#[apply(vectorised!)]
fn encode_several<L: Label + AsPrimitive<C>, C: Code>(
    values: &[L],
    last: L,
    void: &[L],
    codes: &mut [C],
) -> bool {
    let mut any_bad = false;
    for (code, &value) in codes.iter_mut().zip(values) {
        let is_void = void.iter().fold(false, |is_void, &label| is_void | (value == label));
        any_bad |= is_no_class(value, last) & !is_void;
        *code = if is_void { C::VOID } else { value.as_() };
    }
    any_bad
}

/// Counts class codes. Four counters per class, because neighbouring pixels share their class and a counter that was just
/// written is slow to read.
#[derive(Debug)]
pub struct ClassCounter {
    counts: Vec<[u32; 4]>,
}

impl ClassCounter {
    /// Nothing counted yet.
    pub fn new(n_classes: usize) -> Self {
        Self { counts: vec![[0; 4]; n_classes + 1] }
    }

    /// Counts the codes of some pixels.
    pub fn add(&mut self, codes: &[i32]) {
        let (quads, rest) = codes.as_chunks::<4>();
        for quad in quads {
            for (lane, &code) in quad.iter().enumerate() {
                self.counts[(code - VOID) as usize][lane] += 1;
            }
        }
        for &code in rest {
            self.counts[(code - VOID) as usize][0] += 1;
        }
    }

    /// The number of pixels of each class, void ones excepted.
    pub fn finish(self) -> Vec<u64> {
        // The first counter is that of void pixels.
        self.counts[1..].iter().map(|lanes| lanes.iter().map(|&count| u64::from(count)).sum()).collect()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    /// The codes of some labels of K classes, or the label that is none.
    fn codes_of<L: Label + AsPrimitive<C>, C: Code>(
        labels: &[L],
        n_classes: usize,
        ignored: impl Into<Ignored>,
    ) -> std::result::Result<Vec<C>, i128> {
        let space = LabelSpace { shape: [1, 1, 1, labels.len()], n_classes, first_image: None };
        let labels = Array3::from_shape_vec((1, 1, labels.len()), labels.to_vec()).unwrap();
        let mut codes = Vec::new();
        let maps = LabelMaps::new(labels.view().into_dyn(), ignored, space).unwrap();
        match maps.read(0, 0..labels.len(), &mut codes) {
            Ok(()) => Ok(codes),
            Err(Error::Label { value, .. }) => Err(value),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn labels_of_any_width_are_the_same_codes() {
        assert_eq!(codes_of::<u8, i8>(&[0, 1, 255, 1], 2, Some(255)), Ok(vec![0, 1, -1, 1]));
        assert_eq!(codes_of::<i64, i8>(&[0, 1, 255, 1], 2, Some(255)), Ok(vec![0, 1, -1, 1]));
        assert_eq!(codes_of::<i16, i32>(&[0, -1, 299], 300, Some(-1)), Ok(vec![0, VOID, 299]));
        // There are more classes than the type has numbers: each number from 0 on is a class.
        assert_eq!(codes_of::<u8, i32>(&[0, 255], 300, None), Ok(vec![0, 255]));
        assert_eq!(codes_of::<i8, i32>(&[0, 127], 300, None), Ok(vec![0, 127]));
        assert_eq!(codes_of::<i8, i32>(&[127, -128, -1], 300, None), Err(-128));
        // An ignore index that the type cannot hold marks nothing.
        assert_eq!(codes_of::<i8, i8>(&[0, -1], 2, Some(255)), Err(-1));
    }

    #[test]
    fn several_labels_may_be_void() {
        let void = || vec![254, 255, -1];
        assert_eq!(codes_of::<u8, i8>(&[0, 254, 255, 1], 2, void()), Ok(vec![0, -1, -1, 1]));
        assert_eq!(codes_of::<i16, i32>(&[-1, 254, 1, 0], 2, void()), Ok(vec![VOID, VOID, 1, 0]));
        assert_eq!(codes_of::<i16, i32>(&[-1, 253], 2, void()), Err(253));
        assert_eq!(Ignored::from(void()).to_string(), "254, 255, -1");
    }

    #[test]
    fn the_first_label_that_is_no_class_is_told() {
        // The last bits of each are those of a class.
        assert_eq!(codes_of::<i64, i8>(&[1, 256, -256], 2, None), Err(256));
        assert_eq!(codes_of::<u64, i8>(&[1, u64::MAX - 255, 256], 2, None), Err(i128::from(u64::MAX - 255)));
        assert_eq!(codes_of::<u64, i32>(&[1 << 32, 7], 2, None), Err(1 << 32));
        assert_eq!(codes_of::<i32, i8>(&[1, 2, 3], 2, Some(2)), Err(3));
    }
}
