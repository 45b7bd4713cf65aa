//! The host's distribution: how something that is missing gets installed here.

use std::fs;

/// Families of distributions, by how packages are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Debian,
    Fedora,
    Suse,
    Arch,
    Other,
}

/// Something that may have to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `systemd-nspawn`
    Nspawn,
    /// `rpm`
    Rpm,
    /// dnf as a Python library
    PythonDnf,
    /// `mmdebstrap`
    Mmdebstrap,
    /// The keys that sign Debian's archive
    DebianKeyring,
    /// Python 3
    Python,
    /// `unshare` and `setpriv`
    UtilLinux,
    /// The locale C.UTF-8
    Locales,
    /// `ip`
    Iproute,
}

impl Tool {
    /// The package's name on Debian, Fedora, SUSE and Arch; `None` where it isn't packaged.
    fn packages(self) -> [Option<&'static str>; 4] {
        match self {
            Self::Nspawn => [
                Some("systemd-container"),
                Some("systemd-container"),
                Some("systemd-container"),
                Some("systemd"),
            ],
            Self::Rpm => [Some("rpm"), Some("rpm"), Some("rpm"), Some("rpm-tools")],
            Self::PythonDnf => [Some("python3-dnf"), Some("python3-dnf"), Some("python3-dnf"), None],
            Self::Mmdebstrap => [Some("mmdebstrap"), Some("mmdebstrap"), None, None],
            Self::DebianKeyring => {
                [Some("debian-archive-keyring"), Some("debian-keyring"), None, Some("debian-archive-keyring")]
            }
            Self::Python => [Some("python3"), Some("python3"), Some("python3"), Some("python")],
            Self::UtilLinux => [Some("util-linux"); 4],
            Self::Iproute => [Some("iproute2"), Some("iproute"), Some("iproute2"), Some("iproute2")],
            Self::Locales => {
                [Some("libc-bin"), Some("glibc-minimal-langpack"), Some("glibc-locale-base"), Some("glibc")]
            }
        }
    }
}

/// The command that installs a tool on this host, as a hint.
#[must_use]
pub fn install(tool: Tool) -> String {
    let release = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    install_on(family(&release), tool)
}

fn install_on(family: Family, tool: Tool) -> String {
    let [debian, fedora, suse, arch] = tool.packages();
    let command = |start: &str, package: Option<&str>| Some(format!("run `{start} {}`", package?));
    let known = match family {
        Family::Debian => command("apt-get install", debian),
        Family::Fedora => command("dnf install", fedora),
        Family::Suse => command("zypper install", suse),
        Family::Arch => command("pacman -S", arch),
        Family::Other => None,
    };
    known.unwrap_or_else(|| format!("install what Debian calls `{}`", debian.unwrap_or("it")))
}

/// The family of a distribution by its os-release: its own id first, then what it is like.
fn family(release: &str) -> Family {
    let field = |name: &str| {
        release
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    let ids = format!("{} {}", field("ID"), field("ID_LIKE"));
    ids.split_whitespace()
        .find_map(|id| match id {
            "debian" | "ubuntu" => Some(Family::Debian),
            "fedora" | "rhel" | "centos" => Some(Family::Fedora),
            "suse" | "opensuse" | "sles" => Some(Family::Suse),
            "arch" => Some(Family::Arch),
            _ => None,
        })
        .unwrap_or(Family::Other)
}

#[cfg(test)]
mod tests {
    use super::{Family, Tool, family, install_on};

    #[test]
    fn a_distribution_is_known_by_its_id_or_by_what_it_is_like() {
        assert_eq!(family("NAME=x\nID=debian\n"), Family::Debian);
        assert_eq!(family("ID=rocky\nID_LIKE=\"rhel centos fedora\"\n"), Family::Fedora);
        assert_eq!(family("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n"), Family::Suse);
        assert_eq!(family("ID=mint\nID_LIKE='ubuntu debian'"), Family::Debian);
        assert_eq!(family("VERSION_ID=debian\n"), Family::Other);
        assert_eq!(family(""), Family::Other);
    }

    #[test]
    fn what_is_not_packaged_is_named_as_debian_names_it() {
        assert_eq!(install_on(Family::Debian, Tool::Nspawn), "run `apt-get install systemd-container`");
        assert_eq!(install_on(Family::Arch, Tool::Rpm), "run `pacman -S rpm-tools`");
        assert_eq!(install_on(Family::Suse, Tool::Mmdebstrap), "install what Debian calls `mmdebstrap`");
        assert_eq!(install_on(Family::Other, Tool::PythonDnf), "install what Debian calls `python3-dnf`");
    }
}
