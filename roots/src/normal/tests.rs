//! Against the real tools: the host's rpm and Berkeley DB's own, where they are there.

use super::*;

#[test]
fn files_are_known_by_directory_and_name() {
    assert_eq!(format_of(b"var/lib/rpm/Packages"), Some(Format::Packages));
    assert_eq!(format_of(b"var/lib/rpm/Name"), Some(Format::Index));
    assert_eq!(format_of(b"var/lib/rpm/sub/Name"), None);
    assert_eq!(format_of(b"var/lib/dnf/history.sqlite"), Some(Format::DnfHistory));
    assert_eq!(format_of(b"var/lib/dnf/history.sqlite-wal"), None);
}

#[test]
fn what_is_no_database_is_left_as_it_is() {
    for format in
        [Format::Packages, Format::Transactions, Format::Index, Format::RpmSqlite, Format::DnfHistory]
    {
        for content in [&b""[..], b"text", b"SQLite format 3\0", &[0; 4096], &[0xff; 8192]] {
            assert_eq!(normal("x", format, content, None), None, "{format:?}");
        }
    }
}

/// A hash of four pages: description, one bucket with an item of its own and one on two pages.
fn hash(identity: u8, rubbish: u8, time: u32) -> Vec<u8> {
    let mut header: Vec<u8> = Vec::new();
    for value in [3u32, 12] {
        header.extend(value.to_be_bytes());
    }
    for (tag, at) in [(1006u32, 0u32), (1008, 4), (1128, 8)] {
        for value in [tag, 4, at, 1] {
            header.extend(value.to_be_bytes());
        }
    }
    for value in [7u32, time, time] {
        header.extend(value.to_be_bytes());
    }
    let mut pages = vec![vec![0u8; 512]];
    pages[0][12..16].copy_from_slice(&0x0006_1561u32.to_le_bytes());
    pages[0][20..24].copy_from_slice(&512u32.to_le_bytes());
    pages[0][52..72].fill(identity);
    let (first, second) = header.split_at(header.len() - 6);
    let mut bucket = vec![rubbish; 512];
    bucket[..26].fill(0);
    bucket[20] = 4;
    bucket[25] = 13;
    let mut end = 512;
    let mut off_page = vec![3, rubbish, rubbish, rubbish];
    off_page.extend(2u32.to_le_bytes());
    off_page.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    let own = [&[1][..], &header].concat();
    for (index, item) in [vec![1, 1, 0, 0, 0], off_page, vec![1, 2, 0, 0, 0], own].into_iter().enumerate() {
        end -= item.len();
        bucket[end..end + item.len()].copy_from_slice(&item);
        bucket[26 + 2 * index..28 + 2 * index].copy_from_slice(&u16::try_from(end).unwrap().to_le_bytes());
    }
    pages.push(bucket);
    for (index, part) in [first, second].into_iter().enumerate() {
        let mut page = vec![rubbish; 512];
        page[..26].fill(0);
        page[16] = if index == 0 { 3 } else { 0 };
        page[22] = u8::try_from(part.len()).unwrap();
        page[25] = 7;
        page[26..26 + part.len()].copy_from_slice(part);
        pages.push(page);
    }
    pages.concat()
}

#[test]
fn packages_differ_no_more_by_identity_rubbish_and_time_even_across_pages() {
    let one = normal("Packages", Format::Packages, &hash(1, 0xaa, 1000), None).unwrap();
    let two = normal("Packages", Format::Packages, &hash(2, 0x55, 2_000_000_000), None).unwrap();
    assert_eq!(one, two);
    assert_eq!(normal("Packages", Format::Packages, &one, None), None, "it is equal already");
    let built = 7u32.to_be_bytes();
    assert!(one.windows(8).any(|bytes| bytes == [built, built].concat()));
}

/// Lies about lengths and offsets are met at every place of a page.
#[test]
fn a_hostile_database_is_left_alone_and_harms_nobody() {
    let good = hash(1, 0, 1000);
    for at in 0..good.len() {
        for value in [0xff, 0x00, 0x80, 0x03] {
            let mut bad = good.clone();
            bad[at] = value;
            for format in [Format::Packages, Format::Transactions, Format::Index] {
                let _ = normal("x", format, &bad, None);
            }
        }
    }
}

/// A value of 4 GB on a page that follows itself.
#[test]
fn a_value_that_goes_round_in_a_circle_has_an_end() {
    let mut bad = hash(1, 0, 1000);
    let item = (512..1016).rfind(|at| bad[*at..*at + 8] == [3, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    bad[item + 8..item + 12].fill(0xff);
    bad[1024 + 16..1024 + 20].copy_from_slice(&2u32.to_le_bytes());
    let start = std::time::Instant::now();
    assert_eq!(normal("Packages", Format::Packages, &bad, None), None);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

/// A tool's word for it, where the tool is there.
fn says(program: &str, args: &[&std::ffi::OsStr]) -> Option<(bool, String)> {
    let ran = std::process::Command::new(program).args(args).output().ok()?;
    Some((ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()))
}

/// Berkeley DB's own tools read what is written anew. (`ROOTBUILD_TEST_RPMDB` names a directory with a real
/// database; the end-to-end tests ask the root's own rpm.)
#[test]
fn berkeley_db_itself_finds_nothing_wrong() {
    let Some(dir) = std::env::var_os("ROOTBUILD_TEST_RPMDB") else {
        eprintln!("skipped: ROOTBUILD_TEST_RPMDB is not set");
        return;
    };
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = Path::new(&dir).join(&name);
        let named = format_of(format!("var/lib/rpm/{name}").as_bytes()).filter(|_| !name.starts_with('.'));
        let Some(format) = named else { continue };
        let content = std::fs::read(&path).unwrap();
        let made =
            normal(&name, format, &content, None).unwrap_or_else(|| panic!("`{name}` isn't understood"));
        assert_eq!(normal(&name, format, &made, None), None, "`{name}` a second time");
        let new = copy.path().join(&name);
        std::fs::write(&new, made).unwrap();
        if let Some((sound, said)) = says("db5.3_verify", &[new.as_os_str()]) {
            assert!(sound, "{said}");
        }
        let dump = |path: &Path| says("db5.3_dump", &[path.as_os_str()]).map(|(_, text)| text);
        if format == Format::Index {
            assert_eq!(dump(&path), dump(&new), "`{name}`");
        }
    }
}

#[test]
fn a_history_in_sqlite_no_more_depends_on_when_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, time: u32, wal: bool| {
        let path = dir.path().join(name);
        let db = rusqlite::Connection::open(&path).unwrap();
        if wal {
            db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        }
        db.execute_batch(
            "CREATE TABLE trans (id INTEGER PRIMARY KEY, dt_begin INTEGER, dt_end INTEGER, text)",
        )
        .unwrap();
        db.execute("INSERT INTO trans (dt_begin, dt_end, text) VALUES (?1, ?1, 'x')", [time]).unwrap();
        let content = std::fs::read(&path).unwrap();
        let wal = std::fs::read(dir.path().join(format!("{name}-wal"))).ok();
        normal("history.sqlite", Format::DnfHistory, &content, wal.as_deref()).unwrap()
    };
    let (one, two) = (write("one", 5, false), write("two", 1_700_000_000, true));
    assert!(one == two, "they differ");
    assert_eq!(normal("history.sqlite", Format::DnfHistory, &one, None), None, "it is equal already");
}
