//! `--mirror`: an option of several commands.

use clap::Args;
use rootbuild_roots::base::Mirror;

/// Where to get what well-known hosts have.
#[derive(Debug, Clone, Args)]
pub struct Mirroring {
    /// Get packages of CentOS's vault and of AlmaLinux from this mirror: URL/7.9.2009/…, URL/almalinux/…
    #[arg(long, value_name = "URL", env = "ROOTBUILD_MIRROR")]
    pub mirror: Option<Mirror>,
}
