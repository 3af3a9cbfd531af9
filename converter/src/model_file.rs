//! A model file in memory.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};
use smidgen_runtime::Model;

use crate::error::{Error, io_at};
use crate::source::map;

/// A large page on the machines that have them.
const LARGE_PAGE: usize = 2 << 20;
/// A file that a large cache holds gains nothing. Measured: 16 MB −3 %, 60 MB +12 %, 114 MB +4 % of
/// tokens a second.
const LEAST: usize = 32 << 20;

/// A model file, mapped or read.
#[derive(Clone, Debug)]
pub struct ModelFile {
    path: PathBuf,
    memory: Arc<Mmap>,
    /// Where in `memory` the file is.
    place: Range<usize>,
}

impl ModelFile {
    /// Maps a file, without looking at it yet.
    ///
    /// # Errors
    /// If it can't be opened, or is empty.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let memory = map(path)?;
        let place = 0..memory.len();
        Ok(Self { path: path.to_path_buf(), memory, place })
    }

    /// Reads a file into memory of large pages, for a program that will run the model: each token
    /// reads all weights, and with small pages the addresses of a few thousand of them are all that
    /// a core remembers. Maps it instead, as [`ModelFile::open`] does, if it is below 32 MiB, where large
    /// pages gain nothing, or above half of the memory that is free.
    ///
    /// # Errors
    /// As for [`ModelFile::open`], or if it can't be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mapped = Self::open(path)?;
        let len = mapped.place.len();
        if len < LEAST || available_memory().is_none_or(|available| len > available / 2) {
            return Ok(mapped);
        }
        let Some((mut memory, place)) = large_pages(len) else { return Ok(mapped) };
        let mut file = File::open(path).map_err(io_at(path))?;
        file.read_exact(&mut memory[place.clone()]).map_err(io_at(path))?;
        let memory = Arc::new(memory.make_read_only().map_err(io_at(path))?);
        Ok(Self { path: mapped.path, memory, place })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, from an address that the runtime accepts (the beginning of a page).
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.place.clone()]
    }

    /// Validates the file, which reads all of it.
    ///
    /// # Errors
    /// [`Error::Load`] with what [`Model::load`] says.
    pub fn load(&self) -> Result<Model<'_>, Error> {
        Model::load(self.bytes()).map_err(|source| Error::Load { path: self.path.clone(), source })
    }
}

/// Memory with room for `len` bytes from a large page's beginning on, and that place. Whole large
/// pages are asked for only where they are filled: what is left over at the end stays small.
#[cfg(target_os = "linux")]
fn large_pages(len: usize) -> Option<(MmapMut, Range<usize>)> {
    let memory = MmapMut::map_anon(len.checked_add(LARGE_PAGE)?).ok()?;
    let begin = memory.as_ptr().align_offset(LARGE_PAGE);
    memory.advise_range(memmap2::Advice::HugePage, begin, len / LARGE_PAGE * LARGE_PAGE).ok()?;
    Some((memory, begin..begin + len))
}

/// Elsewhere large pages can't be asked for.
#[cfg(not(target_os = "linux"))]
fn large_pages(_len: usize) -> Option<(MmapMut, Range<usize>)> {
    None
}

/// Bytes that programs may still take without swapping, where the system tells.
fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_read_is_the_file_mapped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.smidgen");
        // Mapped by both, whole large pages, and some with a rest.
        for len in [1, 4096, LEAST, LEAST + LARGE_PAGE + 4097] {
            let bytes: Vec<u8> = (0..len).map(|i| ((i * 31) >> 7) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            let (read, mapped) = (ModelFile::read(&path).unwrap(), ModelFile::open(&path).unwrap());
            assert_eq!(read.bytes(), bytes);
            assert_eq!(mapped.bytes(), bytes);
            assert_eq!(read.bytes().as_ptr().align_offset(4096), 0);
        }
    }

    #[test]
    fn what_is_no_file_is_refused_by_both() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty");
        fs::write(&empty, []).unwrap();
        for path in [directory.path(), &empty, &directory.path().join("missing")] {
            let (read, mapped) = (ModelFile::read(path).unwrap_err(), ModelFile::open(path).unwrap_err());
            assert_eq!(read.to_string(), mapped.to_string());
            assert!(read.to_string().contains(&path.display().to_string()), "{read}");
        }
    }
}
