//! `[cluster]` and `[root.NAME.run]`: how roots run on a host. Nothing of this decides what is in a root.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use rootbuild_roots::units::{
    self, Cluster, Member, Port, Softened, Subnet, Writable, hardening, is_unit_name,
};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{At, Problems};
use super::model::{Located, Root, Run};
use super::table::{Fields, did_you_mean, type_name};
use crate::upkeep;

/// The keys of `[root.NAME.run]`, for those who write them elsewhere.
pub(super) const KEYS: &[&str] = &[
    "start",
    "after",
    "requires",
    "address",
    "hostname",
    "ports",
    "memory",
    "cpu_weight",
    "tasks",
    "state",
    "soften",
    "writable",
    "ready_timeout",
];

/// How long `up` waits for a unit where nothing is said.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// Directories that are fresh or the machine's in a root that runs.
const FRESH: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// `[cluster]`.
pub(super) fn cluster(
    mut cluster: Cluster,
    span: At,
    value: &Spanned<DeValue<'_>>,
    problems: &Problems,
) -> Cluster {
    let DeValue::Table(table) = value.as_ref() else {
        let message = format!("`cluster` must be a table, not {}", type_name(value.as_ref()));
        let at = problems.at(&value.span());
        problems.add(at, message, Some("write it as a section: `[cluster]`".to_owned()));
        return cluster;
    };
    let fields = Fields::new("[cluster]".to_owned(), span, table, problems);
    if let Some(subnet) = parsed::<Subnet>(&fields, "network") {
        cluster.subnet = subnet.value;
    }
    cluster.domain = fields.string("domain").map(|domain| {
        if !is_host_name(&domain) {
            cant_be(
                &fields,
                "domain",
                &domain,
                "it is letters, digits and `-`, with dots between: `vcs.test`",
            );
        }
        domain.value
    });
    cluster.outgoing = fields.bool("outgoing").unwrap_or(false);
    fields.finish(|_| None);
    cluster
}

/// What `[root.NAME.run]` says, before it is known what others say.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) root: String,
    span: At,
    /// To be completed by [`together`].
    pub(super) run: Run,
    own_network: bool,
    address: Option<Located<Ipv4Addr>>,
    hostname: Option<Located<String>>,
    /// The inventory host that it stands for.
    host: String,
    after: Vec<Located<String>>,
    requires: Vec<Located<String>>,
    ports: Vec<Located<Port>>,
}

/// Reads a root's `run`; what isn't written is as it is by default.
pub(super) fn run(
    root: &str,
    span: At,
    host: &str,
    table: Option<&Located<&DeTable<'_>>>,
    problems: &Problems,
) -> Said {
    let empty = DeTable::new();
    let (table, span) = table.map_or((&empty, span), |table| (table.value, table.span));
    let title = format!("[root.{}.run]", root.escape_debug());
    let fields = Fields::new(title, span, table, problems);
    let start = fields.bool("start").unwrap_or(true);
    let own_network =
        fields.choice("network", &[("private", true), ("host", false)]).is_none_or(|network| network.value);
    for key in ["address", "ports"] {
        if !own_network && fields.has(key) {
            let message = format!("`{key}` in `{}` goes with `network = \"private\"`", fields.title);
            let hint = "with the host's network a root has the host's addresses and ports".to_owned();
            fields.problem(fields.place(key), message, Some(hint));
        }
    }
    let address = parsed::<Ipv4Addr>(&fields, "address");
    let hostname = fields.string("hostname");
    if let Some(name) = hostname.as_ref().filter(|name| !is_own_name(name)) {
        let hint = "a host's name is letters, digits, `-` and dots, 64 at most, and not `localhost`";
        cant_be(&fields, "hostname", name, hint);
    }
    let ports = fields.strings("ports").unwrap_or_default();
    let ports = ports.iter().filter_map(|port| each::<Port>(&fields, "ports", port)).collect();
    let memory = bytes(&fields, "memory");
    let number = |key, least: u32, most| {
        let number = fields.number(key, most)?;
        if number < least {
            let message = format!("`{key}` in `{}` must be at least {least}", fields.title);
            fields.problem(fields.place(key), message, None);
        }
        Some(number)
    };
    let cpu_weight = number("cpu_weight", 1, 10_000);
    let tasks = number("tasks", 1, 4_194_304);
    let state = state(&fields);
    let softened = soften(&fields, problems);
    let writable =
        fields.choice("writable", &[("checkout", Writable::Checkout), ("overlay", Writable::Overlay)]);
    let ready_timeout = fields.string("ready_timeout").and_then(|text| {
        let unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
        let found = upkeep::duration(&text).ok().filter(|time| unit && !time.is_zero());
        if found.is_none() {
            cant_be(&fields, "ready_timeout", &text, "write a number with `s`, `m` or `h`: `90s`");
        }
        found
    });
    let after = fields.strings("after").unwrap_or_default();
    let requires = fields.strings("requires").unwrap_or_default();
    fields.finish(|_| None);
    let value = |names: &[Located<String>]| names.iter().map(|name| name.value.clone()).collect();
    let units = units::Run {
        after: value(&after),
        requires: value(&requires),
        memory,
        cpu_weight,
        tasks,
        state,
        softened,
        writable: writable.map_or(Writable::default(), |writable| writable.value),
        ..units::Run::new(root)
    };
    let run = Run { start, ready_timeout: ready_timeout.unwrap_or(READY_TIMEOUT), units };
    let (root, host) = (root.to_owned(), host.to_owned());
    Said { root, span, run, own_network, address, hostname, host, after, requires, ports }
}

/// A text that is something else.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    fields: &Fields<'_, '_>,
    key: &'static str,
) -> Option<Located<T>> {
    each(fields, key, &fields.string(key)?)
}

fn each<T: std::str::FromStr<Err: std::fmt::Display>>(
    fields: &Fields<'_, '_>,
    key: &str,
    text: &Located<String>,
) -> Option<Located<T>> {
    match text.parse() {
        Ok(value) => Some(Located { value, span: text.span }),
        Err(error) => {
            cant_be(fields, key, text, &format!("{error}"));
            None
        }
    }
}

fn cant_be(fields: &Fields<'_, '_>, key: &str, value: &Located<String>, hint: &str) {
    let message = format!("`{key}` in `{}` can't be `{}`", fields.title, value.value);
    fields.problem(value.span, message, Some(hint.to_owned()));
}

fn bytes(fields: &Fields<'_, '_>, key: &'static str) -> Option<u64> {
    let text = fields.string(key)?;
    let found = upkeep::size(&text).ok().filter(|bytes| *bytes >= 1 << 20);
    if found.is_none() {
        cant_be(fields, key, &text, "write a number with `M`, `G` or `T`, at least `1M`");
    }
    found
}

/// Directories that survive: of the root, and none within another.
fn state(fields: &Fields<'_, '_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for written in fields.strings("state").unwrap_or_default() {
        let path = written.trim_end_matches('/');
        let plain = path.starts_with('/')
            && path[1..].split('/').all(|name| !matches!(name, "" | "." | ".."))
            && !path.contains([':', '\\', '"']);
        let is_below = |path: &str, top: &str| {
            path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fresh = FRESH.iter().chain(&["/var/run"]).find(|top| is_below(path, top));
        let other = found.iter().find(|other| is_below(path, other) || is_below(other, path));
        if !plain {
            cant_be(fields, "state", &written, "write the directory from the root's top: `/var/lib/app`");
        } else if let Some(top) = fresh {
            cant_be(fields, "state", &written, &format!("`{top}` is fresh at each start"));
        } else if let Some(other) = other {
            cant_be(fields, "state", &written, &format!("one of it and `{other}` is within the other"));
        } else {
            found.push(path.to_owned());
        }
    }
    found
}

fn soften(fields: &Fields<'_, '_>, problems: &Problems) -> Vec<Softened> {
    let Some(table) = fields.table("soften") else { return Vec::new() };
    let title = fields.title.clone();
    let mut found = Vec::new();
    for (unit, settings) in super::table::in_order(table.value) {
        let name: &str = unit.as_ref();
        if name != "*" && !is_unit_name(name) {
            let message = format!("`{}` in `soften` of `{title}` is no unit's name", name.escape_debug());
            let hint = "write it as the root has it, `nginx.service`, or `*` for all".to_owned();
            problems.add(problems.at(&unit.span()), message, Some(hint));
        }
        for setting in fields.strings_in("soften", settings).unwrap_or_default() {
            if setting.value != "*" && !hardening().any(|known| known == setting.value) {
                let message = format!("`{}` in `soften` of `{title}` is no hardening", setting.value);
                problems.add(setting.span, message, Some(did_you_mean(&setting, hardening())));
            }
            found.push(Softened {
                unit: (name != "*").then(|| name.to_owned()),
                setting: (setting.value != "*").then_some(setting.value),
            });
        }
    }
    found
}

/// Whether a text is a name of DNS: labels with dots between.
fn is_host_name(text: &str) -> bool {
    text.len() <= 200
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
}

/// Whether a machine can call itself so.
fn is_own_name(text: &str) -> bool {
    text.len() <= 64
        && is_host_name(text)
        && text.split('.').next() != Some("localhost")
        && text.parse::<Ipv4Addr>().is_err()
}

/// Checks what roots say together, and gives each what it didn't say itself.
pub(super) fn together(
    said: Vec<Said>,
    cluster: &mut Cluster,
    network_is_named: bool,
    roots: &mut [Root],
    problems: &Problems,
) {
    order(&said, problems);
    if !network_is_named && said.len() > cluster.subnet.room() as usize {
        cluster.subnet = Subnet::widest();
    }
    let names = host_names(&said, problems);
    let addresses = addresses(&said, cluster.subnet, problems);
    ports(&said, problems);
    cluster.members = said
        .iter()
        .map(|it| {
            let address = addresses.get(&it.root).copied().unwrap_or_else(|| cluster.subnet.host());
            Member { root: it.root.clone(), address, names: known_as(it, &names, cluster.domain.as_deref()) }
        })
        .collect();
    for it in said {
        let Some(root) = roots.iter_mut().find(|root| root.name == it.root) else { continue };
        root.run = it.run;
        root.run.units.address = addresses.get(&it.root).copied();
        root.run.units.hostname = names[&it.root].clone();
        root.run.units.ports = it.ports.iter().map(|port| port.value).collect();
    }
}

/// A root's name as far as it can be a host's.
fn plain_name(root: &str) -> String {
    let plain = root.replace('_', "-");
    let labels: Vec<&str> =
        plain.split('.').map(|it| it.trim_matches('-')).filter(|it| !it.is_empty()).collect();
    let name = labels.join(".");
    if is_own_name(&name) {
        return name;
    }
    // No machine is called `localhost`, `10.0.0.1`, or by 64 letters.
    let letters = name.replace('.', "-");
    let letters: String = letters.chars().take(50).collect();
    format!("root-{}", letters.trim_end_matches('-'))
}

/// All that a root is known by, its whole name first.
fn known_as(said: &Said, hostnames: &BTreeMap<String, String>, domain: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    let own = [plain_name(&said.root), hostnames[&said.root].clone()];
    names.extend(own.iter().filter_map(|name| Some(format!("{name}.{}", domain?))));
    names.extend(own);
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.to_ascii_lowercase()));
    names
}

/// What each root takes for its own name: what it says, else the host that it stands for where no other does,
/// else the name that it has here.
fn host_names(said: &[Said], problems: &Problems) -> BTreeMap<String, String> {
    let mut taken: HashMap<String, (&str, bool)> = HashMap::new();
    for it in said {
        let name = plain_name(&it.root).to_ascii_lowercase();
        // Names that can't be are told already.
        if let Some((other, _)) = taken.insert(name.clone(), (&it.root, false)).filter(|_| name != "root-") {
            let message = format!("roots `{other}` and `{}` would both be known as `{name}`", it.root);
            problems.add(it.span, message, Some("names differ in more than case, `_` and `-`".to_owned()));
        }
    }
    for it in said {
        let Some(hostname) = &it.hostname else { continue };
        let before = taken.insert(hostname.to_ascii_lowercase(), (&it.root, true));
        if let Some((other, _)) = before.filter(|(other, _)| *other != it.root) {
            let message = format!("root `{other}` is known as `{}` already", hostname.value);
            problems.add(hostname.span, message, Some("give each root a `hostname` of its own".to_owned()));
        }
    }
    let stands_for = |it: &Said| (is_own_name(&it.host)).then(|| it.host.to_ascii_lowercase());
    let mut hosts: HashMap<String, usize> = HashMap::new();
    for host in said.iter().filter_map(stands_for) {
        *hosts.entry(host).or_default() += 1;
    }
    let name_of = |it: &Said| {
        if let Some(hostname) = &it.hostname {
            return hostname.value.clone();
        }
        let alone =
            |host: &String| hosts[host] == 1 && taken.get(host).is_none_or(|(other, _)| *other == it.root);
        let host = stands_for(it).filter(alone).map(|_| it.host.clone());
        host.unwrap_or_else(|| plain_name(&it.root))
    };
    said.iter().map(|it| (it.root.clone(), name_of(it))).collect()
}

/// The address of each root with a network of its own.
fn addresses(said: &[Said], subnet: Subnet, problems: &Problems) -> BTreeMap<String, Ipv4Addr> {
    let mut found: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
    for it in said.iter().filter(|it| it.own_network) {
        let Some(address) = &it.address else { continue };
        if let Some((other, _)) = found.iter().find(|(_, other)| **other == address.value) {
            let message = format!("root `{other}` has the address {} already", address.value);
            problems.add(address.span, message, Some("leave `address` out to have one chosen".to_owned()));
        } else if !subnet.has(address.value) {
            let last = subnet.address(subnet.room() - 1);
            let message = format!("{} is no address for a root in {subnet}", address.value);
            let hint = format!(
                "roots have {} to {last}; another `network` is named in `[cluster]`",
                subnet.address(0)
            );
            problems.add(address.span, message, Some(hint));
        }
        found.insert(it.root.clone(), address.value);
    }
    let taken: Vec<Ipv4Addr> = found.values().copied().collect();
    let others = said.iter().filter(|it| it.own_network && it.address.is_none());
    let others: Vec<&str> = others.map(|it| it.root.as_str()).collect();
    match subnet.assign(&others, &taken) {
        Some(assigned) => found.extend(assigned),
        None => {
            let message = format!("{subnet} has no addresses for {} roots", said.len());
            let hint = "name a larger `network` in `[cluster]`, such as `10.213.0.0/16`".to_owned();
            problems.add(said[0].span, message, Some(hint));
        }
    }
    found
}

fn ports(said: &[Said], problems: &Problems) {
    let mut seen: Vec<(&str, &Located<Port>)> = Vec::new();
    for (root, port) in said.iter().flat_map(|it| it.ports.iter().map(move |port| (it.root.as_str(), port))) {
        if let Some((other, of_other)) = seen.iter().find(|(_, other)| other.clashes(port)) {
            let message = format!(
                "port {} of the host leads to root `{other}` already (`{}`)",
                port.host, of_other.value
            );
            problems.add(port.span, message, Some("give it another port of the host".to_owned()));
        }
        seen.push((root, port));
    }
}

/// Checks that what starts first exists, and that nothing waits for itself.
fn order(said: &[Said], problems: &Problems) {
    let known: Vec<&str> = said.iter().map(|it| it.root.as_str()).collect();
    for it in said {
        for name in it.after.iter().chain(&it.requires) {
            if !known.contains(&name.as_str()) {
                let message = format!("there is no root `{}` for `{}` to start after", name.value, it.root);
                problems.add(name.span, message, Some(did_you_mean(name, known.iter().copied())));
            }
        }
    }
    let before: HashMap<&str, Vec<&Located<String>>> =
        said.iter().map(|it| (it.root.as_str(), it.after.iter().chain(&it.requires).collect())).collect();
    let mut settled: HashSet<&str> = HashSet::new();
    for it in said {
        // One way down, with what is left to look at on each level.
        let mut way: Vec<(&str, usize)> = vec![(&it.root, 0)];
        while let Some((root, next)) = way.last_mut() {
            let Some(name) = before.get(root).and_then(|names| names.get(*next)) else {
                settled.insert(root);
                way.pop();
                continue;
            };
            *next += 1;
            if let Some(at) = way.iter().position(|(root, _)| *root == name.value) {
                let mut chain: Vec<String> = way[at..].iter().map(|(root, _)| format!("`{root}`")).collect();
                chain.push(format!("`{}`", name.value));
                let message = format!("root `{}` starts after itself: {}", name.value, chain.join(" after "));
                problems.add(name.span, message, Some("leave one of them out".to_owned()));
            } else if !settled.contains(name.as_str()) && before.contains_key(name.as_str()) {
                way.push((&name.value, 0));
            }
        }
    }
}
