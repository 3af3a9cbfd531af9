//! The debugger on the other end: streams, command line and a file, over semihosting.

use core::fmt;

use cortex_m_semihosting::{hio, nr, syscall};

/// What the host refused.
#[derive(Clone, Copy, Debug)]
pub enum HostError {
    /// The command line is longer than the buffer, or not UTF-8.
    CommandLine,
    /// A file could not be created.
    Create,
    /// Text or a file could not be written.
    Write,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandLine => "the host's command line is too long or not UTF-8",
            Self::Create => "the host could not create the file that dump= names",
            Self::Write => "the host could not write",
        })
    }
}

/// A stream of text; without a host it swallows what it is given.
pub struct Stream(Option<hio::HostStream>);

/// The host's standard output.
pub fn stdout() -> Stream {
    Stream(hio::hstdout().ok())
}

/// The host's standard error.
pub fn stderr() -> Stream {
    Stream(hio::hstderr().ok())
}

impl fmt::Write for Stream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match &mut self.0 {
            Some(stream) if !text.is_empty() => stream.write_str(text),
            _ => Ok(()),
        }
    }
}

/// The command line, read into `buffer`.
pub fn command_line(buffer: &mut [u8]) -> Result<&str, HostError> {
    let mut request = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: SYS_GET_CMDLINE takes a buffer's address and size, writes at most so many bytes there
    // and then the text's length into the second word: both are borrowed mutably here.
    let failed = unsafe { syscall1_mut(nr::GET_CMDLINE, &mut request) } != 0;
    match buffer.get(..request[1]) {
        Some(text) if !failed => core::str::from_utf8(text).map_err(|_| HostError::CommandLine),
        _ => Err(HostError::CommandLine),
    }
}

/// A call whose block of arguments the host may write to.
///
/// # Safety
/// `request` must be what the call takes.
unsafe fn syscall1_mut(call: usize, request: &mut [usize; 2]) -> usize {
    // SAFETY: the caller's promise.
    unsafe { cortex_m_semihosting::syscall1(call, request.as_mut_ptr() as usize) }
}

/// A file on the host that takes the logits of every choice: little-endian f32,
/// `[choices, vocab_size]`, as `smidgen generate --dump-logits` writes them.
pub struct DumpFile {
    handle: usize,
}

impl DumpFile {
    /// Creates it, or empties it.
    // The name's place must not lie under the whole story's stack.
    #[inline(never)]
    pub fn create(path: &str) -> Result<Self, HostError> {
        let mut name = [0_u8; 512];
        match name.get_mut(..path.len()) {
            Some(place) if path.len() < 512 => place.copy_from_slice(path.as_bytes()),
            _ => return Err(HostError::Create),
        }
        // SAFETY: SYS_OPEN takes the address of a name that ends with a zero byte, a mode and the
        // name's length, and only reads.
        let handle = unsafe { syscall!(OPEN, name.as_ptr(), nr::open::W_TRUNC_BINARY, path.len()) };
        if handle == usize::MAX { Err(HostError::Create) } else { Ok(Self { handle }) }
    }

    /// Appends the logits of one choice.
    pub fn write(&mut self, logits: &[f32]) -> Result<(), HostError> {
        // SAFETY: SYS_WRITE takes a handle, an address and a length and reads exactly the slice.
        let left = unsafe { syscall!(WRITE, self.handle, logits.as_ptr(), size_of_val(logits)) };
        if left == 0 { Ok(()) } else { Err(HostError::Write) }
    }
}

impl Drop for DumpFile {
    fn drop(&mut self) {
        // SAFETY: SYS_CLOSE takes the handle that SYS_OPEN gave.
        unsafe { syscall!(CLOSE, self.handle) };
    }
}
