//! What `torch.save` wrote before PyTorch 1.6, and still does if it is asked to: a magic number, a
//! version, a description of the machine, the object, the keys of its storages (each a pickle), and
//! then each storage's numbers behind their count.
//!
//! The layout is that of `_legacy_save` in <https://github.com/pytorch/pytorch/blob/main/torch/serialization.py>.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::archive::MAX_PICKLE;
use super::pickle::{Number, Pickle, Value};
use crate::bytes::Reader;
use crate::error::Error;

/// 0x1950a86a20f9469cfc6c as a pickle has it.
const MAGIC: [u8; 10] = [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// What an archive's entries would be, by the names that they have there. All lie in the file.
pub(super) fn entries(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, Error> {
    let bad = |reason: String| Error::malformed(path, reason);
    if !matches!(bytes, [0x80, 2..=5, ..]) {
        let reason = "is neither a zip archive nor a pickle: torch.save did not write it";
        return Err(Error::unsupported(path, reason));
    }
    let mut at = 0;
    let mut next = || -> Result<(Pickle<'_>, Range<usize>), Error> {
        let end = bytes.len().min(at + MAX_PICKLE);
        let pickle = Pickle::read(path, &bytes[at..end], at)?;
        let range = at..at + pickle.len;
        at = range.end;
        Ok((pickle, range))
    };
    let (_, magic) = next()?;
    if !bytes[magic].windows(MAGIC.len()).any(|window| window == MAGIC) {
        return Err(Error::unsupported(path, "a pickle that torch.save did not write"));
    }
    let (version, _) = next()?;
    if version.root != Value::Int(VERSION) {
        let found = format!("{:?}", version.root);
        return Err(Error::unsupported(
            path,
            format!("torch.save's version is {found}, only {VERSION} is read"),
        ));
    }
    let (machine, _) = next()?;
    if machine.get(machine.root, "little_endian") == Some(Value::Bool(false)) {
        return Err(Error::unsupported(path, "its numbers are big-endian"));
    }
    let (object, range) = next()?;
    let storages: BTreeMap<&str, (Number, usize)> =
        object.storages().map(|(key, number, len)| (key, (number, len))).collect();
    let mut entries = BTreeMap::from([("data.pkl".to_owned(), range)]);
    let (keys, range) = next()?;
    let listed = keys.items(keys.root).ok_or_else(|| bad("has no list of its storages".into()))?;
    let mut reader = Reader::new(path, bytes, range.end);
    for key in listed {
        let Value::Text(key) = *key else { return Err(bad("a storage's key is no string".into())) };
        let Some(&(number, claimed)) = storages.get(key) else {
            return Err(bad(format!("storage {key:?} is listed, but no tensor lies in it")));
        };
        let (begin, len) = (reader.at(), reader.length("the length of a storage")?);
        if len != claimed {
            return Err(bad(format!(
                "storage {key:?} at byte {begin} has {len} numbers, {claimed} are claimed"
            )));
        }
        let begin = reader.at();
        reader.take(len.saturating_mul(number.size()), "a storage")?;
        if entries.insert(format!("data/{key}"), begin..reader.at()).is_some() {
            return Err(bad(format!("storage {key:?} is there twice")));
        }
    }
    Ok(entries)
}
