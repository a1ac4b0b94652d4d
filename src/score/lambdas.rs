//! Lambda as callers give it, and as tiles are compared with it.

use super::Coding;
use crate::error::{Error, Result};
use crate::maps::ScoreMaps;
use crate::num::real::Real;

/// The lambdas of images: how large their sets are.
#[derive(Debug, Clone, PartialEq)]
pub enum Lambdas {
    /// One for all.
    One(f64),
    /// One for each image.
    PerImage(Vec<f64>),
    /// One for each class, which is in a set where its critical value is at most its own lambda.
    PerClass(Vec<f64>),
}

impl Lambdas {
    /// What the maps are compared with. Fails at a lambda that is NaN or negative, and if there are too few or too many.
    pub fn resolve<R: Real>(&self, maps: &ScoreMaps<'_, R>, coding: Coding) -> Result<Resolved<R>> {
        let (n_images, n_classes) = (maps.n_images(), maps.n_classes());
        let (lambdas, unit, expected) = match self {
            Self::One(lambda) => (std::slice::from_ref(lambda), "", 1),
            Self::PerImage(lambdas) => (lambdas.as_slice(), "image", n_images),
            Self::PerClass(lambdas) => (lambdas.as_slice(), "class", n_classes),
        };
        if lambdas.len() != expected {
            return Err(Error::LambdaCount { actual: lambdas.len(), expected, unit });
        }
        if let Some(index) = lambdas.iter().position(|&lambda| !(lambda >= 0.0)) {
            let whose = match self {
                Self::One(_) => String::new(),
                Self::PerImage(_) => format!(" for image {}", maps.name(index)),
                Self::PerClass(_) => format!(" for class {index}"),
            };
            return Err(Error::Lambda { value: lambdas[index], whose });
        }
        let cutoffs = lambdas.iter().map(|&lambda| Cutoff::new(coding, lambda)).collect();
        Ok(Resolved { cutoffs, per_image: matches!(self, Self::PerImage(_)) })
    }
}

/// Lambdas and the last stored values that are in at them.
pub struct Resolved<R> {
    cutoffs: Vec<Cutoff<R>>,
    per_image: bool,
}

impl<R> Resolved<R> {
    /// Those of an image.
    pub fn of_image(&self, image: usize) -> Cutoffs<'_, R> {
        Cutoffs(if self.per_image { &self.cutoffs[image..=image] } else { &self.cutoffs })
    }
}

/// A lambda and the last stored value that is in, as wide as the maps and in float64.
struct Cutoff<R> {
    lambda: f64,
    own: R,
    double: f64,
}

impl<R: Real> Cutoff<R> {
    fn new(coding: Coding, lambda: f64) -> Self {
        Self { lambda, own: coding.cutoff(lambda), double: coding.cutoff(lambda) }
    }
}

/// What the classes of an image are compared with: all with one, or each with its own.
#[derive(Clone, Copy)]
pub struct Cutoffs<'l, R>(&'l [Cutoff<R>]);

impl<R: Copy> Cutoffs<'_, R> {
    fn of_class(&self, class: usize) -> &Cutoff<R> {
        if let [one] = self.0 { one } else { &self.0[class] }
    }

    /// The lambda of a class.
    pub fn lambda(&self, class: usize) -> f64 {
        self.of_class(class).lambda
    }

    /// The last stored value of a class that is in, as wide as the maps.
    pub fn own(&self, class: usize) -> R {
        self.of_class(class).own
    }

    /// The same in float64.
    pub fn double(&self, class: usize) -> f64 {
        self.of_class(class).double
    }

    /// The lambda of all classes, if they share it.
    pub fn shared_lambda(&self) -> Option<f64> {
        if let [one] = self.0 { Some(one.lambda) } else { None }
    }

    /// The last stored value of all classes that is in, as wide as the maps, if they share it.
    pub fn shared(&self) -> Option<R> {
        if let [one] = self.0 { Some(one.own) } else { None }
    }
}
