//! Berkeley DB files as rpm up to 4.17 writes them, little-endian, without checksums.
//!
//! Format: `src/dbinc/db_page.h` of Berkeley DB 5.3. A file is a row of pages; page 0 describes it. Three things
//! differ between equal databases: the file's identity (from inode, time and pid), what memory held
//! where a page has no item, and times that rpm stores.

use super::header;

const HASH_MAGIC: u32 = 0x0006_1561;
const BTREE_MAGIC: u32 = 0x0005_3162;

/// Length of a page's own header.
const HEADER: usize = 26;

/// Types of pages.
const INVALID: u8 = 0;
const HASH_UNSORTED: u8 = 2;
const BTREE_INTERNAL: u8 = 3;
const BTREE_LEAF: u8 = 5;
const OVERFLOW: u8 = 7;
const DUPLICATES: u8 = 12;
const HASH: u8 = 13;

/// Items of Btree pages.
const B_KEYDATA: u8 = 1;
const B_OVERFLOW: u8 = 3;
/// An item that is deleted has this bit.
const B_DELETED: u8 = 0x80;
/// Items of hash pages.
const H_KEYDATA: u8 = 1;
const H_OFFPAGE: u8 = 3;
const H_OFFDUP: u8 = 4;

/// An item of a Btree longer than this lies on pages of its own.
const LONGEST_ITEM: usize = 900;

/// rpm's packages: header by number.
pub(super) fn packages(name: &str, content: &[u8]) -> Option<Vec<u8>> {
    let mut file = Pages::read(content, HASH_MAGIC)?;
    file.clean(name)?;
    for value in file.hash_values()? {
        let bytes = file.bytes_of(&value)?;
        for (at, new) in header::changes(&bytes) {
            file.write(&value, at, &new)?;
        }
    }
    Some(file.bytes)
}

/// Any other index: a Btree or a hash.
pub(super) fn index(name: &str, content: &[u8]) -> Option<Vec<u8>> {
    let mut file = Pages::read(content, BTREE_MAGIC).or_else(|| Pages::read(content, HASH_MAGIC))?;
    file.clean(name)?;
    Some(file.bytes)
}

/// The index of transactions: written anew, with one that holds all packages.
pub(super) fn transactions(name: &str, content: &[u8]) -> Option<Vec<u8>> {
    let file = Pages::read(content, BTREE_MAGIC)?;
    let mut members: Vec<[u8; 8]> = Vec::new();
    for value in file.leaf_values()? {
        let (chunks, rest) = value.as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        members.extend(chunks);
    }
    members.sort_by_key(|member| u64::from_le_bytes(*member).rotate_left(32));
    members.dedup();
    Some(file.with_one_item(name, &header::TRANSACTION.to_le_bytes(), members.as_flattened()))
}

/// Where a value lies: on one page or many.
struct Value(Vec<std::ops::Range<usize>>);

struct Pages {
    bytes: Vec<u8>,
    size: usize,
}

impl Pages {
    fn read(content: &[u8], magic: u32) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(content.get(at..at + 4)?.try_into().ok()?));
        let size = usize::try_from(number(20)?).ok()?;
        let sound = number(12)? == magic
            && (512..=65_536).contains(&size)
            && size.is_power_of_two()
            && content.len().is_multiple_of(size)
            // Neither encrypted nor with checksums.
            && content.get(24)? == &0
            && content.get(26)? == &0;
        sound.then(|| Self { bytes: content.to_vec(), size })
    }

    fn count(&self) -> usize {
        self.bytes.len() / self.size
    }

    fn page(&self, number: usize) -> Option<&[u8]> {
        let start = number.checked_mul(self.size)?;
        self.bytes.get(start..start.checked_add(self.size)?)
    }

    /// The offsets of a page's items.
    fn items(page: &[u8]) -> Option<Vec<usize>> {
        let entries = usize::from(short(page, 20)?);
        (0..entries).map(|i| short(page, HEADER + 2 * i).map(usize::from)).collect()
    }

    /// Gives the file an identity by its name, and zeros to everything that is no item.
    fn clean(&mut self, name: &str) -> Option<()> {
        identify(&mut self.bytes, name)?;
        for number in 1..self.count() {
            let page = self.page(number)?;
            let used = used(page)?;
            let start = number * self.size;
            for (at, used) in used.into_iter().enumerate() {
                if !used {
                    self.bytes[start + at] = 0;
                }
            }
        }
        Some(())
    }

    /// Every value of a hash.
    fn hash_values(&self) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        let mut pages = self.count();
        for number in 1..self.count() {
            let page = self.page(number)?;
            if !matches!(page[25], HASH | HASH_UNSORTED) {
                continue;
            }
            let items = Self::items(page)?;
            for (index, &at) in items.iter().enumerate().skip(1).step_by(2) {
                let end = items[index - 1];
                values.push(match *page.get(at)? {
                    H_KEYDATA if at < end => {
                        let start = number * self.size;
                        Value(std::iter::once(start + at + 1..start + end).collect())
                    }
                    H_OFFPAGE => self.chain(long(page, at + 4)?, long(page, at + 8)?, &mut pages)?,
                    _ => return None,
                });
            }
        }
        Some(values)
    }

    /// Every value of a Btree, as bytes.
    fn leaf_values(&self) -> Option<Vec<Vec<u8>>> {
        let mut values = Vec::new();
        // No byte belongs to two values.
        let (mut pages, mut bytes) = (self.count(), self.bytes.len());
        for number in 1..self.count() {
            let page = self.page(number)?;
            match page[25] {
                BTREE_LEAF => {}
                DUPLICATES => return None,
                _ => continue,
            }
            for &at in Self::items(page)?.iter().skip(1).step_by(2) {
                match *page.get(at + 2)? {
                    B_KEYDATA => {
                        let length = usize::from(short(page, at)?);
                        bytes = bytes.checked_sub(length)?;
                        values.push(page.get(at + 3..at + 3 + length)?.to_vec());
                    }
                    B_OVERFLOW => {
                        let value = self.chain(long(page, at + 4)?, long(page, at + 8)?, &mut pages)?;
                        values.push(self.bytes_of(&value)?);
                    }
                    kind if kind & B_DELETED != 0 => {}
                    _ => return None,
                }
            }
        }
        Some(values)
    }

    /// A value of `length` bytes on pages of its own, of which no more than `pages` are left: a hostile one goes
    /// round in a circle.
    fn chain(&self, first: u32, length: u32, pages: &mut usize) -> Option<Value> {
        let (mut number, mut left) = (usize::try_from(first).ok()?, usize::try_from(length).ok()?);
        let mut parts = Vec::new();
        while left > 0 {
            *pages = pages.checked_sub(1)?;
            let page = self.page(number)?;
            let here = usize::from(short(page, 22)?);
            if page[25] != OVERFLOW || here == 0 || here > left || HEADER + here > self.size {
                return None;
            }
            let start = number * self.size + HEADER;
            parts.push(start..start + here);
            left -= here;
            number = usize::try_from(long(page, 16)?).ok()?;
        }
        Some(Value(parts))
    }

    fn bytes_of(&self, value: &Value) -> Option<Vec<u8>> {
        let parts: Option<Vec<&[u8]>> = value.0.iter().map(|part| self.bytes.get(part.clone())).collect();
        Some(parts?.concat())
    }

    fn write(&mut self, value: &Value, at: usize, new: &[u8]) -> Option<()> {
        let mut places = value.0.iter().cloned().flatten().skip(at);
        for byte in new {
            *self.bytes.get_mut(places.next()?)? = *byte;
        }
        Some(())
    }

    /// A Btree like this one with nothing but one item.
    fn with_one_item(&self, name: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes[..self.size].to_vec();
        let mut leaf = vec![0; self.size];
        let mut more: Vec<u8> = Vec::new();
        let room = self.size - HEADER;
        head(&mut leaf, 1, (0, 0), BTREE_LEAF);
        leaf[24] = 1;
        let mut end = self.size;
        if !value.is_empty() {
            let long = value.len() > LONGEST_ITEM;
            let stored = if long {
                let pages = value.chunks(room).len();
                for (index, part) in value.chunks(room).enumerate() {
                    let mut page = vec![0; self.size];
                    let (previous, next) = (
                        if index == 0 { 0 } else { 1 + index },
                        if index + 1 == pages { 0 } else { 3 + index },
                    );
                    head(&mut page, 2 + index, (previous, next), OVERFLOW);
                    // How often it is used, and its length.
                    set_short(&mut page, 20, 1);
                    set_short(&mut page, 22, part.len());
                    page[HEADER..HEADER + part.len()].copy_from_slice(part);
                    more.extend(page);
                }
                let mut item = vec![0, 0, B_OVERFLOW, 0];
                item.extend(2u32.to_le_bytes());
                item.extend(u32::try_from(value.len()).unwrap_or(0).to_le_bytes());
                item
            } else {
                keydata(value)
            };
            for (index, item) in [keydata(key), stored].into_iter().enumerate() {
                end -= item.len().next_multiple_of(4);
                leaf[end..end + item.len()].copy_from_slice(&item);
                set_short(&mut leaf, HEADER + 2 * index, end);
            }
            set_short(&mut leaf, 20, 2);
        }
        set_short(&mut leaf, 22, end);
        bytes.extend(leaf);
        bytes.extend(more);
        let last = bytes.len() / self.size - 1;
        // No free pages; the last page; the root.
        for (at, value) in [(28, 0), (32, last), (88, 1)] {
            bytes[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap_or(0).to_le_bytes());
        }
        let _ = identify(&mut bytes, name);
        bytes
    }
}

/// The file's identity: Berkeley DB wants another one for each file of a directory.
fn identify(bytes: &mut [u8], name: &str) -> Option<()> {
    let identity = rootbuild_cache::Digest::of(format!("rpm database {name}").as_bytes());
    bytes.get_mut(52..72)?.copy_from_slice(&identity.as_bytes()[..20]);
    Some(())
}

/// Which bytes of a page mean something; nothing for a page that isn't understood.
fn used(page: &[u8]) -> Option<Vec<bool>> {
    let mut used = vec![false; page.len()];
    // Only keys are on a page more than once, and not often enough for this.
    let mut left = 64 * page.len();
    let mut mark = |from: usize, to: usize| {
        left = left.checked_sub(to.checked_sub(from)?)?;
        used.get_mut(from..to)?.fill(true);
        Some(())
    };
    mark(0, HEADER)?;
    let items = || Pages::items(page);
    match page[25] {
        INVALID => {}
        OVERFLOW => mark(HEADER, HEADER + usize::from(short(page, 22)?))?,
        kind @ (BTREE_LEAF | BTREE_INTERNAL | DUPLICATES) => {
            for (index, at) in items()?.into_iter().enumerate() {
                mark(HEADER + 2 * index, HEADER + 2 * index + 2)?;
                let overflows = page.get(at + 2)? & !B_DELETED != B_KEYDATA;
                let length = usize::from(short(page, at)?);
                match (kind, overflows) {
                    (BTREE_INTERNAL, false) => {
                        mark(at, at + 3)?;
                        mark(at + 4, at + 12 + length)?;
                    }
                    (BTREE_INTERNAL, true) => {
                        mark(at, at + 3)?;
                        mark(at + 4, at + 12)?;
                        mark(at + 14, at + 15)?;
                        mark(at + 16, at + 24)?;
                    }
                    (_, false) => mark(at, at + 3 + length)?,
                    (_, true) => {
                        mark(at + 2, at + 3)?;
                        mark(at + 4, at + 12)?;
                    }
                }
            }
        }
        HASH | HASH_UNSORTED => {
            let mut end = page.len();
            for (index, at) in items()?.into_iter().enumerate() {
                mark(HEADER + 2 * index, HEADER + 2 * index + 2)?;
                match *page.get(at)? {
                    H_OFFPAGE | H_OFFDUP => {
                        mark(at, at + 1)?;
                        mark(at + 4, end)?;
                    }
                    _ => mark(at, end)?,
                }
                end = at;
            }
        }
        // Descriptions of the file (hash and Btree have theirs on page 0), and what rpm never makes.
        _ => return None,
    }
    Some(used)
}

fn head(page: &mut [u8], number: usize, (previous, next): (usize, usize), kind: u8) {
    for (at, value) in [(4, 1), (8, number), (12, previous), (16, next)] {
        page[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap_or(0).to_le_bytes());
    }
    page[25] = kind;
}

fn keydata(bytes: &[u8]) -> Vec<u8> {
    let mut item = u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes().to_vec();
    item.push(B_KEYDATA);
    item.extend(bytes);
    item
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn set_short(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap_or(0).to_le_bytes());
}
