//! The zip archives that `torch.save` writes: entries stored, never packed, found by the directory
//! at the end (with zip64 fields where files are large).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::bytes::Reader;
use crate::error::Error;

/// Entries by name, as ranges of the file. All lie in it.
pub(super) fn entries(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, Error> {
    let bad = |reason: String| Error::malformed(path, reason);
    let too_large = || bad("a zip field does not fit this machine's memory".into());
    // The end record is the last thing in the file but for a comment of at most 65,535 bytes.
    let first = bytes.len().saturating_sub(22 + 65_535);
    let end =
        (first..=bytes.len().saturating_sub(22)).rev().find(|at| bytes[*at..].starts_with(b"PK\x05\x06"));
    let Some(end) = end else {
        return Err(bad("a zip archive without an end: was it copied whole?".into()));
    };
    let number = |at: usize, size: usize| -> Result<u64, Error> {
        let field = Reader::new(path, bytes, at).take(size, "a zip field")?;
        Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (mut count, mut at) = (number(end + 10, 2)?, number(end + 16, 4)?);
    if end >= 20 && bytes[end - 20..].starts_with(b"PK\x06\x07") {
        let large = usize::try_from(number(end - 12, 8)?).map_err(|_| too_large())?;
        if !bytes.get(large..).is_some_and(|rest| rest.starts_with(b"PK\x06\x06")) {
            return Err(bad(format!("the zip64 record at byte {large} is none")));
        }
        let field = |offset: usize| number(large.saturating_add(offset), 8);
        (count, at) = (field(32)?, field(48)?);
    }
    let mut at = usize::try_from(at).map_err(|_| too_large())?;
    // An entry takes at least 46 bytes.
    if count > bytes.len() as u64 / 46 {
        return Err(bad(format!("claims {count} zip entries in {} bytes", bytes.len())));
    }
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let fixed = Reader::new(path, bytes, at).take(46, "a zip entry")?;
        if !fixed.starts_with(b"PK\x01\x02") {
            return Err(bad(format!("no zip entry at byte {at}")));
        }
        let short = |at: usize| usize::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
        let long = |at: usize| {
            u64::from(u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]))
        };
        let (flags, method) = (short(8), short(10));
        let (packed, mut size, mut local) = (long(20), long(24), long(42));
        let (name_len, extra_len, comment_len) = (short(28), short(30), short(32));
        let mut rest = Reader::new(path, bytes, at + 46);
        let name = String::from_utf8_lossy(rest.take(name_len, "a zip entry's name")?).into_owned();
        let extra_at = rest.at();
        rest.take(extra_len + comment_len, "a zip entry's extra fields")?;
        let mut extra = Reader::new(path, &bytes[..extra_at + extra_len], extra_at);
        while extra.left() >= 4 {
            let head = extra.take(4, "a zip extra field")?;
            let (id, len) =
                (u16::from_le_bytes([head[0], head[1]]), usize::from(u16::from_le_bytes([head[2], head[3]])));
            let mut body = Reader::new(path, extra.take(len, "a zip extra field")?, 0);
            if id == 1 {
                // Only what did not fit is here, in this order.
                if size == u64::from(u32::MAX) {
                    size = body.u64("a zip64 size")?;
                }
                if packed == u64::from(u32::MAX) {
                    body.u64("a zip64 size")?;
                }
                if local == u64::from(u32::MAX) {
                    local = body.u64("a zip64 offset")?;
                }
            }
        }
        if method != 0 || flags & 1 != 0 {
            let what = if method == 0 { "encrypted" } else { "packed" };
            return Err(Error::unsupported(path, format!("zip entry `{name}` is {what}; torch.save stores")));
        }
        let local = usize::try_from(local).map_err(|_| too_large())?;
        let head = Reader::new(path, bytes, local).take(30, "a zip local header")?;
        if !head.starts_with(b"PK\x03\x04") {
            return Err(bad(format!("zip entry `{name}` is not at byte {local}")));
        }
        let skip = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let begin = local + 30 + skip(26) + skip(28);
        let finish = usize::try_from(size).ok().and_then(|size| begin.checked_add(size));
        let Some(finish) = finish.filter(|finish| *finish <= bytes.len()) else {
            return Err(bad(format!(
                "zip entry `{name}` of {size} bytes at {begin} ends behind the file's {}",
                bytes.len()
            )));
        };
        entries.insert(name, begin..finish);
        at = rest.at();
    }
    Ok(entries)
}
