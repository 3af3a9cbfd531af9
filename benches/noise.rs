//! Random numbers in the places of weights: speed does not depend on them.

use smidgen_runtime::Memory;
use smidgen_runtime::format::{DType, TensorSize};

/// Xorshift: the same noise every time.
pub struct Noise(u64);

impl Noise {
    pub fn new() -> Self {
        Self(1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to 0.17.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 * 1e-8
    }

    /// A matrix `[rows, cols]` as a model file keeps it.
    pub fn matrix(&mut self, dtype: DType, rows: usize, cols: usize, out: &mut Vec<u8>) {
        let size = TensorSize::new(dtype, rows, cols).expect("it fits");
        match dtype {
            DType::Q8 | DType::Q4 => {
                while out.len() < size.scales_at {
                    out.extend(self.next().to_le_bytes());
                }
                out.truncate(size.scales_at);
                // bf16 of about 1e-6: multipliers and quants are in the hundreds.
                out.extend([0x86_u8, 0x35].repeat(size.scales_len / 2));
            }
            DType::F16 => (0..rows * cols)
                .for_each(|_| out.extend(((self.next() & 0x83FF) as u16 | 0x2800).to_le_bytes())),
            _ => (0..rows * cols).for_each(|_| out.extend(self.float().to_le_bytes())),
        }
    }
}

/// Bytes that begin at a multiple of 64.
pub struct Bytes(Vec<Memory<64>>, usize);

impl Bytes {
    pub fn new(bytes: &[u8]) -> Self {
        let mut parts = vec![Memory::<64>::new(); bytes.len().div_ceil(64)];
        for (part, bytes) in parts.iter_mut().zip(bytes.chunks(64)) {
            part.as_mut()[..bytes.len()].copy_from_slice(bytes);
        }
        Self(parts, bytes.len())
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `Memory<64>` is 64 bytes without padding, so the vector's are contiguous.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.1) }
    }
}
