//! What the host's systemd can do.

use std::path::Path;
use std::process::{Command, Stdio};

/// The first version of systemd whose units ours are.
pub const OLDEST: u32 = 247;

/// What matters of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// The version of its systemd.
    pub systemd: u32,
    /// Whether the names in `/run/userdb` are known to it: `nss-systemd` is installed and asked.
    pub nss_systemd: bool,
    /// Whether it has `ip` of iproute2.
    pub ip: bool,
    /// What changes its firewall.
    pub firewall: Option<Firewall>,
    /// Where its `systemd-socket-proxyd` is.
    pub proxy: Option<&'static str>,
}

/// A program that changes a firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// `nft` of nftables.
    Nft,
    /// `iptables`, whatever is behind it.
    Iptables,
}

/// Where `systemd-socket-proxyd` may be.
const PROXIES: [&str; 2] = ["/usr/lib/systemd/systemd-socket-proxyd", "/lib/systemd/systemd-socket-proxyd"];

/// The host's systemd won't do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is none, or it doesn't tell its version.
    #[error("can't tell the version of this host's systemd")]
    Unknown,
    /// It is too old.
    #[error("this host's systemd is version {found}, at least {OLDEST} is needed")]
    TooOld {
        /// The version.
        found: u32,
    },
}

impl Host {
    /// A host with all programs that units may need.
    #[must_use]
    pub fn with(systemd: u32, nss_systemd: bool) -> Self {
        Self { systemd, nss_systemd, ip: true, firewall: Some(Firewall::Nft), proxy: Some(PROXIES[0]) }
    }

    /// Looks at the host that this process runs on.
    ///
    /// # Errors
    /// There is no systemd, or one that is too old.
    pub fn detect() -> Result<Self, HostError> {
        let asked = Command::new("systemctl").arg("--version").stdin(Stdio::null()).output();
        let text = asked.map_err(|_| HostError::Unknown)?.stdout;
        let systemd = version(&String::from_utf8_lossy(&text)).ok_or(HostError::Unknown)?;
        if systemd < OLDEST {
            return Err(HostError::TooOld { found: systemd });
        }
        let switch = ["/etc/nsswitch.conf", "/usr/etc/nsswitch.conf", "/usr/share/defaults/nsswitch.conf"]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default();
        let firewall = [("nft", Firewall::Nft), ("iptables", Firewall::Iptables)];
        Ok(Self {
            systemd,
            nss_systemd: asks_systemd(&switch) && has_module(),
            ip: has_program("ip"),
            firewall: firewall.into_iter().find(|(name, _)| has_program(name)).map(|(_, firewall)| firewall),
            proxy: PROXIES.into_iter().find(|path| Path::new(path).exists()),
        })
    }
}

/// Whether units find a program.
fn has_program(name: &str) -> bool {
    let directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    directories.iter().any(|directory| Path::new(directory).join(name).exists())
}

/// The version in what `systemctl --version` prints first: `systemd 252 (252.39-1)`.
fn version(text: &str) -> Option<u32> {
    let word = text.strip_prefix("systemd ")?.split_whitespace().next()?;
    let digits = word.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whether users and groups are looked up by `nss-systemd`.
fn asks_systemd(switch: &str) -> bool {
    let asked = |database: &str| {
        let line =
            switch.lines().find_map(|line| line.trim_start().strip_prefix(database)?.strip_prefix(':'));
        line.is_some_and(|line| line.split_whitespace().any(|source| source == "systemd"))
    };
    asked("passwd") && asked("group")
}

fn has_module() -> bool {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let directories = ["/usr/lib64", "/usr/lib", "/lib64", "/lib"].map(str::to_owned);
    let multiarch = [format!("/usr/lib/{triplet}"), format!("/lib/{triplet}")];
    let mut all = directories.iter().chain(&multiarch);
    all.any(|directory| Path::new(directory).join("libnss_systemd.so.2").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_however_a_distribution_writes_them() {
        assert_eq!(version("systemd 252 (252.39-1~deb12u2)\n+PAM"), Some(252));
        assert_eq!(version("systemd 257~rc1\n"), Some(257));
        assert_eq!(version("systemd 249.11"), Some(249));
        assert_eq!(version("runit"), None);
    }

    #[test]
    fn both_users_and_groups_have_to_be_asked_for() {
        assert!(asks_systemd("passwd:  files systemd\ngroup: files [!UNAVAIL=return] systemd\n"));
        assert!(!asks_systemd("passwd: files systemd\ngroup: files\n"));
        assert!(!asks_systemd("# passwd: systemd\n"));
    }
}
