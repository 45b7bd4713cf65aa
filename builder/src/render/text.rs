//! Text that came from elsewhere, made fit for a terminal.

/// Text without anything a terminal would obey: control characters and direction marks are
/// escaped, line ends stay, tabs become spaces.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    // CRLF is a line end like any other.
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\n' => cleaned.push(c),
            '\t' => cleaned.push_str("    "),
            c if obeyed(c) => cleaned.extend(c.escape_unicode()),
            c => cleaned.push(c),
        }
    }
    cleaned
}

/// Whether a terminal does something else with a character than show it.
fn obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `1 root`, `2 roots`.
#[must_use]
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Whether the locale can show more than ASCII.
#[must_use]
pub fn unicode() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Part of a source line, with where the caret goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    /// Characters before the caret.
    pub(super) start: usize,
    /// How many carets.
    pub(super) width: usize,
}

/// The part of a source line around `column` (from 1) that fits into `most` characters.
pub(super) fn excerpt(line: &str, column: usize, width: usize, most: usize) -> Excerpt {
    const CUT: char = '…';
    // One cell per character, so that columns stay true; what can't be shown in one is replaced.
    let cells: Vec<char> = line
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            c if obeyed(c) => '\u{fffd}',
            c => c,
        })
        .collect();
    let place = (column - 1).min(cells.len());
    if cells.len() <= most {
        let width = width.min((cells.len() - place).max(1));
        return Excerpt { text: cells.into_iter().collect(), start: place, width };
    }
    // Some context to the left, the rest to the right.
    let from = place.saturating_sub(most / 3).min(cells.len() - most);
    let to = (from + most).min(cells.len());
    let mut shown = cells[from..to].to_vec();
    if from > 0 {
        shown[0] = CUT;
    }
    if to < cells.len()
        && let Some(last) = shown.last_mut()
    {
        *last = CUT;
    }
    let start = place - from;
    let width = width.min((shown.len() - start).max(1));
    Excerpt { text: shown.into_iter().collect(), start, width }
}

#[cfg(test)]
mod tests {
    use super::{Excerpt, clean, excerpt};

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(clean("a\x1b[31mb\r\nc\rd\u{202e}e\tf"), "a\\u{1b}[31mb\nc\\u{d}d\\u{202e}e    f");
    }

    #[test]
    fn the_caret_stands_under_its_column_behind_tabs_and_wide_text() {
        assert_eq!(excerpt("\tä = 1", 4, 1, 80), Excerpt { text: " ä = 1".into(), start: 3, width: 1 });
    }

    #[test]
    fn a_long_line_is_cut_around_its_caret() {
        let line = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let Excerpt { text, start, width } = excerpt(&line, 301, 5, 40);
        assert_eq!(text.chars().count(), 40);
        assert_eq!(text.chars().nth(start), Some('X'));
        assert!(text.starts_with('…') && text.ends_with('…'));
        assert_eq!(width, 5);
    }

    #[test]
    fn a_caret_may_stand_behind_the_line() {
        assert_eq!(excerpt("abc", 4, 1, 80), Excerpt { text: "abc".into(), start: 3, width: 1 });
        let line = "a".repeat(200);
        assert_eq!(excerpt(&line, 201, 9, 40).start, 40);
    }
}
