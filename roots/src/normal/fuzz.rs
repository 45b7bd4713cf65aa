//! Hostile databases. What is made of one stays as it is, but for sqlite's: how it writes one anew that was put
//! together by hand depends on how that was put together.

use super::{Format, normal};

/// The first byte chooses the format.
pub fn fuzz(data: &[u8]) {
    const FORMATS: [(&str, Format); 5] = [
        ("Packages", Format::Packages),
        ("Installtid", Format::Transactions),
        ("Name", Format::Index),
        ("rpmdb.sqlite", Format::RpmSqlite),
        ("history.sqlite", Format::DnfHistory),
    ];
    let Some((first, content)) = data.split_first() else { return };
    let (name, format) = FORMATS[usize::from(*first) % FORMATS.len()];
    if let Some(made) = normal(name, format, content, None)
        && !matches!(format, Format::RpmSqlite | Format::DnfHistory)
    {
        let again = normal(name, format, &made, None);
        assert!(again.is_none(), "it isn't the same the second time");
    }
}
