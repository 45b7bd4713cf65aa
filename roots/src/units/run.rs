//! How a root runs: what its definition says of it beyond what is in it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

use super::name::UnitName;
use super::ours::HARDENING;

/// The roots that run together: those of one definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// What tells it from others on the host: eight hexadecimal digits.
    pub id: String,
    /// The addresses of its bridge. The first is the host's.
    pub subnet: Subnet,
    /// What roots are known by with their names before it.
    pub domain: Option<String>,
    /// Whether its roots reach the world, by the host's address.
    pub outgoing: bool,
    /// All roots of it with their addresses and names, whether they run or not.
    pub members: Vec<Member>,
}

impl Cluster {
    /// The cluster of the definition in `file`, an absolute path, of which nothing else is known yet.
    #[must_use]
    pub fn of(file: &Path) -> Self {
        let number = hash(&file.to_string_lossy());
        Self {
            id: format!("{number:08x}"),
            subnet: Subnet::nth(number.to_be_bytes()[0]),
            domain: None,
            outgoing: false,
            members: Vec::new(),
        }
    }
}

/// A root of a cluster, as the others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The root's name.
    pub root: String,
    /// Where it is reached; the host's own, where it has the host's network.
    pub address: Ipv4Addr,
    /// What it is known by; the first is its whole name.
    pub names: Vec<String>,
}

/// How one root runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Roots whose targets are active before this one's starts.
    pub after: Vec<String>,
    /// Roots without which this one isn't started; they start before it.
    pub requires: Vec<String>,
    /// Its address where it has a network of its own; `None`: the host's network.
    pub address: Option<Ipv4Addr>,
    /// What it takes for its own name.
    pub hostname: String,
    /// What of it is reached by the host's addresses.
    pub ports: Vec<Port>,
    /// The most memory that it may have, in bytes.
    pub memory: Option<u64>,
    /// Its share of the processors among others, 1 to 10000; others have 100.
    pub cpu_weight: Option<u32>,
    /// How many processes and threads it may have.
    pub tasks: Option<u32>,
    /// Directories whose content stays when the root is handed over anew: absolute paths in it.
    pub state: Vec<String>,
    /// What of the hardening that is on by default some services do without.
    pub softened: Vec<Softened>,
    /// What services write to.
    pub writable: Writable,
}

impl Run {
    /// A root that nothing is said of, in the host's network.
    #[must_use]
    pub fn new(hostname: &str) -> Self {
        Self {
            after: Vec::new(),
            requires: Vec::new(),
            address: None,
            hostname: hostname.to_owned(),
            ports: Vec::new(),
            memory: None,
            cpu_weight: None,
            tasks: None,
            state: Vec::new(),
            softened: Vec::new(),
            writable: Writable::default(),
        }
    }
}

/// A service that does without some hardening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Softened {
    /// The unit, by its name in the root; an instance also by its template's. `None`: all.
    pub unit: Option<String>,
    /// The setting (`PrivateDevices`); `None`: all.
    pub setting: Option<String>,
}

/// What the services of a root write to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writable {
    /// The checkout itself.
    #[default]
    Checkout,
    /// The upper side of an overlay over it, gone when the root stops.
    Overlay,
}

/// Names of the settings that harden services by default.
pub fn hardening() -> impl Iterator<Item = &'static str> {
    HARDENING.iter().map(|(name, _, _)| *name)
}

/// Whether a text can be the name of a unit that services are: `nginx.service`, `db@.service`.
#[must_use]
pub fn is_unit_name(text: &str) -> bool {
    UnitName::parse(text).is_some()
}

/// A network of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    first: Ipv4Addr,
    /// How many bits of an address are the network's: 8 to 29.
    bits: u8,
}

/// A text isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(&'static str);

impl Subnet {
    /// The /24 below 10.213.0.0/16 that a number means.
    #[must_use]
    pub fn nth(number: u8) -> Self {
        Self { first: Ipv4Addr::new(10, 213, number, 0), bits: 24 }
    }

    /// What all of those are in: for more roots than such a network has addresses.
    #[must_use]
    pub fn widest() -> Self {
        Self { first: Ipv4Addr::new(10, 213, 0, 0), bits: 16 }
    }

    /// How many bits of an address are the network's.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The host's address on the bridge.
    #[must_use]
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + 1)
    }

    /// How many addresses there are for roots.
    #[must_use]
    pub fn room(self) -> u32 {
        (1 << (32 - self.bits)) - 3
    }

    /// The address of a number from 0 on; there are [`Subnet::room`].
    #[must_use]
    pub fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + 2 + number)
    }

    /// Whether an address is one that a root can have.
    #[must_use]
    pub fn has(self, address: Ipv4Addr) -> bool {
        let number = u32::from(address).wrapping_sub(u32::from(self.first));
        (2..self.room() + 2).contains(&number)
    }

    /// An address for each name, in this order; each depends on its own name first. Those that are `taken` are
    /// nobody's. `None` where there are none left.
    #[must_use]
    pub fn assign(self, names: &[&str], taken: &[Ipv4Addr]) -> Option<BTreeMap<String, Ipv4Addr>> {
        let mut assigned = BTreeMap::new();
        let mut used = taken.to_vec();
        for name in names {
            let start = hash(name) % self.room();
            let mut all = (0..self.room()).map(|step| self.address((start + step) % self.room()));
            let address = all.find(|address| !used.contains(address))?;
            used.push(address);
            assigned.insert((*name).to_owned(), address);
        }
        Some(assigned)
    }
}

/// A number that stands for a text.
pub(super) fn hash(text: &str) -> u32 {
    let digest = rootbuild_cache::Digest::of(text.as_bytes());
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl FromStr for Subnet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let odd = ParseError("a network is written like `10.213.7.0/24`");
        let (first, bits) = text.split_once('/').ok_or(odd.clone())?;
        let first: Ipv4Addr = first.parse().map_err(|_| odd.clone())?;
        let bits: u8 = bits.parse().map_err(|_| odd)?;
        if !(8..=29).contains(&bits) {
            return Err(ParseError("a network has 8 to 29 bits"));
        }
        let rest = u32::MAX >> bits;
        if u32::from(first) & rest != 0 {
            return Err(ParseError("the address isn't the network's first"));
        }
        if first.is_loopback() || first.is_multicast() || first.is_unspecified() || first.octets()[0] >= 240 {
            return Err(ParseError("roots can't have such addresses"));
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the host that leads into a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The host's address; `None`: all of them.
    pub address: Option<Ipv4Addr>,
    /// The host's port.
    pub host: u16,
    /// The root's.
    pub root: u16,
    /// What it carries.
    pub protocol: Protocol,
}

impl Port {
    /// Whether the host can't have both.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        let address = match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        address && (self.host, self.protocol) == (other.host, other.protocol)
    }
}

impl FromStr for Port {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let odd = ParseError(
            "a port is written `HOST:ROOT`, with `ADDRESS:` before it or `/udp` after it where need be",
        );
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(odd),
        };
        let (rest, root) = ports.rsplit_once(':').ok_or(odd.clone())?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(address.parse().map_err(|_| odd.clone())?), host),
            None => (None, rest),
        };
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|number| digits && *number > 0).ok_or(odd.clone())
        };
        Ok(Self { address, host: number(host)?, root: number(root)?, protocol })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}", self.host, self.root)?;
        if self.protocol == Protocol::Udp { f.write_str("/udp") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_what_is_theirs() {
        let subnet: Subnet = "10.213.7.0/24".parse().unwrap();
        assert_eq!((subnet.to_string().as_str(), subnet), ("10.213.7.0/24", Subnet::nth(7)));
        assert_eq!((subnet.host(), subnet.room()), ("10.213.7.1".parse().unwrap(), 253));
        for (address, is) in [
            ("10.213.7.2", true),
            ("10.213.7.254", true),
            ("10.213.7.255", false),
            ("10.213.7.1", false),
            ("10.213.7.0", false),
            ("10.213.6.255", false),
            ("10.213.8.2", false),
        ] {
            assert_eq!(subnet.has(address.parse().unwrap()), is, "{address}");
        }
        assert!(subnet.has(subnet.address(0)) && subnet.has(subnet.address(252)));
        for odd in
            ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/30", "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/8", "x/24"]
        {
            assert!(odd.parse::<Subnet>().is_err(), "{odd}");
        }
    }

    #[test]
    fn addresses_stay_when_others_come_and_go() {
        let subnet = Subnet::nth(0);
        let before = subnet.assign(&["a", "b", "c"], &[]).unwrap();
        let after = subnet.assign(&["x", "b", "y", "c", "a"], &[]).unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(before[name], after[name], "{name}");
        }
        let taken = subnet.assign(&["a"], &[before["a"]]).unwrap();
        assert_ne!(taken["a"], before["a"]);
        let small: Subnet = "10.0.0.0/29".parse().unwrap();
        let all = small.assign(&["a", "b", "c", "d", "e"], &[]).unwrap();
        let mut addresses: Vec<_> = all.values().collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 5);
        assert_eq!(small.assign(&["a", "b", "c", "d", "e", "f"], &[]), None);
    }

    #[test]
    fn ports_are_written_as_with_docker() {
        for text in ["8080:80", "127.0.0.1:2222:22", "53:53/udp"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("80:80/tcp".parse::<Port>().unwrap().to_string(), "80:80");
        for odd in
            ["80", "0:80", "80:0", "x:80", "80:80/sctp", "::1:80:80", "+80:80", "65536:1", "h:80:80", ""]
        {
            assert!(odd.parse::<Port>().is_err(), "{odd}");
        }
        let clash = |one: &str, other: &str| one.parse::<Port>().unwrap().clashes(&other.parse().unwrap());
        assert!(clash("80:80", "127.0.0.1:80:8080") && clash("80:1", "80:2"));
        assert!(!clash("80:80", "80:80/udp") && !clash("127.0.0.1:80:1", "127.0.0.2:80:1"));
    }
}
