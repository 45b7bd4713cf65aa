//! Names of units.

/// The longest name that systemd takes, in bytes.
const LONGEST: usize = 255;

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Service,
    Socket,
    Timer,
    Path,
    Target,
    Mount,
    Automount,
    Swap,
    Slice,
    Scope,
    Device,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Service,
        Self::Socket,
        Self::Timer,
        Self::Path,
        Self::Target,
        Self::Mount,
        Self::Automount,
        Self::Swap,
        Self::Slice,
        Self::Scope,
        Self::Device,
    ];

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Socket => "socket",
            Self::Timer => "timer",
            Self::Path => "path",
            Self::Target => "target",
            Self::Mount => "mount",
            Self::Automount => "automount",
            Self::Swap => "swap",
            Self::Slice => "slice",
            Self::Scope => "scope",
            Self::Device => "device",
        }
    }

    /// Its section.
    pub(super) fn section(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Socket => "Socket",
            Self::Timer => "Timer",
            Self::Path => "Path",
            _ => "",
        }
    }
}

/// A valid name of a unit, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UnitName {
    /// Before the `@`, or before the suffix.
    pub prefix: String,
    /// After the `@`; empty in a template's name, `None` where there is no `@`.
    pub instance: Option<String>,
    pub kind: Kind,
}

impl UnitName {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (stem, suffix) = name.rsplit_once('.')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.len() > LONGEST || stem.is_empty() || stem.starts_with('@') || !stem.chars().all(valid) {
            return None;
        }
        Some(match stem.split_once('@') {
            Some((prefix, instance)) => {
                Self { prefix: prefix.to_owned(), instance: Some(instance.to_owned()), kind }
            }
            None => Self { prefix: stem.to_owned(), instance: None, kind },
        })
    }

    /// The name without its suffix.
    pub(super) fn stem(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}@{instance}", self.prefix),
            None => self.prefix.clone(),
        }
    }

    pub(super) fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// The template that an instance is made of.
    pub(super) fn template(&self) -> Option<Self> {
        let instance = self.instance.as_deref().filter(|instance| !instance.is_empty());
        instance.map(|_| self.with_instance(""))
    }

    pub(super) fn with_instance(&self, instance: &str) -> Self {
        Self { prefix: self.prefix.clone(), instance: Some(instance.to_owned()), kind: self.kind }
    }

    /// The same name for another kind of unit.
    pub(super) fn as_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// What drop-in directories are named after, the most specific first: the name itself, its template,
    /// `foo-bar-`, `foo-` of each, and the kind.
    pub(super) fn drop_in_names(&self) -> Vec<String> {
        let suffix = self.kind.suffix();
        let mut names = vec![self.to_string()];
        names.extend(self.template().map(|template| template.to_string()));
        let mut rest = self.prefix.as_str();
        while let Some((shorter, _)) = rest.trim_end_matches('-').rsplit_once('-') {
            if shorter.is_empty() {
                break;
            }
            names.push(format!("{shorter}-.{suffix}"));
            rest = shorter;
        }
        names.push(suffix.to_owned());
        names
    }
}

impl std::fmt::Display for UnitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.stem(), self.kind.suffix())
    }
}

/// The name of a root's unit on the host; `None` where that would be too long.
pub(super) fn on_host(root: &str, name: &UnitName) -> Option<String> {
    let renamed = format!("rootbuild-{root}-{name}");
    (renamed.len() <= LONGEST).then_some(renamed)
}

/// What an escaped part of a name stands for: `-` is `/`, `\x2d` is `-`.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let code = rest.strip_prefix("\\x").and_then(|rest| rest.get(..2));
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = &rest[4..];
            continue;
        }
        match c {
            '-' => bytes.push(b'/'),
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = &rest[c.len_utf8()..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Escapes what has a meaning in a slice's name, where each `-` is a level.
pub(super) fn escape_dashes(text: &str) -> String {
    text.replace('-', "\\x2d")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UnitName {
        UnitName::parse(text).unwrap()
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(name("a.b.service").prefix, "a.b");
        let instance = name("postgresql@15-main.service");
        assert_eq!(instance.instance.as_deref(), Some("15-main"));
        assert_eq!(instance.template().unwrap().to_string(), "postgresql@.service");
        assert!(name("x@.socket").is_template() && name("x@.socket").template().is_none());
        assert_eq!(name("a@b@c.timer").to_string(), "a@b@c.timer");
        for bad in ["", "a", "a.conf", ".service", "a b.service", "a/b.service", "@x.service", "ä.service"] {
            assert_eq!(UnitName::parse(bad), None, "{bad}");
        }
        assert_eq!(UnitName::parse(&format!("{}.service", "a".repeat(300))), None);
    }

    #[test]
    fn drop_ins_are_looked_for_from_the_most_specific_name_on() {
        let expected = ["a-b-c@i.service", "a-b-c@.service", "a-b-.service", "a-.service", "service"];
        assert_eq!(name("a-b-c@i.service").drop_in_names(), expected);
        assert_eq!(name("-.mount").drop_in_names(), ["-.mount", "mount"]);
    }

    #[test]
    fn too_long_a_name_is_none() {
        assert_eq!(on_host("web", &name("a@b.service")).unwrap(), "rootbuild-web-a@b.service");
        assert_eq!(on_host(&"r".repeat(100), &name(&format!("{}.service", "a".repeat(200)))), None);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("var-lib-a\\x2db\\x"), "var/lib/a-b\\x");
        assert_eq!(escape_dashes("web-1"), "web\\x2d1");
    }
}
