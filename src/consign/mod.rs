//! Sets of whole segmentations, spanned by the main components of a model's samples (CONSIGN).

pub mod svd;
