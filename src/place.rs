//! Where pixels lie, for messages.

use std::fmt;
use std::ops::Range;

/// How the pixels of an image lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Whether there are slices above each other.
    pub is_volume: bool,
    /// Rows of an image, or of each slice of a volume.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Grid {
    /// A flat image.
    pub fn flat(height: usize, width: usize) -> Self {
        Self { is_volume: false, height, width }
    }

    /// The pixel with a row-major index.
    pub fn pixel(self, index: usize) -> Pixel {
        let (row, column) = (index / self.width, index % self.width);
        Pixel { depth: self.is_volume.then_some(row / self.height), row: row % self.height, column }
    }
}

/// A pixel of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pixel {
    depth: Option<usize>,
    row: usize,
    column: usize,
}

impl fmt::Display for Pixel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { depth, row, column } = self;
        match depth {
            None => write!(f, "({row}, {column})"),
            Some(depth) => write!(f, "({depth}, {row}, {column})"),
        }
    }
}

/// Some pixels of an image.
#[derive(Debug, Clone)]
pub struct Place {
    /// What the caller calls the image.
    pub image: usize,
    /// How its pixels lie.
    pub grid: Grid,
    /// Row-major indices.
    pub pixels: Range<usize>,
}

impl Place {
    /// The `j`-th of the pixels.
    pub fn pixel(&self, j: usize) -> Pixel {
        self.grid.pixel(self.pixels.start + j)
    }
}

/// A shape as Python writes it.
pub struct Axes<'a>(pub &'a [usize]);

impl fmt::Display for Axes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "({}{})", lengths.join(", "), if lengths.len() == 1 { "," } else { "" })
    }
}

/// A number of things, each called by the noun: 1 image, 2 images, 2 classes, 2 entries.
pub struct Count<'a>(pub usize, pub &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n, noun) = self;
        match noun.strip_suffix('y') {
            _ if *n == 1 => write!(f, "1 {noun}"),
            Some(stem) => write!(f, "{n} {stem}ies"),
            None if noun.ends_with('s') => write!(f, "{n} {noun}es"),
            None => write!(f, "{n} {noun}s"),
        }
    }
}

/// A number with six digits.
pub struct Six(pub f64);

impl fmt::Display for Six {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded: f64 = format!("{:.5e}", self.0).parse().unwrap_or(self.0);
        if rounded == 0.0 || !rounded.is_finite() || (1e-4..1e6).contains(&rounded.abs()) {
            write!(f, "{rounded}")
        } else {
            write!(f, "{rounded:e}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_by_row_and_column() {
        assert_eq!(Grid::flat(3, 5).pixel(13).to_string(), "(2, 3)");
        let volume = Grid { is_volume: true, height: 3, width: 5 };
        assert_eq!(volume.pixel(28).to_string(), "(1, 2, 3)");
        assert_eq!(Place { image: 0, grid: volume, pixels: 15..30 }.pixel(13), volume.pixel(28));
    }

    #[test]
    fn shapes_are_tuples() {
        for (shape, text) in [(&[][..], "()"), (&[3], "(3,)"), (&[0, 8, 64], "(0, 8, 64)")] {
            assert_eq!(Axes(shape).to_string(), text);
        }
    }

    #[test]
    fn one_thing_is_no_plural() {
        for (n, noun, text) in [
            (1, "entry", "1 entry"),
            (0, "entry", "0 entries"),
            (2, "image", "2 images"),
            (3, "class", "3 classes"),
        ] {
            assert_eq!(Count(n, noun).to_string(), text);
        }
    }

    #[test]
    fn numbers_have_six_digits() {
        for (number, text) in [
            (0.1_f32.into(), "0.1"),
            (0.998_877_665_5, "0.998878"),
            (-1.0 / 3.0, "-0.333333"),
            (f64::MAX, "1.79769e308"),
            (1e-5, "1e-5"),
            (123_456.7, "123457"),
            (1_234_567.0, "1.23457e6"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(Six(number).to_string(), text);
        }
    }
}
