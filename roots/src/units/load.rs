//! The units of a root, as its own systemd would load them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::name::UnitName;
use super::report::{Finding, Level, Place, Report};
use super::text::{self, Entry};
use super::tree::{GENERATED, Tree};

/// Where units are looked for, the first first, without what generators make.
const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// How a directory of links binds one unit to others.
pub(super) const BINDINGS: [(&str, &str); 3] =
    [(".wants", "Wants"), (".requires", "Requires"), (".upholds", "Upholds")];

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(String),
    Masked(String),
    Alias { link: String, to: String },
}

/// All names of units in a root.
#[derive(Debug)]
pub(super) struct Index<'a> {
    tree: &'a Tree,
    nodes: BTreeMap<String, Node>,
    /// Directories by name (`a.service.d`, `a.service.wants`), each with all places in order.
    directories: BTreeMap<String, Vec<String>>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A unit: its canonical name, and the file it is read from.
    Unit(UnitName, String),
    /// It is not to be started; the file or link that says so.
    Masked(String),
    Missing,
}

/// A link that binds a unit to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    /// `Wants`, `Requires` or `Upholds`.
    pub setting: &'static str,
    pub unit: String,
    pub place: Place,
}

/// A unit with all that is said of it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub name: UnitName,
    /// The file, then its drop-ins in the order they count.
    pub sources: Vec<String>,
    /// The settings of all of them.
    pub entries: Vec<Entry>,
    pub bound: Vec<Bound>,
}

impl<'a> Index<'a> {
    pub(super) fn new(tree: &'a Tree) -> io::Result<Self> {
        let mut index = Self { tree, nodes: BTreeMap::new(), directories: BTreeMap::new() };
        let mut seen = BTreeSet::new();
        for directory in load_path() {
            // `/lib` is `/usr/lib` nearly everywhere.
            if seen.insert(tree.resolve(&directory)) {
                index.add(&directory)?;
            }
        }
        Ok(index)
    }

    fn add(&mut self, directory: &str) -> io::Result<()> {
        for name in self.tree.list(directory)? {
            let path = format!("{directory}/{name}");
            if name.ends_with(".d") || BINDINGS.iter().any(|(suffix, _)| name.ends_with(suffix)) {
                self.directories.entry(name).or_default().push(path);
                continue;
            }
            if UnitName::parse(&name).is_none() || self.nodes.contains_key(&name) {
                continue;
            }
            if let Some(node) = self.node(&name, &path)? {
                self.nodes.insert(name, node);
            }
        }
        Ok(())
    }

    fn node(&self, name: &str, path: &str) -> io::Result<Option<Node>> {
        if self.tree.link(path).is_some() {
            let target = self.tree.resolve(path);
            if target == "/dev/null" {
                return Ok(Some(Node::Masked(path.to_owned())));
            }
            let last = target.rsplit('/').next().unwrap_or_default();
            if last != name && UnitName::parse(last).is_some() && !is_template_of(last, name) {
                return Ok(Some(Node::Alias { link: path.to_owned(), to: last.to_owned() }));
            }
        }
        Ok(match self.tree.read(path)? {
            None => None,
            Some(bytes) if bytes.is_empty() => Some(Node::Masked(path.to_owned())),
            Some(_) => Some(Node::File(path.to_owned())),
        })
    }

    /// What a name stands for, aliases followed.
    pub(super) fn find(&self, name: &UnitName) -> Found {
        let mut name = name.clone();
        // No alias needs more hops than there are names; a circle ends here.
        for _ in 0..=self.nodes.len() {
            let own = self.nodes.get(&name.to_string());
            let node = own.or_else(|| self.nodes.get(&name.template()?.to_string()));
            match node {
                None => return Found::Missing,
                Some(Node::Masked(path)) => return Found::Masked(path.clone()),
                Some(Node::File(path)) => return Found::Unit(name, path.clone()),
                Some(Node::Alias { to, .. }) => {
                    let Some(target) = UnitName::parse(to) else { return Found::Missing };
                    name = match &name.instance {
                        Some(instance) if target.is_template() => target.with_instance(instance),
                        _ => target,
                    };
                }
            }
        }
        Found::Missing
    }

    /// All names of a unit, its own first.
    fn names_of(&self, name: &UnitName) -> Vec<UnitName> {
        let mut names = vec![name.clone()];
        for (alias, node) in &self.nodes {
            if let (Node::Alias { .. }, Some(alias)) = (node, UnitName::parse(alias))
                && matches!(self.find(&alias), Found::Unit(target, _) if target == *name)
            {
                names.push(alias);
            }
        }
        names
    }

    /// Everything that is said of a unit; lines that say nothing are reported.
    pub(super) fn load(&self, name: &UnitName, file: &str, reports: &mut Vec<Report>) -> io::Result<Loaded> {
        let names = self.names_of(name);
        let mut sources = vec![file.to_owned()];
        sources.extend(self.drop_ins(&names)?);
        let mut entries = Vec::new();
        for source in &sources {
            let Some(bytes) = self.tree.read(source)? else { continue };
            let (read, malformed) = text::parse(source, &bytes);
            entries.extend(read);
            reports.extend(malformed.into_iter().map(|bad| Report {
                unit: name.to_string(),
                place: Some(bad.place),
                finding: Finding::Malformed { reason: format!("the line says nothing: {}", bad.reason) },
                level: Level::Warning,
            }));
        }
        let bound = self.bound_to(&names)?;
        Ok(Loaded { name: name.clone(), sources, entries, bound })
    }

    /// The drop-ins of a unit: of equal names the most specific counts, and a link to `/dev/null` hides all.
    fn drop_ins(&self, names: &[UnitName]) -> io::Result<Vec<String>> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let each = names.iter().flat_map(UnitName::drop_in_names);
        let (general, special): (Vec<_>, Vec<_>) = each.partition(|name| !name.contains('.'));
        for name in special.into_iter().chain(general) {
            for directory in self.directories.get(&format!("{name}.d")).into_iter().flatten() {
                for file in self.tree.list(directory)? {
                    if file.ends_with(".conf") {
                        found.entry(file.clone()).or_insert_with(|| format!("{directory}/{file}"));
                    }
                }
            }
        }
        found.retain(|_, path| self.tree.resolve(path) != "/dev/null");
        Ok(found.into_values().collect())
    }

    /// What the links beside a unit bind it to.
    fn bound_to(&self, names: &[UnitName]) -> io::Result<Vec<Bound>> {
        let mut all = Vec::new();
        for (suffix, setting) in BINDINGS {
            let mut found: BTreeMap<String, String> = BTreeMap::new();
            for name in names.iter().flat_map(|name| [Some(name.clone()), name.template()]).flatten() {
                for directory in self.directories.get(&format!("{name}{suffix}")).into_iter().flatten() {
                    for unit in self.tree.list(directory)? {
                        found.entry(unit.clone()).or_insert_with(|| format!("{directory}/{unit}"));
                    }
                }
            }
            for (unit, link) in found {
                // Such a link takes back what another directory's says.
                if self.tree.resolve(&link) != "/dev/null" {
                    all.push(Bound { setting, unit, place: Place { file: link, line: 0 } });
                }
            }
        }
        Ok(all)
    }

    /// What the links beside any name, there or not, bind it to.
    pub(super) fn bound_by_links(&self, name: &UnitName) -> io::Result<Vec<Bound>> {
        let canonical = match self.find(name) {
            Found::Unit(canonical, _) => canonical,
            Found::Masked(_) | Found::Missing => name.clone(),
        };
        self.bound_to(&self.names_of(&canonical))
    }
}

impl Loaded {
    /// The setting that counts, where only one does; `None` where there is none or it was reset.
    pub(super) fn last(&self, section: &str, key: &str) -> Option<&Entry> {
        let last = self.entries.iter().rfind(|entry| entry.section == section && entry.key == key);
        last.filter(|entry| !entry.value.is_empty())
    }

    /// Whether a setting that is yes or no is there, and yes.
    pub(super) fn is_on(&self, section: &str, key: &str) -> bool {
        let on = |entry: &Entry| {
            matches!(entry.value.to_ascii_lowercase().as_str(), "yes" | "y" | "true" | "t" | "1" | "on")
        };
        self.last(section, key).is_some_and(on)
    }

    /// Whether the unit says anything of a setting.
    pub(super) fn mentions(&self, section: &str, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.section == section && entry.key == key)
    }
}

/// All directories that units are looked for in, in order.
fn load_path() -> Vec<String> {
    let [early, normal, late] = GENERATED;
    let mut path = vec![early, DIRECTORIES[0], DIRECTORIES[1], normal];
    path.extend(&DIRECTORIES[2..]);
    path.push(late);
    path.into_iter().map(str::to_owned).collect()
}

/// Whether a unit's name is an instance of a template.
fn is_template_of(template: &str, name: &str) -> bool {
    let of = UnitName::parse(name).and_then(|name| name.template());
    of.is_some_and(|of| of.to_string() == template)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    fn name(text: &str) -> UnitName {
        UnitName::parse(text).unwrap()
    }

    fn sources(root: &Root, unit: &str) -> Vec<String> {
        let tree = root.tree();
        let index = Index::new(&tree).unwrap();
        let Found::Unit(name, file) = index.find(&name(unit)) else { panic!("no {unit}") };
        let loaded = index.load(&name, &file, &mut Vec::new()).unwrap();
        [vec![name.to_string()], loaded.sources].concat()
    }

    #[test]
    fn the_administrators_file_hides_the_distributions() {
        let root = Root::new();
        root.write("usr/lib/systemd/system/a.service", "[Unit]\nDescription=theirs\n");
        root.write("etc/systemd/system/a.service", "[Unit]\nDescription=ours\n");
        assert_eq!(sources(&root, "a.service"), ["a.service", "/etc/systemd/system/a.service"]);
    }

    #[test]
    fn drop_ins_come_in_the_order_of_their_names_and_the_most_specific_of_a_name_counts() {
        let root = Root::new();
        root.write("usr/lib/systemd/system/a-b@.service", "[Service]\n");
        for path in [
            "usr/lib/systemd/system/service.d/10-all.conf",
            "usr/lib/systemd/system/a-.service.d/20-x.conf",
            "etc/systemd/system/service.d/20-x.conf",
            "etc/systemd/system/a-b@.service.d/30-y.conf",
            "usr/lib/systemd/system/a-b@i.service.d/30-y.conf",
            "usr/lib/systemd/system/a-b@i.service.d/40-gone.conf",
            "usr/lib/systemd/system/a-b@i.service.d/ignored",
        ] {
            root.write(path, "[Service]\nA=1\n");
        }
        root.link("etc/systemd/system/a-b@i.service.d/40-gone.conf", "/dev/null");
        let expected = [
            "a-b@i.service",
            "/usr/lib/systemd/system/a-b@.service",
            "/usr/lib/systemd/system/service.d/10-all.conf",
            "/usr/lib/systemd/system/a-.service.d/20-x.conf",
            "/usr/lib/systemd/system/a-b@i.service.d/30-y.conf",
        ];
        assert_eq!(sources(&root, "a-b@i.service"), expected);
    }

    #[test]
    fn aliases_lead_to_the_unit_and_their_drop_ins_count() {
        let root = Root::new();
        root.write("usr/lib/systemd/system/ssh.service", "[Unit]\n");
        root.link("etc/systemd/system/sshd.service", "/lib/systemd/system/ssh.service");
        root.write("etc/systemd/system/sshd.service.d/x.conf", "[Unit]\n");
        let expected = [
            "ssh.service",
            "/usr/lib/systemd/system/ssh.service",
            "/etc/systemd/system/sshd.service.d/x.conf",
        ];
        assert_eq!(sources(&root, "sshd.service"), expected);
    }

    #[test]
    fn masks_and_what_is_not_there_are_told_apart() {
        let root = Root::new();
        root.write("usr/lib/systemd/system/a.service", "[Unit]\n");
        root.link("etc/systemd/system/a.service", "/dev/null");
        root.write("etc/systemd/system/b.service", "");
        root.link("etc/systemd/system/c.service", "d.service");
        root.link("etc/systemd/system/d.service", "c.service");
        let tree = root.tree();
        let index = Index::new(&tree).unwrap();
        let masked = |unit: &str| matches!(index.find(&name(unit)), Found::Masked(_));
        assert!(masked("a.service") && masked("b.service"));
        for unit in ["c.service", "e.service", "e@f.service"] {
            assert_eq!(index.find(&name(unit)), Found::Missing, "{unit}");
        }
    }

    #[test]
    fn links_in_directories_bind_unless_they_are_taken_back() {
        let root = Root::new();
        root.write("usr/lib/systemd/system/a.service", "[Unit]\n");
        root.link("usr/lib/systemd/system/a.service.wants/b.service", "../b.service");
        root.link("usr/lib/systemd/system/a.service.wants/c.service", "../c.service");
        root.link("etc/systemd/system/a.service.wants/c.service", "/dev/null");
        root.link("etc/systemd/system/a.service.requires/d@1.service", "/lib/systemd/system/d@.service");
        let tree = root.tree();
        let bound = Index::new(&tree).unwrap().bound_by_links(&name("a.service")).unwrap();
        let told: Vec<String> = bound.iter().map(|it| format!("{}={}", it.setting, it.unit)).collect();
        assert_eq!(told, ["Wants=b.service", "Requires=d@1.service"]);
    }
}
