//! `rootbuild sbom`: what is in a root, for other programs.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rootbuild_cache::{Digest, durable};
use rootbuild_roots::Cancel;
use rootbuild_roots::packages::PackagesError;

use super::{Global, out};
use crate::definition::{Definition, Root};
use crate::exit;
use crate::generation::{self, Generation};
use crate::render::Report;
use crate::sbom::{self, Bill, Layer};

/// What the time of writing is, for who wants it in the document: seconds since the epoch.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The form of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// SPDX 2.3 as JSON.
    Spdx,
    /// CycloneDX 1.6 as JSON.
    Cyclonedx,
}

/// Arguments of `rootbuild sbom`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The root
    #[arg(value_name = "ROOT")]
    pub root: String,

    /// SPDX 2.3 (spdx) or CycloneDX 1.6 (cyclonedx), both as JSON
    #[arg(long, value_name = "FORMAT", default_value = "spdx", hide_possible_values = true)]
    pub format: Format,

    /// Write to FILE instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let root = super::one_root(&definition, &arguments.root)?;
    super::require_root("rootbuild sbom")?;
    let seconds = seconds()?;
    let not_yet = || super::not_provisioned(root);
    // Looking for a root makes no store.
    global.store_read_only()?.ok_or_else(not_yet)?;
    let store = global.store()?;
    let published = super::standing(&store, &definition, root)?.ok_or_else(not_yet)?;
    let layers = generation::newest(&store, &definition.path)
        .and_then(|generation| layers(&definition, &generation, root, &published.tree))
        .unwrap_or_default();
    if layers.is_empty() && !global.quiet {
        let text = "which layers the root has isn't known: another definition handed it over last";
        anstream::eprintln!("warning: {text}");
    }
    let bill = Bill::of(&store, &root.name, published.tree, layers, &Cancel::new())?;
    if !bill.known && !global.quiet {
        anstream::eprintln!("warning: the root has no package database, neither dpkg's nor rpm's");
    }
    let text = match arguments.format {
        Format::Spdx => sbom::spdx(&bill, seconds.unwrap_or(0)),
        Format::Cyclonedx => sbom::cyclonedx(&bill, seconds),
    };
    match &arguments.output {
        Some(file) => write(file, &text)?,
        None => out::bytes(text.as_bytes())?,
    }
    Ok(exit::OK)
}

/// The time that the document is to bear, in seconds since the epoch.
fn seconds() -> Result<Option<i64>, Report> {
    let Some(value) = std::env::var_os(SOURCE_DATE_EPOCH) else { return Ok(None) };
    let seconds = value.to_str().and_then(|value| value.parse().ok());
    // What has no year of four digits is no time for these documents.
    match seconds.filter(|seconds| (0..=253_402_300_799).contains(seconds)) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Report::usage(format!("`{SOURCE_DATE_EPOCH}` is no time: `{}`", value.display()))
            .hint("it is a whole number of seconds since 1970")),
    }
}

/// The layers of a root whose tree is `tree`, with those of the roots that it stands on; `None` where they
/// aren't known.
fn layers(
    definition: &Definition,
    generation: &Generation,
    root: &Root,
    tree: &Digest,
) -> Option<Vec<Layer>> {
    let made = generation.roots.get(&root.name).filter(|made| made.tree == *tree)?;
    let own = made.layers.iter().map(|layer| Layer { step: layer.step.clone(), tree: layer.tree });
    let mut own: Vec<Layer> = own.collect();
    // The tree of the root below is the first layer, as long as that root stands as it did then.
    if let Some(below) = definition.parent(root)
        && let Some(first) = own.first()
        && let Some(more) = layers(definition, generation, below, &first.tree)
    {
        let named = |mut layer: Layer| {
            if !layer.step.starts_with("base:") {
                layer.step = format!("{}:{}", below.name, layer.step);
            }
            layer
        };
        own.splice(..1, more.into_iter().map(named));
    }
    Some(own)
}

/// Writes the document: whole or not at all, unless it is a pipe or a device.
fn write(file: &Path, text: &str) -> Result<(), Report> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Report::failed(format!("can't write `{}`", file.display())).caused_by(error)
    };
    if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return fs::write(file, text).map_err(|error| failed(&error));
    }
    durable::write_atomic(file, text.as_bytes(), 0o644).map_err(|error| failed(&error))
}

impl From<PackagesError> for Report {
    fn from(error: PackagesError) -> Self {
        match error {
            PackagesError::Store(error) => error.into(),
            PackagesError::Working(error) => error.into(),
            PackagesError::Sandbox(error) => error.into(),
            PackagesError::Read { ref source, .. } => Self::failed(error.to_string()).caused_by(source),
            PackagesError::NoRpm => Self::failed(error.to_string()).hint(
                "add the package `rpm` to the base: only the root's own rpm is sure to know its database",
            ),
            PackagesError::Rpm(_) | PackagesError::Cancelled(_) => Self::failed(error.to_string()),
        }
    }
}
