//! The one error of the crate: every variant carries the numbers that explain it.

use thiserror::Error;

use crate::place::{Axes, Count, Pixel, Six};

/// A result whose error is [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Advice if a label is one of the usual marks of void pixels, or the last of classes that are counted from 1.
fn label_hint(name: &str, label: i128, n_classes: usize) -> String {
    let if_void = format!("if it marks void pixels, pass ignore_index={label}");
    if label == n_classes as i128 {
        format!("; if the labels start at 1, pass {name} - 1; {if_void}")
    } else if label < 0 || label == 255 {
        format!("; {if_void}")
    } else {
        String::new()
    }
}

/// Advice if the shape is that of one image.
fn rank_hint(shape: &[usize]) -> &'static str {
    if shape.len() == 3 { "; one image is X[None]" } else { "" }
}

/// Advice if a class was masked in a way that is not allowed.
pub const MASKED_HINT: &str = ". If it masks a class, or is the logarithm of 0, write a finite number such as -1e4 instead. \
     Minus infinity is only taken as a logit, beside a finite one of the pixel, and neither to fit scalers nor by scalers that \
     mix or order classes";

/// Advice on pixels without data.
pub const MISSING_HINT: &str = "; where X has no data, make y void (ignore_index), or pass \
     valid=~np.isnan(X).any(axis=1), which is True where X has data, to fit, evaluate and predict; for a scaler by itself \
     write equal numbers there, np.where(valid[:, np.newaxis], X, 1 / K)";

fn not_finite_hint(value: f64) -> &'static str {
    if value.is_nan() {
        MISSING_HINT
    } else if value == f64::NEG_INFINITY {
        MASKED_HINT
    } else {
        ""
    }
}

fn no_probability_hint(value: f64) -> &'static str {
    if value.is_finite() {
        "; if these are logits, pass scipy.special.expit(P), if bytes, P / 255"
    } else if value.is_nan() {
        "; where P has no data, np.nan_to_num(P, nan=1) keeps the pixels in the mask; their labels may be void"
    } else {
        ""
    }
}

/// Advice if 0 is void and the classes are counted from 1, or if the pixels of a class must not count.
fn void_hint(ignore_index: i64) -> String {
    let from_one = if ignore_index == 0 {
        "; if the labels start at 1 and 0 marks void pixels, pass y.astype(int) - 1 and ignore_index=-1"
    } else {
        ""
    };
    format!("{from_one}{OTHERS_HINT}")
}

/// Advice if the pixels of a class must not count.
pub const OTHERS_HINT: &str =
    "; if pixels of this class shall not count, name the other classes: loss=MiscoverageLoss(classes=[...])";

/// What can be wrong with the input of a kernel.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// Not `(n, K, H, W)` or `(n, K, D, H, W)`.
    #[error("X must have shape (n, K, H, W) or (n, K, D, H, W), got {}{}", Axes(shape), rank_hint(shape))]
    ScoreRank {
        /// The shape received.
        shape: Vec<usize>,
    },
    /// Not `(n, H, W)` or `(n, D, H, W)`, or nothing in it.
    #[error(
        "P must have shape (n, H, W) or (n, D, H, W) and not be empty, got {}{}",
        Axes(shape),
        if shape.len() == 2 { "; one image is P[None]" } else { "" }
    )]
    OneClassRank {
        /// The shape received.
        shape: Vec<usize>,
    },
    /// No image, no class or no pixel.
    #[error("X is empty: its shape is {}", Axes(shape))]
    Empty {
        /// The shape received.
        shape: Vec<usize>,
    },
    /// A single plane cannot hold a set of classes.
    #[error(
        "X has one class (K = 1); for a binary model stack both classes first: \
         np.concatenate([1 - p, p], axis=1)"
    )]
    OneClass,
    /// More classes than a set size of 16 bits can count.
    #[error("X has K = {n_classes} classes, at most {max} are supported")]
    TooManyClasses {
        /// K.
        n_classes: usize,
        /// The largest K.
        max: usize,
    },
    /// A lambda that is NaN or negative.
    #[error("lam must be at least 0, got {}{whose}", Six(*value))]
    Lambda {
        /// The lambda.
        value: f64,
        /// The image or class that it is for, as text.
        whose: String,
    },
    /// Not as many lambdas as images or classes.
    #[error("lam has {}, but X has {}", Count(*actual, "entry"), Count(*expected, unit))]
    LambdaCount {
        /// Number of lambdas.
        actual: usize,
        /// Number of images or classes.
        expected: usize,
        /// The word for one of them: image or class.
        unit: &'static str,
    },
    /// Labels or masks that do not fit the scores.
    #[error("{name} must have shape {} to match X, got {}", Axes(expected), Axes(actual))]
    Shape {
        /// The argument as the caller wrote it.
        name: &'static str,
        /// The shape that would fit.
        expected: Vec<usize>,
        /// The shape received.
        actual: Vec<usize>,
    },
    /// The ignore index is also a class.
    #[error(
        "ignore_index={ignore_index} is one of the K = {n_classes} classes; choose an index outside [0, {n_classes}){}",
        void_hint(*ignore_index)
    )]
    IgnoreIndexIsClass {
        /// The index.
        ignore_index: i64,
        /// K.
        n_classes: usize,
    },
    /// A label that is neither a class nor void.
    #[error(
        "{name} holds label {value}{}, outside [0, {n_classes}) and not the ignore index ({ignore}){}",
        image.map(|image| format!(" in image {image}")).unwrap_or_default(),
        label_hint(name, *value, *n_classes)
    )]
    Label {
        /// The argument as the caller wrote it.
        name: &'static str,
        /// Index of the image; `None` if it is the only one.
        image: Option<usize>,
        /// The label.
        value: i128,
        /// K.
        n_classes: usize,
        /// The ignore index, as text.
        ignore: String,
    },
    /// NaN or infinite.
    #[error("X is not finite in image {image}: class {class} is {value} at pixel {pixel}{}", not_finite_hint(*value))]
    NotFinite {
        /// Index of the image.
        image: usize,
        /// Index of the class.
        class: usize,
        /// The pixel.
        pixel: Pixel,
        /// The value.
        value: f64,
    },
    /// A sample of an image with a number that is NaN or infinite.
    #[error("X is not finite in image {image}: sample {sample}, class {class} is {value} at pixel {pixel}")]
    SampleNotFinite {
        /// Index of the image.
        image: usize,
        /// Index of the sample.
        sample: usize,
        /// Index of the class.
        class: usize,
        /// The pixel.
        pixel: Pixel,
        /// The value.
        value: f64,
    },
    /// Samples whose differences, or their squares, are too large for a float64.
    #[error(
        "X holds too large numbers in image {image}: the differences of its samples overflow float64; scale the samples down"
    )]
    SamplesTooLarge {
        /// Index of the image.
        image: usize,
    },
    /// A matrix with a number that is NaN or infinite.
    #[error("A is not finite: A[{row}, {column}] is {value}")]
    MatrixNotFinite {
        /// Index of the row.
        row: usize,
        /// Index of the column.
        column: usize,
        /// The value.
        value: f64,
    },
    /// A singular value that is too large for a float64.
    #[error("A holds too large numbers: a singular value overflows float64")]
    MatrixTooLarge,
    /// A matrix without a Cholesky factor.
    #[error("the matrix is not positive definite: its leading minor of order {order} is not positive")]
    NotPositiveDefinite {
        /// Rows and columns of the minor.
        order: usize,
    },
    /// LAPACK came to no result.
    #[error("{routine} of LAPACK failed: {reason}")]
    Lapack {
        /// The name of the routine.
        routine: &'static str,
        /// What it says.
        reason: String,
    },
    /// A negative probability.
    #[error(
        "X holds a negative probability in image {image}: class {class} is {} at pixel {pixel}; \
         if these are logits, pass inputs='logits'",
        Six(*value)
    )]
    Negative {
        /// Index of the image.
        image: usize,
        /// Index of the class.
        class: usize,
        /// The pixel.
        pixel: Pixel,
        /// The value.
        value: f64,
    },
    /// A number that is no probability of one class.
    #[error(
        "P holds {} in image {image} at pixel {pixel}: probabilities are in [0, 1]{}",
        Six(*value),
        no_probability_hint(*value)
    )]
    NoProbability {
        /// Index of the image.
        image: usize,
        /// The pixel.
        pixel: Pixel,
        /// The value.
        value: f64,
    },
    /// A score of the caller's gave a number that is no critical value.
    #[error(
        "the conformity score gives {} to class {class} at pixel {pixel} of image {image}: critical values must be in \
         [0, {}]; set the score's attribute lambda_max if they may be larger",
        Six(*value),
        Six(*max)
    )]
    CriticalValue {
        /// Index of the image.
        image: usize,
        /// Index of the class.
        class: usize,
        /// The pixel.
        pixel: Pixel,
        /// The value.
        value: f64,
        /// The largest critical value.
        max: f64,
    },
    /// Probabilities that do not sum to 1.
    #[error(
        "X: the probabilities of image {image} sum to {} at pixel {pixel}, not to 1 within {tolerance}; \
         pass softmax probabilities over the class axis (axis 1), or pass inputs='logits' or 'scores'",
        Six(*sum)
    )]
    NotNormalised {
        /// Index of the image.
        image: usize,
        /// The pixel.
        pixel: Pixel,
        /// The sum over the classes.
        sum: f64,
        /// The largest allowed distance from 1.
        tolerance: f64,
    },
    /// Scores that cannot be normalised.
    #[error(
        "X: the scores of image {image} sum to 0 at pixel {pixel}: they cannot be normalised; give at least one class a \
         score above 0"
    )]
    NoScore {
        /// Index of the image.
        image: usize,
        /// The pixel.
        pixel: Pixel,
    },
    /// A set from which nothing can be drawn.
    #[error("masks hold an empty set in image {image} at pixel {pixel}: there is no class to draw")]
    EmptySet {
        /// Index of the image.
        image: usize,
        /// The pixel.
        pixel: Pixel,
    },
    /// Not `(m, H, W)` or `(m, D, H, W)`, or nothing in it.
    #[error("{name} must have shape (m, H, W) or (m, D, H, W) and not be empty, got {}", Axes(shape))]
    LabelStack {
        /// The argument as the caller wrote it.
        name: &'static str,
        /// The shape received.
        shape: Vec<usize>,
    },
    /// One label map, where pairs are compared.
    #[error("samples must hold at least two label maps, got 1")]
    OneLabelMap,
    /// Labels too far apart to correlate exactly.
    #[error(
        "the labels of samples span {span}, which is too much for correlations over {n_pixels} pixels: span times pixels may \
         be 2^53 at most; number the labels from 0"
    )]
    LabelSpan {
        /// The largest label less the least.
        span: u64,
        /// Pixels of a label map.
        n_pixels: usize,
    },
    /// Profiles or counts of different class counts.
    #[error("X has K = {actual} classes from image {image} on, but earlier images have K = {expected}")]
    ClassCount {
        /// Number of the earlier images.
        image: usize,
        /// K of the earlier images.
        expected: usize,
        /// K of the new images.
        actual: usize,
    },
    /// Critical values of different scores cannot be joined.
    #[error("profiles of different conformity scores cannot be merged")]
    ScoreMismatch,
    /// Some images have counts that others lack.
    #[error(
        "activations were counted in one of the profiles only: give activation=True for both or for none"
    )]
    ActivationMismatch,
    /// Classes were counted at lambdas that differ.
    #[error(
        "classes were counted at other lambdas in one of the profiles, or in one only: give the same grid for both or for \
         none"
    )]
    GridMismatch,
    /// A loss that does not fit the class count.
    #[error("{name} has {}, but there are K = {n_classes} classes", Count(*actual, "entry"))]
    LossClasses {
        /// The argument as the caller wrote it.
        name: &'static str,
        /// What it needs K to be.
        actual: usize,
        /// K.
        n_classes: usize,
    },
    /// The system starts no threads.
    #[error("cannot start {} ({reason}); set fewer with conformask.set_num_threads", Count(*n_threads, "thread"))]
    Threads {
        /// How many were asked for.
        n_threads: usize,
        /// What the system says.
        reason: String,
    },
    /// Another thread writes to an array while it is read.
    #[error("{name} changed while it was read: another thread writes to it; pass a copy")]
    Changed {
        /// The argument as the caller wrote it.
        name: &'static str,
    },
    /// Arrays that are no profile.
    #[error("not a profile: {0}")]
    Profile(String),
    /// The system has not enough memory.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// How much.
        bytes: u128,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}
