//! Where a model is.

/// A model's file, and memory for copies of its tensors.
#[derive(Debug)]
pub struct Stored<'m> {
    pub(crate) file: &'m [u8],
    #[cfg(feature = "hot")]
    pub(crate) hot: &'m mut [u8],
}

impl<'m> From<&'m [u8]> for Stored<'m> {
    /// The file alone.
    fn from(file: &'m [u8]) -> Self {
        Self {
            file,
            #[cfg(feature = "hot")]
            hot: &mut [],
        }
    }
}

impl<'m> Stored<'m> {
    /// The file, and memory that tensors are copied into, as many as fit; none if it is empty.
    #[cfg(feature = "hot")]
    pub fn with_hot(file: &'m [u8], hot: &'m mut [u8]) -> Self {
        Self { file, hot }
    }
}
