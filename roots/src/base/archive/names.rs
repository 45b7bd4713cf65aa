//! Names of members: what may be one, and what is left of it.

use super::error::Refusal;

/// The longest component, and the longest path, that Linux takes.
const COMPONENT_MAX: usize = 255;
const PATH_MAX: usize = 4095;

/// A name for people: what isn't UTF-8 replaced, control characters escaped.
pub(super) fn show(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// The path below the root's top that a member's name means: without `.` components and doubled or
/// trailing slashes, and without its first `strip` components. `None` where nothing is left then:
/// such members are passed over. (Without `strip`, `./` is the top itself: an empty path.)
///
/// As in `tar`, the `.` of `./usr` is one of the components that are stripped.
pub(super) fn path(name: &[u8], strip: u32, depth: u32) -> Result<Option<Vec<u8>>, Refusal> {
    check(name)?;
    let mut rest = name;
    for _ in 0..strip {
        let Some(slash) = rest.iter().position(|byte| *byte == b'/') else { return Ok(None) };
        rest = rest[slash..].without_slashes();
    }
    let parts: Vec<&[u8]> =
        rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if strip > 0 && parts.is_empty() {
        return Ok(None);
    }
    if parts.len() > usize::try_from(depth).unwrap_or(usize::MAX) {
        return Err(Refusal::Depth(depth));
    }
    let path = parts.join(&b'/');
    if path.len() > PATH_MAX || parts.iter().any(|part| part.len() > COMPONENT_MAX) {
        return Err(Refusal::LongName);
    }
    Ok(Some(path))
}

fn check(name: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() {
        Err(Refusal::NoName)
    } else if name.contains(&0) {
        Err(Refusal::Nul)
    } else if name.starts_with(b"/") {
        Err(Refusal::Absolute)
    } else if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
        Err(Refusal::Parent)
    } else {
        Ok(())
    }
}

/// What a symbolic link says is data: it may lead anywhere, but must be something.
pub(super) fn symlink_target(target: &[u8]) -> Result<(), Refusal> {
    match target {
        [] => Err(Refusal::LinkTarget("is empty")),
        _ if target.contains(&0) => Err(Refusal::LinkTarget("has a NUL in it")),
        _ if target.len() > PATH_MAX => Err(Refusal::LinkTarget("is too long")),
        _ => Ok(()),
    }
}

trait Slashes {
    fn without_slashes(&self) -> &Self;
}

impl Slashes for [u8] {
    fn without_slashes(&self) -> &Self {
        let slashes = self.iter().take_while(|byte| **byte == b'/').count();
        &self[slashes..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, strip: u32) -> Option<String> {
        path(name.as_bytes(), strip, 8).expect(name).map(|path| String::from_utf8(path).expect("UTF-8"))
    }

    #[test]
    fn a_name_is_taken_without_what_says_nothing() {
        for (name, expected) in
            [("./", ""), (".", ""), ("./a//b/./c/", "a/b/c"), ("a", "a"), ("..a/b..", "..a/b..")]
        {
            assert_eq!(of(name, 0).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn components_are_stripped_as_tar_does_it() {
        assert_eq!(of("./usr/bin/x", 1).as_deref(), Some("usr/bin/x"));
        assert_eq!(of("./usr//bin/x", 2).as_deref(), Some("bin/x"));
        assert_eq!(of("rootfs/usr/", 1).as_deref(), Some("usr"));
        for gone in ["./", ".", "rootfs", "rootfs/", "rootfs//"] {
            assert_eq!(of(gone, 1), None, "{gone}");
        }
        assert_eq!(of("a/b", 2), None);
    }

    #[test]
    fn names_that_lead_out_are_refused_even_in_the_part_that_is_stripped() {
        let refused = |name: &[u8], strip| path(name, strip, 8).unwrap_err();
        assert_eq!(refused(b"", 0), Refusal::NoName);
        assert_eq!(refused(b"/etc", 0), Refusal::Absolute);
        assert_eq!(refused(b"/etc/x", 1), Refusal::Absolute);
        assert_eq!(refused(b"../x", 1), Refusal::Parent);
        assert_eq!(refused(b"a/..", 0), Refusal::Parent);
        assert_eq!(refused(b"a\0b", 0), Refusal::Nul);
        assert_eq!(refused(b"1/2/3/4/5/6/7/8/9", 0), Refusal::Depth(8));
        assert_eq!(refused(&[b'x'; 256], 0), Refusal::LongName);
        assert_eq!(refused(&b"x/".repeat(3000), 0), Refusal::Depth(8));
    }

    #[test]
    fn a_hostile_name_can_not_speak_to_the_terminal() {
        assert_eq!(show(b"a\x1b[2Jb\nc\xff"), "a\\u{1b}[2Jb\\nc\u{fffd}");
    }
}
