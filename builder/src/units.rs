//! The units of a root: what its definition says and what was handed over, put together.

use std::fs;

use rootbuild_cache::{Error, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::publish::{self, Published};
use rootbuild_roots::sandbox::Nspawn;
use rootbuild_roots::units::{self, Host, Lifted, Request};
use rootbuild_roots::working::RootMount;

use crate::definition::{Definition, Root};
use crate::render::Report;

/// What the units of a root are made for. `published` is what stands of it.
#[must_use]
pub fn request<'a>(
    definition: &'a Definition,
    root: &'a Root,
    published: &'a Published,
    host: Host,
) -> Request<'a> {
    Request {
        name: &root.name,
        link: &published.path,
        host,
        // What this very checkout shares, whatever the definition has come to say since.
        private: published.private.as_ref(),
        run: &root.run.units,
        cluster: &definition.cluster,
    }
}

/// Makes the units of a root as it stands; its generators run for that. Nothing of the root or the host
/// changes. It needs root privileges.
///
/// # Errors
/// The root or the store can't be read, or the root can't have units.
pub fn lift(
    store: &Store,
    definition: &Definition,
    root: &Root,
    published: &Published,
    host: Host,
) -> Result<Lifted, Report> {
    let _lease = publish::lease(store, published)?;
    let staging = store.staging("units")?;
    let (upper, work) = (staging.path().join("upper"), staging.path().join("work"));
    for dir in [&upper, &work] {
        fs::create_dir(dir).map_err(Error::io("create", dir))?;
    }
    // What generators write beside units is thrown away.
    let mount = RootMount::Overlay { lowers: vec![published.checkout.clone()], upper, work };
    let generated = units::generate(&published.checkout, mount, &published.name, &Nspawn, &Cancel::new())?;
    let request = request(definition, root, published, host);
    Ok(units::lift(&published.checkout, generated.as_ref(), &request)?)
}
