//! What can go wrong with an archive.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rootbuild_cache::Limit;

use super::names::show;

/// An archive couldn't be unpacked.
#[derive(Debug)]
pub struct ArchiveError {
    /// The archive, as the definition names it.
    pub archive: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.archive.display(), self.problem)
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

impl ArchiveError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

/// What is wrong with an archive; member names in it are escaped for people.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It isn't the file that the definition means.
    #[error("its sha256 is {found}, not {expected} as the definition says")]
    Sha256 {
        /// What the definition says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// Its content changed while it was unpacked.
    #[error("it changed while it was read")]
    Changed,
    /// It is something else.
    #[error("it is no tar archive{}", looks_like.map(|what| format!(", but {what}")).unwrap_or_default())]
    NotTar {
        /// What its first bytes look like.
        looks_like: Option<&'static str>,
    },
    /// It is compressed in a way that isn't supported.
    #[error("it is compressed with {0}, which isn't supported")]
    Compression(&'static str),
    /// It is a container image: layers in an archive, not a root.
    #[error(
        "it is a container image (it holds `{marker}`), not the archive of a root: images aren't supported"
    )]
    Image {
        /// The member that tells.
        marker: &'static str,
    },
    /// It holds nothing.
    #[error("it holds no members")]
    Empty,
    /// It ends too early.
    #[error("it is truncated: it ends {place}")]
    Truncated {
        /// Where, as in "in the member `x`".
        place: String,
    },
    /// Its compressed data are damaged.
    #[error("its {kind} data are damaged{}: {message}", after(last.as_deref()))]
    Damaged {
        /// "gzip", "xz", "zstd".
        kind: &'static str,
        /// The last member that was whole.
        last: Option<String>,
        /// What the decompressor says.
        message: String,
    },
    /// Its structure is damaged, or made to deceive.
    #[error("it is damaged{}: {message}", after(last.as_deref()))]
    Corrupt {
        /// The last member that was whole.
        last: Option<String>,
        /// What is wrong.
        message: String,
    },
    /// Something follows after its end.
    #[error("something that isn't part of it follows after its end")]
    Trailing,
    /// It has more of something than is allowed.
    #[error("it has more than {limit} {what}{}", after(last.as_deref()))]
    Limit {
        /// Of what: "members", "bytes".
        what: &'static str,
        /// How many are allowed.
        limit: u64,
        /// The member before the one that was too much.
        last: Option<String>,
    },
    /// The root would be more than a limit allows.
    #[error(transparent)]
    Exceeded(#[from] rootbuild_cache::Exceeded),
    /// One member isn't allowed, or makes no sense.
    #[error("the member `{member}` {refusal}")]
    Member {
        /// Its name.
        member: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The archive couldn't be read.
    #[error("can't read it")]
    Read(#[source] io::Error),
    /// A member couldn't be written.
    #[error("can't write the member `{member}`")]
    Write {
        /// Its name.
        member: String,
        /// Why.
        source: io::Error,
    },
}

fn after(last: Option<&str>) -> String {
    last.map(|member| format!(" after the member `{member}`")).unwrap_or_default()
}

/// What is wrong with a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its name begins with `/`.
    #[error("has an absolute name")]
    Absolute,
    /// Its name has a `..` in it.
    #[error("has `..` in its name")]
    Parent,
    /// Its name has a zero byte in it.
    #[error("has a NUL in its name")]
    Nul,
    /// It has no name.
    #[error("has an empty name")]
    NoName,
    /// Its name, or a component of it, is longer than file systems allow.
    #[error("has too long a name")]
    LongName,
    /// Its name has more components than is allowed.
    #[error("is more than {0} directories deep")]
    Depth(u32),
    /// Its name leads through a symbolic link.
    #[error("leads through `{0}`, which is a symbolic link of the archive")]
    ThroughLink(String),
    /// Its name leads through something that can't have anything below it.
    #[error("leads through `{0}`, which is no directory")]
    ThroughFile(String),
    /// It would replace the root's top directory.
    #[error("is the top of the root, but no directory")]
    Top,
    /// It would replace a directory with something in it.
    #[error("is no directory, but was one before, with something in it")]
    ReplacesDirectory,
    /// A hard link out of the archive.
    #[error("is a hard link to `{0}`, which is outside the root")]
    LinkLeaves(String),
    /// A hard link to nothing.
    #[error("is a hard link to `{0}`, which isn't in the archive before it")]
    LinkMissing(String),
    /// A hard link to a directory.
    #[error("is a hard link to `{0}`, which is a directory")]
    LinkDirectory(String),
    /// A hard link whose target's name leads through a symbolic link.
    #[error("is a hard link to `{target}`, which leads through the symbolic link `{link}`")]
    LinkThroughLink {
        /// The target.
        target: String,
        /// The symbolic link.
        link: String,
    },
    /// A symbolic link that says nothing, or what no symbolic link can say.
    #[error("is a symbolic link whose target {0}")]
    LinkTarget(&'static str),
    /// A device node where none is allowed.
    #[error("is a {0} device")]
    Device(&'static str),
    /// A device node that overlayfs takes for the mark of a removed file.
    #[error("is a character device 0:0, which hides files in an overlay")]
    Whiteout,
    /// Part of an archive that is in several volumes.
    #[error("is continued in another volume: multi-volume archives aren't supported")]
    Volume,
    /// Part of an incremental dump.
    #[error("belongs to an incremental dump, which isn't supported")]
    Incremental,
    /// A type of member that nobody defined.
    #[error("has the unknown type `{}`", char::from(*.0).escape_default())]
    Type(u8),
    /// Content where there can't be any.
    #[error("is a {0} with content")]
    Content(&'static str),
    /// Two sizes that contradict each other.
    #[error("has two different sizes, {header} and {extended}")]
    Sizes {
        /// What the header says.
        header: u64,
        /// What the extended header says.
        extended: u64,
    },
    /// A number that is none, or too large.
    #[error("has a bad {0}")]
    Number(&'static str),
    /// A map of holes that makes no sense.
    #[error("has a bad map of its holes: {0}")]
    Sparse(&'static str),
    /// An ACL that can't be kept as it is.
    #[error("has an ACL that can't be kept: {0}")]
    Acl(String),
    /// Attributes in a form that isn't supported.
    #[error("has the attribute `{0}` in a form that isn't supported")]
    Attribute(String),
    /// A contradictory or meaningless extended header.
    #[error("has a bad extended header: {0}")]
    Extended(&'static str),
}

impl Problem {
    /// A member that is refused.
    pub(super) fn member(name: &[u8], refusal: Refusal) -> Self {
        Self::Member { member: show(name), refusal }
    }

    /// A member that couldn't be written.
    pub(super) fn write(name: &[u8]) -> impl Fn(io::Error) -> Self {
        let member = show(name);
        move |source| Self::Write { member: member.clone(), source }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Sha256 { .. } => "get the right file, or correct `sha256` if you trust this one".to_owned(),
            Self::Changed => "let nothing write to it while it is used".to_owned(),
            Self::NotTar { .. } => "`file` is a tar archive: plain, or compressed with gzip, xz or zstd".to_owned(),
            Self::Compression(_) => "compress it anew with gzip, xz or zstd".to_owned(),
            Self::Image { .. } => {
                "make the archive of a root from it, e.g. with `docker export`, `podman export` or `umoci unpack` \
                 and `tar --xattrs --xattrs-include='*' -C rootfs -cf rootfs.tar .`"
                    .to_owned()
            }
            Self::Truncated { .. } | Self::Damaged { .. } => "download or make it again".to_owned(),
            Self::Limit { what, .. } => {
                let limit = match *what {
                    "members" => Limit::ArchiveMembers,
                    "bytes" => Limit::ArchiveSize,
                    _ => Limit::ArchiveRatio,
                };
                format!(
                    "is it what it should be? if so, say more in the definition, `[limits]` `{name}`, or in the \
                     environment, ROOTBUILD_LIMITS={name}=…",
                    name = limit.name()
                )
            }
            Self::Exceeded(exceeded) => exceeded.hint(),
            Self::Trailing => "archives that were joined with `cat` must be joined with `tar -A` instead".to_owned(),
            Self::Member { refusal, .. } => return refusal.hint(),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room on the store's file system, e.g. with `rootbuild cache gc`".to_owned()
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                "the store's file system can't keep what the member has (extended attributes or ACLs)".to_owned()
            }
            Self::Empty | Self::Corrupt { .. } | Self::Read(_) | Self::Write { .. } => return None,
        })
    }
}

impl Refusal {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Absolute | Self::Parent => "pack the root from inside: `tar -C ROOT -cf rootfs.tar .`",
            Self::Device(_) => "say `devices = true` in the base if it needs device nodes outside /dev",
            Self::Volume | Self::Incremental => "pack it without `--multi-volume` and `--listed-incremental`",
            Self::Acl(_) | Self::Attribute(_) => "pack it with `tar --xattrs --xattrs-include='*'`",
            Self::ThroughLink(_)
            | Self::ThroughFile(_)
            | Self::LinkLeaves(_)
            | Self::LinkMissing(_)
            | Self::LinkThroughLink { .. }
            | Self::LinkDirectory(_)
            | Self::ReplacesDirectory => "pack the root anew, in one go, from one directory",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
