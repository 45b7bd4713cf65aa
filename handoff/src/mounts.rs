//! Which checkout of a root its units run in: the kernel knows.

use std::fs;

use rootbuild_roots::units;

/// What is mounted where a root's units find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mounted {
    /// The number of the checkout; `None` where it isn't one of ours.
    pub number: Option<u64>,
}

/// What is mounted for the root `name` on this host; `None`: nothing.
#[must_use]
pub fn mounted(name: &str) -> Option<Mounted> {
    // Ours may be a mount namespace of our own.
    let text =
        fs::read_to_string("/proc/1/mountinfo").or_else(|_| fs::read_to_string("/proc/self/mountinfo"));
    find(&text.ok()?, name)
}

fn find(mounts: &str, name: &str) -> Option<Mounted> {
    let fixed = units::fixed(name);
    let (run, sign) = (format!("{fixed}/run"), format!("rootbuild:{name}@"));
    let mut found = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(point) = before.split(' ').nth(4) else { continue };
        if point == fixed {
            found = Some(Mounted { number: None });
        } else if point == run {
            let source = after.split(' ').nth(1).unwrap_or_default();
            let number = source.strip_prefix(&sign).and_then(|number| number.parse().ok());
            found = Some(Mounted { number });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_counts() {
        let lines = "22 1 0:1 / / rw - ext4 /dev/vda rw\n\
             30 22 0:1 /s/checkouts/web/2 /run/rootbuild/roots/web rw - ext4 /dev/vda rw\n\
             31 30 0:5 / /run/rootbuild/roots/web/run rw - tmpfs rootbuild:web@2 rw\n";
        assert_eq!(find(lines, "web"), Some(Mounted { number: Some(2) }));
        assert_eq!(find(lines, "we"), None);
        let more = format!("{lines}32 31 0:9 /x /run/rootbuild/roots/web rw - ext4 /dev/vda rw\n");
        assert_eq!(find(&more, "web"), Some(Mounted { number: None }));
    }
}
