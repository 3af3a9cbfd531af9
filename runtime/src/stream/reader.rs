//! What the caller brings: a way to read bytes of the model file.

use core::fmt;
use core::ops::Range;

/// Reads a model file's bytes from wherever they are.
pub trait WeightReader {
    /// Why a read failed.
    type Error;

    /// Fills `into` with the file's bytes from `at` on, all of them.
    ///
    /// # Errors
    /// Whatever keeps it from doing so, the end of the file included. The session is then as it was
    /// before, and the same call may be tried again.
    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Tells which bytes will be asked for next, in this order, while those read last are multiplied: a
    /// reader with a buffer of its own can let DMA fetch them meanwhile and copy them in [`Self::read`].
    /// It is told of everything within a product of one to three matrices but its first bytes. Nothing
    /// may be assumed but that it is likely: after an error other bytes may come.
    fn announce(&mut self, next: &[Range<u32>]) {
        let _ = next;
    }
}

impl<R: WeightReader + ?Sized> WeightReader for &mut R {
    type Error = R::Error;

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), R::Error> {
        (**self).read(at, into)
    }

    fn announce(&mut self, next: &[Range<u32>]) {
        (**self).announce(next);
    }
}

/// A file in memory after all, of which each read copies: for tests, and for memory that is slow.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a>(pub &'a [u8]);

/// A read beyond the end of a [`Region`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionEnds {
    /// Where the read began.
    pub at: u32,
    /// How many bytes it wanted.
    pub wanted: usize,
    /// How many there are in the region.
    pub len: usize,
}

impl fmt::Display for RegionEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from byte {} on, of {} bytes", self.wanted, self.at, self.len)
    }
}

impl core::error::Error for RegionEnds {}

impl WeightReader for Region<'_> {
    type Error = RegionEnds;

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), RegionEnds> {
        let ends = RegionEnds { at, wanted: into.len(), len: self.0.len() };
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).ok_or(ends)?;
        let bytes = rest.get(..into.len()).ok_or(ends)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}
