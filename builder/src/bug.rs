//! Panics: a defect in rootbuild ends with exit code 70 and a message that says what to do about it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use crate::exit;
use crate::render::Report;

/// Does `work` and gives its exit code; a panic in it is told on stderr and gives [`exit::BUG`].
pub fn guarded(work: impl FnOnce() -> u8) -> u8 {
    panic::set_hook(Box::new(|info| {
        let backtrace = Backtrace::capture();
        report(info).print(false);
        if backtrace.status() == BacktraceStatus::Captured {
            anstream::eprintln!("{backtrace}");
        }
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(exit::BUG)
}

fn report(info: &PanicHookInfo<'_>) -> Report {
    let place =
        info.location().map_or_else(String::new, |place| format!(" ({}:{})", place.file(), place.line()));
    told(&format!("{}{place}", message(info.payload())))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}

fn told(what: &str) -> Report {
    Report::new(exit::BUG, format!("this is a defect in rootbuild {}", env!("CARGO_PKG_VERSION")))
        .cause(what)
        .hint("please report it to rootbuild's maintainers, with this message and the command that you ran")
        .hint("roots that were handed over are as they were; the next command sweeps what this one left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_says_what_happened_and_where_to_tell_it() {
        let text = anstream::adapter::strip_str(&told("boom (engine.rs:7)").render(None)).to_string();
        let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        insta::assert_snapshot!(text, @r"
        error: this is a defect in rootbuild VERSION
        caused by: boom (engine.rs:7)
        hint: please report it to rootbuild's maintainers, with this message and the command that you ran
        hint: roots that were handed over are as they were; the next command sweeps what this one left
        ");
    }
}
