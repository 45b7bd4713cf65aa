//! From a base of the definition to what builds it.

use rootbuild_roots::base::BaseSource;

use crate::definition::Base;

/// What builds `base`, which is not of source `root`.
#[must_use]
pub fn source(base: &Base) -> Box<dyn BaseSource> {
    let _ = base;
    unimplemented!()
}
