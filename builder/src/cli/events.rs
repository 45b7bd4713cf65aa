//! Where events go: `--events FILE`, as every command that has events understands it, and people.

use std::io::IsTerminal;
use std::sync::Arc;

use super::Global;
use crate::event::{EventSink, Fanout};
use crate::render::Report;
use crate::sinks::{bars::Bars, json_lines::JsonLines, plain::Plain};

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

/// Where events go: to `own` first, to a file where one is named, and as lines about these roots to people.
pub(super) fn sinks(
    global: &Global,
    names: &[&str],
    own: Vec<Box<dyn EventSink>>,
) -> Result<Arc<dyn EventSink>, Report> {
    let mut sinks = own;
    sinks.extend(sink(global)?);
    if !global.quiet {
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let verbose = global.verbose > 0;
        if std::io::stderr().is_terminal() {
            sinks.push(Box::new(Bars::new(verbose, width)));
        } else {
            sinks.push(Box::new(Plain::new(verbose)));
        }
    }
    Ok(Arc::new(Fanout(sinks)))
}
