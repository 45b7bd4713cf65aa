//! Extended attributes, and ACLs as tar writes them: as text.

use super::error::Refusal;
use super::names::show;
use super::pax::Records;

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The attributes that a member's records give it, sorted by name. Labels of a security policy
/// (`security.selinux`, `security.ima`) aren't part of a root and are left out.
pub(super) fn xattrs(records: &Records) -> Result<Xattrs, Refusal> {
    let mut found = Xattrs::new();
    for (key, value) in records.iter() {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            let name = decoded(name);
            if name.is_empty() || name.contains(&0) {
                return Err(Refusal::Attribute(show(&name)));
            }
            if belongs(&name) {
                found.retain(|(known, _)| *known != name);
                found.push((name, value.to_vec()));
            }
        }
    }
    // bsdtar writes each attribute in two forms; this one alone isn't understood.
    for (key, _) in records.iter() {
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.")
            && belongs(name)
            && !found.iter().any(|(known, _)| known == name)
        {
            return Err(Refusal::Attribute(show(name)));
        }
    }
    if records.get("SCHILY.acl.ace").is_some() {
        return Err(Refusal::Acl("it is one of NFSv4".to_owned()));
    }
    for (key, attribute) in [("SCHILY.acl.access", ACCESS), ("SCHILY.acl.default", DEFAULT)] {
        if let Some(text) = records.get(key)
            && !found.iter().any(|(known, _)| known == attribute)
        {
            found.push((attribute.to_vec(), parse(text)?));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether an attribute belongs to a root, as `capture` will see it.
fn belongs(name: &[u8]) -> bool {
    crate::capture::belongs(name)
}

/// GNU tar writes `%` and `=` in names of attributes as `%25` and `%3D`.
fn decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, more)) = rest.split_first() {
        let (byte, more) = match more {
            [b'3', b'D', more @ ..] if *byte == b'%' => (b'=', more),
            [b'2', b'5', more @ ..] if *byte == b'%' => (b'%', more),
            more => (*byte, more),
        };
        decoded.push(byte);
        rest = more;
    }
    decoded
}

/// An ACL's entries in the kernel's form, from lines (or parts between commas) like `user:1000:r-x`.
fn parse(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    let text = String::from_utf8_lossy(text);
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            entries.push(parse_entry(entry)?);
        }
    }
    entries.sort_unstable();
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(bits.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Ok(value)
}

/// Tag, id and permissions of one entry.
fn parse_entry(entry: &str) -> Result<(u16, u32, u16), Refusal> {
    let bad = || Refusal::Acl(format!("`{}` is no entry of one", show(entry.as_bytes())));
    let mut parts = entry.split(':');
    let mut part = || parts.next().map(str::trim).ok_or_else(bad);
    let (tag, who, permissions) = (part()?, part()?, part()?);
    // star, and bsdtar, add the number behind the name.
    let number = parts.next().map(str::trim).or(Some(who)).and_then(|number| number.parse().ok());
    let mut bits = 0;
    for char in permissions.chars() {
        bits |= match char {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err(bad()),
        };
    }
    let tag = match (tag, who.is_empty()) {
        ("user" | "u", true) => 0x01,
        ("user" | "u", false) => 0x02,
        ("group" | "g", true) => 0x04,
        ("group" | "g", false) => 0x08,
        ("mask" | "m", true) => 0x10,
        ("other" | "o", true) => 0x20,
        _ => return Err(bad()),
    };
    let id = match (who, number) {
        ("", _) => u32::MAX,
        (_, Some(number)) if number != u32::MAX => number,
        ("root", _) => 0,
        _ => return Err(Refusal::Acl(format!("it names `{}` without a number", show(who.as_bytes())))),
    };
    Ok((tag, id, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_as_text_becomes_what_the_kernel_takes() {
        let expected = [
            2, 0, 0, 0, //
            1, 0, 6, 0, 255, 255, 255, 255, //
            2, 0, 4, 0, 232, 3, 0, 0, //
            2, 0, 5, 0, 233, 3, 0, 0, //
            4, 0, 4, 0, 255, 255, 255, 255, //
            16, 0, 7, 0, 255, 255, 255, 255, //
            32, 0, 0, 0, 255, 255, 255, 255,
        ];
        let gnu =
            "user::rw-\nuser:1001:r-x\t#effective:r--\nuser:1000:r--\ngroup::r--\nmask::rwx\nother::---\n";
        assert_eq!(parse(gnu.as_bytes()), Ok(expected.to_vec()));
        let star = "user::rw-,user:joe:r-x:1001,user:ann:r--:1000,group::r--,mask::rwx,other::---";
        assert_eq!(parse(star.as_bytes()), Ok(expected.to_vec()));
    }

    #[test]
    fn a_name_is_never_looked_up_on_the_host() {
        let refused = parse(b"user::rw-\nuser:daemon:r--\ngroup::r--\nmask::r--\nother::r--\n").unwrap_err();
        assert_eq!(refused, Refusal::Acl("it names `daemon` without a number".to_owned()));
        assert!(parse(b"user::rw-\nnobody").is_err() && parse(b"user:1:rwX").is_err());
    }

    #[test]
    fn names_of_attributes_are_decoded() {
        assert_eq!(decoded(b"user.a%3Db%25c%41"), b"user.a=b%c%41");
    }
}
