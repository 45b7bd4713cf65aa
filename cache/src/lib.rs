//! rootbuild's store: what is kept on disk, by content, and how it is found again.
//!
//! [`object`](objects) ← [`Tree`] ← [`LayerKey`] → [`Record`]. The on-disk format is documented in
//! `cache/FORMAT.md`; a store whose format version this crate doesn't know is refused.

pub mod digest;
pub mod durable;
pub mod error;
pub mod fsck;
#[doc(hidden)]
pub mod fuzz;
pub mod gc;
pub mod layer;
mod lease;
pub mod limits;
pub mod links;
pub mod lock;
pub mod objects;
pub mod pins;
pub mod records;
pub mod remove;
pub mod space;
pub mod staging;
pub mod store;
pub mod tree;
mod trees;
pub mod usage;

pub use digest::{Digest, KeyHasher};
pub use error::{Error, Result};
pub use layer::{Input, LayerKey, Record};
pub use lease::GC_LOCK;
pub use limits::{Exceeded, Limit, Limits};
pub use links::{LinkName, Links, Shared};
pub use lock::{Holder, Lock};
pub use remove::remove_tree;
pub use space::Floor;
pub use staging::Staging;
pub use store::Store;
pub use tree::{Child, Entry, Kind, Meta, Mtime, Tree, TreeError};
