//! Which extended attributes belong to a root.
//!
//! Kept: `user.*`, `security.capability`, POSIX ACLs, and `trusted.*`: `trusted.overlay.*` in a
//! plain directory too, since there it is content (a container engine's layers below `/var/lib`).
//!
//! Not kept: `security.selinux`, `security.ima`, `security.evm` and the like, which are the labels
//! and signatures of the host's policy: the same root captured on two hosts would differ, and a root
//! restored on a third be labelled wrongly. Not kept either: what a file system makes up
//! (`btrfs.compression`, `system.nfs4_acl`), and XFS's second view of the ACLs.

use crate::fd::Xattrs;

/// Whether the attribute belongs to the root.
pub(crate) fn belongs(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        b"trusted.SGI_ACL_FILE" | b"trusted.SGI_ACL_DEFAULT" => false,
        _ => name.starts_with(b"user.") || name.starts_with(b"trusted."),
    }
}

const OVERLAY: &[u8] = b"trusted.overlay.";

/// What overlayfs wrote on something in an upper side, in its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// `opaque=y`: nothing of the lower side shows through.
    pub opaque: bool,
    /// `opaque=x`: whiteouts may be empty files with an attribute here.
    pub xattr_whiteouts: bool,
    /// `whiteout`: an empty file that is one, if its directory says so.
    pub whiteout: bool,
    /// `redirect`: where in the lower side this directory comes from.
    pub redirect: Option<Vec<u8>>,
    /// `metacopy`: the content is in the lower side.
    pub metacopy: bool,
}

/// Parts the attributes of something in an upper side into the root's own and overlayfs's.
pub(super) fn part(xattrs: Xattrs) -> (Xattrs, Marks) {
    let (mut own, mut marks) = (Vec::with_capacity(xattrs.len()), Marks::default());
    for (name, value) in xattrs {
        let Some(mark) = name.strip_prefix(OVERLAY) else {
            own.push((name, value));
            continue;
        };
        match mark {
            b"opaque" => {
                marks.opaque = value == b"y";
                marks.xattr_whiteouts = value == b"x";
            }
            b"whiteout" => marks.whiteout = true,
            b"redirect" => marks.redirect = Some(value),
            b"metacopy" => marks.metacopy = true,
            // An overlay within the overlay: the kernel put one more `overlay.` in front.
            _ => {
                if let Some(inner) = mark.strip_prefix(b"overlay.") {
                    own.push(([OVERLAY, inner].concat(), value));
                }
                // Else `origin`, `impure`, `nlink`, `protattr`, `uuid`, `upper`: bookkeeping.
            }
        }
    }
    own.sort();
    (own, marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[(&str, &str)]) -> Xattrs {
        names.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_overlayfs_wrote_is_parted_from_what_the_root_has() {
        let (own, marks) = part(of(&[
            ("user.a", "1"),
            ("trusted.overlay.origin", "?"),
            ("trusted.overlay.impure", "y"),
            ("trusted.overlay.redirect", "/a"),
            ("trusted.overlay.overlay.opaque", "y"),
            ("trusted.overlay.overlay.overlay.opaque", "y"),
        ]));
        let expected =
            [("trusted.overlay.opaque", "y"), ("trusted.overlay.overlay.opaque", "y"), ("user.a", "1")];
        assert_eq!(own, of(&expected));
        assert_eq!(marks, Marks { redirect: Some(b"/a".to_vec()), ..Marks::default() });
    }

    #[test]
    fn labels_of_the_host_do_not_belong_to_a_root() {
        assert!(belongs(b"security.capability") && belongs(b"user.x") && belongs(b"trusted.md5"));
        assert!(belongs(b"system.posix_acl_access") && belongs(b"system.posix_acl_default"));
        assert!(!belongs(b"security.selinux") && !belongs(b"security.ima") && !belongs(b"btrfs.compression"));
        assert!(!belongs(b"trusted.SGI_ACL_FILE"));
    }
}
