//! `%n` and its like, as far as the host's systemd would put something else there than the root's would.

use std::collections::BTreeMap;

use super::name::{UnitName, unescape};
use super::tree::Tree;

/// What stands for the machine in the specifiers of a root.
#[derive(Debug)]
pub(super) struct Machine {
    /// Fields of its os-release.
    release: BTreeMap<String, String>,
    hostname: String,
}

impl Machine {
    pub(super) fn new(tree: &Tree, hostname: &str) -> Self {
        let bytes =
            ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| tree.read(path).ok()?);
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        let field = |line: &str| {
            let (key, value) = line.split_once('=')?;
            Some((key.to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
        };
        Self { release: text.lines().filter_map(field).collect(), hostname: hostname.to_owned() }
    }
}

/// Puts in what the root's own systemd would; what means the same on the host stays.
pub(super) fn expand(value: &str, unit: &UnitName, file: &str, machine: &Machine) -> String {
    if !value.contains('%') {
        return value.to_owned();
    }
    let mut expanded = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        let Some(letter) = chars.next() else {
            expanded.push('%');
            break;
        };
        // What would be a line of its own is left for systemd to refuse.
        match replacement(letter, unit, file, machine).filter(|text| !text.contains(char::is_control)) {
            Some(text) => expanded.push_str(&text),
            None => expanded.extend(['%', letter]),
        }
    }
    expanded
}

/// What a specifier becomes, itself possibly with such as stay; `None` where it stays as it is.
fn replacement(letter: char, unit: &UnitName, file: &str, machine: &Machine) -> Option<String> {
    let release = |key: &str| Some(literal(machine.release.get(key).map_or("", String::as_str)));
    let stem =
        if unit.is_template() { format!("{}@%i", literal(&unit.prefix)) } else { literal(&unit.stem()) };
    match letter {
        'n' => Some(format!("{stem}.{}", unit.kind.suffix())),
        'N' => Some(stem),
        'p' => Some(literal(&unit.prefix)),
        // In a template it is known only when an instance is started.
        'i' if !unit.is_template() => Some(literal(unit.instance.as_deref().unwrap_or_default())),
        'I' if !unit.is_template() => Some(literal(&unescape(unit.instance.as_deref().unwrap_or_default()))),
        'P' => Some(literal(&unescape(&unit.prefix))),
        'f' if unit.instance.is_none() => Some(literal(&format!("/{}", unescape(&unit.prefix)))),
        'y' => Some(literal(file)),
        'Y' => Some(literal(file.rsplit_once('/').map_or("/", |(directory, _)| directory))),
        'H' | 'q' => Some(literal(&machine.hostname)),
        'l' => Some(literal(machine.hostname.split('.').next().unwrap_or_default())),
        'o' => release("ID"),
        'w' => release("VERSION_ID"),
        'B' => release("BUILD_ID"),
        'W' => release("VARIANT_ID"),
        'M' => release("IMAGE_ID"),
        'A' => release("IMAGE_VERSION"),
        't' => Some("/run".to_owned()),
        'S' => Some("/var/lib".to_owned()),
        'C' => Some("/var/cache".to_owned()),
        'L' => Some("/var/log".to_owned()),
        'E' => Some("/etc".to_owned()),
        'D' => Some("/usr/share".to_owned()),
        'T' => Some("/tmp".to_owned()),
        'V' => Some("/var/tmp".to_owned()),
        _ => None,
    }
}

/// A text in which nothing is a specifier.
pub(super) fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// Whether a text has a specifier.
pub(super) fn is_open(text: &str) -> bool {
    text.replace("%%", "").contains('%')
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    fn expanded(value: &str, unit: &str) -> String {
        let root = Root::new();
        root.write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
        let machine = Machine::new(&root.tree(), "web.example");
        expand(value, &UnitName::parse(unit).unwrap(), "/etc/systemd/system/a@.service", &machine)
    }

    #[test]
    fn what_a_rename_would_change_is_put_in() {
        assert_eq!(expanded("%n %N %p", "a-b.service"), "a-b.service a-b a-b");
        assert_eq!(expanded("%n %N %p %P %I", "a-b@x-y.service"), "a-b@x-y.service a-b@x-y a-b a/b x/y");
        assert_eq!(expanded("%n %f %i %I", "a@.service"), "a@%i.service %f %i %I");
        assert_eq!(expanded("%f", "a-b.service"), "/a/b");
        assert_eq!(expanded("%I", "a@x\\x0ay.service"), "%I", "a new line would be one of the unit");
    }

    #[test]
    fn what_belongs_to_the_machine_is_the_roots() {
        assert_eq!(
            expanded("%o-%w %H %l %t/x %S %W.", "a.service"),
            "debian-12 web.example web /run/x /var/lib ."
        );
    }

    #[test]
    fn percent_signs_that_are_none_stay() {
        assert_eq!(expanded("50%", "a.service"), "50%");
        assert_eq!(expanded("20% %% %Z %%n", "a.service"), "20% %% %Z %%n");
        assert_eq!(expanded("%n", "a.service"), "a.service");
    }

    #[test]
    fn a_literal_is_no_specifier() {
        assert!(is_open("a%i") && !is_open("a%%i") && is_open("%%%i"));
        assert_eq!(literal("50%n"), "50%%n");
    }
}
