//! Sinks of the event stream.

pub mod bars;
pub mod json_lines;
pub mod plain;
mod tally;
pub(crate) mod words;

#[cfg(test)]
mod tests;
