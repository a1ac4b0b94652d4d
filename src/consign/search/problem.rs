//! The state of the search of an image: the pixels that are still undecided, the best point, the bracket.

use std::sync::Arc;

use num_rational::BigRational;

use super::{Bracket, Image, Question, Search, Status, Stop, VOID};
use crate::consign::accuracy::Accuracy;
use crate::consign::bounds::{Pixel, Pixels, Region, Row, Slack, Undecided, judge, norm};
use crate::consign::field::Field;
use crate::consign::line::Sweep;
use crate::error::Result;
use crate::memory;
use crate::threads::Cancel;

/// What errors call the data of a search.
const PIXELS: &str = "the pixels of a search";
/// A search ends where the bracket is as narrow as this, absolutely or relatively to its upper end.
const TOLERANCE: f64 = 1e-6;
const RELATIVE_TOLERANCE: f64 = 1e-3;

/// A search; dimensions beyond the image's components do not move.
#[derive(Clone)]
pub(super) struct Problem<const K: usize> {
    pub(super) question: Question,
    pub(super) accuracy: Arc<Accuracy>,
    pub(super) centre: [f64; K],
    pub(super) half: [f64; K],
    pub(super) moves: [bool; K],
    pub(super) slack: Slack<K>,
    /// The pixels that are undecided up to the best point, their labels and groups.
    pub(super) field: Arc<Field>,
    pub(super) labels: Vec<u16>,
    pub(super) groups: Vec<u16>,
    pub(super) rows: Vec<Row<K>>,
    pub(super) undecided: Undecided,
    pub(super) reduced_to: f64,
    /// Pixels of each group that are right anyway.
    pub(super) right: Vec<u32>,
    pub(super) best: f64,
    pub(super) witness: Option<[f64; K]>,
    pub(super) lower: f64,
    pub(super) status: Status,
    pub(super) n_nodes: usize,
    pub(super) achieved: Vec<u32>,
    pub(super) achieved_sum: u64,
    pub(super) sweep: Sweep,
}

impl<const K: usize> Problem<K> {
    pub(super) fn new(image: &Image, question: &Question, cancel: &Cancel) -> Result<Option<Self>> {
        let field = &image.field;
        let mut valid = memory::with_room(image.labels.len(), PIXELS)?;
        valid.extend((0..image.labels.len()).filter(|&p| image.labels[p] != VOID).map(|p| p as u32));
        if valid.is_empty() {
            return Ok(None);
        }
        let is_whole = valid.len() == field.n_pixels();
        let labels = memory::collected(valid.iter().map(|&p| image.labels[p as usize] as u16), PIXELS)?;
        let (groups, sizes) = groups_of(&labels, field.n_labels(), question.pixelwise)?;
        let accuracy = Arc::new(Accuracy::new(&sizes, question.beta.clone(), question.strict));
        let pad = |values: &[f64]| std::array::from_fn(|k| values.get(k).copied().unwrap_or(0.0));
        let (centre, half): ([f64; K], [f64; K]) = (pad(&image.centre), pad(&image.half));
        let mut problem = Self {
            question: question.clone(),
            centre,
            half,
            moves: half.map(|h| h > 0.0),
            slack: Slack { at_zero: 0.0, per_unit: [0.0; K] },
            field: if is_whole { Arc::clone(field) } else { Arc::new(field.select(&valid, cancel)?) },
            rows: Vec::new(),
            undecided: Undecided::default(),
            reduced_to: f64::INFINITY,
            right: vec![0; sizes.len()],
            best: f64::INFINITY,
            witness: None,
            lower: 0.0,
            status: Status::Open,
            n_nodes: 0,
            achieved: vec![0; sizes.len()],
            achieved_sum: 0,
            sweep: Sweep::default(),
            labels,
            groups,
            accuracy,
        };
        problem.make_rows(cancel)?;
        Ok(Some(problem))
    }

    /// The leads over competitors that may be ahead or behind, and the slack of the largest of them. A competitor that is far
    /// ahead or behind everywhere, such as a class that is masked by a very low score, is decided by its own slack, and does
    /// not increase the slack of the others.
    fn make_rows(&mut self, cancel: &Cancel) -> Result<()> {
        let field = &self.field;
        let lambda_max = self.question.lambda_max;
        let (mut at_zero, mut per_unit) = (0.0_f64, [0.0_f64; K]);
        memory::reserve(&mut self.undecided.pixels, self.labels.len(), PIXELS)?;
        for (pixel, (&label, &group)) in self.labels.iter().zip(&self.groups).enumerate() {
            cancel.check()?;
            memory::reserve(&mut self.rows, field.n_labels(), PIXELS)?;
            let y = usize::from(label);
            let first = self.rows.len();
            let mut never = false;
            for l in (0..field.n_labels()).filter(|&l| l != y) {
                let (own, other) = (field.mean(y)[pixel], field.mean(l)[pixel]);
                let mut row = Row { lead: own - other, gains: [0.0; K] };
                let mut is_equal = row.lead == 0.0;
                // The magnitudes that both scores are made of.
                let (mut magnitude, mut magnitudes) = (own.abs() + other.abs(), [0.0; K]);
                for (k, moving) in magnitudes.iter_mut().enumerate().take(field.n_components()) {
                    let (own, other) = (field.component(k, y)[pixel], field.component(k, l)[pixel]);
                    let (difference, both) = (own - other, own.abs() + other.abs());
                    is_equal &= difference == 0.0;
                    row.lead += self.centre[k] * difference;
                    row.gains[k] = self.half[k] * difference;
                    magnitude += self.centre[k].abs() * both;
                    *moving = self.half[k] * both;
                }
                let slack = Slack::<K>::ROUNDINGS * (magnitude + lambda_max * magnitudes.iter().sum::<f64>());
                let reach = lambda_max * row.gains.iter().map(|gain| gain.abs()).sum::<f64>();
                // Equal everywhere: the lower label wins every tie.
                never = row.lead + reach < -slack || (is_equal && l < y);
                if never {
                    break;
                }
                if !is_equal && row.lead - reach <= slack {
                    self.rows.push(row);
                    at_zero = at_zero.max(magnitude);
                    per_unit.iter_mut().zip(magnitudes).for_each(|(largest, x)| *largest = largest.max(x));
                }
            }
            if never {
                self.rows.truncate(first);
                // A competitor that always leads.
                self.rows.push(Row { lead: f64::NEG_INFINITY, gains: [0.0; K] });
            }
            let n_rows = (self.rows.len() - first) as u16;
            self.undecided.pixels.push(Pixel { group, n_rows });
        }
        self.undecided.rows = memory::collected(0..self.rows.len() as u32, PIXELS)?;
        let scale = Slack::<K>::ROUNDINGS;
        self.slack = Slack { at_zero: scale * at_zero, per_unit: per_unit.map(|x| scale * x) };
        Ok(())
    }

    pub(super) fn pixels(&self) -> Pixels<'_, K> {
        Pixels { rows: &self.rows, undecided: &self.undecided, right: &self.right }
    }

    pub(super) fn limit(&self) -> f64 {
        self.best.min(self.question.lambda_max)
    }

    /// Forgets the pixels that are decided up to the limit.
    pub(super) fn reduce(&mut self, cancel: &Cancel) -> Result<()> {
        let region = Region::ball(self.limit(), &self.moves);
        let slack = self.slack.over(&region);
        let verdict = judge(self.pixels(), &region, slack, true, cancel)?;
        let (pixels, kept, open) = (verdict.undecided.pixels, verdict.kept, verdict.undecided.rows);
        let rows = memory::collected(open.iter().map(|&row| self.rows[row as usize]), PIXELS)?;
        let undecided = Undecided { pixels, rows: memory::collected(0..rows.len() as u32, PIXELS)? };
        let take = |of: &[u16]| memory::collected(kept.iter().map(|&pixel| of[pixel as usize]), PIXELS);
        let (labels, groups) = (take(&self.labels)?, take(&self.groups)?);
        let field = Arc::new(self.field.select(&kept, cancel)?);
        // Stored only now, so that a search that is stopped keeps its earlier state.
        (self.reduced_to, self.right) = (self.limit(), verdict.sure);
        (self.rows, self.undecided) = (rows, undecided);
        (self.labels, self.groups, self.field) = (labels, groups, field);
        Ok(())
    }

    /// How many pixels of each group the argmax at a point gets right.
    fn count(&self, z: &[f64; K], cancel: &Cancel) -> Result<Vec<u32>> {
        let coefficients: [f64; K] = std::array::from_fn(|k| self.centre[k] + self.half[k] * z[k]);
        let mut right = self.right.clone();
        self.field.labels(&coefficients[..self.field.n_components()], cancel, |first, found| {
            let pixels = first..first + found.len();
            for ((found, label), &group) in
                found.iter().zip(&self.labels[pixels.clone()]).zip(&self.groups[pixels])
            {
                right[usize::from(group)] += u32::from(found == label);
            }
        })?;
        Ok(right)
    }

    /// Makes a point the best, if it is nearer than the best and the argmax agrees that it is accurate enough.
    pub(super) fn try_point(&mut self, z: &[f64; K], cancel: &Cancel) -> Result<bool> {
        let distance = norm(z);
        if distance > self.question.lambda_max || distance >= self.best {
            return Ok(false);
        }
        let right = self.count(z, cancel)?;
        let sum = self.accuracy.sum(&right);
        let is_met = self.accuracy.is_met(sum, &right);
        if sum > self.achieved_sum {
            (self.achieved_sum, self.achieved) = (sum, right);
        }
        if is_met {
            (self.best, self.witness) = (distance, Some(*z));
        }
        Ok(is_met)
    }

    /// Searches only up to a number, where few pixels are undecided. If this finds nothing, the full search follows.
    fn scout(&mut self, at: f64, cancel: &Cancel) -> Result<()> {
        let question = Question { lambda_max: at, ..self.question.clone() };
        memory::probe::<u8>(self.n_bytes(), "a search")?;
        let mut scout = Self { question, ..self.clone() };
        scout.reduce(cancel)?;
        scout.search_rays(Stop::Decided(at), cancel)?;
        if let Some(witness) = scout.witness {
            self.try_point(&witness, cancel)?;
        }
        Ok(())
    }

    /// Whether the search is finished.
    pub(super) fn is_decided(&self, stop: Stop) -> bool {
        self.best == 0.0 || matches!(stop, Stop::Decided(at) if self.best <= at)
    }

    fn close(&mut self, lower: f64, status: Status) {
        self.lower = self.lower.max(lower).min(self.best);
        self.status = status;
    }

    pub(super) fn tolerance(&self) -> f64 {
        if self.best.is_finite() { TOLERANCE.max(RELATIVE_TOLERANCE * self.best) } else { 0.0 }
    }
}

/// The group of each pixel, and the sizes of the groups.
fn groups_of(labels: &[u16], n_labels: usize, pixelwise: bool) -> Result<(Vec<u16>, Vec<u32>)> {
    if pixelwise {
        let groups = memory::collected(labels.iter().map(|_| 0), PIXELS)?;
        return Ok((groups, vec![labels.len() as u32]));
    }
    let mut counts = vec![0_u32; n_labels];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    let mut groups = vec![0_u16; n_labels];
    let mut sizes = Vec::new();
    for (group, &count) in groups.iter_mut().zip(&counts).filter(|(_, count)| **count > 0) {
        *group = sizes.len() as u16;
        sizes.push(count);
    }
    Ok((memory::collected(labels.iter().map(|&label| groups[usize::from(label)]), PIXELS)?, sizes))
}

impl<const K: usize> Search for Problem<K> {
    fn warm_start(&mut self, stop: Stop, cancel: &Cancel) -> Result<()> {
        if self.status != Status::Open || self.witness.is_some() {
            return Ok(());
        }
        if self.try_point(&[0.0; K], cancel)? {
            self.close(0.0, Status::Exact);
        }
        if let Stop::Decided(at) = stop
            && at > 0.0
            && at < self.limit()
        {
            self.scout(at, cancel)?;
        }
        self.search_rays(stop, cancel)
    }

    fn refine(&mut self, stop: Stop, cancel: &Cancel) -> Result<()> {
        if self.status != Status::Open {
            return Ok(());
        }
        if self.is_decided(stop) {
            self.close(self.lower, Status::Exact);
            return Ok(());
        }
        let outcome = self.branch_and_bound(stop, cancel)?;
        self.close(outcome.0, outcome.1);
        Ok(())
    }

    fn bracket(&self) -> Bracket {
        let n = self.field.n_components();
        let witness = self.witness.map(|z| z[..n].to_vec());
        Bracket { lower: self.lower, upper: self.best, witness, status: self.status, n_nodes: self.n_nodes }
    }

    fn achieved(&self) -> BigRational {
        self.accuracy.exact(&self.achieved)
    }

    fn n_bytes(&self) -> usize {
        let planes = (1 + self.field.n_components()) * self.field.n_labels() * self.field.n_pixels();
        8 * planes + self.rows.len() * (size_of::<Row<K>>() + 4) + self.labels.len() * 8
    }
}
