//! Branch and bound: boxes wait in a heap, the nearest to 0 first (of equals, the one that may be most accurate).

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::problem::Problem;
use super::{Search, Status, Stop};
use crate::consign::bounds::{Pixels, Region, Undecided, judge, norm};
use crate::error::{Error, Result};
use crate::memory;
use crate::threads::Cancel;

/// Space is searched in shells, each of which is larger than its inside by this factor. The first inside is the largest ball
/// that can be excluded at once; it is found by halving the limit.
const SHELL: f64 = 2.0;
const MAX_HALVINGS: i32 = 40;

/// A box in the queue.
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
    pub(super) fn branch_and_bound(&mut self, stop: Stop, cancel: &Cancel) -> Result<(f64, Status)> {
        let mut heap = BinaryHeap::new();
        memory::probe::<u8>(self.n_bytes(), "a search")?;
        let (right, undecided) = (self.right.clone(), self.undecided.clone());
        let asked = Pixels { rows: &[], undecided: &undecided, right: &right };
        // Boxes that floats cannot split.
        let mut stuck = f64::INFINITY;
        // The heap holds the boxes that are nearer than this, shell by shell.
        let mut inner = self.start(asked, &mut heap, cancel)?;
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
                self.visit_shell(inner, outer, asked, &mut heap, cancel)?;
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
                self.visit(half, &node.right, &node.undecided, &mut heap, cancel)?;
            }
        }
    }

    /// How the search ends, if it does: `lower` is the bound, and `waiting` its part from boxes that can still be split.
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

    /// A radius within which nothing is accurate enough, the largest that follows from judging single balls.
    fn start(
        &mut self,
        asked: Pixels<'_, K>,
        heap: &mut BinaryHeap<Node<K>>,
        cancel: &Cancel,
    ) -> Result<f64> {
        let radius = |halvings: i32| self.limit() * 2.0_f64.powi(-halvings);
        // Fewer halvings than `low` are not enough, `high` halvings are.
        let (mut low, mut high) = (0, MAX_HALVINGS + 1);
        while low < high {
            let middle = i32::midpoint(low, high);
            let region = Region::ball(radius(middle), &self.moves);
            if self.possible(&region, asked, cancel)? { low = middle + 1 } else { high = middle }
        }
        if low <= MAX_HALVINGS {
            return Ok(radius(low));
        }
        let smallest = radius(MAX_HALVINGS);
        self.visit(Region::ball(smallest, &self.moves), asked.right, asked.undecided, heap, cancel)?;
        Ok(smallest)
    }

    /// Whether a box may hold a point that is accurate enough.
    fn possible(&self, region: &Region<K>, asked: Pixels<'_, K>, cancel: &Cancel) -> Result<bool> {
        let asked = Pixels { rows: &self.rows, ..asked };
        let verdict = judge(asked, region, self.slack.over(region), false, cancel)?;
        Ok(self.accuracy.is_met(self.accuracy.sum(&verdict.possible), &verdict.possible))
    }

    /// Visits `inner < |z| <= outer`, as boxes.
    fn visit_shell(
        &mut self,
        inner: f64,
        outer: f64,
        asked: Pixels<'_, K>,
        heap: &mut BinaryHeap<Node<K>>,
        cancel: &Cancel,
    ) -> Result<()> {
        let ball = Region::ball(outer, &self.moves);
        let asked = Pixels { rows: &self.rows, ..asked };
        let verdict = judge(asked, &ball, self.slack.over(&ball), false, cancel)?;
        if !self.accuracy.is_met(self.accuracy.sum(&verdict.possible), &verdict.possible) {
            return Ok(());
        }
        let (mut rest, moves) = (ball, self.moves);
        for k in (0..K).filter(|&k| moves[k]) {
            let (mut below, mut above) = (rest, rest);
            (below.high[k], above.low[k]) = (-inner, inner);
            self.visit(below, &verdict.sure, &verdict.undecided, heap, cancel)?;
            self.visit(above, &verdict.sure, &verdict.undecided, heap, cancel)?;
            (rest.low[k], rest.high[k]) = (-inner, inner);
        }
        Ok(())
    }

    /// Judges a box: tries its points, and queues it unless nothing in it can be accurate enough.
    fn visit(
        &mut self,
        region: Region<K>,
        right: &[u32],
        undecided: &Undecided,
        heap: &mut BinaryHeap<Node<K>>,
        cancel: &Cancel,
    ) -> Result<()> {
        self.n_nodes += 1;
        let asked = Pixels { rows: &self.rows, undecided, right };
        let verdict = judge(asked, &region, self.slack.over(&region), false, cancel)?;
        let possible = self.accuracy.sum(&verdict.possible);
        if !self.accuracy.is_met(possible, &verdict.possible) {
            return Ok(());
        }
        for (right, point) in [(&verdict.at_nearest, region.nearest()), (&verdict.at_centre, region.centre())]
        {
            let is_met = self.accuracy.is_met(self.accuracy.sum(right), right);
            if is_met && norm(&point) < self.best && self.try_point(&point, cancel)? {
                // Perhaps there is a nearer point on the same ray.
                self.ray(&point, cancel)?;
            }
        }
        let distance = norm(&region.nearest());
        if region.low == region.high {
            // The box is a point: the argmax itself decides.
            return self.try_point(&region.nearest(), cancel).map(|_| ());
        }
        if distance >= self.best {
            return Ok(());
        }
        let mut split = 0;
        for k in 1..K {
            if verdict.spread[k] > verdict.spread[split] {
                split = k;
            }
        }
        let number = self.n_nodes;
        let (right, undecided) = (verdict.sure, verdict.undecided);
        let (what, bytes) = ("the boxes of a search", (heap.len() * size_of::<Node<K>>()) as u128);
        heap.try_reserve(1).map_err(|_| Error::Memory { what, bytes })?;
        heap.push(Node { region, distance, possible, number, right, undecided, split });
        Ok(())
    }
}
