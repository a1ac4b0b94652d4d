//! `lambda* = min |z|_inf` over the `z` that are accurate enough: rays first, then branch and bound.
//!
//! Boxes wait in a heap, the nearest to 0 first (of equals, the one that may be most accurate). A box in which even the
//! pixels that are not surely wrong are too few is dropped; a point at which enough are right, verified by the argmax, is
//! the new best. The nearest box that waits is a lower bound, the best point an upper bound. A search sees one image alone
//! and uses fixed random numbers: its result is a function of the image, whatever else is searched, on any number of
//! threads.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use num_rational::BigRational;

use super::accuracy::Accuracy;
use super::bounds::{Pixel, Pixels, Region, Row, Slack, Undecided, judge, norm};
use super::field::Field;
use super::line::{Deepest, Piece, Sweep};
use crate::error::Result;
use crate::philox::Philox;
use crate::threads::Cancel;

/// The label of pixels that do not count.
pub const VOID: i32 = -1;

/// A search ends where the bracket is as narrow as this, absolutely or relatively to its upper end.
const TOLERANCE: f64 = 1e-6;
const RELATIVE_TOLERANCE: f64 = 1e-3;

/// The key of the random directions: the same for all images.
const KEY: u128 = 0x434f_4e53_4947_4e00;
/// Random rays, times the square of the number of dimensions: in few, branch and bound is as quick.
const RAYS: usize = 2;
/// Then half as many around the best one, at each of these distances.
const DISTANCES: [f64; 6] = [0.5, 0.25, 0.12, 0.06, 0.03, 0.01];

/// How far into a piece of a ray a tie at its end is left behind, relatively.
const NUDGES: [f64; 3] = [0.0, 1e-12, 1e-9];
/// Pieces of a ray that are tried.
const PIECES: usize = 6;

/// Space is searched shell by shell, each as much larger than what is inside; at the beginning, what is inside is the
/// largest ball, by halvings of the limit, that can be excluded at once.
const SHELL: f64 = 2.0;
const MAX_HALVINGS: i32 = 40;

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The accuracy.
    pub beta: BigRational,
    /// Whether it must be exceeded.
    pub strict: bool,
    /// Whether all pixels weigh alike, not all labels.
    pub pixelwise: bool,
    /// The largest lambda.
    pub lambda_max: f64,
    /// The largest number of boxes.
    pub node_budget: usize,
}

/// How sure a bracket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing was searched yet.
    Open,
    /// Its ends are within the tolerance.
    Exact,
    /// The budget was spent: the upper end is valid, but perhaps too large.
    UpperBound,
    /// No point up to `lambda_max` is accurate enough.
    Infeasible,
    /// The lower end is beyond the bound: the search was given up.
    NotNeeded,
}

/// What is known of `lambda*`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bracket {
    /// It is at least this.
    pub lower: f64,
    /// It is at most this, at `witness`.
    pub upper: f64,
    /// A verified point.
    pub witness: Option<Vec<f64>>,
    /// How the search ended.
    pub status: Status,
    /// Boxes searched.
    pub n_nodes: usize,
}

/// When to stop before the bracket is narrow.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// Once `lambda*` is surely beyond a bound.
    Beyond(f64),
    /// Once it is known on which side of a number `lambda*` lies: a narrow bracket is not enough.
    Decided(f64),
}

/// A decomposed image with labels.
#[derive(Debug)]
pub struct Image {
    /// Mean and components.
    pub field: Field,
    /// `m_k`.
    pub centre: Vec<f64>,
    /// `h_k`; 0 where a component does not move.
    pub half: Vec<f64>,
    /// The label of each pixel, or [`VOID`].
    pub labels: Vec<i32>,
}

/// A search for one image.
pub trait Search: Send + Sync {
    /// Finds a good upper bound by rays; with [`Stop::Decided`], perhaps no better than asked for.
    fn warm_start(&mut self, stop: Stop, cancel: &Cancel) -> Result<()>;

    /// Narrows the bracket by branch and bound.
    fn refine(&mut self, stop: Stop, cancel: &Cancel) -> Result<()>;

    /// What is known.
    fn bracket(&self) -> Bracket;

    /// The best accuracy that was seen.
    fn achieved(&self) -> BigRational;

    /// Bytes that are kept, more or less.
    fn n_bytes(&self) -> usize;
}

/// The search for an image; `None` if no pixel counts.
pub fn search(image: &Image, question: &Question) -> Option<Box<dyn Search>> {
    macro_rules! smallest_that_fits {
        ($($dimensions:literal),*) => {
            match image.centre.len() {
                $(n if n <= $dimensions => Problem::<$dimensions>::new(image, question).map(|p| Box::new(p) as _),)*
                n => unreachable!("{n} components were refused before"),
            }
        };
    }
    smallest_that_fits!(1, 2, 3, 4, 5, 6, 8, 16, 64)
}

/// The largest number of components.
pub const MAX_COMPONENTS: usize = 64;

/// Where accuracy is reached next to 0; before it is reached, where it is best.
struct BestRay<const K: usize> {
    direction: [f64; K],
    sum: u64,
}

/// A search; dimensions beyond the image's components do not move.
struct Problem<const K: usize> {
    question: Question,
    accuracy: Arc<Accuracy>,
    centre: [f64; K],
    half: [f64; K],
    moves: [bool; K],
    slack: Slack<K>,
    /// The pixels that are undecided up to the best point, their labels and groups.
    field: Field,
    labels: Vec<u16>,
    groups: Vec<u16>,
    rows: Vec<Row<K>>,
    undecided: Undecided,
    reduced_to: f64,
    /// Pixels of each group that are right anyway.
    right: Vec<u32>,
    best: f64,
    witness: Option<[f64; K]>,
    lower: f64,
    status: Status,
    n_nodes: usize,
    achieved: Vec<u32>,
    achieved_sum: u64,
    sweep: Sweep,
}

impl<const K: usize> Problem<K> {
    fn new(image: &Image, question: &Question) -> Option<Self> {
        let field = &image.field;
        let valid: Vec<u32> =
            (0..image.labels.len()).filter(|&p| image.labels[p] != VOID).map(|p| p as u32).collect();
        if valid.is_empty() {
            return None;
        }
        let labels: Vec<u16> = valid.iter().map(|&p| image.labels[p as usize] as u16).collect();
        let (groups, sizes) = groups_of(&labels, field.n_labels(), question.pixelwise);
        let accuracy = Arc::new(Accuracy::new(&sizes, question.beta.clone(), question.strict));
        let pad = |values: &[f64]| std::array::from_fn(|k| values.get(k).copied().unwrap_or(0.0));
        let (centre, half): ([f64; K], [f64; K]) = (pad(&image.centre), pad(&image.half));
        let mut problem = Self {
            question: question.clone(),
            centre,
            half,
            moves: half.map(|h| h > 0.0),
            slack: Slack { at_zero: 0.0, per_unit: [0.0; K] },
            field: field.select(&valid),
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
        problem.find_slack();
        problem.make_rows();
        Some(problem)
    }

    /// The largest magnitudes that the scores are made of.
    fn find_slack(&mut self) {
        let field = &self.field;
        let mut at_zero = vec![0.0_f64; field.n_pixels()];
        let (mut largest, mut per_unit) = (0.0_f64, [0.0_f64; K]);
        for label in 0..field.n_labels() {
            at_zero.iter_mut().zip(field.mean(label)).for_each(|(sum, mean)| *sum = mean.abs());
            for (k, per_unit) in per_unit.iter_mut().enumerate().take(field.n_components()) {
                let (component, centre) = (field.component(k, label), self.centre[k].abs());
                at_zero.iter_mut().zip(component).for_each(|(sum, u)| *sum += centre * u.abs());
                let steepest = component.iter().fold(0.0_f64, |steepest, u| steepest.max(u.abs()));
                *per_unit = per_unit.max(steepest * self.half[k]);
            }
            largest = at_zero.iter().copied().fold(largest, f64::max);
        }
        // A lead is the difference of two scores.
        let scale = 2.0 * Slack::<K>::ROUNDINGS;
        self.slack = Slack { at_zero: scale * largest, per_unit: per_unit.map(|x| scale * x) };
    }

    fn make_rows(&mut self) {
        let field = &self.field;
        let n_components = field.n_components();
        for (pixel, (&label, &group)) in self.labels.iter().zip(&self.groups).enumerate() {
            let y = usize::from(label);
            let first = self.rows.len();
            let mut never = false;
            for l in (0..field.n_labels()).filter(|&l| l != y) {
                let mut row = Row { lead: field.mean(y)[pixel] - field.mean(l)[pixel], gains: [0.0; K] };
                let mut is_equal = row.lead == 0.0;
                for k in 0..n_components {
                    let difference = field.component(k, y)[pixel] - field.component(k, l)[pixel];
                    is_equal &= difference == 0.0;
                    row.lead += self.centre[k] * difference;
                    row.gains[k] = self.half[k] * difference;
                }
                if !is_equal {
                    self.rows.push(row);
                } else if l < y {
                    // Equal everywhere: the lower label wins every tie.
                    never = true;
                    break;
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
        self.undecided.rows = (0..self.rows.len() as u32).collect();
    }

    fn pixels(&self) -> Pixels<'_, K> {
        Pixels { rows: &self.rows, undecided: &self.undecided, right: &self.right }
    }

    fn limit(&self) -> f64 {
        self.best.min(self.question.lambda_max)
    }

    /// Forgets the pixels that are decided up to the limit.
    fn reduce(&mut self) {
        self.reduced_to = self.limit();
        let region = Region::ball(self.limit(), &self.moves);
        let slack = self.slack.over(&region);
        let verdict = judge(self.pixels(), &region, slack, true);
        self.right = verdict.sure;
        self.rows = verdict.undecided.rows.iter().map(|&row| self.rows[row as usize]).collect();
        self.undecided =
            Undecided { pixels: verdict.undecided.pixels, rows: (0..self.rows.len() as u32).collect() };
        let take = |of: &[u16]| verdict.kept.iter().map(|&pixel| of[pixel as usize]).collect();
        (self.labels, self.groups) = (take(&self.labels), take(&self.groups));
        self.field = self.field.select(&verdict.kept);
    }

    /// How many pixels of each group the argmax at a point gets right.
    fn count(&self, z: &[f64; K]) -> Vec<u32> {
        let coefficients: [f64; K] = std::array::from_fn(|k| self.centre[k] + self.half[k] * z[k]);
        let mut right = self.right.clone();
        self.field.labels(&coefficients[..self.field.n_components()], |first, found| {
            let pixels = first..first + found.len();
            for ((found, label), &group) in
                found.iter().zip(&self.labels[pixels.clone()]).zip(&self.groups[pixels])
            {
                right[usize::from(group)] += u32::from(found == label);
            }
        });
        right
    }

    /// Makes a point the best, if it is nearer than the best and the argmax agrees that it is accurate enough.
    fn try_point(&mut self, z: &[f64; K]) -> bool {
        let distance = norm(z);
        if distance > self.question.lambda_max || distance >= self.best {
            return false;
        }
        let right = self.count(z);
        let sum = self.accuracy.sum(&right);
        let is_met = self.accuracy.is_met(sum, &right);
        if sum > self.achieved_sum {
            (self.achieved_sum, self.achieved) = (sum, right);
        }
        if is_met {
            (self.best, self.witness) = (distance, Some(*z));
        }
        is_met
    }

    /// Searches a ray up to the best point.
    fn ray(&mut self, direction: &[f64; K]) -> Option<Deepest> {
        let length = norm(direction);
        if length == 0.0 {
            return None;
        }
        let direction = direction.map(|x| x / length);
        let mut sweep = std::mem::take(&mut self.sweep);
        // What a sweep reads is moved out while points are tried; it is a few pointers.
        let (rows, undecided) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.undecided));
        let (right, accuracy) = (self.right.clone(), Arc::clone(&self.accuracy));
        let pixels = Pixels { rows: &rows, undecided: &undecided, right: &right };
        let limit = self.limit();
        let mut n_tried = 0;
        let deepest = sweep.along(pixels, &accuracy, &direction, limit, |piece| {
            n_tried += 1;
            self.try_piece(piece, &direction) || n_tried == PIECES
        });
        (self.sweep, self.rows, self.undecided) = (sweep, rows, undecided);
        Some(deepest)
    }

    fn try_piece(&mut self, piece: Piece, direction: &[f64; K]) -> bool {
        let middle = 0.5 * (piece.from + piece.to);
        NUDGES
            .iter()
            .map(|nudge| (piece.from * (1.0 + nudge)).min(middle))
            .chain([middle])
            .any(|t| self.try_point(&direction.map(|x| t * x)))
    }

    /// Searches a ray, and says whether it is the best one.
    fn compare(&mut self, direction: &[f64; K], best: &mut BestRay<K>) {
        let before = self.best;
        let Some(deepest) = self.ray(direction) else { return };
        if self.best < before {
            best.direction = *direction;
            if self.best <= 0.5 * self.reduced_to {
                self.reduce();
            }
        } else if self.witness.is_none() && deepest.sum > best.sum {
            *best = BestRay { direction: *direction, sum: deepest.sum };
            // Seen, not only computed.
            let middle = 0.5 * (deepest.piece.from + deepest.piece.to) / norm(direction);
            self.try_point(&direction.map(|x| x * middle));
        }
    }

    /// Whether nothing more is to be found out.
    fn is_decided(&self, stop: Stop) -> bool {
        self.best == 0.0 || matches!(stop, Stop::Decided(at) if self.best <= at)
    }

    fn close(&mut self, lower: f64, status: Status) {
        self.lower = self.lower.max(lower).min(self.best);
        self.status = status;
    }
}

/// The group of each pixel, and the sizes of the groups.
fn groups_of(labels: &[u16], n_labels: usize, pixelwise: bool) -> (Vec<u16>, Vec<u32>) {
    if pixelwise {
        return (vec![0; labels.len()], vec![labels.len() as u32]);
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
    (labels.iter().map(|&label| groups[usize::from(label)]).collect(), sizes)
}

impl<const K: usize> Search for Problem<K> {
    fn warm_start(&mut self, stop: Stop, cancel: &Cancel) -> Result<()> {
        if self.status != Status::Open || self.witness.is_some() {
            return Ok(());
        }
        if self.try_point(&[0.0; K]) {
            self.close(0.0, Status::Exact);
        }
        let moving: Vec<usize> = (0..K).filter(|&k| self.moves[k]).collect();
        if self.is_decided(stop) || moving.is_empty() {
            return Ok(());
        }
        let mut ray = BestRay { direction: [0.0; K], sum: 0 };
        for &k in &moving {
            for sign in [1.0, -1.0] {
                self.compare(&std::array::from_fn(|i| if i == k { sign } else { 0.0 }), &mut ray);
            }
        }
        if moving.len() > 1 {
            let n_rays = RAYS * moving.len() * moving.len();
            let mut random = Directions { generator: Philox::new(KEY), next: 0, moves: self.moves };
            for _ in 0..n_rays {
                cancel.check()?;
                self.compare(&random.draw(), &mut ray);
            }
            for distance in DISTANCES {
                for _ in 0..n_rays / 2 {
                    if self.is_decided(stop) {
                        return Ok(());
                    }
                    cancel.check()?;
                    let (step, length) = (random.draw(), norm(&ray.direction));
                    let near = std::array::from_fn(|k| ray.direction[k] / length + distance * step[k]);
                    self.compare(&near, &mut ray);
                }
            }
        }
        if !self.is_decided(stop) {
            self.reduce();
        }
        Ok(())
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

/// A box that waits.
struct Node<const K: usize> {
    region: Region<K>,
    /// Its distance to 0.
    distance: f64,
    /// The best accuracy it may hold, in units.
    possible: u64,
    number: usize,
    right: Vec<u32>,
    undecided: Undecided,
    split: usize,
}

impl<const K: usize> Ord for Node<K> {
    /// The heap gives the largest: the nearest box, of equals the most promising, of equals the oldest.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .distance
            .total_cmp(&self.distance)
            .then(self.possible.cmp(&other.possible))
            .then(other.number.cmp(&self.number))
    }
}

impl<const K: usize> PartialOrd for Node<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const K: usize> PartialEq for Node<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<const K: usize> Eq for Node<K> {}

impl<const K: usize> Problem<K> {
    /// Lower bound and status.
    fn branch_and_bound(&mut self, stop: Stop, cancel: &Cancel) -> Result<(f64, Status)> {
        let mut heap = BinaryHeap::new();
        let (right, undecided) = (self.right.clone(), self.undecided.clone());
        let asked = Pixels { rows: &[], undecided: &undecided, right: &right };
        // Boxes that floats cannot split.
        let mut stuck = f64::INFINITY;
        // The heap holds what is nearer than this, shell by shell.
        let mut inner = self.start(asked, &mut heap);
        loop {
            cancel.check()?;
            let outside = if inner < self.limit() { inner } else { f64::INFINITY };
            let waiting = heap.peek().map_or(f64::INFINITY, |node: &Node<K>| node.distance);
            let lower = waiting.min(outside).min(stuck);
            if let Some(status) = self.ending(lower, waiting.min(outside), stop) {
                return Ok((lower, status));
            }
            if outside <= waiting {
                let outer = (SHELL * inner).min(self.limit());
                self.visit_shell(inner, outer, asked, &mut heap);
                inner = outer;
                continue;
            }
            let Some(node) = heap.pop() else { continue };
            let Some(region) = node.region.within(self.best) else { continue };
            let Some(halves) = region.split(node.split) else {
                stuck = stuck.min(node.distance);
                continue;
            };
            for half in halves {
                self.visit(half, &node.right, &node.undecided, &mut heap);
            }
        }
    }

    /// How the search ends, if it does: `lower` is its bound, of which `waiting` can still be raised.
    fn ending(&self, lower: f64, waiting: f64, stop: Stop) -> Option<Status> {
        let is_narrow = self.best - lower.min(self.best) <= self.tolerance();
        let is_over = waiting >= self.best;
        match stop {
            _ if is_over && self.best.is_infinite() && lower.is_infinite() => Some(Status::Infeasible),
            Stop::Beyond(bound) if lower > bound && lower < self.best => Some(Status::NotNeeded),
            Stop::Decided(at) if lower > at || self.best <= at => Some(Status::Exact),
            Stop::Beyond(_) if is_narrow && self.best.is_finite() => Some(Status::Exact),
            _ if is_over => Some(if is_narrow { Status::Exact } else { Status::UpperBound }),
            _ if self.n_nodes >= self.question.node_budget => Some(Status::UpperBound),
            _ => None,
        }
    }

    /// A radius within which nothing is accurate enough, as large as one look at the ball can tell.
    fn start(&mut self, asked: Pixels<'_, K>, heap: &mut BinaryHeap<Node<K>>) -> f64 {
        let radius = |halvings: i32| self.limit() * 2.0_f64.powi(-halvings);
        // Fewer halvings than `low` are too few, `high` are enough.
        let (mut low, mut high) = (0, MAX_HALVINGS + 1);
        while low < high {
            let middle = i32::midpoint(low, high);
            let region = Region::ball(radius(middle), &self.moves);
            if self.possible(&region, asked) { low = middle + 1 } else { high = middle }
        }
        if low <= MAX_HALVINGS {
            return radius(low);
        }
        let smallest = radius(MAX_HALVINGS);
        self.visit(Region::ball(smallest, &self.moves), asked.right, asked.undecided, heap);
        smallest
    }

    /// Whether a box may hold a point that is accurate enough.
    fn possible(&self, region: &Region<K>, asked: Pixels<'_, K>) -> bool {
        let verdict = judge(Pixels { rows: &self.rows, ..asked }, region, self.slack.over(region), false);
        self.accuracy.is_met(self.accuracy.sum(&verdict.possible), &verdict.possible)
    }

    /// Visits `inner < |z| <= outer`, as boxes.
    fn visit_shell(&mut self, inner: f64, outer: f64, asked: Pixels<'_, K>, heap: &mut BinaryHeap<Node<K>>) {
        let ball = Region::ball(outer, &self.moves);
        let asked = Pixels { rows: &self.rows, ..asked };
        let verdict = judge(asked, &ball, self.slack.over(&ball), false);
        if !self.accuracy.is_met(self.accuracy.sum(&verdict.possible), &verdict.possible) {
            return;
        }
        let (mut rest, moves) = (ball, self.moves);
        for k in (0..K).filter(|&k| moves[k]) {
            let (mut below, mut above) = (rest, rest);
            (below.high[k], above.low[k]) = (-inner, inner);
            self.visit(below, &verdict.sure, &verdict.undecided, heap);
            self.visit(above, &verdict.sure, &verdict.undecided, heap);
            (rest.low[k], rest.high[k]) = (-inner, inner);
        }
    }

    fn tolerance(&self) -> f64 {
        if self.best.is_finite() { TOLERANCE.max(RELATIVE_TOLERANCE * self.best) } else { 0.0 }
    }

    /// Judges a box: tries its points, and lets it wait unless nothing in it can be accurate enough.
    fn visit(
        &mut self,
        region: Region<K>,
        right: &[u32],
        undecided: &Undecided,
        heap: &mut BinaryHeap<Node<K>>,
    ) {
        self.n_nodes += 1;
        let asked = Pixels { rows: &self.rows, undecided, right };
        let verdict = judge(asked, &region, self.slack.over(&region), false);
        let possible = self.accuracy.sum(&verdict.possible);
        if !self.accuracy.is_met(possible, &verdict.possible) {
            return;
        }
        for (right, point) in [(&verdict.at_nearest, region.nearest()), (&verdict.at_centre, region.centre())]
        {
            let is_met = self.accuracy.is_met(self.accuracy.sum(right), right);
            if is_met && norm(&point) < self.best && self.try_point(&point) {
                // Perhaps there is a nearer point on the same ray.
                self.ray(&point);
            }
        }
        let distance = norm(&region.nearest());
        if region.low == region.high {
            // A point: the argmax itself has the last word.
            self.try_point(&region.nearest());
            return;
        }
        if distance >= self.best {
            return;
        }
        let mut split = 0;
        for k in 1..K {
            if verdict.spread[k] > verdict.spread[split] {
                split = k;
            }
        }
        let number = self.n_nodes;
        let (right, undecided) = (verdict.sure, verdict.undecided);
        heap.push(Node { region, distance, possible, number, right, undecided, split });
    }
}

/// Random directions, uniform in the cube of the dimensions that move.
struct Directions<const K: usize> {
    generator: Philox,
    next: u64,
    moves: [bool; K],
}

impl<const K: usize> Directions<K> {
    fn draw(&mut self) -> [f64; K] {
        let moves = self.moves;
        std::array::from_fn(|k| {
            if !moves[k] {
                return 0.0;
            }
            let number = self.generator.block(self.next / 4)[(self.next % 4) as usize];
            self.next += 1;
            2.0 * unit(number) - 1.0
        })
    }
}

/// A random number in [0, 1), as NumPy makes it.
pub fn unit(number: u64) -> f64 {
    (number >> 11) as f64 * (f64::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(beta: (i64, i64)) -> Question {
        Question {
            beta: BigRational::new(beta.0.into(), beta.1.into()),
            strict: false,
            pixelwise: false,
            lambda_max: 8.0,
            node_budget: 1_000_000,
        }
    }

    /// Random fields of `n_components` with 3 labels and 30 pixels.
    fn random(key: u128, n_components: usize) -> Image {
        let generator = Philox::new(key);
        let mut next = 0;
        let mut draw = |n: usize| -> Vec<f64> {
            (0..n)
                .map(|_| {
                    next += 1;
                    2.0 * unit(generator.block(next)[0]) - 1.0
                })
                .collect()
        };
        let (mean, components) = (draw(90), draw(90 * n_components));
        let labels = draw(30).iter().map(|x| (1.5 * (x + 1.0)) as i32).collect();
        Image {
            field: Field::new(3, n_components, mean, components),
            centre: draw(n_components),
            half: vec![1.0; n_components],
            labels,
        }
    }

    fn solve(image: &Image, question: &Question, stop: Stop) -> Bracket {
        let mut search = search(image, question).expect("labelled pixels");
        search.warm_start(stop, &Cancel::default()).unwrap();
        search.refine(stop, &Cancel::default()).unwrap();
        search.bracket()
    }

    fn accuracy_at(image: &Image, z: &[f64]) -> f64 {
        let c: Vec<f64> = (0..z.len()).map(|k| image.centre[k] + image.half[k] * z[k]).collect();
        let (mut right, mut counts) = ([0.0; 3], [0.0; 3]);
        image.field.labels(&c, |first, found| {
            for (&found, &label) in found.iter().zip(&image.labels[first..]) {
                counts[label as usize] += 1.0;
                right[label as usize] += f64::from(i32::from(found) == label);
            }
        });
        let shares: Vec<f64> = (0..3).filter(|&l| counts[l] > 0.0).map(|l| right[l] / counts[l]).collect();
        shares.iter().sum::<f64>() / shares.len() as f64
    }

    #[test]
    fn no_point_of_a_grid_is_nearer_than_the_lower_bound() {
        let (mut n_exact, mut n_infeasible) = (0, 0);
        for key in 0..12 {
            let image = random(key, 2);
            for beta in [(9, 20), (11, 20), (13, 20)] {
                let bracket = solve(&image, &question(beta), Stop::Beyond(f64::INFINITY));
                match bracket.status {
                    Status::Exact => n_exact += 1,
                    Status::Infeasible => n_infeasible += 1,
                    status => panic!("{status:?}"),
                }
                if let Some(z) = &bracket.witness {
                    assert!(accuracy_at(&image, z) >= beta.0 as f64 / beta.1 as f64 - 1e-12);
                    assert_eq!(z.iter().fold(0.0_f64, |m, x| m.max(x.abs())), bracket.upper);
                    assert!(bracket.upper - bracket.lower <= 1e-3 * bracket.upper + 1e-6);
                }
                let nearer = bracket.lower.min(8.0) * (1.0 - 1e-9);
                for i in -40..=40 {
                    for j in -40..=40 {
                        let z = [f64::from(i) / 40.0 * nearer, f64::from(j) / 40.0 * nearer];
                        assert!(
                            bracket.lower == 0.0 || accuracy_at(&image, &z) < beta.0 as f64 / beta.1 as f64
                        );
                    }
                }
            }
        }
        assert!(n_exact > 8 && n_infeasible > 3, "{n_exact} exact, {n_infeasible} infeasible");
    }

    #[test]
    fn searches_stop_when_they_may() {
        let mut n_given_up = 0;
        for key in 0..20 {
            let image = random(key, 3);
            let question = question((3, 5));
            let whole = solve(&image, &question, Stop::Beyond(f64::INFINITY));
            let bound = 0.4 * whole.upper.min(4.0);
            let given_up = solve(&image, &question, Stop::Beyond(bound));
            if given_up.status == Status::NotNeeded {
                n_given_up += 1;
                assert!(given_up.lower > bound && whole.upper > bound);
                assert!(given_up.n_nodes <= whole.n_nodes);
            } else {
                assert_eq!(given_up, whole);
            }
            for at in [0.5 * whole.upper, whole.upper, 2.0 * whole.upper] {
                let decided = solve(&image, &question, Stop::Decided(at));
                assert_eq!(decided.upper <= at, whole.upper <= at);
                assert!(decided.upper <= at || decided.lower > at || at >= whole.lower);
            }
        }
        assert!(n_given_up > 5, "{n_given_up}");
    }

    #[test]
    fn budgets_and_frozen_dimensions() {
        let mut image = random(3, 3);
        let short =
            solve(&image, &Question { node_budget: 1, ..question((3, 5)) }, Stop::Beyond(f64::INFINITY));
        assert_eq!(short.status, Status::UpperBound);
        let whole = solve(&image, &question((3, 5)), Stop::Beyond(f64::INFINITY));
        assert!(short.lower <= whole.upper && whole.lower <= short.upper);
        image.half = vec![0.0; 3];
        let frozen = solve(&image, &question((3, 5)), Stop::Beyond(f64::INFINITY));
        assert_eq!(frozen.status, Status::Infeasible);
        let met = accuracy_at(&image, &[0.0; 3]);
        let question = Question { beta: BigRational::from_float(met - 1e-9).unwrap(), ..question((1, 1)) };
        let frozen = solve(&image, &question, Stop::Beyond(f64::INFINITY));
        assert_eq!((frozen.status, frozen.upper, frozen.lower), (Status::Exact, 0.0, 0.0));
    }

    #[test]
    fn interrupted_searches_know_what_they_knew() {
        let mut search = search(&random(1, 3), &question((3, 5))).unwrap();
        let stop = Stop::Beyond(f64::INFINITY);
        search.warm_start(stop, &Cancel::default()).unwrap();
        let before = search.bracket();
        let cancel = Cancel::default();
        cancel.set();
        assert!(search.refine(stop, &cancel).is_err());
        assert_eq!(search.bracket().upper, before.upper);
        search.refine(stop, &Cancel::default()).unwrap();
        assert_ne!(search.bracket().status, Status::Open);
    }

    #[test]
    fn void_images_are_no_question() {
        let mut image = random(0, 2);
        image.labels.fill(VOID);
        assert!(search(&image, &question((1, 2))).is_none());
    }
}
