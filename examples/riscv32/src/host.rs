//! The debugger on the other end: files and the command line, over semihosting.

use core::arch::asm;

/// Mode of [`File::create`]: binary, emptied. Of `:tt` it is standard output.
pub const WRITE: usize = 5;
/// Mode of [`File::create`]: binary, to its end. Of `:tt` it is standard error.
pub const APPEND: usize = 9;

const OPEN: usize = 0x01;
const WRITE_CALL: usize = 0x05;
const GET_COMMAND_LINE: usize = 0x15;
const EXIT: usize = 0x18;

/// The host did not take what was written.
#[derive(Clone, Copy, Debug)]
pub struct Failed;

/// A call to the host.
///
/// # Safety
/// `argument` must be what the call takes.
unsafe fn call(operation: usize, argument: usize) -> usize {
    let result;
    // SAFETY: the three instructions that semihosting looks for, which must not be compressed.
    unsafe {
        asm!(".balign 16", ".option push", ".option norvc", "slli x0, x0, 0x1f", "ebreak",
            "srai x0, x0, 7", ".option pop", inout("a0") operation => result, in("a1") argument);
    }
    result
}

/// Ends the program.
pub fn exit(succeeded: bool) {
    // Application exit, or an internal error, which makes the host's status 1.
    let reason: usize = if succeeded { 0x20026 } else { 0x20024 };
    // SAFETY: on 32 bits the call takes the reason itself.
    unsafe { call(EXIT, reason) };
}

/// The command line, read into `buffer`.
pub fn command_line(buffer: &mut [u8]) -> Option<&str> {
    let mut request = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: the call takes a buffer's address and size, writes at most so many bytes there and the
    // text's length into the second word.
    let failed = unsafe { call(GET_COMMAND_LINE, request.as_mut_ptr() as usize) } != 0;
    let text = buffer.get(..request[1])?;
    let end = text.iter().take_while(|&&byte| byte != 0).count();
    if failed { None } else { core::str::from_utf8(text.get(..end)?).ok() }
}

/// A file on the host, open until the program ends.
pub struct File(usize);

impl File {
    /// Opens it in one of the modes above; a name is shorter than 512 bytes.
    pub fn create(name: &str, mode: usize) -> Option<Self> {
        let mut place = [0_u8; 512];
        if name.len() >= place.len() {
            return None;
        }
        for (place, byte) in place.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        let request = [place.as_ptr() as usize, mode, name.len()];
        // SAFETY: the call takes a name that ends with a zero byte, a mode and the name's length.
        let handle = unsafe { call(OPEN, request.as_ptr() as usize) };
        if handle == usize::MAX { None } else { Some(Self(handle)) }
    }

    /// Appends bytes.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Failed> {
        let request = [self.0, bytes.as_ptr() as usize, bytes.len()];
        // SAFETY: the call takes a handle, an address and a length, and reads just these bytes.
        let left = unsafe { call(WRITE_CALL, request.as_ptr() as usize) };
        if left == 0 { Ok(()) } else { Err(Failed) }
    }

    /// Appends logits as little-endian f32.
    pub fn write_logits(&self, logits: &[f32]) -> Result<(), Failed> {
        logits.iter().try_for_each(|logit| self.write(&logit.to_le_bytes()))
    }
}
