//! Conformity scores: how strange is a label at a pixel?
//!
//! A score gives every label of every pixel a *critical value*: the lambda at which the label enters the pixel's set.
//! Calibration reads the critical values of the true labels ([`Score::true_labels`]); prediction compares all of them
//! with lambda ([`Score::masks`], [`Score::sizes`]). Both go by the same definition, so that thresholding the maps at a
//! calibrated lambda gives exactly the risk that calibration promised.

mod activation;
mod aps;
mod coding;
mod given;
mod lac;
mod raps;
mod sacp;
mod scan;
mod spec;

use std::ops::Range;

use ndarray::ArrayViewMut2;

pub use self::activation::{Activations, CELL_BITS, N_CELLS};
use self::aps::{BeforeSome, Criticals};
pub use self::coding::Coding;
pub use self::given::Given;
pub use self::lac::Lac;
pub use self::raps::Raps;
pub use self::sacp::{Sacp, Settings};
use self::scan::Scan;
pub use self::spec::{BaseSpec, Spec};
use crate::error::Result;
use crate::maps::{Band, LabelMaps, ScoreMaps, Scratch, Tile, TileReader};
use crate::normalisation::Place;
use crate::real::Real;

/// A conformity score, as kernels over tiles. Tiles come as [`Score::stream`] makes them.
pub trait Score<R: Real>: Send + Sync {
    /// How critical values are stored.
    fn coding(&self) -> Coding;

    /// Whether critical values need float64 where the maps are narrower.
    fn needs_double(&self) -> bool {
        false
    }

    /// Calls `visit` with tiles that cover the band. Those of a score that looks at each pixel alone are the maps as they are.
    fn stream(
        &self,
        reader: &mut TileReader<'_, R>,
        band: &Band,
        _work: &mut StreamWork<R>,
        visit: &mut Visit<'_, R>,
    ) -> Result<()> {
        for pixels in band.runs(reader.tile_len()) {
            visit(pixels.clone(), &reader.read(pixels))?;
        }
        Ok(())
    }

    /// Finds the labelled pixels whose critical value is above 0: those that are not covered from the start. `codes` are the
    /// classes of the tile's labels, void ones marked.
    fn true_labels(&self, tile: &Tile<'_, R>, codes: &[i32], place: &Place, work: &mut Work<R>)
    -> Result<()>;

    /// Counts the critical values of all labels at the labelled pixels, after [`Score::true_labels`] of the same tile.
    fn count_activations(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        work: &mut Work<R>,
        counts: &mut Activations,
    );

    /// Writes the sets at `lambda`: `out[k, j]` is 1 if the set of pixel `j` holds class `k`, else 0. Rows are contiguous.
    fn masks(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        place: &Place,
        work: &mut Work<R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()>;

    /// Writes the number of classes in each pixel's set at `lambda` into [`Work::sizes`]. With `codes`, void pixels are not
    /// looked at.
    fn sizes(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        codes: Option<&[i32]>,
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()>;
}

/// What [`Score::stream`] calls: the pixels of a tile, and the tile.
pub type Visit<'v, R> = dyn FnMut(Range<usize>, &Tile<'_, R>) -> Result<()> + 'v;

/// What [`for_each_tile`] says of a tile besides its scores.
pub struct Spot<'s> {
    /// Where the tile lies.
    pub place: Place,
    /// Where it lies in its band.
    pub columns: Range<usize>,
    /// Classes of its labels, [`VOID`] where there is none; empty without labels.
    pub codes: &'s [i32],
}

/// Walks the tiles of a band as `score` wants them, with their labels if any are given.
pub fn for_each_tile<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: Option<&LabelMaps<'_>>,
    score: &dyn Score<R>,
    band: &Band,
    buffers: &mut Buffers<R>,
    mut visit: impl FnMut(&Spot<'_>, &Tile<'_, R>, &mut Work<R>) -> Result<()>,
) -> Result<()> {
    let Buffers { scratch, codes, stream, work } = buffers;
    codes.clear();
    let mut reader = maps.tiles(band.image, scratch);
    score.stream(&mut reader, band, stream, &mut |pixels, tile| {
        if let Some(labels) = labels {
            labels.read(band.image, pixels.clone(), codes)?;
        }
        let columns = band.offset_of(&pixels);
        let place = Place { image: maps.name(band.image), pixels };
        visit(&Spot { place, columns, codes }, tile, work)
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

/// What a score finds in a tile, and buffers on the way there.
#[derive(Default)]
pub struct Work<R> {
    /// From [`Score::true_labels`].
    pub missed: Missed,
    /// Number of classes in each pixel's set, from [`Score::sizes`].
    pub sizes: Vec<i32>,
    scan: Scan<R>,
    before: BeforeSome<R>,
    criticals: Criticals,
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
    /// Notes the pixels whose flag is set. Their values are still to come.
    fn note(&mut self, flags: &[u8]) {
        let Self { at, values } = self;
        at.resize(flags.len(), 0);
        let mut n = 0;
        for (j, &flag) in flags.iter().enumerate() {
            // Without a branch, which nobody could predict: what is not noted is written over.
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

/// A score that looks at each pixel alone: what a window can be laid over.
pub trait Base<R: Real>: Score<R> {
    /// Checks a tile and writes the stored values of all its labels, and which label ranks first.
    fn load(
        &self,
        tile: &Tile<'_, R>,
        place: &Place,
        work: &mut BaseWork<R>,
        out: &mut Loaded<'_, R>,
    ) -> Result<()>;
}

/// Where [`Base::load`] writes.
pub struct Loaded<'a, R> {
    /// The stored values of class `k` go to the run at `k * stride`.
    planes: &'a mut [R],
    stride: usize,
    /// The label that ranks first at each pixel.
    first: &'a mut [i32],
}

impl<R: Copy> Loaded<'_, R> {
    /// One run for each class, as long as there are pixels.
    fn runs(&mut self) -> impl Iterator<Item = &mut [R]> {
        let len = self.first.len();
        self.planes.chunks_mut(self.stride).map(move |run| &mut run[..len])
    }

    /// Takes the planes of a tile as they are.
    fn copy(&mut self, tile: &Tile<'_, R>) {
        for (k, run) in self.runs().enumerate() {
            run.copy_from_slice(tile.plane(k));
        }
    }
}

/// Buffers of [`Base::load`].
#[derive(Default)]
pub struct BaseWork<R> {
    scan: Scan<R>,
    criticals: Criticals,
}

/// Fills a buffer anew.
fn restart<T: Copy>(buffer: &mut Vec<T>, len: usize, value: T) {
    buffer.clear();
    buffer.resize(len, value);
}
