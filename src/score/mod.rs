//! Conformity scores: how strange is a label at a pixel?
//!
//! A score gives every label of every pixel a *critical value*: the lambda at which the label enters the pixel's set.
//! Calibration reads the critical values of the true labels ([`Score::true_labels`]); prediction compares all of them
//! with lambda ([`Score::masks`], [`Score::sizes`]). Both go by the same definition, so that thresholding the maps at a
//! calibrated lambda gives exactly the risk that calibration promised.

mod activation;
mod aps;
mod coding;
mod compare;
mod given;
mod held;
mod lac;
mod lambdas;
mod network;
mod ranked;
mod raps;
mod sacp;
mod scan;
mod spec;

use std::ops::Range;

use ndarray::ArrayViewMut2;

pub use self::activation::{Activations, CELL_BITS, N_CELLS};
use self::aps::{BeforeAll, BeforeSome};
pub use self::coding::Coding;
pub(crate) use self::compare::include_from;
pub use self::given::Given;
pub use self::held::Held;
pub use self::lac::Lac;
pub use self::lambdas::{Cutoffs, Lambdas};
use self::ranked::Ranked;
pub use self::raps::Raps;
pub use self::sacp::{Sacp, Settings};
pub(crate) use self::scan::Scan;
pub use self::spec::{BaseSpec, Spec};
use crate::error::Result;
use crate::maps::{Band, LabelMaps, PlanesMut, ScoreMaps, Scratch, Tile, TileReader};
use crate::num::real::Real;
use crate::place::Place;
use crate::threads::Cancel;

/// Calls `$body` with `$tile` bound to the values, once per float type.
macro_rules! with_values {
    ($values:expr, |$tile:ident| $body:expr) => {
        match $values {
            Values::Own($tile) => $body,
            Values::Double($tile) => $body,
        }
    };
}
/// A conformity score, as kernels over tiles. Only [`Score::values`] is required. The other methods use it; a score may
/// override them with a faster way to the same result. Tiles come as [`Score::stream`] makes them.
pub trait Score<R: Real>: Send + Sync {
    /// The stored values of all labels of a tile that was checked.
    fn values<'t>(&self, tile: &Tile<'t, R>, buffers: &'t mut ValueBuffers) -> Values<'t, R>;

    /// How critical values are stored.
    fn coding(&self) -> Coding {
        Coding::Direct { max: 1.0 }
    }

    /// Whether critical values need float64 where the maps are narrower.
    fn needs_double(&self) -> bool {
        true
    }

    /// Calls `visit` with tiles that cover the band. For a score of single pixels, these are the maps as they are.
    fn stream(
        &self,
        reader: &mut TileReader<'_, R>,
        band: &Band,
        _work: &mut StreamWork<R>,
        cancel: &Cancel,
        visit: &mut Visit<'_, R>,
    ) -> Result<()> {
        for pixels in band.runs(reader.tile_len()) {
            cancel.check()?;
            visit(pixels.clone(), &reader.read(pixels))?;
        }
        Ok(())
    }

    /// Fails at the first pixel, of the labelled ones if there are labels, whose numbers the score cannot take.
    fn check(&self, spot: &mut Spot<'_, R>) -> Result<()> {
        spot.work.scan.top(&spot.tile, spot.codes, &spot.place)
    }

    /// Finds the labelled pixels whose critical value is above 0: those that are not covered from the start.
    fn true_labels(&self, spot: &mut Spot<'_, R>) -> Result<()> {
        self.check(spot)?;
        let (coding, codes, Work { missed, values, .. }) = (self.coding(), spot.labels(), &mut *spot.work);
        with_values!(self.values(&spot.tile, values), |values| {
            compare::true_labels(&values, coding, codes, missed);
        });
        Ok(())
    }

    /// Counts the critical values of all labels at the labelled pixels, after [`Score::true_labels`] of the same tile.
    fn count_activations(&self, spot: &mut Spot<'_, R>, counts: &mut Activations) {
        let (coding, codes) = (self.coding(), spot.labels());
        with_values!(self.values(&spot.tile, &mut spot.work.values), |values| {
            compare::count_activations(&values, coding, codes, counts);
        });
    }

    /// Counts the labelled pixels whose set holds each class at some lambdas, after [`Score::true_labels`] of the same tile.
    fn count_held(&self, spot: &mut Spot<'_, R>, held: &mut Held) {
        let (coding, codes) = (self.coding(), spot.labels());
        with_values!(self.values(&spot.tile, &mut spot.work.values), |values| {
            compare::count_held(&values, coding, codes, held);
        });
    }

    /// Writes the sets: `out[k, j]` is 1 if the set of pixel `j` holds class `k`, else 0. Rows are contiguous.
    fn masks(
        &self,
        spot: &mut Spot<'_, R>,
        cutoffs: Cutoffs<'_, R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        masks_of_values(self, spot, cutoffs, out)
    }

    /// Writes the number of classes in each pixel's set into [`Work::sizes`]. With labels, void pixels are not looked at.
    fn sizes(&self, spot: &mut Spot<'_, R>, cutoffs: Cutoffs<'_, R>) -> Result<()> {
        sizes_of_values(self, spot, cutoffs)
    }

    /// Writes the stored values of all labels, and the label that ranks first, as input for windows.
    fn load(&self, spot: &mut Spot<'_, R>, out: &mut Loaded<'_, R>) -> Result<()> {
        self.check(spot)?;
        let values = self.values(&spot.tile, &mut spot.work.values);
        values.copy_to(&mut out.planes);
        with_values!(values, |values| compare::first(&values, self.coding(), out.first));
        Ok(())
    }
}

/// [`Score::masks`] of any score.
fn masks_of_values<R: Real, S: Score<R> + ?Sized>(
    score: &S,
    spot: &mut Spot<'_, R>,
    cutoffs: Cutoffs<'_, R>,
    out: &mut ArrayViewMut2<'_, u8>,
) -> Result<()> {
    score.check(spot)?;
    let coding = score.coding();
    match score.values(&spot.tile, &mut spot.work.values) {
        Values::Own(values) => compare::masks(&values, coding, |k| cutoffs.own(k), out),
        Values::Double(values) => compare::masks(&values, coding, |k| cutoffs.double(k), out),
    }
    Ok(())
}

/// [`Score::sizes`] of any score.
fn sizes_of_values<R: Real, S: Score<R> + ?Sized>(
    score: &S,
    spot: &mut Spot<'_, R>,
    cutoffs: Cutoffs<'_, R>,
) -> Result<()> {
    score.check(spot)?;
    let (coding, Work { sizes, values, .. }) = (score.coding(), &mut *spot.work);
    match score.values(&spot.tile, values) {
        Values::Own(values) => compare::sizes(&values, coding, |k| cutoffs.own(k), sizes),
        Values::Double(values) => compare::sizes(&values, coding, |k| cutoffs.double(k), sizes),
    }
    Ok(())
}

/// [`Score::load`] of a score that ranks labels by their probabilities.
fn load_by_probability<R: Real>(
    score: &impl Score<R>,
    spot: &mut Spot<'_, R>,
    out: &mut Loaded<'_, R>,
) -> Result<()> {
    let Work { scan, values, .. } = &mut *spot.work;
    out.first.copy_from_slice(scan.first(&spot.tile, None, &spot.place)?);
    score.values(&spot.tile, values).copy_to(&mut out.planes);
    Ok(())
}

/// Stored values of all labels of a tile.
pub enum Values<'t, R> {
    /// As wide as the maps.
    Own(Tile<'t, R>),
    /// In float64.
    Double(Tile<'t, f64>),
}

impl<R: Real> Values<'_, R> {
    /// The nearest values of the maps' type.
    fn copy_to(&self, out: &mut PlanesMut<'_, R>) {
        for (k, run) in out.runs().enumerate() {
            match self {
                Self::Own(values) => run.copy_from_slice(values.plane(k)),
                Self::Double(values) => {
                    run.iter_mut().zip(values.plane(k)).for_each(|(out, &value)| *out = R::round_from(value));
                }
            }
        }
    }
}

/// Buffers of [`Score::values`].
#[derive(Default)]
pub struct ValueBuffers {
    values: Vec<f64>,
    before: BeforeAll,
}

impl ValueBuffers {
    /// Room for a value of every label of a tile.
    pub fn planes<R>(&mut self, tile: &Tile<'_, R>) -> PlanesMut<'_, f64> {
        PlanesMut::new(&mut self.values, tile.n_classes(), tile.len())
    }
}

/// What [`Score::stream`] calls: the pixels of a tile, and the tile.
pub type Visit<'v, R> = dyn FnMut(Range<usize>, &Tile<'_, R>) -> Result<()> + 'v;

/// A tile and what goes with it.
pub struct Spot<'s, R> {
    /// The tile.
    pub tile: Tile<'s, R>,
    /// Where it lies.
    pub place: Place,
    /// Classes of its labels, [`VOID`](crate::maps::VOID) where there is none, if labels are given.
    pub codes: Option<&'s [i32]>,
    /// The results of a score for the tile, and its buffers.
    pub work: &'s mut Work<R>,
}

impl<'s, R> Spot<'s, R> {
    /// The classes of its labels; empty without labels.
    pub fn labels(&self) -> &'s [i32] {
        self.codes.unwrap_or_default()
    }
}

/// Walks the tiles of a band as `score` wants them, with their labels if any are given.
pub fn for_each_tile<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: Option<&LabelMaps<'_>>,
    score: &dyn Score<R>,
    band: &Band,
    buffers: &mut Buffers<R>,
    cancel: &Cancel,
    mut visit: impl FnMut(&mut Spot<'_, R>) -> Result<()>,
) -> Result<()> {
    let Buffers { scratch, codes, stream, work } = buffers;
    let mut reader = maps.tiles(band.image, scratch);
    score.stream(&mut reader, band, stream, cancel, &mut |pixels, tile| {
        if let Some(labels) = labels {
            labels.read(band.image, pixels.clone(), codes)?;
        }
        let codes = labels.is_some().then_some(codes.as_slice());
        let place = maps.place(band.image, pixels);
        visit(&mut Spot { tile: *tile, place, codes, work })
    })
}

/// The buffers of one thread, reused from band to band.
pub struct Buffers<R> {
    scratch: Scratch<R>,
    codes: Vec<i32>,
    stream: StreamWork<R>,
    work: Work<R>,
}

impl<R: Real> Default for Buffers<R> {
    fn default() -> Self {
        Self {
            scratch: Scratch::default(),
            codes: Vec::new(),
            stream: StreamWork::default(),
            work: Work::default(),
        }
    }
}

/// The results of a score for a tile, and its buffers.
#[derive(Default)]
pub struct Work<R> {
    /// From [`Score::true_labels`].
    pub missed: Missed,
    /// Number of classes in each pixel's set, from [`Score::sizes`].
    pub sizes: Vec<i32>,
    scan: Scan<R>,
    before: BeforeSome<R>,
    ranked: Ranked<R>,
    values: ValueBuffers,
}

/// Buffers of [`Score::stream`].
pub type StreamWork<R> = sacp::Rows<R>;

/// Labelled pixels of a tile that are not covered from the start.
#[derive(Default)]
pub struct Missed {
    /// Their places in the tile, ascending.
    pub at: Vec<u32>,
    /// Their critical values, as [`Score::coding`] says.
    pub values: Vec<f64>,
}

impl Missed {
    /// Notes the pixels whose flag is set. Their values are added later.
    fn note(&mut self, flags: &[u8]) {
        let Self { at, values } = self;
        at.resize(flags.len(), 0);
        let mut n = 0;
        for (j, &flag) in flags.iter().enumerate() {
            // Without a branch, which would be unpredictable: an entry that is not kept is overwritten.
            at[n] = j as u32;
            n += usize::from(flag);
        }
        at.truncate(n);
        values.clear();
    }

    /// The pixels and their values.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.at.iter().zip(&self.values).map(|(&j, &value)| (j as usize, value))
    }
}

/// Where [`Score::load`] writes.
pub struct Loaded<'a, R> {
    /// The stored values.
    pub planes: PlanesMut<'a, R>,
    /// The label that ranks first at each pixel.
    pub first: &'a mut [i32],
}

/// Fills a buffer anew.
fn restart<T: Copy>(buffer: &mut Vec<T>, len: usize, value: T) {
    buffer.clear();
    buffer.resize(len, value);
}
