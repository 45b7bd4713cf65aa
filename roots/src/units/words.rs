//! Lists in unit files: words between blanks, with quotes and backslashes.

/// A word of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// As written.
    pub raw: &'a str,
    /// Without quotes and backslashes.
    pub text: String,
    /// Where what follows it begins.
    pub end: usize,
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The words of a list; `None` where a quote isn't closed, which systemd refuses as well.
pub(super) fn split(value: &str) -> Option<Vec<Word<'_>>> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(word) = next(value, at)? {
        at = word.end;
        words.push(word);
    }
    Some(words)
}

/// The first word at or after `from`; the inner `None` means that there is none.
#[allow(clippy::option_option, reason = "an unclosed quote isn't the end")]
fn next(value: &str, from: usize) -> Option<Option<Word<'_>>> {
    let rest = value.get(from..)?;
    let start = from + (rest.len() - rest.trim_start_matches(BLANKS).len());
    let mut chars = value.get(start..)?.char_indices();
    let mut text = String::new();
    let mut quote = None;
    let mut end = value.len();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', _) => text.push(escape(&mut chars)),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if BLANKS.contains(&c) => {
                end = start + at;
                break;
            }
            (c, _) => text.push(c),
        }
    }
    if quote.is_some() {
        return None;
    }
    if start == end {
        return Some(None);
    }
    Some(Some(Word { raw: value.get(start..end)?, text, end }))
}

/// What a backslash and what follows it stand for; what isn't known stands for itself.
fn escape(chars: &mut std::str::CharIndices<'_>) -> char {
    let rest = chars.as_str();
    let (skip, digits, radix) = if rest.starts_with('x') { (1, 2, 16) } else { (0, 3, 8) };
    let number = rest.get(skip..skip + digits).filter(|text| text.chars().all(|c| c.is_digit(radix)));
    let known = number.and_then(|text| u32::from_str_radix(text, radix).ok()).and_then(char::from_u32);
    if let Some(c) = known.filter(|c| *c != '\0') {
        chars.by_ref().take(skip + digits).for_each(drop);
        return c;
    }
    match chars.next() {
        Some((_, 'n')) => '\n',
        Some((_, 't')) => '\t',
        Some((_, 'r')) => '\r',
        Some((_, 's')) => ' ',
        Some((_, c)) => c,
        None => '\\',
    }
}

/// A word as it is written in a list.
pub(super) fn quote(text: &str) -> String {
    let plain = |c: char| !BLANKS.contains(&c) && !matches!(c, '"' | '\'' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // A new line would be a line of its own.
            '\n' => quoted.push_str("\\n"),
            c if c.is_ascii_control() && c != '\t' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(value: &str) -> Vec<String> {
        split(value).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_end_at_blanks_unless_they_are_quoted() {
        assert_eq!(texts("  a  b\tc "), ["a", "b", "c"]);
        assert_eq!(texts(r#""CONFIG=/etc/a b" 'x"y' z"w v""#), ["CONFIG=/etc/a b", "x\"y", "zw v"]);
        assert_eq!(texts(r"a\ b \101 c\\d"), ["a b", "A", "c\\d"]);
        assert_eq!(texts(r#""""#), [""]);
        assert!(texts("").is_empty());
        assert_eq!(split("'a b"), None);
    }

    #[test]
    fn what_is_quoted_reads_as_it_was() {
        for text in
            ["a", "", "a b", "it's", "say \"hi\"", "back\\slash", "tab\there", "new\nline", "\u{1b}[0m"]
        {
            assert_eq!(texts(&quote(text)), [text]);
        }
    }

    #[test]
    fn the_rest_of_a_command_line_is_found() {
        let words = split("-/bin/sh -c 'a b'").unwrap();
        assert_eq!(words[0].raw, "-/bin/sh");
        assert_eq!(&"-/bin/sh -c 'a b'"[words[0].end..], " -c 'a b'");
    }
}
