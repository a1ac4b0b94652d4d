//! How many pixels of each label are right in given label maps.

use std::collections::HashMap;

use ndarray::Array2;
use rayon::prelude::*;

use super::stack::LabelStack;
use crate::error::{Error, Result};
use crate::maps::{Ignored, Label};
use crate::memory;
use crate::threads::Cancel;

/// What errors call numbers for each pixel.
const PIXELS: &str = "the labels of pixels";
/// What errors call numbers for each map and label.
const HITS: &str = "the hits of maps";
/// Labels below this are looked up in a table.
const TABLE: usize = 1 << 8;
/// Pixels between two checks for cancellation.
const RUN: usize = 1 << 16;

/// The true labels of an image, numbered.
pub struct Truth {
    /// The labels that occur, ascending, without ignored ones.
    pub labels: Vec<i128>,
    /// Their numbers of pixels.
    pub totals: Vec<u64>,
    /// The number of each pixel's label; as many as there are labels where it is ignored.
    codes: Vec<u32>,
}

impl Truth {
    /// Numbers the labels of the only map of a stack.
    pub fn new<L: Label>(stack: &LabelStack<'_, L>, ignored: &Ignored, cancel: &Cancel) -> Result<Self> {
        let void = ignored.of_type::<L>();
        let (mut scratch, mut codes) = (Vec::new(), memory::with_room(stack.n_pixels(), PIXELS)?);
        let (mut table, mut map) = ([u32::MAX; TABLE], HashMap::new());
        let mut labels: Vec<L> = Vec::new();
        for pixels in stack.runs(RUN) {
            cancel.check()?;
            for &label in stack.read(0, pixels, &mut scratch) {
                let fresh = labels.len() as u32;
                let place = match table.get_mut(label.extended() as usize) {
                    Some(place) => place,
                    None => map.entry(label.extended()).or_insert(u32::MAX),
                };
                if *place == u32::MAX {
                    *place = fresh;
                    labels.push(label);
                }
                codes.push(*place);
            }
        }
        // From the order of their first pixels to their own.
        let mut order: Vec<usize> = (0..labels.len()).filter(|&code| !void.contains(&labels[code])).collect();
        order.sort_by_key(|&code| labels[code]);
        let mut renumbered = vec![order.len() as u32; labels.len()];
        order.iter().enumerate().for_each(|(code, &old)| renumbered[old] = code as u32);
        let mut totals = vec![0; order.len() + 1];
        for codes in codes.chunks_mut(RUN) {
            cancel.check()?;
            for code in codes {
                *code = renumbered[*code as usize];
                totals[*code as usize] += 1;
            }
        }
        totals.pop();
        Ok(Self { labels: order.into_iter().map(|code| labels[code].into()).collect(), totals, codes })
    }

    /// Pixels of each label that each map has right, `(m, labels)`.
    pub fn hits<L: Label>(&self, stack: &LabelStack<'_, L>, cancel: &Cancel) -> Result<Array2<u64>> {
        if stack.n_pixels() != self.codes.len() {
            let (expected, actual) = (vec![self.codes.len()], vec![stack.n_pixels()]);
            return Err(Error::Shape { name: "predictions", expected, actual });
        }
        let n_labels = self.labels.len();
        // A label that does not fit the predictions' type is never right: its pixels are counted with the ignored ones.
        let values: Vec<Option<L>> = self.labels.iter().map(|&label| L::try_from(label).ok()).collect();
        let code_of =
            |code: u32| values.get(code as usize).and_then(|value| value.map(|value| (code, value)));
        let filler = stack.read(0, 0..1, &mut Vec::new())[0];
        let truth = self.codes.iter().map(|&code| code_of(code).unwrap_or((n_labels as u32, filler)));
        let truth = memory::collected(truth, PIXELS)?;
        let rows = (0..stack.len()).into_par_iter().map_init(Vec::new, |scratch, map| {
            // Neighbouring pixels share their label, and a counter that was just written is slow to read.
            let mut counters = memory::filled([0_u64; 4], n_labels + 1, HITS, cancel)?;
            for pixels in stack.runs(RUN) {
                cancel.check()?;
                let labels = stack.read(map, pixels.clone(), scratch);
                for (j, (&(code, value), &label)) in truth[pixels].iter().zip(labels).enumerate() {
                    counters[code as usize][j % 4] += u64::from(label == value);
                }
            }
            memory::collected(counters[..n_labels].iter().map(|lanes| lanes.iter().sum()), HITS)
        });
        let mut hits = memory::with_room(stack.len().saturating_mul(n_labels), HITS)?;
        for row in memory::gathered::<Result<Vec<u64>>>(rows, HITS)? {
            hits.extend(row?);
        }
        Ok(Array2::from_shape_vec((stack.len(), n_labels), hits).expect("a row for each map"))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;

    fn hits<Y: Label, L: Label>(
        y: &Array3<Y>,
        maps: &Array3<L>,
        ignore: Option<i64>,
    ) -> (Truth, Array2<u64>) {
        let cancel = Cancel::default();
        let stack = LabelStack::new(y.view().into_dyn(), "y_true").unwrap();
        let truth = Truth::new(&stack, &ignore.into(), &cancel).unwrap();
        let stack = LabelStack::new(maps.view().into_dyn(), "predictions").unwrap();
        let hits = truth.hits(&stack, &cancel).unwrap();
        (truth, hits)
    }

    #[test]
    fn hits_are_counted_label_by_label() {
        let y = array![[[7_i16, 7, -1, 255, 3, 300]]];
        let maps = array![[[7_i32, 3, -1, 255, 3, 300]], [[7, 7, 7, 7, 7, 7]]];
        let (truth, found) = hits(&y, &maps, Some(255));
        assert_eq!(truth.labels, [-1, 3, 7, 300]);
        assert_eq!(truth.totals, [1, 1, 2, 1]);
        assert_eq!(found, array![[1, 1, 1, 1], [0, 0, 2, 0]]);
    }

    #[test]
    fn labels_of_another_type_are_never_right() {
        let y = array![[[-1_i64, 300, 255, 0]]];
        let (truth, found) = hits(&y, &array![[[255_u8, 44, 255, 0]]], None);
        assert_eq!(truth.labels, [-1, 0, 255, 300]);
        assert_eq!(found, array![[0, 1, 1, 0]]);
        let (truth, found) = hits(&array![[[u64::MAX, 1]]], &array![[[-1_i64, 1]]], None);
        assert_eq!(truth.labels, [1, i128::from(u64::MAX)]);
        assert_eq!(found, array![[1, 0]]);
    }

    #[test]
    fn nothing_but_void() {
        let (truth, found) = hits(&array![[[255_u8, 255]]], &array![[[0_u8, 255]]], Some(255));
        assert_eq!((truth.labels.len(), found.dim()), (0, (1, 0)));
    }
}
