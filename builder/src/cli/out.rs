//! stdout, where results go.

use std::io;

use serde_json::Value;

use crate::render::Report;

/// Prints a text for people (or scripts) as it is; colours end where no terminal is.
///
/// # Errors
/// stdout can't be written. That a reader went away (`rootbuild list | head`) is no error.
pub(super) fn text(text: &str) -> Result<(), Report> {
    written(write(anstream::stdout().lock(), text.as_bytes()))
}

/// Prints bytes that are nobody's business, as they are.
///
/// # Errors
/// As for [`text`].
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Report> {
    written(write(io::stdout().lock(), bytes))
}

/// Prints a result of `--json` as one line.
///
/// # Errors
/// As for [`text`].
pub(super) fn json(value: &Value) -> Result<(), Report> {
    bytes(format!("{value}\n").as_bytes())
}

/// Whether writing to stdout went well enough.
///
/// # Errors
/// As for [`text`].
pub(super) fn written(result: io::Result<()>) -> Result<(), Report> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Report::failed("can't write the result to stdout").caused_by(&error))
        }
        _ => Ok(()),
    }
}

fn write(mut stdout: impl io::Write, bytes: &[u8]) -> io::Result<()> {
    stdout.write_all(bytes)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one() {
        assert!(written(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        let report = written(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(report.exit_code(), crate::exit::FAILED);
    }
}
