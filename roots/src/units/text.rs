//! The text of a unit file, read as systemd reads it.

use super::report::Place;

/// A setting, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub section: String,
    pub key: String,
    /// Continued lines are joined; empty where the setting is reset.
    pub value: String,
    pub place: Place,
}

/// A line that says nothing systemd understands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub place: Place,
    pub reason: &'static str,
}

/// Reads a file: its settings in order, repetitions and resets included, and the lines that are none.
pub(super) fn parse(file: &str, bytes: &[u8]) -> (Vec<Entry>, Vec<Malformed>) {
    let mut reader = Reader { file, section: None, entries: Vec::new(), malformed: Vec::new() };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut pending: Option<(usize, String)> = None;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let Ok(line) = str::from_utf8(line) else {
            reader.bad(number, "it isn't UTF-8");
            continue;
        };
        let line = line.trim_start_matches([' ', '\t', '\r']);
        if line.starts_with(['#', ';']) {
            // In the middle of a continued line too.
            continue;
        }
        let (start, mut text) = pending.take().unwrap_or((number, String::new()));
        text.push_str(line);
        if continues(&text) {
            text.pop();
            text.push(' ');
            pending = Some((start, text));
        } else {
            reader.line(start, text.trim());
        }
    }
    if let Some((start, text)) = pending {
        reader.line(start, text.trim());
    }
    (reader.entries, reader.malformed)
}

/// Whether a line ends in a backslash that no other one stands before.
fn continues(text: &str) -> bool {
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

struct Reader<'a> {
    file: &'a str,
    section: Option<String>,
    entries: Vec<Entry>,
    malformed: Vec<Malformed>,
}

impl Reader<'_> {
    fn place(&self, line: usize) -> Place {
        Place { file: self.file.to_owned(), line }
    }

    fn bad(&mut self, line: usize, reason: &'static str) {
        self.malformed.push(Malformed { place: self.place(line), reason });
    }

    fn line(&mut self, number: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(rest) = text.strip_prefix('[') {
            match rest.strip_suffix(']') {
                Some(section) => self.section = Some(section.to_owned()),
                None => self.bad(number, "the section's name isn't closed"),
            }
            return;
        }
        let Some((key, value)) = text.split_once('=') else {
            return self.bad(number, "there is no `=`");
        };
        let Some(section) = self.section.clone() else {
            return self.bad(number, "it stands before any section");
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        let place = self.place(number);
        self.entries.push(Entry { section, key, value, place });
    }
}

/// Settings as a file: sections in the order of their first setting.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Writer {
    sections: Vec<(String, String)>,
}

impl Writer {
    /// Adds a setting to a section.
    pub(super) fn set(&mut self, section: &str, key: &str, value: &str) {
        let line = format!("{key}={}\n", on_one_line(value));
        match self.sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, text)) => text.push_str(&line),
            None => self.sections.push((section.to_owned(), line)),
        }
    }

    /// Whether a setting says anything of `text`.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.sections.iter().any(|(_, settings)| settings.contains(text))
    }

    /// The file, below a comment.
    pub(super) fn finish(self, comment: &str) -> String {
        let mut text = format!("# {}\n", on_one_line(comment));
        for (name, settings) in self.sections {
            text.push_str(&format!("\n[{name}]\n{settings}"));
        }
        text
    }
}

/// What a root says must not become a line of its own, nor swallow the next one.
fn on_one_line(value: &str) -> String {
    let mut line: String = value
        .chars()
        .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if continues(&line) {
        line.push('\\');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let (entries, malformed) = parse("/u", text.as_bytes());
        assert!(malformed.is_empty(), "{malformed:?}");
        let told = |it: &Entry| format!("{} {}.{}={}", it.place.line, it.section, it.key, it.value);
        entries.iter().map(told).collect()
    }

    #[test]
    fn settings_keep_their_order_with_repetitions_and_resets() {
        let text =
            "[Service]\nExecStart=/bin/a\nExecStart=\nExecStart = /bin/b\n[Unit]\nAfter=x\n[Service]\nA=1\n";
        let expected = [
            "2 Service.ExecStart=/bin/a",
            "3 Service.ExecStart=",
            "4 Service.ExecStart=/bin/b",
            "6 Unit.After=x",
            "8 Service.A=1",
        ];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn lines_are_continued_over_comments_and_end_at_an_empty_one() {
        let text = "[S]\nA=one \\\n# not this\n  ; nor this\n\ttwo\\\n three\nB=c\\\\\nC=d \\\n\nD=e\\";
        assert_eq!(read(text), ["2 S.A=one  two three", "7 S.B=c\\\\", "8 S.C=d", "10 S.D=e"]);
    }

    #[test]
    fn what_systemd_would_not_understand_is_told() {
        let (entries, malformed) = parse("/u", b"A=1\n[S\n[S]\nnonsense\nB=\xff\nC=1\n");
        assert_eq!(entries.len(), 1);
        let lines: Vec<usize> = malformed.iter().map(|it| it.place.line).collect();
        assert_eq!(lines, [1, 2, 4, 5]);
    }

    #[test]
    fn nothing_becomes_a_line_of_its_own_or_takes_the_next() {
        let mut writer = Writer::default();
        writer.set("Service", "A", "x\n[Service]\nUser=root\\");
        writer.set("Service", "B", "y");
        let text = writer.finish("a\nB=2");
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.ends_with("User=root\\\\\nB=y\n"), "{text}");
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        let mut writer = Writer::default();
        writer.set("Unit", "After", "a b");
        writer.set("Service", "ExecStart", "");
        writer.set("Unit", "After", "c");
        let text = writer.finish("made");
        assert_eq!(text, "# made\n\n[Unit]\nAfter=a b\nAfter=c\n\n[Service]\nExecStart=\n");
        assert_eq!(read(&text), ["4 Unit.After=a b", "5 Unit.After=c", "8 Service.ExecStart="]);
    }
}
