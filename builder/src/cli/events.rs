//! `--events FILE`, as every command that has events understands it.

use super::Global;
use crate::event::EventSink;
use crate::render::Report;
use crate::sinks::json_lines::JsonLines;

/// The sink that was asked for with `--events`, if one was.
///
/// # Errors
/// Its file can't be opened for appending; a usage error, since the name is the user's.
pub(super) fn sink(global: &Global) -> Result<Option<Box<dyn EventSink>>, Report> {
    let Some(path) = &global.events else { return Ok(None) };
    let sink = JsonLines::open(path).map_err(|error| {
        Report::usage(format!("can't write events to `{}`", path.display())).caused_by(&error)
    })?;
    Ok(Some(Box::new(sink)))
}
