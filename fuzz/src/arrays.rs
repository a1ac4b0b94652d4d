//! The same numbers in any layout: axes in any order, forwards and backwards, with gaps, and broadcast.

use arbitrary::{Result, Unstructured};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

/// An array and how a view of it lies.
pub struct Laid<T> {
    base: ArrayD<T>,
    /// The axis of the base that each axis of the view is.
    order: Vec<usize>,
    steps: Vec<isize>,
    shape: Vec<usize>,
}

impl<T: Copy> Laid<T> {
    /// Puts numbers in some memory layout, with `filler` in the gaps. Broadcast axes take the numbers of their first place.
    pub fn new(u: &mut Unstructured<'_>, numbers: &ArrayD<T>, filler: T) -> Result<Self> {
        let (ndim, shape) = (numbers.ndim(), numbers.shape().to_vec());
        let (kind, is_plain): (u8, bool) = (u.arbitrary()?, u.ratio(1, 4)?);
        let mut order: Vec<usize> = (0..ndim).collect();
        let mut steps = vec![1_isize; ndim];
        let mut lens = shape.clone();
        if !is_plain {
            for i in (1..ndim).rev() {
                let other = u.int_in_range(0..=i)?;
                order.swap(i, other);
            }
            for axis in 0..ndim {
                let choice: u8 = u.arbitrary()?;
                if kind & 1 != 0 {
                    steps[axis] = [1, 1, -1, 2, -2, 3][usize::from(choice % 6)];
                }
                if kind & 6 == 6 && choice & 0x40 != 0 && shape[axis] > 0 {
                    (lens[axis], steps[axis]) = (1, 1);
                }
            }
        }
        let mut base_shape = vec![0; ndim];
        (0..ndim).for_each(|axis| base_shape[order[axis]] = lens[axis] * steps[axis].unsigned_abs());
        let base = ArrayD::from_elem(IxDyn(&base_shape), filler);
        let mut laid = Self { base, order, steps, shape };
        let steps = laid.steps.clone();
        let mut source = numbers.view();
        for (axis, &len) in lens.iter().enumerate() {
            source.slice_axis_inplace(Axis(axis), Slice::from(..len));
        }
        let mut view = laid.base.view_mut().permuted_axes(IxDyn(&laid.order));
        for (axis, &step) in steps.iter().enumerate() {
            view.slice_axis_inplace(Axis(axis), Slice::new(0, None, step));
        }
        view.assign(&source);
        Ok(laid)
    }

    /// The view.
    pub fn view(&self) -> ArrayViewD<'_, T> {
        let mut full = vec![0; self.shape.len()];
        for (axis, &at) in self.order.iter().enumerate() {
            let len = self.base.shape()[at];
            full[at] = if self.is_broadcast(axis) { self.shape[axis] } else { len };
        }
        let base = self.base.broadcast(IxDyn(&full)).expect("axes of one place, or as long");
        let mut view = base.permuted_axes(IxDyn(&self.order));
        for (axis, &step) in self.steps.iter().enumerate() {
            view.slice_axis_inplace(Axis(axis), Slice::new(0, None, step));
        }
        view
    }

    fn is_broadcast(&self, axis: usize) -> bool {
        self.steps[axis] == 1 && self.base.shape()[self.order[axis]] == 1
    }

    /// The same numbers, row by row.
    pub fn plain(&self) -> ArrayD<T> {
        let view = self.view();
        ArrayD::from_shape_vec(view.raw_dim(), view.iter().copied().collect()).expect("as many")
    }
}
