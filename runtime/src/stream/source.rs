//! Matrices that are read when they are needed, some rows at a time.

use core::ops::Range;

use super::layout::{row_unit, slab_bytes};
use super::reader::WeightReader;
use crate::format::{ALIGNMENT, DType, Outlined, QUAD, Role, TensorEntry, TensorSize};
use crate::forward::{InMemory, Pass, Product, Source};
use crate::kernels::{self, Activations, Prepared, matmul};
use crate::model::Model;
use crate::tensor::Matrix;
use crate::workers::Disjoint;

/// In a table entry's offset: the tensor is not in memory, and what is left is its place in the file.
pub(super) const READ: u64 = 1 << 63;

/// A matrix in memory, or where it can be read.
#[derive(Clone, Copy)]
pub(crate) enum Tensor<'a> {
    Here(Matrix<'a>),
    There(Stored),
}

/// A matrix as it lies in the file.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    dtype: DType,
    rows: usize,
    cols: usize,
    at: u32,
}

impl Stored {
    pub(super) fn new(entry: &TensorEntry) -> Option<Self> {
        let at = u32::try_from(entry.offset & !READ).ok()?;
        let dtype = DType::from_u8(entry.dtype)?;
        Some(Self { dtype, rows: entry.rows as usize, cols: entry.cols as usize, at })
    }

    /// One as the table says, wherever it is.
    pub(super) fn of(tensor: &Outlined) -> Self {
        Self { dtype: tensor.dtype, rows: tensor.rows, cols: tensor.cols, at: 0 }
    }

    /// How many rows at a time go through a buffer, if their product has so many places.
    pub(super) fn rows_at_once(&self, buffer: usize, places: Option<usize>) -> usize {
        let rows = self.slab_rows(buffer);
        places.map_or(rows, |places| rows.min(places / QUAD * QUAD).max(1))
    }

    /// How many rows at a time go through a buffer.
    fn slab_rows(&self, buffer: usize) -> usize {
        let unit = row_unit(self.dtype);
        let fits = |units: usize| {
            slab_bytes(self.dtype, units * unit, self.cols).is_some_and(|bytes| bytes <= buffer)
        };
        // So many have planes that need no padding between them.
        const MANY: usize = 64;
        let many = slab_bytes(self.dtype, MANY * unit, self.cols).unwrap_or(usize::MAX);
        let mut units =
            (buffer.saturating_sub(2 * ALIGNMENT).saturating_mul(MANY)).checked_div(many).unwrap_or(0);
        while fits(units + 1) {
            units += 1;
        }
        units.max(1) * unit
    }

    /// Where the planes of some rows lie, of which the first is the first of four: quants or floats,
    /// multipliers, scales.
    fn planes(&self, rows: &Range<usize>) -> Option<[Range<u32>; 3]> {
        let all = TensorSize::new(self.dtype, self.rows, self.cols)?;
        let before = TensorSize::new(self.dtype, rows.start, self.cols)?;
        let these = TensorSize::new(self.dtype, rows.len(), self.cols)?;
        let range = |plane: usize, skip: usize, len: usize| {
            let begin = u32::try_from(plane.checked_add(skip)?).ok()?.checked_add(self.at)?;
            Some(begin..begin.checked_add(u32::try_from(len).ok()?)?)
        };
        Some([
            range(0, before.quants_len, these.quants_len)?,
            range(all.multipliers_at, before.multipliers_len, these.multipliers_len)?,
            range(all.scales_at, before.scales_len, these.scales_len)?,
        ])
    }

    /// Reads some rows into the buffer, where they are a matrix of their own: `None` if it is too small,
    /// which loading has excluded.
    fn fetch<'b, R: WeightReader>(
        &self,
        reader: &mut R,
        buffer: &'b mut [u8],
        rows: Range<usize>,
    ) -> Result<Option<Matrix<'b>>, R::Error> {
        let Some(size) = TensorSize::new(self.dtype, rows.len(), self.cols) else { return Ok(None) };
        let Some(planes) = self.planes(&rows) else { return Ok(None) };
        let places = [
            (0, size.quants_len),
            (size.multipliers_at, size.multipliers_len),
            (size.scales_at, size.scales_len),
        ];
        for (plane, (at, len)) in planes.into_iter().zip(places) {
            let Some(into) = buffer.get_mut(at..).and_then(|rest| rest.get_mut(..len)) else {
                return Ok(None);
            };
            if len > 0 {
                reader.read(plane.start, into)?;
            }
        }
        Ok(Matrix::new(self.dtype, rows.len(), self.cols, buffer))
    }

    /// Tells the reader that some rows come next.
    fn announce<R: WeightReader>(&self, reader: &mut R, rows: Range<usize>) {
        if let Some(planes) = self.planes(&rows) {
            let n = if self.dtype.is_quantized() { 3 } else { 1 };
            reader.announce(&planes[..n]);
        }
    }
}

/// What a streamed session's passes read from.
pub(super) struct Reading<'s, R> {
    pub(super) model: &'s Model<'s>,
    pub(super) reader: &'s mut R,
    pub(super) buffer: &'s mut [u8],
}

impl<'s, R: WeightReader> Source for Reading<'s, R> {
    type Tensor = Tensor<'s>;
    type Error = R::Error;

    fn tensor(&self, layer: usize, role: Role) -> Option<Tensor<'s>> {
        let entry = self.model.entry(layer, role)?;
        if entry.offset & READ != 0 {
            Some(Tensor::There(Stored::new(&entry)?))
        } else {
            Some(Tensor::Here(self.model.matrix_at(&entry)?))
        }
    }

    fn dtype(tensor: &Tensor<'s>) -> DType {
        match tensor {
            Tensor::Here(matrix) => matrix.dtype(),
            Tensor::There(stored) => stored.dtype,
        }
    }

    fn row(&mut self, tensor: &Tensor<'s>, row: usize, out: &mut [f32]) -> Result<(), R::Error> {
        match tensor {
            Tensor::Here(matrix) => matrix.row(row, out),
            Tensor::There(stored) => {
                let unit = row_unit(stored.dtype);
                let first = row - row % unit;
                let rows = first..(first + unit).min(stored.rows);
                if let Some(slab) = stored.fetch(self.reader, self.buffer, rows)? {
                    slab.row(row - first, out);
                }
            }
        }
        Ok(())
    }

    fn product<const M: usize>(
        &mut self,
        pass: &Pass<'_>,
        products: [Product<'_, Tensor<'s>>; M],
        input: &Activations<'_>,
    ) -> Result<(), R::Error> {
        let stored = products.each_ref().map(|(tensor, ..)| match tensor {
            Some(Tensor::There(stored)) => Some(*stored),
            _ => None,
        });
        for (i, (tensor, bias, out)) in products.into_iter().enumerate() {
            let stored_next = stored.iter().skip(i + 1).flatten().next();
            match tensor {
                None => {}
                Some(Tensor::Here(matrix)) => pass.product(&mut [(Some(matrix), bias, out)], input),
                Some(Tensor::There(stored)) => {
                    self.stream(pass, &stored, stored_next, input, Out::Whole(&mut *out))?;
                    let Some(bias) = bias else { continue };
                    let rows = stored.rows.max(1);
                    for out in out.chunks_exact_mut(rows).take(input.n) {
                        kernels::add(pass.level, bias, out);
                    }
                }
            }
        }
        Ok(())
    }

    fn by_slabs(
        &mut self,
        pass: &Pass<'_>,
        tensor: &Tensor<'s>,
        input: &Activations<'_>,
        out: &mut [f32],
        each: &mut dyn FnMut(u32, &mut [f32]),
    ) -> Result<(), R::Error> {
        match tensor {
            Tensor::Here(matrix) => {
                let Ok(()) = InMemory(self.model).by_slabs(pass, matrix, input, out, each);
                Ok(())
            }
            Tensor::There(stored) => self.stream(pass, stored, None, input, Out::Slab(out, each)),
        }
    }
}

/// Where a slab's product goes.
enum Out<'o> {
    /// `[n, rows]`, to its place.
    Whole(&'o mut [f32]),
    /// `[rows of a slab]`, to be looked at.
    Slab(&'o mut [f32], &'o mut dyn FnMut(u32, &mut [f32])),
}

impl<R: WeightReader> Reading<'_, R> {
    /// `input · matrixᵀ`; afterwards comes a product with `next`.
    fn stream(
        &mut self,
        pass: &Pass<'_>,
        stored: &Stored,
        next: Option<&Stored>,
        input: &Activations<'_>,
        mut out: Out<'_>,
    ) -> Result<(), R::Error> {
        let room = self.buffer.len();
        let places = if let Out::Slab(places, _) = &out { Some(places.len()) } else { None };
        let at_once = stored.rows_at_once(room, places);
        let mut first = 0;
        while first < stored.rows {
            let end = (first + at_once).min(stored.rows);
            let Some(slab) = stored.fetch(self.reader, self.buffer, first..end)? else { break };
            if end < stored.rows {
                stored.announce(self.reader, end..(end + at_once).min(stored.rows));
            } else if let Some(next) = next {
                next.announce(self.reader, 0..next.slab_rows(room).min(next.rows));
            }
            let (places, stride) = match &mut out {
                Out::Whole(out) => (out.get_mut(first..), stored.rows),
                Out::Slab(out, _) => (out.get_mut(..slab.rows), slab.rows),
            };
            let Some(places) = places else { break };
            // SAFETY: nobody else has these places, and the slab's rows are numbered from `first` on.
            unsafe {
                let (prepared, places) = (&mut Prepared::new(), &Disjoint::new(&mut *places));
                matmul(pass.level, &slab, input, prepared, 0..slab.rows, places, stride);
            }
            if let Out::Slab(places, each) = &mut out {
                each(first as u32, places.get_mut(..slab.rows).unwrap_or(&mut []));
            }
            first = end;
        }
        Ok(())
    }
}
